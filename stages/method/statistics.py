"""Figures with a 95 % bootstrap interval: `{value, low, high, n}`.

A figure is a ratio of sums over prompts: right pairs over pairs, or a sum of per-prompt values over the prompts that
have one. Prompts are resampled, not pairs or answers, since what belongs to one prompt is not independent. `n` is what
a figure is a share or mean of, so what was left out shows; a figure of nothing is null.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Figure = dict[str, float | int | None]
DIGITS = 6  # further digits of a float sum may differ between machines; a metrics file should not


def bootstrap(values: ArrayLike, weights: ArrayLike | None = None, *, n: int, seed: int) -> tuple[float, float] | None:
    """95 % percentile interval of sum(values) / sum(weights), one entry per prompt, from `n` resamples of the prompts
    (the mean without `weights`).

    None when the weights sum to nothing. Resamples without weight are left out.
    """
    top = np.asarray(values, dtype=np.float64)
    below = np.ones_like(top) if weights is None else np.asarray(weights, dtype=np.float64)
    if below.sum() <= 0:
        return None
    draws = _draws(len(top), n, seed)
    tops, belows = draws @ top, draws @ below
    low, high = np.percentile(tops[belows > 0] / belows[belows > 0], [2.5, 97.5])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _draws(prompts: int, n: int, seed: int) -> Floats:
    """How often each prompt is in each resample, (n, prompts). The same for all figures of equally many prompts."""
    return np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=n).astype(np.float64)


def ratio_figure(values: ArrayLike, weights: ArrayLike | None = None, *, n: int, seed: int) -> Figure:
    top = np.asarray(values, dtype=np.float64)
    below = np.ones_like(top) if weights is None else np.asarray(weights, dtype=np.float64)
    interval = bootstrap(top, below, n=n, seed=seed)
    if interval is None:
        return {"value": None, "low": None, "high": None, "n": 0}
    value, (low, high) = float(top.sum() / below.sum()), interval
    return {
        "value": round(value, DIGITS),
        "low": round(low, DIGITS),
        "high": round(high, DIGITS),
        "n": round(below.sum()),
    }


def mean_figure(values: pl.Series, *, n: int, seed: int) -> Figure:
    """Figure of the mean of `values`, one per prompt; null counts as no value."""
    return ratio_figure(
        values.cast(pl.Float64).fill_null(0.0).to_numpy(),
        values.is_not_null().cast(pl.Float64).to_numpy(),
        n=n,
        seed=seed,
    )


def figures(name: str, metrics: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """What is known in `metrics` (series, such as `greedy`, to its figures by measure) as points of a plot: name,
    series, measure, value, low, high."""
    rows = [
        (name, series, measure, figure["value"], figure["low"], figure["high"])
        for series, measures in metrics.items()
        for measure, figure in measures.items()
        if isinstance(figure, dict) and figure.get("value") is not None
    ]
    columns = dict.fromkeys(("name", "series", "measure"), pl.String()) | dict.fromkeys(
        ("value", "low", "high"), pl.Float64()
    )
    return pl.DataFrame(rows, schema=columns, orient="row")
