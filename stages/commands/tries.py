"""What a try is on the disk: a change, and the folder of its copy with a record."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.config import change as changes
from stages.config.change import Change
from stages.config.load import read_yaml
from stages.store.copies import LOCK
from stages.store.files import read_json
from stages.store.recovery import check_none_runs
from stages.store.run import times

FOLDER, RECORD = "runs/try", "try.json"


class Try(NamedTuple):
    """One change, and the folder of its copy; the folder is the project's own where nothing is changed."""

    change: Change
    folder: Path

    @property
    def name(self) -> str:
        return " ".join(changes.words_of(self.change))

    @property
    def rest(self) -> Change:
        """What is changed beside the seed."""
        return {key: value for key, value in self.change.items() if key != "seed"}

    @property
    def record(self) -> dict[str, Any]:
        """`change` (key and value, as they were typed), `base` (of what it is a change), `finished`; empty where it has
        not begun."""
        file = self.folder / RECORD
        return read_json(file) if file.is_file() else {}

    @property
    def command(self) -> str:
        return shlex.join(["srlm", "try", *changes.words_of(self.change)])


def of(root: Path, change: Change) -> Try:
    digest = hashlib.md5(changes.written(change).encode(), usedforsecurity=False)
    in_order = " ".join(changes.words_of(dict(sorted(change.items()))))  # `b=1 a=2` is the try of `a=2 b=1`
    short = re.sub(r"[^A-Za-z0-9.=_-]+", ",", in_order)[:80]
    return Try(change, root / FOLDER / f"{short}-{digest.hexdigest()[:8]}")


def every(root: Path) -> list[Try]:
    """The tries that there are, by name; a folder without a record is none."""
    found = [(file.parent, read_json(file)) for file in sorted((root / FOLDER).glob(f"*/{RECORD}"))]
    return [Try(dict(record["change"]), folder) for folder, record in found]


def asked(root: Path, words: Sequence[str]) -> list[Try]:
    """The tries that the words name, one for each combination. Raises ParamsError."""
    return [of(root, change) for change in changes.combinations(changes.parse(words, read_yaml(root)))]


def base_of(root: Path) -> str:
    """A hash of what a try is a change of."""
    known = (root / LOCK).read_bytes() + changes.written(read_yaml(root)).encode()
    return hashlib.md5(known, usedforsecurity=False).hexdigest()


def ran(root: Path, tried: Try) -> dict[str, Any]:
    """The stages that the try ran itself, in their order, and their seconds."""
    spent = {} if tried.folder == root else times(tried.folder)
    return {"ran": [*spent], "stages_s": round(sum(of_stage["seconds"] for of_stage in spent.values()), 1)}


def forget(tries: Sequence[Try]) -> None:
    for tried in tries:
        check_none_runs(tried.folder)
    for tried in tries:
        (tried.folder / RECORD).unlink(missing_ok=True)  # half of a folder is no try
        shutil.rmtree(tried.folder)
