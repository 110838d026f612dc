"""Whether the files of a store are what its stages wrote.

A flipped byte often leaves a parquet file readable; a join would then lose rows, and a figure be wrong, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.load import read_mapping
from stages.console.errors import TableError
from stages.store.files import md5


def check_recorded(root: Path, files: Iterable[Path]) -> None:
    """Raises TableError for the first file that is not the one that dvc.lock records; others are not looked at."""
    stages = (read_mapping(root / "dvc.lock") or {}).get("stages") or {}
    records = {(root / out["path"]).resolve(): out for stage in stages.values() for out in stage.get("outs", ())}
    for file in files:
        recorded = records.get(file, {}).get("md5")
        if recorded and md5(file) != recorded:
            raise damaged([file]) or TableError(
                f"{file} is not the file that dvc.lock records: it is damaged, was edited, or comes from a stage that "
                f"did not run to its end under DVC. To restore it: dvc checkout {file}. To make it again: srlm repro. "
                f"To keep it as it is: dvc commit"
            )


def damaged(files: Iterable[Path]) -> TableError | None:
    """The first of `files` that cannot be read to its end, in words; None when all can. It reads everything."""
    for path in files:
        try:
            for _ in pq.ParquetFile(path).iter_batches():
                pass
        except (pa.ArrowException, OSError) as e:
            why = " ".join(str(e).split()).rstrip(".")
            return TableError(f"{path} is damaged: {why}. Delete it and run: dvc checkout, or srlm repro")
    return None
