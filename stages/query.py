"""query: ask the store. `srlm query` lists the canned questions; `srlm query NAME` asks one; `srlm query "SELECT ..."` asks your own.

Views are named as the tables are (data/README.md), each with a `model` column, and `metrics` holds every figure. A query only reads.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.console.errors import QueryError
from stages.console.progress import err
from stages.console.text import for_markdown, for_terminal
from stages.store import database, versions
from stages.store.files import whole
from stages.store.questions import Question, questions

SHOWN = 50
"""Rows of a table on the screen; the other formats hold all."""
WIDTH = 60
"""Characters of a text in a table on the screen."""
ROWS = 10_000
"""Rows held at a time."""


def show_list() -> None:
    """The canned questions, with the values that may be given."""
    table = Table("question", "", "values", box=None, pad_edge=False)
    for question in questions().values():
        table.add_row(question.name, "\n".join((question.text, *question.notes)), " ".join(f"{value}=" for value in question.values))
    Console().print(table)


def save(out: Path, *, revision: str | None = None, root: Path = Path()) -> None:
    """The whole store as a DuckDB database."""
    with versions.at(root, revision) as folder:
        database.save(folder, out)
    err.print(f"saved as {out}: duckdb {out}, or any tool that opens DuckDB", markup=False)


def ask(what: str, given: list[str], *, form: str = "table", out: Path | None = None, revision: str | None = None, root: Path = Path()) -> None:
    """Answer a canned question or a SELECT on the screen, or in `out` (whole or not at all).

    Raises QueryError (exit code 2), TableError, RevisionError.
    """
    if form == "parquet" and out is None:
        raise QueryError("parquet is no text for a screen: add --out FILE.parquet")
    question = named(what)
    values: dict[str, str | None] = dict.fromkeys(question.values) | settings(question, given)
    with versions.at(root, revision) as folder, database.connect(folder) as store:
        relation = store.select(question.sql, values, question.may_lack)
        try:
            result = relation.to_arrow_reader(ROWS)
            if form == "parquet" and out:
                with whole(out) as partial:
                    write_parquet(result, partial)
            elif out:
                with whole(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
                    WRITERS[form](result, file)
            else:
                WRITERS[form](result, sys.stdout)
        except (duckdb.Error, pa.ArrowException) as e:  # found only while the rows were computed
            raise QueryError(f"{e}\n{question.sql}") from None


def named(what: str) -> Question:
    """The canned question of this name; else `what` is SQL. Raises QueryError for one word that is no question."""
    known = questions()
    if what in known:
        return known[what]
    if len(what.split()) < 2:
        from rapidfuzz import process

        nearest = process.extractOne(what, list(known))
        raise QueryError(f"no question {what}; did you mean {nearest[0]}? srlm query lists them all" if nearest else f"no question {what}")
    return Question("", "", (), what, (), (), ())


def settings(question: Question, given: list[str]) -> dict[str, str | None]:
    """`name=value` arguments. Raises QueryError for one that the question does not know."""
    values: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in question.values:
            known = ", ".join(f"{v}=..." for v in question.values) or "none"
            raise QueryError(f"{question.name or 'your SELECT'} does not take {text}; it takes: {known}")
        values[name] = value
    return values


def rows_of(result: pa.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    """Row by row, some thousands in memory at a time: a result may be larger than memory."""
    for batch in result:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_table(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """For the eye: the first rows, long texts cut, nothing in them obeyed by the terminal."""
    table = Table(*map(for_terminal, result.schema.names), box=None, pad_edge=False)
    rows = list(islice(rows_of(result), SHOWN + 1))
    for row in rows[:SHOWN]:
        table.add_row(*(Text(cell(value)) for value in row))
    console = Console(file=file)
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"only the first {SHOWN} rows; --format csv or --out FILE has all", style="dim")


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    text = "" if value is None else for_terminal(str(value))
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def write_csv(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """RFC 4180; null is empty, a list is JSON."""
    writer = csv.writer(file)
    writer.writerow(result.schema.names)
    writer.writerows([json.dumps(v, ensure_ascii=False, default=str) if isinstance(v, list | dict) else v for v in row] for row in rows_of(result))


def write_json(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """One array of objects, a row a line."""
    file.write("[")
    for i, row in enumerate(rows_of(result)):
        file.write((",\n" if i else "\n") + json.dumps(dict(zip(result.schema.names, row, strict=True)), ensure_ascii=False, default=str))
    file.write("\n]\n")


def write_markdown(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """A table whose texts stay texts."""
    file.write(f"| {' | '.join(map(for_markdown, result.schema.names))} |\n|{'---|' * len(result.schema.names)}\n")
    for row in rows_of(result):
        file.write(f"| {' | '.join(f'{v:.4g}' if isinstance(v, float) else '' if v is None else for_markdown(str(v)) for v in row)} |\n")


def write_parquet(result: pa.RecordBatchReader, path: Path) -> None:
    """zstd, as the store's own tables."""
    with pq.ParquetWriter(path, result.schema, compression="zstd") as writer:
        for batch in result:
            writer.write_batch(batch)


WRITERS: dict[str, Callable[[pa.RecordBatchReader, IO[str]], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "markdown": write_markdown,
}
