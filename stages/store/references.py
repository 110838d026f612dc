"""Which column names a row of which other table, and what it copies from there: a pair can be followed to the rows that
it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from stages.console.errors import TableError
from stages.store import tables
from stages.store.catalog import read, table_path
from stages.store.tables import Table


class Reference(NamedTuple):
    """`column` of `table` holds keys of a table of `to`, of the same model where that has one. `copies`: its column ->
    the column there that it equals."""

    table: Table
    column: str
    to: tuple[tuple[Table, str], ...]
    copies: tuple[tuple[str, str], ...] = ()


class Followed(NamedTuple):
    """One reference, followed: `wrong` of `rows` lead nowhere or to something else; `first` is the value of the
    first."""

    what: str
    rows: int
    wrong: int
    first: str


_CANDIDATE = ((tables.CANDIDATES, "candidate_id"),)
_RANKED = ((tables.RANKED, "candidate_id"),)
REFERENCES = (
    Reference(tables.SEED_JUDGEMENTS, "candidate_id", _RANKED),
    Reference(tables.EFT, "candidate_id", _RANKED, (("human_rank", "human_rank"),)),
    Reference(tables.PROMPTS, "shots", ((tables.IFT_TRAIN, "ift_id"), (tables.PROMPTS, "prompt_id"))),
    Reference(tables.CANDIDATES, "prompt_id", ((tables.PROMPTS, "prompt_id"),)),
    Reference(tables.JUDGEMENTS, "candidate_id", _CANDIDATE, (("prompt_id", "prompt_id"),)),
    Reference(tables.SCORES, "candidate_id", _CANDIDATE, (("prompt_id", "prompt_id"),)),
    Reference(tables.PAIRS, "prompt_id", ((tables.PROMPTS, "prompt_id"),), (("prompt", "prompt"),)),
    Reference(
        tables.PAIRS,
        "chosen_id",
        _CANDIDATE,
        (("prompt_id", "prompt_id"), ("chosen", "response"), ("chosen_thought", "thought")),
    ),
    Reference(
        tables.PAIRS,
        "rejected_id",
        _CANDIDATE,
        (("prompt_id", "prompt_id"), ("rejected", "response"), ("rejected_thought", "thought")),
    ),
    Reference(tables.PAIRS, "chosen_id", ((tables.SCORES, "candidate_id"),), (("chosen_score", "score"),)),
    Reference(tables.PAIRS, "rejected_id", ((tables.SCORES, "candidate_id"),), (("rejected_score", "score"),)),
    *(Reference(tables.JUDGE_PAIRS, column, (*_RANKED, *_CANDIDATE)) for column in ("candidate_id", "other_id")),
)


def follow(root: Path, models: list[str]) -> Iterator[Followed]:
    """Every reference of the tables that are there, by AIFT; a table that cannot be read is wrong itself."""
    for reference in REFERENCES:
        for model in models if "{model}" in reference.table.path else [None]:
            if table_path(reference.table, root, model).is_file():
                try:
                    yield follow_one(reference, root, model)
                except TableError as e:
                    yield Followed(_described(reference, model), 1, 1, str(e))


def _described(reference: Reference, model: str | None) -> str:
    where = f"{reference.table.name}{f'@{model}' if model else ''}.{reference.column}"
    equal = f", {', '.join(column for column, _ in reference.copies)} as there" if reference.copies else ""
    return f"{where} -> {' or '.join(f'{to.name}.{key}' for to, key in reference.to)}{equal}"


def follow_one(reference: Reference, root: Path, model: str | None) -> Followed:
    """Raises TableError for a table that cannot be read."""
    copies = dict(reference.copies)
    rows = read(reference.table, root, model, (reference.column, *copies)).select(
        pl.col(reference.column).alias("key"), *copies
    )
    if rows.schema["key"] == tables.Strings:
        rows = rows.explode("key").drop_nulls("key")
    known = pl.concat(
        read(to, root, model if "{model}" in to.path else None, (key, *copies.values())).select(
            pl.col(key).alias("key"), *(pl.col(there).alias(f"there {mine}") for mine, there in copies.items())
        )
        for to, key in reference.to
    )
    found = rows.join(known.with_columns(pl.lit(True).alias("found")), on="key", how="left", maintain_order="left")
    same = pl.all_horizontal(
        pl.col("found").fill_null(False), *(pl.col(mine).eq_missing(pl.col(f"there {mine}")) for mine in copies)
    )
    wrong = found.filter(~same)
    return Followed(_described(reference, model), len(found), len(wrong), str(wrong["key"][0]) if len(wrong) else "")
