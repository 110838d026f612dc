"""Tables that people and programs read: one way to write a number, one renderer each for terminal, Markdown, CSV and
JSON."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import IO, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from stages.console.errors import QueryError
from stages.console.terminal import Console
from stages.text.escape import for_markdown, for_terminal

UNKNOWN = "–"
LONGEST = 60
"""Characters of a text on a terminal, unless the sheet is written with more."""
UNBOUND = 10_000
"""Columns of a table that goes into a file or a pipe: no terminal cuts it."""


class Figure(NamedTuple):
    """A measured number with its 95 % interval and what it is a mean or share of, null where unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    digits: int = 2
    scale: int = 1
    """100 shows a share as a percentage."""
    shows_n: bool = True

    def __str__(self) -> str:
        if self.value is None:
            return UNKNOWN
        parts = [f"{self.value * self.scale:.{self.digits}f}"]
        if self.low is not None and self.high is not None:
            parts.append(f"±{(self.high - self.low) / 2 * self.scale:.{self.digits}f}")
        return " ".join([*parts, *([f"({self.n})"] if self.shows_n and self.n is not None else [])])


class Code(str):
    """A name of ours, as code in Markdown."""

    __slots__ = ()


class Sheet(NamedTuple):
    """Cells are null, numbers, texts, Figures, or tuples of numbers and Figures, one of each iteration."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]
    title: str = ""


def number(value: float, sign: str = "") -> str:
    """Four significant digits; one behind the point from 1000 on; whole numbers whole."""
    if isinstance(value, int):
        return f"{value:{sign}}"
    return f"{value:{sign}.4g}" if abs(value) < 1000 else f"{value:{sign}.1f}"


def text(value: Any) -> str:
    """A value as people read it, still to be escaped where it is a text."""
    if value is None:
        return UNKNOWN
    if type(value) is tuple:  # a figure of each iteration
        return " → ".join(map(text, value))
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def to_terminal(sheet: Sheet, file: IO[str], most: int | None = None, longest: int = LONGEST) -> int:
    """For the eye: long texts cut, nothing in them obeyed by the terminal. Writes `most` rows at most; returns how many
    it read, one more where it cut."""
    table = Table(*map(for_terminal, sheet.columns), box=None, pad_edge=False)
    rows = list(islice(sheet.rows, None if most is None else most + 1))
    for row in rows[:most]:
        table.add_row(*(Text(_cut(for_terminal(text(value)), longest)) for value in row))
    console = Console(file=file, width=None if file.isatty() else UNBOUND)
    if sheet.title:
        console.print(Text(for_terminal(sheet.title), style="bold"))
    console.print(table)
    return len(rows)


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"


def to_markdown(sheet: Sheet, file: IO[str]) -> None:
    """A table whose texts stay texts."""
    if sheet.title:
        file.write(f"**{for_markdown(sheet.title)}**\n\n")
    file.write(f"| {' | '.join(map(for_markdown, sheet.columns))} |\n|{'---|' * len(sheet.columns)}\n")
    for row in sheet.rows:
        file.write(f"| {' | '.join(map(_markdown_cell, row))} |\n")


def _markdown_cell(value: Any) -> str:
    if isinstance(value, Code):
        return f"`{value}`"
    return text(value) if value is None or isinstance(value, int | float | tuple) else for_markdown(text(value))


def to_csv(sheet: Sheet, file: IO[str]) -> None:
    """RFC 4180; null is empty, a list is JSON."""
    writer = csv.writer(file)
    writer.writerow(sheet.columns)
    writer.writerows(
        [json.dumps(v, ensure_ascii=False, default=str) if isinstance(v, list | dict) else v for v in row]
        for row in sheet.rows
    )


def to_json(sheet: Sheet, file: IO[str]) -> None:
    """One array of objects, a row a line. Numbers that JSON does not have are null. Raises QueryError when two columns
    have one name."""
    if twice := [name for name, n in Counter(sheet.columns).items() if n > 1]:
        raise QueryError(
            f"two columns are named {twice[0]}, which a JSON object cannot hold: give them different names with AS"
        )
    file.write("[")
    for i, row in enumerate(sheet.rows):
        values = {name: _json(value) for name, value in zip(sheet.columns, row, strict=True)}
        file.write((",\n" if i else "\n") + json.dumps(values, ensure_ascii=False, allow_nan=False, default=str))
    file.write("\n]\n")


def _json(value: Any) -> Any:
    if isinstance(value, Figure):
        return {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
    if isinstance(value, list):
        return [_json(v) for v in value]
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    if isinstance(value, Decimal):  # what DuckDB's sum of whole numbers is
        return int(value) if value == value.to_integral_value() else float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMS = {"csv": to_csv, "json": to_json, "markdown": to_markdown}
