"""The page's first screen: did the last model improve, at what, against whom, and what is there to doubt?

Rows are those of the questions head_to_head, gains and improvement. A difference is told apart from noise when its 95 %
interval leaves out zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]
Rows = Sequence[Row]

BETTER, WORSE, UNCLEAR = "▲ better", "▼ worse", "≈ within noise"
LONGER = 1.2
"""Answers so many times as long are worth a doubt where a model compares them."""


class Cell(NamedTuple):
    value: str = "–"
    details: tuple[str, ...] = ()
    direction: str = ""


class Number(NamedTuple):
    """One difference of the last model from the one to beat, with its 95 % interval."""

    title: str
    value: str
    interval: str
    direction: str
    details: str


class Answer(NamedTuple):
    sentence: str
    doubts: tuple[str, ...]
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[Cell, ...]], ...] = ()
    """Model and its cell in each column."""
    numbers: tuple[Number, ...] = ()
    """Three at most: as a writer, by the checker or else in tokens, as a judge."""


def answer(models: Sequence[str], matches: Rows, gains: Rows, figures: Rows, warnings: Sequence[str]) -> Answer:
    """The answer for `models`, of which the first is the one to beat and the last the one that is asked about."""
    if not models:
        return Answer("Nothing is measured yet: no model is evaluated. Run: srlm repro", tuple(warnings))
    return _Evidence(models[0], matches, gains, figures).answer(models, warnings)


class _Evidence:
    """What was measured, by model; of several matches of a model, the one against `base` and of greedy answers."""

    def __init__(self, base: str, matches: Rows, gains: Rows, figures: Rows) -> None:
        self.base = base
        best_last = sorted(matches, key=lambda row: (row["other"] == base, row["decoding"] == "greedy"))
        self.matches = {row["model"]: row for row in best_last}
        self.gains = {(row["model"], row["measure"]): row for row in gains}
        self.figures = {(row["model"], row["metric"]): row for row in figures if row["value"] is not None}

    def answer(self, models: Sequence[str], warnings: Sequence[str]) -> Answer:
        cells = {f"Wins, ties, losses against {self.base}": [self.match(model) for model in models]}
        for column, metric, measure, scale in (
            ("Agrees with people, pairs", "judge.pairwise_accuracy", "agreement", 100),
            ("Checker's score of 5", "writer.greedy.oracle_score", "oracle_score", 1),
            ("Tokens of an answer", "writer.greedy.tokens", "tokens", 1),
        ):
            cells[column] = [self.figure(model, metric, measure, scale) for model in models]
        columns = {column: values for column, values in cells.items() if any(value.details for value in values)}
        rows = zip(models, zip(*columns.values(), strict=True), strict=True)
        sentence = f"{self.as_writer(models[-1])}; {self.as_judge(models[-1])}."
        doubts = (*self.doubts(models[-1]), *warnings)
        return Answer(sentence, doubts, tuple(columns), tuple(rows), tuple(self.numbers(models[-1])))

    def numbers(self, model: str) -> Iterator[Number]:
        if (row := self.matches.get(model)) and row["n"]:
            title = f"{model} against {row['other']}: wins − losses"
            details = f"points of {row['n']:,} prompts, {100 * row['win']:.1f} % won, {100 * row['lose']:.1f} % lost"
            yield number(title, row, "lead", 100, details)
        score = self.gains.get((model, "oracle_score")) or self.gains.get((model, "tokens"))
        if score:
            title = "checker's score of 5" if score["measure"] == "oracle_score" else "tokens of an answer"
            details = f"{score['other']} {score['value_other']:.2f}, {model} {score['value']:.2f}"
            drawn = number(f"{model} − {score['other']}: {title}", score, "gain", 1, details)
            yield drawn._replace(direction="") if score["measure"] == "tokens" else drawn
        if judge := self.gains.get((model, "agreement")):
            title = f"{model} − {judge['other']}: agrees with people"
            details = f"points; {judge['other']} {judge['value_other']:.1%}, {model} {judge['value']:.1%} of the pairs"
            yield number(title, judge, "gain", 100, details)

    def as_writer(self, model: str) -> str:
        if model == self.base:
            return f"Only {model} is evaluated, so there is no improvement to tell"
        if (row := self.matches.get(model)) is None:
            return f"Whether {model} answers better than {self.base} is not known, as no head to head names it"
        other, n = row["other"], row["n"]
        if not n:
            return f"Whether {model} answers better than {other} is not known ({unreadable(row)})"
        claim = {BETTER: f"{model} beats {other}", WORSE: f"{model} loses to {other}"}.get(
            direction(row), f"No improvement of {model} over {other} can be told apart from noise"
        )
        judge = "the checker" if row["judge"] == "oracle" else f"the model {row['judge']}"
        of = f"{n:,} held-out prompts" if n == row["verdicts"] else f"the {n:,} verdicts that could be read"
        return (
            f"{claim}: it wins {row['win']:.1%} of {of}, ties {row['tie']:.1%} and loses {row['lose']:.1%}, judged by "
            f"{judge}: wins minus losses {difference(row, 'lead', 100, ' points', '95 %: ')}"
        )

    def as_judge(self, model: str) -> str:
        if (row := self.figures.get((model, "judge.pairwise_accuracy"))) is None:
            return (
                "how well it judges is not known, as none of its scores of answers that people ranked can be compared"
            )
        text = f"as a judge it agrees with people on {row['value']:.1%} of {row['n']:,} pairs"
        if (gain := self.gains.get((model, "agreement"))) is None:
            return text
        change = difference(gain, "gain", 100, " points", "95 %: ")
        return f"{text}, {gain['other']} on {gain['value_other']:.1%}: {change}, {direction(gain)[2:]}"

    def doubts(self, model: str) -> list[str]:
        if (row := self.matches.get(model)) is None:
            return []
        other, judge, doubts = row["other"], row["judge"], []
        if 0 < row["n"] < row["verdicts"]:
            doubts.append(f"{model} against {other}: {unreadable(row)}")
        if judge in (model, other):
            doubts.append(f"{judge} compared its own answers with those of the other model")
        tokens = self.gains.get((model, "tokens"))
        if judge != "oracle" and tokens and tokens["value"] > LONGER * tokens["value_other"]:
            growth = tokens["value"] / tokens["value_other"] - 1
            longer = f"{model}'s answers are {growth:.0%} longer than {tokens['other']}'s"
            doubts.append(f"{longer}; models that compare tend to prefer longer ones")
        return doubts

    def match(self, model: str) -> Cell:
        if (row := self.matches.get(model)) is None:
            return Cell("the one to beat" if model == self.base else "–")
        against = () if row["other"] == self.base else (f"against {row['other']}",)
        if not row["n"]:
            return Cell("unreadable", (f"{row['verdicts']:,} of {row['verdicts']:,} verdicts", *against))
        shares = f"{100 * row['win']:.1f}, {100 * row['tie']:.1f}, {row['lose']:.1%}"
        details = (f"n {row['n']:,}", f"wins − losses {difference(row, 'lead', 100)}", *against)
        return Cell(shares, details, direction(row))

    def figure(self, model: str, metric: str, measure: str, scale: int) -> Cell:
        if (row := self.figures.get((model, metric))) is None:
            return Cell()
        style, unit = (".1f", "%") if scale == 100 else (".2f", "")
        interval = "" if row["low"] is None else f"{row['low'] * scale:{style}} to {row['high'] * scale:{style}}, "
        value, n = f"{row['value'] * scale:{style}}{unit}", f"{interval}n {row['n']:,}"
        if (gain := self.gains.get((model, measure))) is None:
            return Cell(value, (n,))
        return Cell(value, (n, difference(gain, "gain", scale)), "" if measure == "tokens" else direction(gain))


def direction(row: Row) -> str:
    """What the interval of a difference says."""
    if row["low"] is None:
        return UNCLEAR
    return BETTER if row["low"] > 0 else WORSE if row["high"] < 0 else UNCLEAR


def number(title: str, row: Row, key: str, scale: int, details: str) -> Number:
    value, _, interval = difference(row, key, scale).partition(" (")
    return Number(title, value, interval.rstrip(")"), direction(row), details)


def difference(row: Row, key: str, scale: int, unit: str = "", of: str = "") -> str:
    """`+21.7 (+6.2 to +30.9)`, the 95 % interval; of shares in percentage points."""
    style = "+.1f" if scale == 100 else "+.2f"
    low, high = row["low"], row["high"]
    interval = "no interval" if low is None else f"{of}{low * scale:{style}} to {high * scale:{style}}"
    return f"{row[key] * scale:{style}}{unit} ({interval})".replace("-", "−")


def unreadable(row: Row) -> str:
    """How many comparisons of a match could not be read, and why."""
    marks = "[[A]], [[B]] or [[C]]"
    if row["judge"] == "oracle":
        why = "the checker does not know these tasks"
    elif row["readable"]:
        why = f"the comparing model {row['judge']} did not write {marks} in both orders"
    else:
        why = f"the comparing model {row['judge']} never wrote {marks}"
    return f"{row['verdicts'] - row['n']:,} of {row['verdicts']:,} unreadable: {why}"
