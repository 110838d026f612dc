"""query: ask the store. `srlm query` lists the canned questions; `srlm query NAME` asks one; `srlm query "SELECT ..."`
asks your own.

Views are named as the tables are (data/README.md), each with a `model` column, and `metrics` holds every figure. A
query only reads.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from stages.console.errors import QueryError
from stages.console.terminal import Console, stderr
from stages.store import database, versions
from stages.store.files import atomic_write, result_file
from stages.store.questions import Question, questions
from stages.store.tables import TABLES
from stages.text.escape import for_markdown, for_terminal

SHOWN = 50
"""Rows of a table on the screen; the other formats hold all."""
WIDTH = 60
"""Characters of a text in a table."""
UNBOUND = 10_000
"""Columns of a table that goes into a file or a pipe: no terminal cuts it."""
ROWS = 10_000
"""Rows held at a time."""


def show_list() -> None:
    """The canned questions, with the values that may be given."""
    table = Table("question", "", "values", box=None, pad_edge=False)
    for question in questions().values():
        table.add_row(
            question.name,
            "\n".join((question.text, *question.notes)),
            " ".join(f"{value}=" for value in question.values),
        )
    Console().print(table)


def save(out: Path, *, revision: str | None = None, root: Path = Path()) -> None:
    """The whole store as a DuckDB database."""
    with versions.at(root, revision) as folder:
        database.save(folder, out)
    stderr.print(f"saved as {out}: duckdb {out}, or any tool that opens DuckDB")


def ask(
    what: str,
    given: list[str],
    *,
    form: str | None = None,
    out: Path | None = None,
    revision: str | None = None,
    root: Path = Path(),
) -> None:
    """Answer a canned question or a SELECT on the screen, or in `out` (whole or not at all). `form` is told by the
    ending of `out` unless given.

    Raises QueryError (exit code 2), TableError, RevisionError, SrlmError.
    """
    form = form or (ENDINGS.get(out.suffix, "table") if out else "table")
    if form == "parquet" and out is None:
        raise QueryError("parquet is no text for a screen: add --out FILE.parquet")
    if out:
        result_file(out, root)
    question = named(what)
    values: dict[str, str | None] = dict.fromkeys(question.values) | settings(question, given)
    with versions.at(root, revision, tables_in(question.sql)) as folder, database.connect(folder) as store:
        relation = store.select(question.sql, values, question.may_lack)
        try:
            result = relation.to_arrow_reader(ROWS)
            if form == "parquet" and out:
                with atomic_write(out) as partial:
                    write_parquet(result, partial)
            elif out:
                with atomic_write(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
                    WRITERS[form](result, file)
            else:
                WRITERS[form](result, sys.stdout)
        except (duckdb.Error, pa.ArrowException) as e:  # found only while the rows were computed
            raise store.failure(e, question.sql) from None


def tables_in(sql: str) -> list[str]:
    """The tables whose names stand in `sql`; one that only a text in it names does no harm."""
    words = set(re.findall(r"\w+", sql.lower()))
    return [table.name for table in TABLES if table.name in words]


def named(what: str) -> Question:
    """The canned question of this name; else `what` is SQL. Raises QueryError for one word that is no question."""
    known = questions()
    if what in known:
        return known[what]
    if len(what.split()) < 2:
        from rapidfuzz import process

        nearest = process.extractOne(what, list(known))
        raise QueryError(
            f"no question {what}; did you mean {nearest[0]}? srlm query lists them all"
            if nearest
            else f"no question {what}"
        )
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
    """For the eye, long texts cut, nothing in them obeyed by the terminal; on the screen the first rows, in a file
    all."""
    table = Table(*map(for_terminal, result.schema.names), box=None, pad_edge=False)
    shown = SHOWN if file is sys.stdout else None
    rows = list(islice(rows_of(result), shown and shown + 1))
    for row in rows[:shown]:
        table.add_row(*(Text(cell(value)) for value in row))
    console = Console(file=file, width=None if file.isatty() else UNBOUND)
    console.print(table)
    if not rows:
        stderr.print("no rows", style="dim")
    elif shown and len(rows) > shown:
        stderr.print(f"only the first {shown} rows; --out FILE.csv has all", style="dim")


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    text = "" if value is None else for_terminal(str(value))
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def write_csv(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """RFC 4180; null is empty, a list is JSON."""
    writer = csv.writer(file)
    writer.writerow(result.schema.names)
    writer.writerows(
        [json.dumps(v, ensure_ascii=False, default=str) if isinstance(v, list | dict) else v for v in row]
        for row in rows_of(result)
    )


def write_json(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """One array of objects, a row a line. Numbers that JSON does not have are null. Raises QueryError when two columns
    have one name."""
    if twice := [name for name, n in Counter(result.schema.names).items() if n > 1]:
        raise QueryError(f"two columns are named {twice[0]}, which a JSON object cannot hold: name them apart with AS")
    file.write("[")
    for i, row in enumerate(rows_of(result)):
        values = {name: known(value) for name, value in zip(result.schema.names, row, strict=True)}
        file.write((",\n" if i else "\n") + json.dumps(values, ensure_ascii=False, allow_nan=False, default=str))
    file.write("\n]\n")


def known(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, list):
        return [known(v) for v in value]
    if isinstance(value, dict):
        return {k: known(v) for k, v in value.items()}
    if isinstance(value, Decimal):  # what DuckDB's sum of whole numbers is
        return int(value) if value == value.to_integral_value() else float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_markdown(result: pa.RecordBatchReader, file: IO[str]) -> None:
    """A table whose texts stay texts."""
    file.write(f"| {' | '.join(map(for_markdown, result.schema.names))} |\n|{'---|' * len(result.schema.names)}\n")
    for row in rows_of(result):
        cells = (f"{v:.4g}" if isinstance(v, float) else "" if v is None else for_markdown(str(v)) for v in row)
        file.write(f"| {' | '.join(cells)} |\n")


def write_parquet(result: pa.RecordBatchReader, path: Path) -> None:
    """zstd, as the store's own tables."""
    with pq.ParquetWriter(path, result.schema, compression="zstd") as writer:
        for batch in result:
            writer.write_batch(batch)


ENDINGS = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet"}
WRITERS: dict[str, Callable[[pa.RecordBatchReader, IO[str]], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "markdown": write_markdown,
}
