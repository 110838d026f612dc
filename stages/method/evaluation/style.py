"""Arena-Hard's style control: the rate of a model without what length and Markdown do to it.

As show_result.py --control-features length markdown of lmarena/arena-hard-auto: a Bradley-Terry model with the
differences of style from the baseline (centred at their mean) beside the models' strengths, all models of a category in
one fit. It is fitted to its optimum, and
resampled by question; the script stops after 50 steps of L-BFGS, and resamples battles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.console.errors import TableError
from stages.method.evaluation.logistic import fit, sigmoid
from stages.method.statistics import Figure, Floats

STYLE = ("token_len", "header_count", "list_count", "bold_count")


class Battles(NamedTuple):
    """Of one question and model: battles won, of how many fought, and both answers' styles."""

    model: str
    uid: str
    won: float
    fought: int
    style: Sequence[float]
    baseline: Sequence[float]


def style_of(metadata: Any, where: str) -> list[float]:
    """Length, headers, lists and bold of an answer, of its `metadata`. Raises TableError."""
    values = [metadata.get(name) if isinstance(metadata, dict) else None for name in STYLE]
    numbers = [[*value.values()] if isinstance(value, dict) else [value] for value in values]
    if not all(type(number) is int and number >= 0 for of in numbers for number in of):
        raise TableError(f"{where}: metadata: expected counts of {', '.join(STYLE)}, as gen_answer.py writes them")
    return [float(sum(of)) for of in numbers]


def controlled(battles: Sequence[Battles], *, n: int, seed: int) -> dict[str, Figure]:
    """Model to its rate at the mean difference of style, of battles of one category."""
    models = sorted({each.model for each in battles})
    counts = np.array([each.fought for each in battles], dtype=np.float64)
    styles = _differences(np.array([each.style for each in battles]), np.array([each.baseline for each in battles]))
    total = counts.sum()
    mean = counts @ styles / total
    spread = np.sqrt(counts @ (styles - mean) ** 2 / max(total - 1, 1))
    strengths = np.array([[each.model == model for model in models] for each in battles], dtype=np.float64)
    features = np.hstack([strengths, (styles - mean) / np.where(spread > 0, spread, 1)])
    uids = sorted({each.uid for each in battles})
    places = [uids.index(each.uid) for each in battles]
    resamples = np.random.default_rng(seed).multinomial(len(uids), np.full(len(uids), 1 / len(uids)), size=n)
    weights = np.vstack([np.ones((1, len(battles))), resamples[:, places]]) * counts
    shares = np.array([each.won for each in battles]) / counts
    rates = sigmoid(fit(features, shares, weights)[:, : len(models)])
    low, high = np.percentile(rates[1:], [2.5, 97.5], axis=0)
    asked = [sum(each.model == model for each in battles) for model in models]
    return {
        model: {"value": float(rates[0, i]), "low": float(low[i]), "high": float(high[i]), "n": asked[i]}
        for i, model in enumerate(models)
    }


def _differences(model: Floats, baseline: Floats) -> Floats:
    """Of length, relative; of Markdown, of its densities."""
    lengths = model[:, :1] + baseline[:, :1]
    longer = (model[:, :1] - baseline[:, :1]) / np.where(lengths > 0, lengths, 1)
    ours, theirs = (each[:, 1:] / (each[:, :1] + 1) for each in (model, baseline))
    return np.hstack([longer, (ours - theirs) / (ours + theirs + 1)])


def styles(records: Sequence[tuple[str, Any]]) -> Mapping[tuple[str, str], list[float]]:
    """(model, uid) to the style of the answer, of lines of model_answer/MODEL.jsonl. Raises TableError."""
    result = {}
    for where, record in records:
        if not isinstance(model := record.get("model"), str) or not isinstance(uid := record.get("uid"), str):
            raise TableError(f"{where}: expected model and uid, as gen_answer.py writes them")
        result[model, uid] = style_of(record.get("metadata"), where)
    return result
