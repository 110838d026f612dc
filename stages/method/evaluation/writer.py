"""A model as writer on held-out prompts (paper 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from stages.method.statistics import mean_figures

Shares = Mapping[str, tuple[str, ...]]
"""What a checker counts: the name of a share, and the points that an answer needs for it."""


def writer_metrics(answers: pl.DataFrame, shares: Shares, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per decoding, means over prompts of ANSWERS rows: `oracle_score`, the checker's `shares`, `points` (the rate of
    each by name), `chars`, `tokens`, `cut_off` (share). Where there is no checker its figures are null."""
    result: dict[str, dict[str, Any]] = {}
    points = pl.col("points")
    for decoding in sorted(set(answers["decoding"])):
        rows = answers.filter(pl.col("decoding") == decoding).sort("prompt_id")
        names = sorted(set(rows["points"].drop_nulls().explode().drop_nulls()))
        columns = rows.select(
            pl.col("oracle_score"),
            *(
                pl.all_horizontal(points.list.contains(p) for p in needed).alias(name)
                for name, needed in shares.items()
            ),
            chars=pl.col("response").str.len_chars(),
            tokens="tokens",
            cut_off=pl.col("finish_reason") == "length",
        )
        result[decoding] = {**mean_figures(columns.to_dict(), n=n, seed=seed)}
        given = rows.select(points.list.contains(name).alias(name) for name in names)
        result[decoding]["points"] = mean_figures(given.to_dict(), n=n, seed=seed)
    return result
