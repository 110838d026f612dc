"""verify: is the store what its hashes say, and is what was published what is here?

    srlm verify                                             hashes of all that stages read and made, models' lineages,
every id that names another row
    srlm verify --repo ORG/NAME [--revision COMMIT]         downloads the repository into an empty folder, compares
every row, or every file of a model

Reads only. What cannot be read differs, too, and the rest is checked nevertheless. Exit code 1 when something differs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from rich.table import Column
from rich.table import Table as Grid

from stages.config.load import load_params
from stages.config.shared import MODEL_NAME
from stages.console.errors import HubError, TableError
from stages.console.terminal import Console
from stages.hub import card, lineage
from stages.hub.audit import (
    OVER_THE_CARD,
    Checked,
    compare,
    differing,
    hash_or_none,
    lineage_mismatches,
    strange,
    table_at,
)
from stages.hub.configs import configs
from stages.hub.remote import Remote
from stages.store import catalog
from stages.store.files import ignored_by_dvc, md5
from stages.store.references import follow
from stages.store.versions import stages_now
from stages.text.escape import for_terminal


def verify(
    repo: str | None = None, revision: str | None = None, endpoint: str | None = None, root: Path = Path()
) -> None:
    """Show what was checked. Raises HubError when something differs, and other SrlmErrors for what ends the checking,
    after what was found before."""
    checked: list[Checked] = []
    try:
        for row in published(root, repo, revision, endpoint) if repo else here(root):
            checked.append(row)
    finally:
        if checked:
            show(checked)
    if wrong := sum(row.wrong for row in checked):
        how = (
            "Publish anew (srlm publish), delete there what srlm did not, or go back to the version that was "
            "published: git checkout, dvc checkout"
        )
        raise HubError(f"{wrong:,} difference(s). {how if repo else 'Run: dvc checkout, or srlm repro'}")


def show(checked: list[Checked]) -> None:
    grid = Grid("what", "checked", "wrong", Column("first", overflow="fold"), box=None)
    for row in checked:
        grid.add_row(row.what, f"{row.things:,}", f"{row.wrong:,}", for_terminal(row.first))
    Console(width=None if sys.stdout.isatty() else 200).print(grid)


# Here


def here(root: Path) -> Iterator[Checked]:
    """The store against dvc.lock, the lineages of its models against both, and its rows against each other."""
    stages, hash_of = lineage.locked(root / lineage.LOCK, stages_now(root)), hasher(root)
    outs = {path: md5_of for stage in stages.values() for path, md5_of in stage["outs"].items()}
    now = {path: hash_of(path) for path in outs}
    state = {
        path: "changed" if now[path] else "cannot be read" if (root / path).exists() else "is gone" for path in outs
    }
    wrong = [f"{path}: {state[path]}" for path, known in outs.items() if now[path] != known]
    yield Checked("files and folders that stages made, by their md5 in dvc.lock", len(outs), len(wrong), *wrong[:1])
    read = [(name, path, known) for name, stage in stages.items() for path, known in stage["deps"].items()]
    wrong = [
        f"{name} read another {path}"
        for name, path, known in read
        if (outs[path] if path in outs else hash_of(path)) != known
    ]
    yield Checked("what stages read, as it is now", len(read), len(wrong), *wrong[:1])
    trained, wrong = 0, []
    for model in (path.removeprefix("data/models/") for path in outs if path.startswith("data/models/")):
        file = catalog.model_dir(root, model) / lineage.NAME
        try:
            told = trained_on(file) if file.is_file() else {}  # a model that a server has leaves none
            trained += len(told)
            wrong += [
                f"{model} was made from another {path}" for path, known in told.items() if outs.get(path) != known
            ]
        except ValueError as e:
            trained += 1
            wrong.append(f"{lineage.NAME} of {model} cannot be read: {e}")
    yield Checked("what models were made from, by their lineage.json", trained, len(wrong), *wrong[:1])
    for reference in follow(root, list(load_params(root).aift)):
        yield Checked(*reference)


def hasher(root: Path) -> Callable[[str], str | None]:
    """The md5 of what is at a path, None for nothing and for what cannot be read; as DVC does, it leaves out what
    .dvcignore names."""
    ignored = ignored_by_dvc(root)
    return lambda path: hash_or_none(lambda file: md5(file, ignored), root / path)


def trained_on(file: Path) -> dict[str, Any]:
    """Path -> md5, by the `lineage.json` that training left beside a model. Raises ValueError for one that does not
    tell."""
    try:
        data = json.loads(file.read_bytes())["data"]
    except (OSError, LookupError, TypeError, RecursionError) as e:
        raise ValueError(f"{type(e).__name__}: {e}") from None
    if not isinstance(data, dict):
        raise ValueError(f"its data are a {type(data).__name__}")
    return data


# On the Hub


def published(root: Path, repo: str, revision: str | None, endpoint: str | None) -> Iterator[Checked]:
    """A repository, dataset or model, against its own lineage and the store."""
    from huggingface_hub import get_token

    remotes = [Remote(repo, kind, endpoint=endpoint, token=get_token()) for kind in ("dataset", "model")]
    there = [(remote, head) for remote in remotes if (head := remote.look().head)]
    if not there:
        raise HubError(f"{repo} is no dataset and no model on {remotes[0].api.endpoint}, or this token may not see it")
    remote, head = there[0]
    with TemporaryDirectory(prefix="srlm-") as name:
        folder = remote.snapshot(revision or head, Path(name) / "hub")
        file = folder / lineage.NAME
        told = lineage.parse(file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None)
        if told is None:
            raise HubError(f"{repo} has no {lineage.NAME} of ours at this revision: it was not published by srlm")
        if not told["files"] or not told["stages"]:
            raise HubError(f"{lineage.NAME} of {repo} names no files or no stages: it is not what srlm published")
        for files, which in (
            (told["files"], "files"),
            (told.get("kept", {}), "files of earlier publications, which nothing here is compared with,"),
        ):
            if files:
                wrong = differing(folder, files)
                yield Checked(
                    f"{which} of {repo} by their sha256 in {lineage.NAME}", len(files), len(wrong), *wrong[:1]
                )
        stages = lineage.locked(root / lineage.LOCK, stages_now(root))
        differ = [name for name, stage in told["stages"].items() if stages.get(name) != stage]
        yield Checked(
            "stages that made them: command, parameters, what was read and made",
            len(told["stages"]),
            len(differ),
            *differ[:1],
        )
        outs = [path for name in told["stages"] for path in stages.get(name, {"outs": ()})["outs"]]
        generated = {path: versions for path in outs if (versions := catalog.packages(root / path))}
        wrong = sorted(lineage_mismatches(told, folder, root, partial(catalog.model_dir, root), generated))
        yield Checked(
            "commit, lineages of models, packages, and the same as PROV",
            len(told["models"]) + len(generated) + 2,
            len(wrong),
            *wrong[:1],
        )
        if remote.kind == "dataset":
            yield from rows(root, folder, told, Path(name) / "cache")
        else:
            model = str(told.get("model"))
            if not re.fullmatch(MODEL_NAME, model):
                raise HubError(
                    f"{lineage.NAME} of {repo} does not say which model it is: it is not what srlm published"
                )
            wrong = differing(catalog.model_dir(root, model), told["files"])
            yield Checked(f"files of {model}", len(told["files"]), len(wrong), *wrong[:1])
            paths = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
            wrong = [path for path in paths if strange(path, told["files"])]
            yield Checked("files that srlm did not publish", len(paths), len(wrong), *wrong[:1])


def rows(root: Path, folder: Path, told: dict[str, Any], cache: Path) -> Iterator[Checked]:
    """Every split as `load_dataset` reads it, with an empty cache, against the table here."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    readme = (
        (folder / card.NAME).read_text(encoding="utf-8", errors="replace") if (folder / card.NAME).is_file() else None
    )
    for pattern in card.files_read(readme or ""):
        if "://" in pattern or pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise HubError(
                f"the card names data outside its repository, {pattern!r}: it is not what srlm published, and nothing "
                f"of it is read"
            )
    if over := [name for name in OVER_THE_CARD if (folder / name).exists()]:
        raise HubError(
            f"{over[0]} there says in the card's place what is read: it is not what srlm published, and nothing of it "
            f"is read"
        )
    splits = {
        (str(about.get("config")), str(about.get("split"))): str(about.get("table")) for about in told["files"].values()
    }
    made = {path for stage in told["stages"].values() for path in stage["outs"]}
    raw = any(about.get("raw") for about in told["files"].values())
    every = configs(dict.fromkeys(load_params(root).aift, ""))
    home = {split.path: (config.name, split.name) for config in every for split in config.splits}
    wanted = [split.path for config in every if raw or not config.raw for split in config.splits]
    missing = [path for path in wanted if path in made and path not in splits.values()]
    yield Checked("datasets that its stages made, and that it should hold", len(wanted), len(missing), *missing[:1])
    for (config, split), path in splits.items():
        name, where = home.get(path, ("", ""))
        renamed = config.startswith(f"{name}_") and config not in {other.name for other in every}  # --new-config
        if split != where or (config != name and not renamed):
            yield Checked(
                f"{config}, {split}", 1, 1, f"is said to be {path}, which is {name or 'nothing'} {where}".rstrip()
            )
            continue
        try:
            theirs = pl.DataFrame(load_dataset(str(folder), config, split=split, cache_dir=str(cache)).data.table)
        except (
            Exception,
            pl.exceptions.PanicException,
        ) as e:  # of many kinds, for all that can be wrong with a card or a file
            yield Checked(f"{config}, {split}", 1, 1, f"does not load: {type(e).__name__}: {e}"[:200])
            continue
        try:
            table, model = table_at(path)
            yield compare(f"{config}, {split}", catalog.read(table, root, model), theirs, table)
        except TableError as e:
            yield Checked(f"{config}, {split}", 1, 1, str(e))
