"""What a contract of a table is: columns, and rules between them that no row may break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import polars as pl


@dataclass(frozen=True)
class Column:
    name: str
    dtype: pl.DataType
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Rule:
    """What holds in every row. A row of which it is null (unknown) does not break it."""

    meaning: str
    holds: pl.Expr = field(compare=False)
    on: Callable[[int, int], Rule] | None = field(default=None, compare=False)
    """The same for another `judge.scale`, of a score that a judge gave."""


@dataclass(frozen=True)
class Table:
    """Contract of one table. `path` may hold `{model}`; `made_by` is the verb, or the command `srlm ...`, that writes
    it."""

    name: str
    path: str
    meaning: str
    made_by: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    may_be_empty: bool = False

    def on_scale(self, least: int, most: int) -> Table:
        return replace(self, rules=tuple(rule.on(least, most) if rule.on else rule for rule in self.rules))

    @property
    def maker(self) -> str:
        return self.made_by if self.made_by.startswith("srlm ") else f"stage {self.made_by}"

    def remedy(self, model: str | None = None) -> str:
        """Who makes the table, of `model`, and what to type where it is not there."""
        if self.made_by.startswith("srlm "):
            return f"{self.made_by} makes it"
        key = f"@{model}" if model else ""
        return f"{self.maker}{key} makes it. Run: dvc repro {self.made_by}{key}"

    @property
    def schema(self) -> dict[str, pl.DataType]:
        return {c.name: c.dtype for c in self.columns}


def within(name: str, least: float, most: float | None = None) -> Rule:
    held = pl.col(name) >= least if most is None else pl.col(name).is_between(least, most)
    return Rule(f"{name} is at least {least:g}" if most is None else f"{name} is {least:g} to {most:g}", held)


def judged(name: str, *, halves: bool = False, least: int = 0, most: int = 5) -> Rule:
    """A score on the judge's scale; with `halves` nothing between halves."""
    bounds, on = within(name, least, most), partial(_judged, name, halves)
    if not halves:
        return replace(bounds, on=on)
    return Rule(f"{bounds.meaning} in halves", bounds.holds & ((pl.col(name) * 2) % 1 == 0), on)


def _judged(name: str, halves: bool, least: int, most: int) -> Rule:
    return judged(name, halves=halves, least=least, most=most)


def among(name: str, *values: str) -> Rule:
    return Rule(f"{name} is one of {', '.join(values)}", pl.col(name).is_in(values))
