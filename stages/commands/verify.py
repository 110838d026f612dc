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
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from hashlib import file_digest
from hashlib import md5 as md5_of
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
from rich.table import Column
from rich.table import Table as Grid

from stages.config.load import PARAMS, load_params
from stages.config.shared import MODEL_NAME
from stages.console.errors import HubError, TableError
from stages.console.terminal import Console
from stages.hub import card, lineage, plan
from stages.hub.configs import configs
from stages.hub.remote import Remote
from stages.store import catalog
from stages.store.files import ignored_by_dvc, md5
from stages.store.references import follow
from stages.store.tables import TABLES, Table
from stages.store.versions import stages_now
from stages.text.escape import for_terminal

OVER_THE_CARD = (".huggingface.yaml", "dataset_infos.json")
"""Files that count more than the card for `load_dataset`."""
BY_PEOPLE = ("license*", "*.md", "*.png", "*.jpg", "*.txt")
"""Names, in small letters, of files that people put beside a model and that no library loads, ..."""
LOADED = ("vocab.txt", "merges.txt")
"""... but for these, which tokenizers read."""


class Checked(NamedTuple):
    """`wrong` of so many `things`; `first` says what is wrong with the first of these."""

    what: str
    things: int
    wrong: int
    first: str = ""

    @classmethod
    def of(cls, what: str, things: int, wrong: list[str]) -> Checked:
        return cls(what, things, len(wrong), *wrong[:1])


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
    yield Checked.of("files and folders that stages made, by their md5 in dvc.lock", len(outs), wrong)
    read = [(name, path, known) for name, stage in stages.items() for path, known in stage["deps"].items()]
    wrong = [
        f"{name} read another {path}"
        for name, path, known in read
        if (outs[path] if path in outs else hash_of(path)) != known
    ]
    yield Checked.of("what stages read, as it is now", len(read), wrong)
    trained, wrong = 0, []
    for model in (path.removeprefix("data/models/") for path in outs if path.startswith("data/models/")):
        file = catalog.model_dir(root, model) / lineage.NAME
        try:
            data = trained_on(file) if file.is_file() else {}  # a model that a server has leaves none
            trained += len(data)
            wrong += [
                f"{model} was made from another {path}" for path, known in data.items() if outs.get(path) != known
            ]
        except ValueError as e:
            trained += 1
            wrong.append(f"{lineage.NAME} of {model} cannot be read: {e}")
    yield Checked.of("what models were made from, by their lineage.json", trained, wrong)
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
    there = next(((remote, head) for remote in remotes if (head := remote.look().head)), None)
    if there is None:
        raise HubError(f"{repo} is no dataset and no model on {remotes[0].api.endpoint}, or this token may not see it")
    remote, head = there
    commit = remote.commit_of(revision) if revision else head
    with TemporaryDirectory(prefix="srlm-") as name:
        folder = remote.snapshot(commit, Path(name) / "hub")
        graph = lineage.parse(text_of(folder / lineage.NAME))
        if graph is None or not graph["files"] or not graph["stages"]:
            raise HubError(f"{repo} has no {lineage.NAME} of ours at this revision: it was not published by srlm")
        beside = "files of earlier publications, which nothing here is compared with,"
        for what, files in (("files", graph["files"]), (beside, graph.get("kept", {}))):
            if files:
                wrong = differing(folder, files)
                yield Checked.of(f"{what} of {repo} by their sha256 in {lineage.NAME}", len(files), wrong)
        stages = lineage.locked(root / lineage.LOCK, stages_now(root))
        wrong = [name for name, stage in graph["stages"].items() if stages.get(name) != stage]
        what = "stages that made them: command, parameters, what was read and made"
        yield Checked.of(what, len(graph["stages"]), wrong)
        outs = [path for name in graph["stages"] for path in stages.get(name, {"outs": ()})["outs"]]
        packages = {path: versions for path in outs if (versions := catalog.packages(root / path))}
        wrong = sorted(lineage_mismatches(graph, root, packages))
        yield Checked.of("commit, lineages of models, packages", len(graph["models"]) + len(packages) + 1, wrong)
        yield from (rows if remote.kind == "dataset" else files_of_model)(root, folder, graph)


def text_of(file: Path) -> str | None:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def files_of_model(root: Path, folder: Path, graph: dict[str, Any]) -> Iterator[Checked]:
    """Every file of a model against its folder here."""
    model, held = str(graph.get("model")), graph["files"]
    if not re.fullmatch(MODEL_NAME, model):
        raise HubError(f"{lineage.NAME} there does not say which model it is: it is not what srlm published")
    yield Checked.of(f"files of {model}", len(held), differing(catalog.model_dir(root, model), held))
    paths = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
    paths = [path for path in paths if not path.startswith(".cache/huggingface/")]  # the client's own
    ours = {*held, *plan.WRITTEN, plan.OUTDATED, ".gitattributes"}
    yield Checked.of("files that srlm did not publish", len(paths), [p for p in paths if p not in ours and loads(p)])


def loads(path: str) -> bool:
    """Whether a file may change what `from_pretrained` loads."""
    name = PurePosixPath(path).name.lower()
    return name in LOADED or not any(fnmatchcase(name, pattern) for pattern in BY_PEOPLE)


def rows(root: Path, folder: Path, graph: dict[str, Any]) -> Iterator[Checked]:
    """Every split as `load_dataset` reads it, with an empty cache, against the table here; other files against those
    that they are copies of."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    check_names_inside(folder)
    files = graph["files"]
    copies = {path: about for path, about in files.items() if "table" not in about}
    here = {path: hash_or_none(sha256, root / original(path)) for path in copies}
    wrong = [path for path, about in copies.items() if here[path] != about["sha256"]]
    yield Checked.of("params.yaml and metrics", len(copies), wrong)
    splits = {
        (str(about.get("config")), str(about.get("split"))): str(about["table"])
        for path, about in files.items()
        if path not in copies
    }
    made = {path for stage in graph["stages"].values() for path in stage["outs"]}
    every = configs(dict.fromkeys(load_params(root).aift, ""))
    home = {split.path: (config.name, split.name) for config in every for split in config.splits}
    raw = any(about.get("raw") for about in files.values())
    wanted = [split.path for config in every if raw or not config.raw for split in config.splits]
    missing = [path for path in wanted if path in made and path not in splits.values()]
    yield Checked.of("datasets that its stages made, and that it should hold", len(wanted), missing)
    for (config, split), path in splits.items():
        what, (name, where) = f"{config}, {split}", home.get(path, ("", ""))
        renamed = config.startswith(f"{name}_") and config not in {other.name for other in every}  # --new-config
        if split != where or (config != name and not renamed):
            belongs = f"which is {name or 'nothing'} {where}".rstrip()
            yield Checked(what, 1, 1, f"is said to be {path}, {belongs}")
            continue
        try:
            loaded = load_dataset(str(folder), config, split=split, cache_dir=str(folder.with_name("datasets")))
            theirs = pl.DataFrame(loaded.data.table)
        except (Exception, pl.exceptions.PanicException) as e:  # of many kinds, as a card or a file can be wrong
            yield Checked(what, 1, 1, f"does not load: {type(e).__name__}: {e}"[:200])
            continue
        try:
            table, model = table_at(path)
            yield compare(what, catalog.read(table, root, model), theirs, table)
        except TableError as e:
            yield Checked(what, 1, 1, str(e))


def check_names_inside(folder: Path) -> None:
    """Raises HubError for a card that makes `load_dataset` read anything but names inside its repository."""
    for pattern in card.files_named(text_of(folder / card.NAME) or ""):
        # no scheme (file:, local:, hf://), chain (::), drive, absolute path, home, parent or variable
        if re.search(r"[:\\\x00-\x1f$]|^[/~]", pattern) or ".." in pattern.split("/"):
            raise HubError(
                f"the card names data outside its repository, {pattern!r}: it is not what srlm published, and nothing "
                f"of it is read"
            )
    if over := [name for name in OVER_THE_CARD if (folder / name).exists()]:
        raise HubError(
            f"{over[0]} there says in the card's place what is read: it is not what srlm published, and nothing of it "
            f"is read"
        )


def original(path: str) -> str:
    """Of what a published file without a table is a copy."""
    return f"data/{path}" if re.fullmatch(r"metrics/([\w-]+/)?[\w-][\w.-]*\.json", path) else PARAMS


def lineage_mismatches(graph: dict[str, Any], root: Path, packages: dict[str, dict[str, str]]) -> Iterator[str]:
    """What a repository's lineage says wrongly beside files and stages: of the commit of `root` whose dvc.lock made
    them, of how models were trained, of the packages that wrote texts (`packages`, by table)."""
    commit = graph["code"]["git"]
    shown = subprocess.run(["git", "show", f"{commit}:./{lineage.LOCK}"], cwd=root, capture_output=True, check=False)
    if shown.returncode:
        yield f"commit {commit[:12]} with its {lineage.LOCK} is not in this clone: git fetch, or another store's"
    elif md5_of(shown.stdout, usedforsecurity=False).hexdigest() != graph["code"]["dvc_lock"]:
        yield f"{lineage.LOCK} of commit {commit[:12]} is another"
    for model, known in graph["models"].items():
        named = re.fullmatch(MODEL_NAME, model)
        try:
            if not named or json.loads((catalog.model_dir(root, model) / lineage.NAME).read_bytes()) != known:
                yield f"{lineage.NAME} of {model} is another here"
        except (OSError, ValueError, RecursionError) as e:
            yield f"{lineage.NAME} of {model} cannot be read here: {e}"
    for path in packages.keys() | graph["packages"].keys():
        if packages.get(path) != graph["packages"].get(path):
            yield f"{path} was written with other packages"


def table_at(path: str) -> tuple[Table, str | None]:
    """The table that lies at a path of the store, and its model."""
    for table in TABLES:
        pattern = re.escape(table.path).replace(re.escape("{model}"), f"(?P<model>{MODEL_NAME[1:-1]})")
        if match := re.fullmatch(pattern, path):
            return table, match.groupdict().get("model")
    raise TableError(f"no table lies at {path} in this version of srlm")


def compare(what: str, ours: pl.DataFrame, theirs: pl.DataFrame, table: Table) -> Checked:
    """Row by row, in order, null equal to null."""
    if other := set(ours.columns) ^ set(theirs.columns):
        return Checked(what, len(ours), len(ours), f"other columns: {', '.join(sorted(other))}")
    theirs = theirs.select(ours.columns)
    if kinds := [f"{name} {kind}" for name, kind in theirs.schema.items() if kind != ours.schema[name]]:
        return Checked(what, len(ours), len(ours), f"other types: {', '.join(kinds)}")
    if len(ours) != len(theirs):
        return Checked(what, len(ours), max(len(ours), len(theirs)), f"{len(theirs)} rows there")
    differ = pl.any_horizontal(pl.col(column).ne_missing(pl.col(f"{column} there")) for column in ours.columns)
    wrong = pl.concat([ours, theirs.rename(lambda column: f"{column} there")], how="horizontal").filter(differ)
    first = "" if wrong.is_empty() else " ".join(f"{key}={wrong[key][0]}" for key in table.key)
    return Checked(what, len(ours), len(wrong), first)


def differing(folder: Path, files: dict[str, dict[str, Any]]) -> list[str]:
    """Those that are not there, cannot be read, or are others."""
    return [path for path, about in files.items() if hash_or_none(sha256, folder / path) != about["sha256"]]


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()


def hash_or_none(of: Callable[[Path], str], path: Path) -> str | None:
    try:
        return of(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return None
