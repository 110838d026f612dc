"""verify: is the store what its hashes say, and is what was published what is here?

    srlm verify                                     hashes of what stages read and wrote, models' lineages, every id
    srlm verify --repo ORG/NAME [--revision v1]     downloads the repository, and compares it with what `srlm publish`
                                                    would send of this store

Reads only. Exit code 1 when something differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from hashlib import md5 as md5_of
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rich.table import Column
from rich.table import Table as Grid

from stages.commands.publish import disk_explained, read_as_locked, read_source
from stages.config.load import load_params
from stages.console.errors import HubError
from stages.console.terminal import Console
from stages.hub import card, lineage, plan
from stages.hub.configs import difference
from stages.hub.remote import Kind, Local, Remote
from stages.store import catalog
from stages.store.files import ignored_by_dvc, md5
from stages.store.references import follow
from stages.store.versions import stages_now
from stages.text.escape import for_terminal

READ_FIRST = (".huggingface.yaml", "dataset_infos.json", "*.py")
"""Files that `load_dataset` may read before the card."""
NOT_READ = ("license*", "*.md", "*.png", "*.jpg", "*.txt")
VOCABULARIES = ("vocab.txt", "merges.txt")
"""Files beside a model that no library loads, in small letters, but for VOCABULARIES."""


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
    repo: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    root: Path = Path(),
    as_json: bool = False,
) -> None:
    """Show what was checked, with `as_json` as one array of what, things, wrong, first. Raises HubError when something
    differs, and what ends the checking, after that."""
    checked: list[Checked] = []
    try:
        for row in published(root, repo, revision, endpoint) if repo else here(root):
            checked.append(row)
    finally:
        if as_json:
            print(json.dumps([row._asdict() for row in checked], indent=2))
        elif checked:
            grid = Grid("what", "checked", "wrong", Column("first", overflow="fold"), box=None)
            for row in checked:
                grid.add_row(row.what, f"{row.things:,}", f"{row.wrong:,}", for_terminal(row.first))
            Console(width=None if sys.stdout.isatty() else 200).print(grid)
    if wrong := sum(row.wrong for row in checked):
        how = (
            "Publish anew (srlm publish), delete there what srlm did not, or go back to the version that was "
            "published: git checkout, dvc checkout"
        )
        raise HubError(f"{wrong:,} difference(s). {how if repo else 'Run: dvc checkout, or srlm repro'}")


def here(root: Path) -> Iterator[Checked]:
    """The store against dvc.lock, the lineages of its models against both, and its rows against each other. What cannot
    be read differs, too, and the rest is checked nevertheless."""
    stages, ignored = lineage.locked(root / lineage.LOCK, stages_now(root)), ignored_by_dvc(root)
    hash_of = partial(hash_or_none, partial(md5, ignored=ignored))
    outs = {path: known for stage in stages.values() for path, known in stage["outs"].items()}
    wrong = []
    for path, known in outs.items():
        if (now := hash_of(root / path)) != known:
            state = "changed" if now else "cannot be read" if (root / path).exists() else "is gone"
            wrong.append(f"{path}: {state}")
    yield Checked.of("files and folders that stages made, by their md5 in dvc.lock", len(outs), wrong)
    read = [(name, path, known) for name, stage in stages.items() for path, known in stage["deps"].items()]
    wrong = [
        f"{name} read another {path}"
        for name, path, known in read
        if (outs[path] if path in outs else hash_of(root / path)) != known
    ]
    yield Checked.of("what stages read, as it is now", len(read), wrong)
    trained, wrong = 0, []
    for model in (path.removeprefix("data/models/") for path in outs if path.startswith("data/models/")):
        file = catalog.model_dir(root, model) / lineage.NAME
        try:
            # a model that a server has leaves none
            data = dict(json.loads(file.read_bytes())["data"]) if file.is_file() else {}
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as e:
            data = {}
            wrong.append(f"{lineage.NAME} of {model} cannot be read: {type(e).__name__}: {e}")
        trained += len(data)
        wrong += [
            f"{model} was made from another {path}"
            for path, known in data.items()
            if (outs[path] if path in outs else hash_of(root / path)) != known
        ]
    yield Checked.of("what models were made from, by their lineage.json", max(trained, len(wrong)), wrong)
    for reference in follow(root, list(load_params(root).aift)):
        yield Checked(*reference)


def published(root: Path, repo: str, revision: str | None, endpoint: str | None) -> Iterator[Checked]:
    """A repository, dataset or model, against what `publish` would send of this store. Nothing there decides what is
    read: the plan names the files, and no card is followed."""
    from huggingface_hub import get_token

    kinds: tuple[Kind, ...] = ("dataset", "model")
    remotes = [Remote(repo, kind, endpoint=endpoint, token=get_token()) for kind in kinds]
    there = next(((remote, head) for remote in remotes if (head := remote.look().head)), None)
    if there is None:
        raise HubError(f"{repo} is no dataset and no model on {remotes[0].api.endpoint}, or this token may not see it")
    remote, head = there
    commit = remote.commit_of(revision) if revision else head
    with disk_explained(), TemporaryDirectory(prefix="srlm-") as name:
        folder = remote.snapshot(commit, Path(name) / "hub")
        graph = lineage.parse(text_of(folder / lineage.NAME))
        if graph is None:
            raise HubError(f"{repo} has no {lineage.NAME} of ours at this revision: srlm did not publish it")
        source = read_source(root, load_params(root))
        if remote.kind == "dataset":
            raw = any(about.get("raw") for about in graph["files"].values())
            read = partial(read_as_locked, source)
            content = plan.datasets(source, read, Path(name) / "here", raw=raw, published=folder)
        elif (model := str(graph.get("model"))) in source.lineages:
            content = plan.model(source, model, remote, {})
        else:
            raise HubError(f"{repo} holds model {model!r}, and this store has none of this name")
        wrong = [f"{file.path}: {how}" for file in content.files if (how := other(file, folder / file.path))]
        yield Checked.of(f"files of {repo}", len(content.files), wrong)
        yield Checked.of(f"commit in {lineage.NAME}", 1, list(other_commit(graph, root)))
        for part in ("stages", "files", "models", "packages"):
            yield compared(f"{part} in {lineage.NAME}", content.graph[part], graph[part])
        metadata = card.metadata_of(text_of(folder / card.NAME))
        for part in card.BY_CONFIG if remote.kind == "dataset" else ():
            ours, theirs = card.by_config(content.metadata[part]), card.by_config(metadata.get(part))
            same = {name: {**theirs.get(name, {}), "default": None} for name in ours}  # which is people's choice
            yield compared(f"{part} in the card", {name: ours[name] | {"default": None} for name in ours}, same)
        paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        paths = [path for path in paths if not path.startswith(".cache/huggingface/")]  # the client's own
        ours_there = {*(file.path for file in content.files), *plan.WRITTEN, ".gitattributes"}
        wrong = [path for path in paths if path not in ours_there and is_loaded(path, remote.kind)]
        yield Checked.of("files that srlm did not publish", len(paths), wrong)


def compared(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Checked:
    return Checked.of(what, len(ours), [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)])


def other(ours: Local, theirs: Path) -> str | None:
    """How a published file differs from ours; None when it does not."""
    if not theirs.is_file():
        return "is not there"
    if Local.of(ours.path, theirs).sha256 == ours.sha256:
        return None
    return (difference(ours.file, theirs) if theirs.suffix == ".parquet" else None) or "is another"


def other_commit(graph: Mapping[str, Any], root: Path) -> Iterator[str]:
    """What is wrong with the commit that made the repository, by its lineage."""
    commit = graph["code"]["git"]
    shown = subprocess.run(["git", "show", f"{commit}:./{lineage.LOCK}"], cwd=root, capture_output=True, check=False)
    if shown.returncode:
        yield f"commit {commit[:12]} with its {lineage.LOCK} is not in this clone: git fetch, or another store's"
    elif md5_of(shown.stdout, usedforsecurity=False).hexdigest() != graph["code"]["dvc_lock"]:
        yield f"{lineage.LOCK} of commit {commit[:12]} is another"


def is_loaded(path: str, kind: Kind) -> bool:
    """Whether a file that is not ours may change what `load_dataset` or `from_pretrained` reads."""
    name = PurePosixPath(path).name.lower()
    if kind == "dataset":
        return any(fnmatchcase(name, pattern) for pattern in READ_FIRST)
    return name in VOCABULARIES or not any(fnmatchcase(name, pattern) for pattern in NOT_READ)


def text_of(file: Path) -> str | None:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def hash_or_none(of: Callable[[Path], str], path: Path) -> str | None:
    try:
        return of(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return None
