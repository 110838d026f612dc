"""Logistic regression of shares, of many resamples at once."""

from __future__ import annotations

import numpy as np

from stages.method.statistics import Floats

RIDGE = 1e-4
"""So little that it only matters where there is no finite fit, as of shares that are all alike."""
MOST_STEPS = 200


def fit(features: Floats, shares: Floats, counts: Floats) -> Floats:
    """Logistic regressions of `shares` on `features` (rows, k), one for each line of `counts` (how often a row counts):
    (lines, k). By Newton's method, whose steps are cut to where the curvature is still that of their beginning."""
    products = np.einsum("ni,nj->nij", features, features).reshape(len(features), -1)
    k, reach = features.shape[1], np.linalg.norm(features, axis=1).max()
    weights = np.zeros((len(counts), k))
    for _ in range(MOST_STEPS):
        p = sigmoid(weights @ features.T)
        gradient = (counts * (shares - p)) @ features - RIDGE * weights
        curvature = ((counts * p * (1 - p)) @ products).reshape(-1, k, k) + RIDGE * np.eye(k)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        size = np.linalg.norm(step, axis=1, keepdims=True) * reach
        weights += step / np.maximum(1, size / 2)
        if np.abs(step).max() < 1e-8:
            break
    return weights


def sigmoid(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)), dtype=np.float64)
