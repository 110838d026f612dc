"""Whether the files of a store are what its stages wrote: their hashes against dvc.lock, and rows that lead nowhere.

A flipped byte often leaves a parquet file readable; a join would then lose rows, and a figure be wrong, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.load import read_mapping
from stages.console.errors import TableError
from stages.store.files import md5
from stages.store.references import REFERENCES


def recorded(root: Path) -> dict[Path, dict[str, Any]]:
    """What dvc.lock holds of each file under `root`, by its whole path: `md5` and `size`. Empty without a dvc.lock."""
    stages = (read_mapping(root / "dvc.lock") or {}).get("stages") or {}
    return {(root / out["path"]).resolve(): out for stage in stages.values() for out in stage.get("outs", ())}


def check_recorded(files: Iterable[Path], records: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raises TableError for the first file that is not the one that dvc.lock records; others are not looked at."""
    for file in files:
        record = records.get(file, {})
        size = file.stat().st_size
        if "md5" not in record or (size == record.get("size", size) and md5(file) == record["md5"]):
            continue
        raise damaged([file]) or TableError(
            f"{file} is not the file that dvc.lock records: it is damaged, was edited, or comes from a stage that did "
            f"not run to its end under DVC. To restore it: dvc checkout {file}. To make it again: srlm "
            f"repro. To keep it as it is: dvc commit"
        )


def check_references(connection: duckdb.DuckDBPyConnection, views: Mapping[str, Iterable[str | None]]) -> None:
    """Raises TableError for rows of one of `views` (name -> models with a file) that lead to no row of another."""
    for table, column, to, _ in REFERENCES:
        if len(to) > 1 or table.name not in views or (target := to[0][0]).name not in views:
            continue
        key, per_model = to[0][1], "{model}" in target.path
        both = [str(model) for model in views[table.name] if not per_model or model in {*views[target.name]}]
        found = connection.execute(
            f"SELECT a.model, count(*), min(a.{column}) FROM {table.name} AS a ANTI JOIN {target.name} AS b "  # noqa: S608
            f"ON a.{column} = b.{key} {'AND a.model = b.model' if per_model else ''} "
            f"{'WHERE list_contains($models, a.model)' if per_model else ''} GROUP BY a.model",
            {"models": both} if per_model else {},
        ).fetchone()
        if found:
            model, rows, first = found
            raise TableError(
                f"{rows} row(s) of {table.name}{f'@{model}' if model else ''} have a {column} that {target.name} does "
                f"not hold, first {first}: one of the two is damaged or of another run. srlm verify checks every file; "
                f"srlm repro makes what is not up to date"
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
