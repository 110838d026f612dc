"""A model as judge against people's ranks (paper 3.1)."""

from __future__ import annotations

import polars as pl
from numpy.typing import ArrayLike

from stages.method.scale import OF_FIVE
from stages.method.statistics import Figure, as_mean, ratio_figures


def judge_metrics(
    judged: pl.DataFrame, *, n: int = 1000, seed: int = 0, best: float = OF_FIVE.max
) -> dict[str, Figure]:
    """Agreement of a judge's mean scores with people's ranks (JUDGED rows); unreadable answers are left out and
    counted.

    Over all pairs of answers to one prompt that people ranked apart: `pairwise_accuracy` (a tie of score is half
    right), `tie_share`. Over all answers with the `best` mean score: `five_best`, the share that people ranked
    best. Means over prompts: `exact_match` (all such pairs of a prompt strictly right), `spearman`, `kendall` (tau-b)
    of score against rank, positive when they agree; a prompt where all scores or all ranks are equal has no correlation
    and is left out of these two.
    """
    readable = judged.drop_nulls("score").sort("prompt_id", "candidate_id")
    better, worse = pl.col("score"), pl.col("score_right")
    pairs = (
        readable.join(readable, on="prompt_id")
        .filter(pl.col("human_rank") < pl.col("human_rank_right"))
        .group_by("prompt_id")
        .agg(pl.len().alias("pairs"), (better > worse).sum().alias("right"), (better == worse).sum().alias("ties"))
    )
    score, rank = pl.col("score"), pl.col("human_rank")
    rows = (
        judged.group_by("prompt_id")
        .agg(
            pl.len().alias("answers"),
            score.is_null().sum().alias("unreadable"),
            (score == best).sum().alias("fives"),
            ((score == best) & (rank == rank.min())).sum().alias("best"),
        )
        .join(pairs, on="prompt_id", how="left")
        .join(correlations(readable), on="prompt_id", how="left")
        .sort("prompt_id")
    )
    exact = pl.when(pl.col("pairs") > 0).then((pl.col("right") == pl.col("pairs")) & (pl.col("unreadable") == 0))
    of = rows.fill_null(0)
    columns: dict[str, tuple[ArrayLike, ArrayLike]] = {
        "pairwise_accuracy": (of["right"] + of["ties"] / 2, of["pairs"]),
        "tie_share": (of["ties"], of["pairs"]),
        "five_best": (of["best"], of["fives"]),
        "exact_match": as_mean(rows.select(exact).to_series()),
        "spearman": as_mean(rows["spearman"]),
        "kendall": as_mean(rows["kendall"]),
        "unreadable_share": (of["unreadable"], of["answers"]),
    }
    return ratio_figures(columns, n=n, seed=seed)


def correlations(readable: pl.DataFrame) -> pl.DataFrame:
    """prompt_id, spearman, kendall of the prompts that have them."""
    from scipy.stats import kendalltau, spearmanr  # takes longer to import than all of a head-to-head takes

    rows = [
        (prompt_id, *(float(of([-rank for rank in ranks], scores).statistic) for of in (spearmanr, kendalltau)))
        for prompt_id, ranks, scores in readable.group_by("prompt_id").agg("human_rank", "score").iter_rows()
        if len(set(ranks)) > 1 and len(set(scores)) > 1
    ]
    schema = {"prompt_id": pl.String, "spearman": pl.Float64, "kendall": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")
