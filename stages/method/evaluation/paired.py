"""Two runs on the same held-out prompts: the difference of a figure with its 95 % interval.

What is hard is hard in both, so the prompts are resampled once for both: the interval of the difference is narrower
than two intervals would have it. Where the prompts are others, two independent intervals are added in quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from stages.method.statistics import DIGITS, resamples


class Difference(NamedTuple):
    """Second minus first; `n` prompts, where `paired`. The interval is null where it is not known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    paired: bool = False


def of_ratios(first: pl.DataFrame, second: pl.DataFrame, *, n: int, seed: int) -> Difference | None:
    """Of two ratios of sums, of frames (prompt_id, top, below); None where they are not of the same prompts, or a ratio
    is of nothing."""
    both = first.join(second, on="prompt_id", suffix="_second").sort("prompt_id")
    if not (len(both) == len(first) == len(second)) or not (first["below"].sum() and second["below"].sum()):
        return None
    columns = both.select("top", "below", "top_second", "below_second").to_numpy().astype(np.float64)
    sums = np.vstack([columns.sum(axis=0)[None], *(c @ columns for c in resamples(len(both), n=n, seed=seed))])
    sums = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]
    values = sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1]
    ends = np.percentile(values[1:], [2.5, 97.5]) if len(values) > 1 else (None, None)
    value, low, high = (None if x is None else round(float(x), DIGITS) for x in (values[0], *ends))
    return Difference(value, low, high, len(both), True)


def of_figures(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> Difference:
    """Of two figures {value, low, high} that know nothing of each other."""
    if first.get("value") is None or second.get("value") is None:
        return Difference(None)
    value = float(second["value"] or 0) - float(first["value"] or 0)
    halves = [_half(figure) for figure in (first, second)]
    if None in halves:
        return Difference(round(value, DIGITS))
    half = math.hypot(*(half for half in halves if half is not None))
    return Difference(round(value, DIGITS), round(value - half, DIGITS), round(value + half, DIGITS))


def _half(figure: Mapping[str, float | None]) -> float | None:
    low, high = figure.get("low"), figure.get("high")
    return None if low is None or high is None else (high - low) / 2


def scored(answers: pl.DataFrame, points: Sequence[str] | None = None) -> pl.DataFrame:
    """Of ANSWERS rows, greedy: the checker's score, or with `points` whether an answer has them all."""
    score, given = pl.col("oracle_score"), pl.col("points")
    value = pl.all_horizontal(given.list.contains(p) for p in points) if points else score
    rows = answers.filter(pl.col("decoding") == "greedy").select("prompt_id", value=value.cast(pl.Float64))
    return rows.select("prompt_id", top=pl.col("value").fill_null(0.0), below=pl.col("value").is_not_null())


def won(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Of VERDICTS rows, greedy: a win, of what could be read."""
    rows = verdicts.filter(pl.col("decoding") == "greedy")
    verdict = pl.col("verdict")
    return rows.select("prompt_id", top=(verdict == "win").fill_null(False), below=verdict.is_not_null())


def ordered(judged: pl.DataFrame) -> pl.DataFrame:
    """Of JUDGED rows: pairs of answers that people ranked apart and the judge ordered as they did, a tie as half; as
    `judge.judge_metrics` counts them."""
    readable = judged.drop_nulls("score")
    better, worse = pl.col("score"), pl.col("score_right")
    pairs = readable.join(readable, on="prompt_id").filter(pl.col("human_rank") < pl.col("human_rank_right"))
    right = (better > worse).cast(pl.Float64) + (better == worse).cast(pl.Float64) / 2
    counted = pairs.group_by("prompt_id").agg(top=right.sum(), below=pl.len())
    return judged.select("prompt_id").unique().join(counted, on="prompt_id", how="left").fill_null(0)
