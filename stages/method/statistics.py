"""Figures with a 95 % bootstrap interval: `{value, low, high, n}`.

A figure is a ratio of sums over prompts: right pairs over pairs, or a sum of per-prompt values over the prompts that
have one. Prompts are resampled, not pairs or answers, since what belongs to one prompt is not independent. `n` is what
a figure is a share or mean of, so what was left out shows; a figure of nothing is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Figure = dict[str, float | int | None]
CHUNK = 2**20
DIGITS = 6  # further digits of a float sum may differ between machines; a metrics file should not


def resamples(prompts: int, *, n: int, seed: int) -> Iterator[Floats]:
    """`n` resamples of the prompts, how often each was drawn, in chunks (resamples, prompts) of about a million."""
    rng, share = np.random.default_rng(seed), np.full(prompts, 1 / max(prompts, 1))
    rows = max(1, CHUNK // max(prompts, 1))
    for start in range(0, n if prompts else 0, rows):
        yield rng.multinomial(prompts, share, size=min(rows, n - start)).astype(np.float64)


def intervals(values: Floats, weights: Floats, *, n: int, seed: int) -> list[tuple[float, float] | None]:
    """95 % percentile intervals of sum(values) / sum(weights) of each figure (prompts, figures), from `n` resamples of
    the prompts, the same for all figures; None for a figure whose weights sum to nothing. Memory goes with the
    prompts, not with `n` times the prompts."""
    prompts, figures = values.shape
    both = np.hstack([values, weights])
    sums = np.vstack([np.empty((0, 2 * figures)), *(chunk @ both for chunk in resamples(prompts, n=n, seed=seed))])
    result: list[tuple[float, float] | None] = []
    for top, below, weight in zip(sums[:, :figures].T, sums[:, figures:].T, weights.sum(axis=0), strict=True):
        ratios = top[below > 0] / below[below > 0] if weight > 0 else np.empty(0)
        result.append((float(np.percentile(ratios, 2.5)), float(np.percentile(ratios, 97.5))) if len(ratios) else None)
    return result


def ratio_figures(columns: Mapping[str, tuple[ArrayLike, ArrayLike]], *, n: int, seed: int) -> dict[str, Figure]:
    """Figures of `columns`: name -> (values, weights), one of each per prompt."""
    if not columns:
        return {}
    values, weights = (
        np.column_stack([np.asarray(column[side], dtype=np.float64) for column in columns.values()]) for side in (0, 1)
    )
    result: dict[str, Figure] = {}
    for i, (name, interval) in enumerate(zip(columns, intervals(values, weights, n=n, seed=seed), strict=True)):
        top, below = values[:, i].sum(), weights[:, i].sum()
        numbers = (top / below, *interval) if interval else (None, None, None)
        rounded = [None if x is None else round(float(x), DIGITS) for x in numbers]
        result[name] = {**dict(zip(("value", "low", "high"), rounded, strict=True)), "n": round(below)}
    return result


def mean_figures(columns: Mapping[str, pl.Series], *, n: int, seed: int) -> dict[str, Figure]:
    """Figures of the means of `columns`: name -> values, one per prompt; null counts as no value."""
    return ratio_figures({name: as_mean(values) for name, values in columns.items()}, n=n, seed=seed)


def as_mean(values: pl.Series) -> tuple[Floats, Floats]:
    """(values, weights) of a mean: null has weight 0."""
    return values.cast(pl.Float64).fill_null(0.0).to_numpy(), values.is_not_null().cast(pl.Float64).to_numpy()
