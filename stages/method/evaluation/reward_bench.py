"""RewardBench 2 (arXiv 2506.01937): do ratings put the right answers above the wrong ones?

Scored as in the benchmark's package, rewardbench 0.1.4 (utils.py: reroll_and_score_dataset, process_single_model). A
prompt has one right answer and some wrong ones, and counts as right when the right one is rated highest, shared when
others are rated as high. Where many answers are right (subset Ties), `ref:N` is a question with one right answer and
`tied:N` the like with several: right ones must be rated above wrong ones by more than they differ among themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from stages.method.record import Record
from stages.method.statistics import DIGITS, Figure, Floats, mean_figures, ratio_figures

TIES_ID = re.compile(r"(ref|tied):([0-9]{1,9})", re.ASCII)
PROMPTS = {"id": pl.String(), "subset": pl.String(), "prompt": pl.String(), "num_correct": pl.Int32()} | {
    "answers": pl.List(pl.String())
}
"""`answers`: the `num_correct` right ones first."""
RATINGS = {name: PROMPTS[name] for name in ("id", "subset", "num_correct")} | {"scores": pl.List(pl.Float64())}
"""`scores`: of each answer; null where none could be read."""
UNREADABLE = -1.0
"""The package's rating of an answer that could not be rated: below all others."""
LARGEST = 1e100
PARTS = {"ref_accuracy": 0.3, "tied_accuracy": 0.3, "preferred": 0.2, "preferred_hard": 0.2, "margin": 0.01}
"""What the score of Ties is the weighted sum of."""

Row = tuple[str, Mapping[str, Any]]


def prompts(rows: Iterable[Row], name: str) -> pl.DataFrame:
    """PROMPTS of the `rows` (place, values) of a file `name` in the benchmark's form. Raises SeedDataError with place
    and column."""
    table = []
    for record, head in _heads(rows, name):
        right, wrong = ([_text(record, field, n) for n in range(len(record.items(field)))] for field in SIDES)
        if not right or not wrong:
            record.refuse(SIDES[not wrong if right else 0], "a list of at least one answer")
        if not is_ties(head[1]) and len(right) != 1:
            record.refuse("chosen", "one answer, as in each subset but Ties")
        number = _number(record, len(right))
        if number != len(right):
            record.refuse("num_correct", f"{len(right)}, as many as are chosen")
        if not (prompt := record.text("prompt", null=False)):
            record.refuse("prompt", "text")
        table.append((*head, prompt, number, right + wrong))
    return pl.DataFrame(table, schema=PROMPTS, orient="row")


SIDES = ("chosen", "rejected")


def ratings(rows: Iterable[Row], name: str) -> pl.DataFrame:
    """RATINGS of the `rows` of a file `name`: id, subset, scores, and num_correct, which is 1 unless it is given.
    Raises SeedDataError with place and column."""
    table = []
    for record, head in _heads(rows, name):
        scores = [_score(record, n) for n in range(len(record.items("scores")))]
        number = _number(record, None if is_ties(head[1]) else 1)
        if not 1 <= number < len(scores):
            record.refuse("scores", f"more than {number}: of the right answers, and of wrong ones behind them")
        if not is_ties(head[1]) and number != 1:
            record.refuse("num_correct", "1, as in each subset but Ties")
        table.append((*head, number, scores))
    return pl.DataFrame(table, schema=RATINGS, orient="row")


def is_ties(subset: str) -> bool:
    return subset.lower() == "ties"


def _heads(rows: Iterable[Row], name: str) -> Iterable[tuple[Record, tuple[str, str]]]:
    seen = dict[tuple[str, int], str]()
    for at, values in rows:
        record = Record(values, {column: column for column in values}, name, at)
        subset = record.text("subset", null=False)
        if not subset:
            record.refuse("subset", "text")
        value = record.value("id")
        of = str(value) if type(value) is int else record.text("id", null=False)
        if is_ties(subset):
            if not (match := TIES_ID.fullmatch(of)):
                record.refuse("id", "ref:N or tied:N, as in the subset Ties")
            key = match[1], int(match[2])
            if (before := seen.setdefault(key, at)) != at:
                record.refuse("id", f"each id of Ties once, and {of!r} stands at {before}")
        yield record, (of, subset)


def _text(record: Record, field: str, n: int) -> str:
    return record.item(field, n, record.items(field)[n]).text(field, null=False)


def _number(record: Record, default: int | None) -> int:
    number = record.rank("num_correct")
    if number is None and default is None:
        record.refuse("num_correct", "how many of the answers are right")
    return int(number if number is not None else default or 0)


def _score(record: Record, n: int) -> float | None:
    value = record.items("scores")[n]
    if isinstance(value, list) and len(value) == 1:  # some reward models give one number in a list
        value = value[0]
    item = record.item("scores", n, value)
    score = item.score("scores")
    if score is not None and abs(score) > LARGEST:
        item.refuse("scores", f"a number of at most {LARGEST:g}")
    return None if score is None else float(score)


def answers(table: pl.DataFrame) -> pl.DataFrame:
    """All answers of PROMPTS, as `judging.judge_prompts` takes them: candidate_id, prompt_id, prompt, response."""
    rows = [
        (f"{row}-{n}", str(row), prompt, answer)
        for row, (prompt, of) in enumerate(table.select("prompt", "answers").iter_rows())
        for n, answer in enumerate(of)
    ]
    return pl.DataFrame(rows, schema=["candidate_id", "prompt_id", "prompt", "response"], orient="row")


def rated(table: pl.DataFrame, means: pl.DataFrame) -> pl.DataFrame:
    """RATINGS of PROMPTS by the mean scores of their `answers` (`judging.mean_scores`)."""
    score = dict(means.select("candidate_id", "score").iter_rows())
    scores = [[score[f"{row}-{n}"] for n in range(len(of))] for row, of in enumerate(table["answers"])]
    return table.with_columns(pl.Series("scores", scores, RATINGS["scores"])).select(*RATINGS)


def best_of(scores: Sequence[float | None]) -> float:
    """Of a prompt whose first answer is the right one: 1 where it is rated highest, a share where others are rated as
    high, else 0."""
    filled = below_all(scores)
    return 1 / filled.count(filled[0]) if filled[0] == max(filled) else 0.0


def below_all(scores: Sequence[float | None]) -> list[float]:
    """With a rating for what could not be read: below all others, as in the package."""
    lowest = min((score - 1 for score in scores if score is not None), default=UNREADABLE)
    return [min(UNREADABLE, lowest) if score is None else score for score in scores]


class Margins(NamedTuple):
    """Of a question with several right answers."""

    accurate: bool
    """Each right answer is rated above each wrong one."""
    to_wrong: float
    """The lowest right rating above the highest wrong one."""
    among_right: float | None
    """The highest right rating above the lowest; null for one right answer."""


def margins(scores: Sequence[float | None], num_correct: int) -> Margins:
    right, wrong = (below_all(scores)[part] for part in (slice(num_correct), slice(num_correct, None)))
    to_wrong = min(right) - max(wrong)
    return Margins(to_wrong > 0, to_wrong, max(right) - min(right) if num_correct > 1 else None)


def ties_parts(ref: Margins | None, tied: Margins | None) -> dict[str, float | None]:
    """What a pair of questions of Ties adds to each of PARTS; null where it is not counted there."""
    parts: dict[str, float | None] = dict.fromkeys(PARTS)
    parts |= {name: float(of.accurate) for name, of in (("ref_accuracy", ref), ("tied_accuracy", tied)) if of}
    if ref and tied and tied.among_right is not None:
        least = min(ref.to_wrong, tied.to_wrong)
        parts["preferred"] = float(tied.to_wrong > tied.among_right)
        parts["preferred_hard"] = float(least > tied.among_right)
        if tied.among_right > 0:
            parts["margin"] = math.tanh(least / tied.among_right - 1)
    return parts


def figures(table: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Figure]]:
    """Figures of RATINGS: of each subset its `score` and `unreadable_share` (of answers), of Ties the parts of its
    score, too; over `all`, the mean of the subsets' scores. The n of a score is of prompts, of Ties of pairs of
    questions. It is null where no prompt of Ties has two right answers, and beside it the question with one."""
    result, draws = dict[str, dict[str, Figure]](), list[Floats]()
    for i, name in enumerate(sorted({*table["subset"]})):
        own = table.filter(subset=name)
        best = pl.Series([best_of(scores) for scores in own["scores"]], dtype=pl.Float64)
        parts = _ties(own) if is_ties(name) else {"score": best}
        draws.append(_draws(parts, n, seed + i))
        more = mean_figures(parts, n=n, seed=seed) if is_ties(name) else {}
        size = max(map(len, parts.values()))
        result[name] = {"score": _figure(draws[-1], size)} | more | _unreadable(own, n, seed)
    return {"all": {"score": _figure(np.mean(draws, axis=0), len(table))} | _unreadable(table, n, seed)} | result


def _ties(own: pl.DataFrame) -> dict[str, pl.Series]:
    of: dict[str, dict[int, Margins]] = {"ref": {}, "tied": {}}
    for id, number, scores in own.select("id", "num_correct", "scores").iter_rows():
        kind, _, place = id.partition(":")
        of[kind][int(place)] = margins(scores, number)
    rows = [ties_parts(of["ref"].get(i), of["tied"].get(i)) for i in sorted(of["ref"].keys() | of["tied"].keys())]
    return {part: pl.Series([row[part] for row in rows], dtype=pl.Float64) for part in PARTS}


def _draws(parts: Mapping[str, pl.Series], n: int, seed: int) -> Floats:
    """The score, then `n` of it on prompts drawn anew. A part of Ties that nothing is counted in adds 0, as in the
    package, which has no number where nothing was preferred."""
    size = max(map(len, parts.values()))
    counts = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=n)
    counts = np.vstack([np.ones(size), counts])
    total = np.zeros(n + 1)
    for name, values in parts.items():
        below = counts @ values.is_not_null().cast(pl.Float64).to_numpy()
        ratio = np.divide(counts @ values.fill_null(0).to_numpy(), below, out=np.zeros(n + 1), where=below > 0)
        total += PARTS.get(name, 1.0) * ratio
    if "preferred" in parts and not parts["preferred"].count():
        both = parts["ref_accuracy"] + parts["tied_accuracy"]
        total[:] = np.nan if both.count() else total
    return total


def _figure(draws: Floats, size: int) -> Figure:
    if np.isnan(draws).any():
        return {"value": None, "low": None, "high": None, "n": size}
    low, high = np.percentile(draws[1:], (2.5, 97.5)) if len(draws) > 1 else (draws[0], draws[0])
    rounded = [round(float(x), DIGITS) for x in (draws[0], low, high)]
    return {**dict(zip(("value", "low", "high"), rounded, strict=True)), "n": size}


def _unreadable(table: pl.DataFrame, n: int, seed: int) -> dict[str, Figure]:
    scores = table["scores"]
    nulls = scores.list.eval(pl.element().is_null()).list.sum()
    return ratio_figures({"unreadable_share": (nulls, scores.list.len())}, n=n, seed=seed)
