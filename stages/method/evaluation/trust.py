"""What a judge's agreement with people may hide: answers that it did not score, a taste for length, tries that do not
agree, scores that mean nothing."""

from __future__ import annotations

from typing import Literal

import polars as pl
from numpy.typing import ArrayLike

from stages.method.evaluation.judge import correlations
from stages.method.statistics import Figure, as_mean, ratio_figures

ALIKE = 1.25
"""Lengths are alike where the longer answer has at most so many times the characters of the shorter."""


def trust_metrics(
    judged: pl.DataFrame,
    judgements: pl.DataFrame,
    responses: pl.DataFrame,
    *,
    kind: Literal["sampled", "expected"] = "sampled",
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Figure]:
    """Of JUDGED rows, the JUDGEMENTS rows behind them, and the text of every answer (candidate_id, response).

    Here every answer counts. `accuracy`, over all pairs that people ranked apart: one that is tied, or has an answer
    without a readable score, is half right. `exact_match`: all pairs of a prompt strictly right; an unreadable answer
    makes it wrong. `spearman`, `kendall`: an unreadable answer gets the mean of the others of its prompt, and a prompt
    with no order at all counts 0. `length_matched`, `longer_better`, `shorter_better`: `accuracy` of the pairs of
    lengths within 25 % of each other (in characters, the same pairs for every judge), and of those whose better answer
    is the longer or the shorter one: a judge of length alone has 1 and 0. `longer_wins`: of pairs that people ranked
    equal, where the longer answer got the higher score, a tie is half; above 1/2 is a taste for length. `tries_agree`:
    of two judgements of one answer, how often they gave the same score; `tries_apart`: by how many points they differ.
    """
    rows = judged.join(responses.select("candidate_id", chars=pl.col("response").str.len_chars()), on="candidate_id")
    pairs = _pairs(rows)
    apart = pairs.filter(pl.col("human_rank") < pl.col("human_rank_other"))
    equal = pairs.filter(pl.col("human_rank") == pl.col("human_rank_other"), pl.col("chars") > pl.col("chars_other"))
    longer, shorter = pl.max_horizontal("chars", "chars_other"), pl.min_horizontal("chars", "chars_other")
    prompts = judged.select(pl.col("prompt_id").unique().sort())
    exact = apart.group_by("prompt_id").agg(value=(pl.col("won") == 1).all())
    tries = _tries(judgements, "score" if kind == "sampled" else "expected")
    orders = _orders(judged)
    columns: dict[str, tuple[ArrayLike, ArrayLike]] = {
        "accuracy": _share(prompts, apart),
        "exact_match": as_mean(_by_prompt(prompts, exact)),
        "spearman": as_mean(_by_prompt(prompts, orders.select("prompt_id", value="spearman"))),
        "kendall": as_mean(_by_prompt(prompts, orders.select("prompt_id", value="kendall"))),
        "length_matched": _share(prompts, apart.filter(longer <= ALIKE * shorter)),
        "longer_better": _share(prompts, apart.filter(pl.col("chars") > pl.col("chars_other"))),
        "shorter_better": _share(prompts, apart.filter(pl.col("chars") < pl.col("chars_other"))),
        "longer_wins": _share(prompts, equal),
        "tries_agree": _share(prompts, tries.with_columns(won=(pl.col("gap") == 0).cast(pl.Float64))),
        "tries_apart": _share(prompts, tries.with_columns(won="gap")),
    }
    return ratio_figures(columns, n=n, seed=seed)


def calibration(judged: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, Figure]:
    """Mean rank by people (0 is best) of the answers by score, rounded to whole points: it falls as scores rise."""
    rows = judged.drop_nulls("score").with_columns(whole=(pl.col("score") + 0.5).floor().cast(pl.Int32))
    rows = rows.with_columns(won=pl.col("human_rank").cast(pl.Float64))
    prompts = judged.select(pl.col("prompt_id").unique().sort())
    columns = {str(score): _share(prompts, rows.filter(whole=score)) for score in sorted(set(rows["whole"]))}
    return ratio_figures(columns, n=n, seed=seed)


def _pairs(rows: pl.DataFrame) -> pl.DataFrame:
    """Two answers to one prompt, the second's columns with `_other`, both ways round; `won`: 1, 1/2 or 0 by score, 1/2
    where a score is unknown."""
    one, other = pl.col("score"), pl.col("score_other")
    won = pl.when(one > other).then(1.0).when(one < other).then(0.0).otherwise(0.5)
    both = rows.join(rows, on="prompt_id", suffix="_other").with_columns(won=won)
    return both.filter(pl.col("candidate_id") != pl.col("candidate_id_other"))


def _orders(judged: pl.DataFrame) -> pl.DataFrame:
    """prompt_id, spearman, kendall of every prompt whose answers people ranked apart."""
    mean = pl.col("score").mean().over("prompt_id")
    ranked = judged.sort("prompt_id", "candidate_id").filter(pl.col("human_rank").n_unique().over("prompt_id") > 1)
    known = correlations(ranked.with_columns(pl.col("score").fill_null(mean)).drop_nulls("score"))
    return ranked.select(pl.col("prompt_id").unique()).join(known, on="prompt_id", how="left").fill_null(0.0)


def _tries(judgements: pl.DataFrame, score: str) -> pl.DataFrame:
    """prompt_id and the `gap` between the scores of every two readable judgements of one answer."""
    read = judgements.drop_nulls(score).select("candidate_id", "prompt_id", "k", score=score)
    both = read.join(read, on="candidate_id", suffix="_other").filter(pl.col("k") < pl.col("k_other"))
    return both.select("prompt_id", gap=(pl.col("score") - pl.col("score_other")).abs())


def _share(prompts: pl.DataFrame, rows: pl.DataFrame) -> tuple[ArrayLike, ArrayLike]:
    """Per prompt the sum of `won` over its rows, and how many they are."""
    sums = rows.group_by("prompt_id").agg(pl.col("won").sum().alias("top"), pl.len().alias("below"))
    joined = prompts.join(sums, on="prompt_id", how="left", maintain_order="left").fill_null(0)
    return joined["top"], joined["below"]


def _by_prompt(prompts: pl.DataFrame, values: pl.DataFrame) -> pl.Series:
    return prompts.join(values, on="prompt_id", how="left", maintain_order="left")["value"]
