"""diff: what changed between two versions of the store, or one and the workspace: rows of each table by its key, then
the figures of the canned questions that differ."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

from stages.console.errors import MissingTableError, QueryError
from stages.console.sheets import Sheet, number, text, to_terminal
from stages.store import database, versions
from stages.store.questions import Question, questions
from stages.store.tables import TABLES, Table

WORKSPACE = "workspace"


class Change(NamedTuple):
    """Rows of one table and model; `changed` are in both, with other values."""

    table: str
    model: str | None
    added: int
    removed: int
    changed: int
    equal: int


class Figure(NamedTuple):
    """One figure of a canned question that differs; None where a version has no such row or value."""

    question: str
    row: str
    name: str
    old: Any
    new: Any


def show(old: str, new: str | None, table: str | None, root: Path = Path(), as_json: bool = False) -> None:
    """Print what differs between revision `old` and revision `new` (None: the workspace). Raises RevisionError,
    TableError, QueryError."""
    wanted, names = tables(table), None if table is None else [table]
    with versions.at(root, old, names) as before, versions.at(root, new, names) as after:
        with database.connect(after, old=before, new=after) as both:
            changed = [change for t in wanted for change in changes(both, t) if any(change[2:5])]
        with database.connect(before) as left, database.connect(after) as right:
            asked = [question for question in questions().values() if question.by and table is None]
            differing = [figure for question in asked for figure in figures(left, right, question)]
    left_name, right_name = versions.label(root, old), versions.label(root, new) if new else WORKSPACE
    if as_json:
        tables_and_figures = {"tables": [c._asdict() for c in changed], "figures": [f._asdict() for f in differing]}
        print(json.dumps({"old": left_name, "new": right_name, **tables_and_figures}))
        return
    if not changed and not differing:
        print(f"no table differs between {left_name} and {right_name}")
        return
    to_terminal(Sheet(Change._fields, changed), sys.stdout)
    if differing:
        rows = [[*figure, apart(figure)] for figure in differing]
        to_terminal(Sheet(["question", "of", "figure", left_name, right_name, "change"], rows), sys.stdout)


def apart(figure: Figure) -> str | None:
    """How far the new value is from the old, where both are numbers."""
    numbers = isinstance(figure.old, int | float) and isinstance(figure.new, int | float)
    return number(figure.new - figure.old, "+") if numbers else None


def tables(name: str | None) -> list[Table]:
    """All tables, or the one of this name. Raises QueryError for a name that is none."""
    found = [table for table in TABLES if name in (None, table.name)]
    if not found:
        raise QueryError(f"no table {name}; {database.closest(str(name))}")
    return found


def changes(store: database.Store, table: Table) -> list[Change]:
    """One per model that has the table in either version; rows are matched by the table's key within a model."""
    key = ["model", *(column for column in table.key if column != "model")]
    values = [column.name for column in table.columns if column.name not in key]
    both = " AND ".join(f"o.{column} IS NOT DISTINCT FROM n.{column}" for column in key)
    same = f"hash({', '.join(f'o.{v}' for v in values)}) = hash({', '.join(f'n.{v}' for v in values)})"
    sql = f"""
        SELECT coalesce(o.model, n.model) AS whose,
            count(*) FILTER (o.here IS NULL), count(*) FILTER (n.here IS NULL),
            count(*) FILTER (o.here AND n.here AND NOT {same}), count(*) FILTER (o.here AND n.here AND {same})
        FROM (SELECT *, true AS here FROM old.{table.name}) AS o
        FULL JOIN (SELECT *, true AS here FROM new.{table.name}) AS n ON {both}
        GROUP BY whose ORDER BY length(whose), whose"""  # noqa: S608  # names of our own contracts
    return [Change(table.name, *row) for row in store.select(sql).fetchall()]


def figures(left: database.Store, right: database.Store, question: Question) -> list[Figure]:
    """Figures of `question` that differ, row by row; a row is named by the question's `by` columns."""
    old, new = answer(left, question), answer(right, question)
    return [
        Figure(question.name, " ".join(map(text, row)), name, was.get(name), now.get(name))
        for row in dict.fromkeys([*old, *new])
        for was, now in [(old.get(row, {}), new.get(row, {}))]
        for name in dict.fromkeys([*was, *now])
        if not alike(was.get(name), now.get(name))
    ]


def alike(old: Any, new: Any) -> bool:
    """Equal, but for the last digits of a mean: DuckDB adds in parallel, in no fixed order."""
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12)
    return bool(old == new)


def answer(store: database.Store, question: Question) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Names of a row to its figures; nothing where a table is not there."""
    try:
        rows = store.rows(question.sql, dict.fromkeys(question.values), question.may_lack)
    except MissingTableError:
        return {}
    return {tuple(row.pop(column) for column in question.by): row for row in rows}
