"""A model as writer on held-out prompts (paper 3.1)."""

from __future__ import annotations

from typing import Any

import polars as pl

from stages.method.judging import BEST
from stages.method.statistics import mean_figures


def writer_metrics(answers: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per decoding, means over prompts of ANSWERS rows: `oracle_score`, `fully_right` (point `right`), `all_five`
    points, `points` (the rate of each by name), `chars`, `tokens`, `cut_off` (share). Where there is no oracle its
    figures are null.
    """
    result: dict[str, dict[str, Any]] = {}
    for decoding in sorted(set(answers["decoding"])):
        rows = answers.filter(pl.col("decoding") == decoding).sort("prompt_id")
        names = sorted(set(rows["points"].drop_nulls().explode().drop_nulls()))
        columns = rows.select(
            oracle_score="oracle_score",
            fully_right=pl.col("points").list.contains("right"),
            all_five=pl.col("points").list.n_unique() == round(BEST),
            chars=pl.col("response").str.len_chars(),
            tokens="tokens",
            cut_off=pl.col("finish_reason") == "length",
        )
        points = {name: rows.select(pl.col("points").list.contains(name)).to_series() for name in names}
        result[decoding] = {**mean_figures(columns.to_dict(), n=n, seed=seed)}
        result[decoding]["points"] = mean_figures(points, n=n, seed=seed)
    return result
