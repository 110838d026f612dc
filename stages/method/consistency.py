"""Whether two judges order a prompt's answers alike (CREAM, arXiv 2410.12735): Kendall's tau, and what it decides.

The consistency of a prompt is C = (tau + 1) / 2: 1 is the same order, 1/2 none, 0 the reverse. A tau that is not known,
since a judge gave one score to all or could not be read, counts as 0, also where that holds of every prompt. An AIFT
without a second judge has no tau to be asked for.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from stages.method.pairing import CLOSE
from stages.text.ids import content_id

Taus = Literal["prompt", "mean", "shuffled"]


def taus(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """prompt_id, tau: Kendall's tau-b of two judges' `mean_scores` over the texts of a prompt that both could read, as
    `scipy.stats.kendalltau`; null where it is not defined."""
    both = first.drop_nulls("score").join(
        second.drop_nulls("score").select("candidate_id", other="score"), on="candidate_id"
    )
    both = both.select("prompt_id", "candidate_id", "score", "other")
    couples = both.join(both, on="prompt_id", suffix="_b").filter(pl.col("candidate_id") < pl.col("candidate_id_b"))

    def order(name: str) -> pl.Expr:
        apart = pl.col(name) - pl.col(f"{name}_b")
        return pl.when(apart.abs() > CLOSE).then(apart.sign()).otherwise(0.0)

    one, other = order("score"), order("other")
    sizes = one.abs().sum() * other.abs().sum()
    tau = pl.when(sizes > 0).then((one * other).sum() / sizes.sqrt())
    return couples.group_by("prompt_id").agg(tau.alias("tau")).sort("prompt_id")


def consistency(scores: pl.DataFrame, how: Taus, seed: int) -> pl.DataFrame:
    """prompt_id, tau (0 for unknown) of the prompts of `scores` (SCORES rows) that give a pair. Controls: `mean`, one
    for all, which is CREAM's own; `shuffled`, dealt out anew among them by a hash of `(seed, prompt_id)`."""
    rows = scores.filter(fate="chosen").select("prompt_id", pl.col("tau").fill_null(0.0)).sort("prompt_id")
    if how == "mean":
        return rows.with_columns(pl.col("tau").mean())
    if how == "shuffled":
        hashes = pl.Series([content_id(seed, "tau", prompt) for prompt in rows["prompt_id"]], dtype=pl.String)
        return rows.with_columns(tau=rows["tau"].gather(hashes.arg_sort()))
    return rows


def smooth(pairs: pl.DataFrame, scores: pl.DataFrame, how: Taus, seed: int) -> pl.DataFrame:
    """`pairs` (PAIRS rows) of which each is `reversed` with probability 1 - C, by a hash of `(seed, prompt_id,
    chosen_id, rejected_id)`: the expected loss is then that of conservative DPO."""
    ids = pairs.select("prompt_id", "chosen_id", "rejected_id").iter_rows()
    draws = pl.Series([int(content_id(seed, "reversed", *row), 16) / 16**16 for row in ids], dtype=pl.Float64)
    of = pairs.join(consistency(scores, how, seed), on="prompt_id", how="left", maintain_order="left")
    return pairs.with_columns(reversed=pl.when(draws >= (of["tau"] + 1) / 2).then(pl.lit(1, pl.Int32)))
