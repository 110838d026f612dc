"""query: ask the store. `srlm query` lists the canned questions; `srlm query NAME` asks one; `srlm query "SELECT ..."`
asks your own, of the tables of data/README.md, `metrics` and `models`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from stages.console.errors import QueryError
from stages.console.sheets import FORMS, Sheet, to_terminal
from stages.console.terminal import Console, stderr
from stages.store import database, versions
from stages.store.damage import other_params
from stages.store.files import atomic_write, result_file
from stages.store.questions import Question, questions

ENDINGS = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet"}
SHOWN = 50
"""Rows of a table on the screen; the other formats hold all."""
ROWS = 10_000
"""Rows held at a time."""


def show_list(as_json: bool = False) -> None:
    """The canned questions, with the values that may be given; with `as_json` an array of question, text, notes,
    values."""
    if as_json:
        listed = [
            {"question": q.name, "text": q.text, "notes": list(q.notes), "values": list(q.values)}
            for q in questions().values()
        ]
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    table = Table("question", "", "values", box=None, pad_edge=False)
    for question in questions().values():
        words = "\n".join((question.text, *question.notes))
        table.add_row(question.name, words, " ".join(f"{value}=" for value in question.values))
    Console().print(table)


def save(out: Path, *, revision: str | None = None, root: Path = Path()) -> None:
    """The whole store as a DuckDB database."""
    with versions.at(root, revision) as folder:
        database.save(folder, out)
    stderr.print(f"saved as {out}: duckdb {out}, or any tool that opens DuckDB", markup=False)


def ask(
    what: str,
    given: list[str],
    *,
    form: str | None = None,
    out: Path | None = None,
    revision: str | None = None,
    root: Path = Path(),
) -> None:
    """Answer a canned question or a SELECT on the screen or in `out`, whose ending tells the `form` unless given.
    Raises QueryError (exit code 2), TableError, RevisionError, SrlmError."""
    form = form or (ENDINGS.get(out.suffix, "table") if out else "table")
    if form == "parquet" and out is None:
        raise QueryError("parquet is no text for a screen: add --out FILE.parquet")
    if out:
        result_file(out, root)
    question = named(what)
    values: dict[str, str | None] = dict.fromkeys(question.values) | settings(question, given)
    with versions.at(root, revision, database.tables_in(question.sql)) as folder, database.connect(folder) as store:
        for note in [*filter(None, [other_params(folder)]), *store.notes(question.sql)]:
            stderr.print(note)
        relation = store.select(question.sql, values, question.may_lack)
        try:
            result = relation.to_arrow_reader(ROWS)
            sheet = Sheet(result.schema.names, rows_of(result))
            if out is None:
                write_screen(sheet, form)
            elif form == "parquet":
                with atomic_write(out) as partial, pq.ParquetWriter(partial, result.schema, compression="zstd") as file:
                    for batch in result:
                        file.write_batch(batch)
            else:
                with atomic_write(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
                    FORMS.get(form, to_terminal)(sheet, file)
        except (duckdb.Error, pa.ArrowException) as e:  # found only while the rows were computed
            raise store.failure(e, question.sql) from None


def named(what: str) -> Question:
    """The canned question of this name, else one of your own. Raises QueryError for a word that is neither."""
    every = questions()
    if what in every:
        return every[what]
    if re.fullmatch(r"[\w-]+", what.strip()):
        if what.lower() in database.ASKABLE:
            raise QueryError(f'{what} is a table, not a question. Type: srlm query "FROM {what} LIMIT 10"')
        if what.lower() in ("select", "from", "with"):
            raise QueryError('SQL is one argument: put it in quotes, as in srlm query "SELECT count(*) FROM pairs"')
        raise QueryError(f"no question {what}; {database.closest(what, every)}")
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


def write_screen(sheet: Sheet, form: str) -> None:
    """On standard output; of a table the first rows."""
    if form in FORMS:
        FORMS[form](sheet, sys.stdout)
        return
    n = to_terminal(sheet, sys.stdout, SHOWN)
    if not n or n > SHOWN:
        stderr.print(f"only the first {SHOWN} rows; --out FILE.csv has all" if n else "no rows", style="dim")
