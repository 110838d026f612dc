"""Whether the files of a store are what its stages wrote.

A flipped byte often leaves a parquet file readable; a join would then lose rows, and a figure be wrong, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.load import read_mapping
from stages.console.errors import TableError
from stages.store.files import md5


def check_recorded(root: Path, files: Iterable[Path]) -> None:
    """Raises TableError for the first file that is not the one that dvc.lock records, and for a dvc.lock that cannot
    be read. What it does not record is not looked at."""
    records = _records(root)
    for file in files:
        recorded = records.get(file.resolve())
        if recorded and md5(file) != recorded:
            raise damaged([file]) or TableError(
                f"{file} is not the file that dvc.lock records: it is damaged, was edited, or comes from a stage that "
                f"did not run to its end under DVC. To restore it: srlm repro. To keep it as it is: dvc commit"
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
