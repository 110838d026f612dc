"""What a contract of a table is: columns, and rules between them that no row may break."""

from __future__ import annotations

from dataclasses import dataclass, field

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


def among(name: str, *values: str) -> Rule:
    return Rule(f"{name} is one of {', '.join(values)}", pl.col(name).is_in(values))
