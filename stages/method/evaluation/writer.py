"""A model as writer on held-out prompts (paper 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import polars as pl
from numpy.typing import ArrayLike

from stages.method.answers import Check
from stages.method.statistics import as_mean, mean_figures, ratio_figures


class Oracle(NamedTuple):
    """A world's checker, and what is counted of its points; nothing where there is none."""

    check: Check | None = None
    shares: Mapping[str, tuple[str, ...]] = {}
    """Name -> the points that an answer needs for it: a share of the answers."""
    pooled: Mapping[str, tuple[str, ...]] = {}
    """Name -> points: how many of these are given, of those that could be, over all answers."""
    possible: Callable[[str], list[str]] | None = None
    """The points that an answer to a prompt can get; None: all of them."""


def writer_metrics(
    answers: pl.DataFrame, prompts: pl.DataFrame, oracle: Oracle, *, n: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Per decoding, means over `prompts` (prompt_id, prompt) of their ANSWERS rows: `oracle_score`, the oracle's
    `shares` and `pooled` rates, `points` (the rate of each by name, where it can be got), `chars`, `tokens`, `cut_off`
    (share). Where there is no checker its figures are null."""
    result: dict[str, dict[str, Any]] = {}
    points, can = pl.col("points"), pl.col("possible")
    texts = dict(prompts.select("prompt_id", "prompt").iter_rows())
    for decoding in sorted(set(answers["decoding"])):
        rows = answers.filter(pl.col("decoding") == decoding).sort("prompt_id")
        names = sorted({*rows["points"].explode().drop_nulls()})
        able = [oracle.possible(texts[i]) if oracle.possible else names for i in rows["prompt_id"]]
        rows = rows.with_columns(possible=pl.Series(able, dtype=pl.List(pl.String)))
        names = sorted({*rows["possible"].explode().drop_nulls()})
        columns = rows.select(
            pl.col("oracle_score"),
            *(
                pl.all_horizontal(points.list.contains(p) for p in needed).alias(name)
                for name, needed in oracle.shares.items()
            ),
            chars=pl.col("response").str.len_chars(),
            tokens="tokens",
            cut_off=pl.col("finish_reason") == "length",
        )
        figures: dict[str, tuple[ArrayLike, ArrayLike]] = {
            name: as_mean(values) for name, values in columns.to_dict().items()
        }
        for name, of in oracle.pooled.items():
            kept, asked = rows.select(
                column.list.set_intersection(list(of)).list.len().fill_null(0) for column in (points, can)
            )
            figures[name] = kept, asked
        result[decoding] = {**ratio_figures(figures, n=n, seed=seed)}
        given = rows.select(
            pl.when(can.list.contains(name)).then(points.list.contains(name)).alias(name) for name in names
        )
        result[decoding]["points"] = mean_figures(given.to_dict(), n=n, seed=seed)
    return result
