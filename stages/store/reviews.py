"""Reviews of pairs: `data/REVIEW/MODEL.parquet`, one row for each word that a person said; nothing is taken back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from filelock import FileLock

from stages.store import catalog
from stages.store.tables import REVIEWS

LOCK = "data/logs/reviews.lock"
"""Not beside the tables: the folder is an input of build_pairs."""


def read(root: Path, model: str) -> pl.DataFrame:
    """REVIEWS rows, none where nobody reviewed AIFT(model). Raises TableError for a file that breaks its contract."""
    if not catalog.table_path(REVIEWS, root, model).is_file():
        return pl.DataFrame(schema=REVIEWS.schema)
    return catalog.read(REVIEWS, root, model)


def append(root: Path, model: str, *, prompt_id: str, chosen_id: str, rejected_id: str, decision: str, who: str) -> str:
    """Add a row; returns when it was said. Two processes lose none of each other's, and a reader sees the rows before
    or after. Raises TableError for a `decision` that is none."""
    lock = root / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        row = (prompt_id, chosen_id, rejected_id, decision, who, at)
        new = pl.DataFrame([row], schema=REVIEWS.schema, orient="row")
        catalog.write(REVIEWS, pl.concat([read(root, model), new]), root, model)
    return at
