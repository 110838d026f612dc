"""Every model head to head with every other: one strength for each (Bradley and Terry 1952), and a constant answer
beside them, which no judge should prefer (null models, arXiv 2410.07137)."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from stages.method.evaluation.match import unread
from stages.method.statistics import DIGITS, Figure, Floats, mean_figures, resamples
from stages.store.tables import ANSWERS

CONSTANT = "constant"
"""The name of who gives one text as the answer to every prompt."""
POINTS = {"win": 1.0, "tie": 0.5, "lose": 0.0}
ELO = 400 / np.log(10)
MEAN_ELO = 1000
CONVERGED = 1e-12


def constant_answers(answers: pl.DataFrame, text: str) -> pl.DataFrame:
    """ANSWERS rows of who gives `text` wherever `answers` has one."""
    nothing = {name: pl.lit(None, ANSWERS.schema[name]) for name in ("tokens", "oracle_score", "points", "thought")}
    said = {"model": pl.lit(CONSTANT), "response": pl.lit(text), "finish_reason": pl.lit("stop")}
    return answers.with_columns(**nothing, **said)


def tournament(verdicts: pl.DataFrame, *, n: int = 1000, seed: int = 0, unreadable: float = 0.05) -> dict[str, Any]:
    """Per decoding, of VERDICTS rows of all matches: `elo` and `share` by model (`standings`); `points` of each model
    against each other, the mean of 1 for a win, 1/2 for a tie; `constant`, the points of the constant answer against
    each; `first`, how often the answer shown first won where one won, 1/2 where the judge does not look at the place;
    `comparisons`, and how many were `unreadable`. `warned`: where the judge prefers the constant
    answer, and where more than the share `unreadable` could not be read."""
    result: dict[str, Any] = {}
    warned = []
    for decoding in sorted(set(verdicts["decoding"])):
        rows = both_sides(verdicts.filter(decoding=decoding))
        points: dict[str, dict[str, Figure]] = {}
        for (model, other), match in sorted(rows.group_by("model", "other")):
            points.setdefault(str(model), {})[str(other)] = mean_figures(
                {"points": match.sort("prompt_id")["points"]}, n=n, seed=seed
            )["points"]
        constant = points.pop(CONSTANT, {})
        models = rows.filter((pl.col("model") != CONSTANT) & (pl.col("other") != CONSTANT))
        result[decoding] = {
            **standings(models, n=n, seed=seed),
            "points": {m: {o: f for o, f in row.items() if o != CONSTANT} for m, row in points.items()},
            **({"constant": constant} if constant else {}),
            **mean_figures({"first": first_wins(verdicts.filter(decoding=decoding))}, n=n, seed=seed),
            "comparisons": len(rows) // 2,
            "unreadable": rows["points"].null_count() // 2,
        }
        warned += [
            f"the judge is gameable: it gives a constant answer {figure['value']:.0%} of the points against {model} "
            f"({decoding}, n {figure['n']})"
            for model, figure in constant.items()
            if (figure["value"] or 0) > POINTS["tie"]
        ]
        warned += unread(decoding, rows["points"].null_count() // 2, len(rows) // 2, unreadable)
    return {**result, "warned": warned}


def both_sides(verdicts: pl.DataFrame) -> pl.DataFrame:
    """model, other, prompt_id and the points of `model`, null where unreadable; each match from both sides."""
    points = pl.col("verdict").replace_strict(POINTS, return_dtype=pl.Float64)
    mine = verdicts.select("model", "other", "prompt_id", points=points)
    theirs = mine.select(model="other", other="model", prompt_id="prompt_id", points=1 - pl.col("points"))
    return pl.concat([mine, theirs])


def first_wins(verdicts: pl.DataFrame) -> pl.Series:
    """Per prompt, of its comparisons with a winner, the share that the answer shown first won."""
    orders = (
        verdicts.sort("prompt_id")
        .group_by("prompt_id", maintain_order=True)
        .agg(
            won=(pl.col("first") == "win").sum() + (pl.col("second") == "lose").sum(),
            lost=(pl.col("first") == "lose").sum() + (pl.col("second") == "win").sum(),
        )
    )
    decided = orders.filter(pl.col("won") + pl.col("lost") > 0)
    return decided["won"] / (decided["won"] + decided["lost"])


def standings(rows: pl.DataFrame, *, n: int, seed: int) -> dict[str, dict[str, Figure]]:
    """`elo`: strength by Bradley and Terry's model, 400 points for odds of 10 to 1, the mean 1000; `share`: the points
    that it expects of a match with each of the others, on average. Rows of `both_sides`; a tie is half a win for both.
    Every two models get one more tie, so that the strength of one that never lost is finite. Intervals are from
    resampled prompts."""
    readable = rows.drop_nulls("points").sort("prompt_id", "model", "other")
    if readable.is_empty():
        return {"elo": {}, "share": {}}
    models = sorted(set(readable["model"]), key=lambda name: (len(name), name))
    at = {name: i for i, name in enumerate(models)}
    prompts, indices = np.unique(readable["prompt_id"].to_numpy(), return_inverse=True)
    won = np.zeros((len(prompts), len(models), len(models)))
    sides = (readable[side].replace_strict(at, return_dtype=pl.Int64).to_numpy() for side in ("model", "other"))
    np.add.at(won, (indices, *sides), readable["points"].to_numpy())
    each = won.reshape(len(prompts), -1)
    drawn = [np.ones((1, len(prompts))), *resamples(len(prompts), n=n, seed=seed)]  # first: as it is
    strengths = np.vstack([bradley_terry((chunk @ each).reshape(-1, *won.shape[1:])) for chunk in drawn])
    odds = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
    share = (odds.sum(axis=2) - 0.5) / max(len(models) - 1, 1)
    counts = dict(readable.group_by("model").len().iter_rows())
    return {
        name: {model: _figure(values[:, i], counts[model]) for model, i in at.items()}
        for name, values in (("elo", MEAN_ELO + ELO * strengths), ("share", share))
    }


def bradley_terry(won: Floats) -> Floats:
    """Strengths (draws, models) of greatest likelihood, the mean 0, of wins (draws, models, models) of the one against
    the other, by Newton's method on all draws at once; one tie more between every two."""
    models = won.shape[1]
    won = won + 0.5 * (1 - np.eye(models))
    played = won + won.transpose(0, 2, 1)
    strengths: Floats = np.zeros(won.shape[:2])
    for _ in range(100):
        expected = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
        curvature = played * expected * (1 - expected)
        hessian = np.eye(models) * curvature.sum(axis=2)[:, :, None] - curvature + 1 / models  # the mean stays 0
        step = np.linalg.solve(hessian, (won - played * expected).sum(axis=2)[:, :, None])[:, :, 0]
        strengths += np.clip(step, -1, 1)
        if np.abs(step).max(initial=0) < CONVERGED:
            break
    strengths -= strengths.mean(axis=1, keepdims=True)
    return strengths


def _figure(values: Floats, n: int) -> Figure:
    low, high = np.percentile(values[1:], [2.5, 97.5])
    value, low, high = (round(float(x), DIGITS) for x in (values[0], low, high))
    return {"value": value, "low": low, "high": high, "n": n}
