"""What a repository's lineage, files and rows are compared by, whatever they are compared with."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Container, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from stages.config.shared import MODEL_NAME
from stages.console.errors import TableError
from stages.hub import card, lineage, prov
from stages.hub.local import sha256
from stages.store.tables import TABLES, Table

BESIDE = (card.NAME, lineage.NAME, prov.NAME, ".gitattributes")
"""Files of a repository that no lineage names: ours, and the Hub's."""
BY_PEOPLE = ("license*", "*.md", "*.png", "*.jpg", "*.txt")
"""Names, in small letters, of files that people put beside a model and that no library loads, ..."""
LOADED = ("vocab.txt", "merges.txt")
"""... but for these, which tokenizers read."""
OVER_THE_CARD = (".huggingface.yaml", "dataset_infos.json")
"""Files that count more than the card for `load_dataset`."""


class Checked(NamedTuple):
    """`wrong` of so many `things`; `first` says what is wrong with the first of these."""

    what: str
    things: int
    wrong: int
    first: str = ""


def lineage_mismatches(
    told: Mapping[str, Any], folder: Path, root: Path, folder_of: Callable[[str], Path], generated: Mapping[str, Any]
) -> Iterator[str]:
    """What a repository's lineage says wrongly beside files and stages: of the commit of `root` whose dvc.lock made
    them, of how models were trained (`folder_of` a model has what training left), of the packages that wrote texts
    (`generated`, by table), and once more as PROV, in the repository's `folder`.
    """
    commit = told["code"]["git"]
    shown = subprocess.run(["git", "show", f"{commit}:./{lineage.LOCK}"], cwd=root, capture_output=True, check=False)
    if shown.returncode:
        yield f"commit {commit[:12]} with its {lineage.LOCK} is not in this clone: git fetch, or another store's"
    elif hashlib.md5(shown.stdout, usedforsecurity=False).hexdigest() != told["code"]["dvc_lock"]:
        yield f"{lineage.LOCK} of commit {commit[:12]} is another"
    for model, known in told["models"].items():
        try:
            if (
                not re.fullmatch(MODEL_NAME, model)
                or json.loads((folder_of(model) / lineage.NAME).read_bytes()) != known
            ):
                yield f"{lineage.NAME} of {model} is another here"
        except (OSError, ValueError, RecursionError) as e:
            yield f"{lineage.NAME} of {model} cannot be read here: {e}"
    for path in generated.keys() | told["packages"].keys():
        if generated.get(path) != told["packages"].get(path):
            yield f"{path} was written with other packages"
    try:
        same = (folder / prov.NAME).read_text(encoding="utf-8") == prov.document(told)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        same = False
    if not same:
        yield f"{prov.NAME} tells something else than {lineage.NAME}"


def differing(folder: Path, files: dict[str, dict[str, Any]]) -> list[str]:
    """Those that are not there, cannot be read, or are others."""
    return [path for path, about in files.items() if hash_or_none(sha256, folder / path) != about["sha256"]]


def strange(path: str, held: Container[str]) -> bool:
    """Whether a file of a model's repository is none of those that srlm `held` there and may change what
    `from_pretrained` loads.

    In a repository of datasets the card says which files each config reads, and people add configs of their own.
    """
    name = PurePosixPath(path).name.lower()
    by_people = name not in LOADED and any(fnmatchcase(name, pattern) for pattern in BY_PEOPLE)
    return path not in held and path not in BESIDE and not by_people


def table_at(path: str) -> tuple[Table, str | None]:
    """The table that lies at a path of the store, and its model."""
    for table in TABLES:
        head, middle, tail = table.path.partition("{model}")
        if not middle and path == head:
            return table, None
        model = path.removeprefix(head).removesuffix(tail)
        if middle and path == f"{head}{model}{tail}" and re.fullmatch(MODEL_NAME, model):
            return table, model
    raise TableError(f"no table lies at {path} in this version of srlm")


def compare(what: str, ours: pl.DataFrame, theirs: pl.DataFrame, table: Table) -> Checked:
    """Row by row, in order, null equal to null."""
    if set(ours.columns) != set(theirs.columns):
        return Checked(
            what, len(ours), len(ours), f"other columns: {', '.join(sorted(set(ours.columns) ^ set(theirs.columns)))}"
        )
    theirs = theirs.select(ours.columns)
    if other := [f"{name} {kind}" for name, kind in theirs.schema.items() if kind != ours.schema[name]]:
        return Checked(what, len(ours), len(ours), f"other types: {', '.join(other)}")
    if len(ours) != len(theirs):
        return Checked(what, len(ours), max(len(ours), len(theirs)), f"{len(theirs)} rows there")
    differ = pl.any_horizontal(pl.col(column).ne_missing(pl.col(f"{column} there")) for column in ours.columns)
    wrong = pl.concat([ours, theirs.rename(lambda column: f"{column} there")], how="horizontal").filter(differ)
    first = "" if wrong.is_empty() else " ".join(f"{key}={wrong[key][0]}" for key in table.key)
    return Checked(what, len(ours), len(wrong), first)


def hash_or_none(of: Callable[[Path], str], path: Path) -> str | None:
    try:
        return of(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return None
