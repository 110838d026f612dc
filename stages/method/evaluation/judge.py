"""A model as judge against people's ranks (paper 3.1)."""

from __future__ import annotations

import polars as pl

from stages.method.judging import BEST
from stages.method.statistics import Figure, as_mean, ratio_figures


def judge_metrics(judged: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, Figure]:
    """Agreement of a judge's mean scores with people's ranks (JUDGED rows); unreadable answers are left out and
    counted.

    Over all pairs of answers to one prompt that people ranked apart: `pairwise_accuracy` (a tie of score is half
    right), `tie_share`. Over all answers with a mean score of exactly 5: `five_best`, the share that people ranked
    best. Means over prompts: `exact_match` (all such pairs of a prompt strictly right), `spearman`, `kendall` (tau-b)
    of score against rank, positive when they agree; a prompt where all scores or all ranks are equal has no correlation
    and is left out of these two.
    """
    readable = judged.drop_nulls("score").sort("prompt_id", "candidate_id")
    prompts = judged.select("prompt_id").unique().sort("prompt_id")
    better, worse = pl.col("score"), pl.col("score_right")
    pairs = (
        readable.join(readable, on="prompt_id")
        .filter(pl.col("human_rank") < pl.col("human_rank_right"))
        .group_by("prompt_id")
        .agg(pl.len().alias("pairs"), (better > worse).sum().alias("right"), (better == worse).sum().alias("ties"))
    )
    fives = (
        judged.with_columns(best=pl.col("human_rank") == pl.col("human_rank").min().over("prompt_id"))
        .filter(pl.col("score") == BEST)
        .group_by("prompt_id")
        .agg(pl.len().alias("fives"), pl.col("best").sum())
    )
    answers = judged.group_by("prompt_id").agg(
        pl.len().alias("answers"), pl.col("score").is_null().sum().alias("unreadable")
    )
    rows = prompts
    for more in (pairs, fives, answers):
        rows = rows.join(more, on="prompt_id", how="left", maintain_order="left")
    exact = rows.select(
        pl.when(pl.col("pairs") > 0).then((pl.col("right") == pl.col("pairs")) & (pl.col("unreadable") == 0))
    ).to_series()
    correlation = _correlations(readable, prompts)
    column = {name: rows[name].fill_null(0).cast(pl.Float64).to_numpy() for name in rows.columns if name != "prompt_id"}
    columns = {
        "pairwise_accuracy": (column["right"] + column["ties"] / 2, column["pairs"]),
        "tie_share": (column["ties"], column["pairs"]),
        "five_best": (column["best"], column["fives"]),
        "exact_match": as_mean(exact),
        "spearman": as_mean(correlation["spearman"]),
        "kendall": as_mean(correlation["kendall"]),
        "unreadable_share": (column["unreadable"], column["answers"]),
    }
    return ratio_figures(columns, n=n, seed=seed)


def _correlations(readable: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """prompt_id, spearman, kendall, in the order of `prompts`; null where a prompt has none."""
    from scipy.stats import kendalltau, spearmanr  # takes longer to import than all of a head-to-head takes

    rows = []
    for prompt_id, ranks, scores in readable.group_by("prompt_id").agg("human_rank", "score").iter_rows():
        if len(set(ranks)) > 1 and len(set(scores)) > 1:
            liked = [-rank for rank in ranks]
            rows.append(
                (prompt_id, float(spearmanr(liked, scores).statistic), float(kendalltau(liked, scores).statistic))
            )
    schema = {"prompt_id": pl.String, "spearman": pl.Float64, "kendall": pl.Float64}
    return prompts.join(
        pl.DataFrame(rows, schema=schema, orient="row"), on="prompt_id", how="left", maintain_order="left"
    )
