"""The canned questions: one SQL file each in `stages/sql`. The first line is the question, further comment lines
explain; `$name` is a value to be given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SQL = Path(__file__).parents[1] / "sql"
MAY_LACK = "may lack: "
BY = "by: "


@dataclass(frozen=True)
class Question:
    name: str
    text: str
    """The question, in words."""
    notes: tuple[str, ...]
    sql: str
    values: tuple[str, ...]
    """Names that may be given; null when they are not."""
    may_lack: tuple[str, ...]
    """Tables that it can do without."""
    by: tuple[str, ...]
    """Columns that name a row of figures, so that two answers can be put side by side; empty where rows are no
    figures."""


def questions() -> dict[str, Question]:
    """Every question, by name."""
    return {file.stem: read(file) for file in sorted(SQL.glob("*.sql"))}


def read(file: Path) -> Question:
    sql = file.read_text(encoding="utf-8")
    comments = [line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--")]
    code = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
    values = tuple(dict.fromkeys(re.findall(r"\$(\w+)", code)))
    notes = tuple(line for line in comments[1:] if not line.startswith((MAY_LACK, BY)))
    return Question(file.stem, comments[0], notes, sql, values, _names(comments, MAY_LACK), _names(comments, BY))


def _names(comments: list[str], label: str) -> tuple[str, ...]:
    return tuple(name for line in comments if line.startswith(label) for name in line.removeprefix(label).split(", "))
