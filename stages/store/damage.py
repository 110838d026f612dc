"""Whether the files of a store are what its stages wrote.

A flipped byte often leaves a parquet file readable; a join would then lose rows, and a figure be wrong, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.load import read_mapping
from stages.console.errors import TableError
from stages.store.files import md5


def check_recorded(root: Path, files: Iterable[Path]) -> None:
    """Raises TableError for the first file that is not the one that dvc.lock records, or the .dvc file beside what a
    command made, and for a record that cannot be read. What neither records is not looked at."""
    records = _records(root)
    for file in files:
        recorded = records.get(file.resolve())
        if recorded and md5(file) != recorded:
            raise damaged([file]) or TableError(
                f"{file} is not the file that dvc.lock records: it is damaged, was edited, or comes from a stage that "
                f"did not run to its end under DVC. To restore it: srlm repro. To keep it as it is: dvc commit"
            )
        if (beside := Path(f"{file}.dvc")).is_file() and md5(file) != _record_beside(beside):
            raise damaged([file]) or TableError(
                f"{file} is not the file that {beside.name} records: it is damaged or was edited. To restore it: dvc "
                f"checkout {beside}. To keep it as it is: dvc add {file}"
            )


OTHER_PARAMS = "ran with other parameters than params.yaml has now"


def other_params(root: Path) -> str | None:
    """One sentence when stages ran with other parameters than params.yaml has now, whose names would stand over their
    data; None otherwise. A key that is gone from params.yaml is not looked at, nor a dvc.lock that cannot be read."""
    now, lock = read_mapping(root / "params.yaml") or {}, read_mapping(root / "dvc.lock") or {}
    stages = lock.get("stages")
    older: dict[str, str] = {}
    for stage, content in stages.items() if isinstance(stages, dict) else ():
        recorded = (content.get("params") or {}).get("params.yaml") if isinstance(content, dict) else None
        for key, was in recorded.items() if isinstance(recorded, dict) else ():
            value: Any = now
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None and value != was:
                older.setdefault(stage, key)
    if not older:
        return None
    stage, key = next(iter(older.items()))
    return (
        f"{len(older)} stage(s) {OTHER_PARAMS} (first {stage}: {key}): what they wrote, and the names shown over it, "
        f"may not fit. Run: srlm repro"
    )


def other_bank(root: Path, figures: Mapping[tuple[str, str | None], Mapping[str, Any]]) -> str | None:
    """One sentence when judges were measured on another bank than the one that is there now; None otherwise."""
    bank = root / "data/EVAL/bank.parquet"
    drawn = {str(name): of["bank"] for (kind, name), of in figures.items() if kind == "bank" and "bank" in of}
    if not drawn or not bank.is_file():
        return None
    now = md5(bank)
    before = [name for name, on in drawn.items() if on != now]
    if not before:
        return None
    return (
        f"{', '.join(before)} judged another bank than {bank.relative_to(root)} is now, so that these figures are of "
        f"other answers. Run: srlm bank {' '.join(before)}"
    )


def _records(root: Path) -> dict[Path, str]:
    """The md5 of every output in dvc.lock; of none where there is no dvc.lock."""
    lock = root / "dvc.lock"
    if not (lock.exists() or lock.is_symlink()):
        return {}
    content: Any = read_mapping(lock) if lock.is_file() else None
    try:
        outs = [out for stage in content["stages"].values() for out in stage["outs"]]
        records = {(root / out["path"]).resolve(): str(out["md5"]) for out in outs}
        whole = lock.read_bytes().endswith(b"\n")  # half a hash is text as well
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise TableError(
            f"{lock} is damaged, so no file can be compared with it. To restore it: srlm repro, or git checkout {lock}"
        )
    return records


def _record_beside(file: Path) -> str:
    """The md5 in a .dvc file."""
    try:
        return str((read_mapping(file) or {})["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError):
        raise TableError(f"{file} is damaged. To restore it: git checkout {file}") from None


def damaged(files: Iterable[Path]) -> TableError | None:
    """The first of `files` that cannot be read to its end, in words; None when all can. It reads everything."""
    for path in files:
        if path.suffix != ".parquet":
            continue
        try:
            for _ in pq.ParquetFile(path).iter_batches():
                pass
        except (pa.ArrowException, OSError) as e:
            why = " ".join(str(e).split()).rstrip(".")
            return TableError(f"{path} is damaged: {why}. Delete it and run: dvc checkout, or srlm repro")
    return None
