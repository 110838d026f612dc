"""six: the loops of six iterations as a table, a figure and a sentence, from what `benchmarks.ablations` keeps of them.

Intervals are Student's, 95 %, over seeds; of a step they are of its differences within a seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import pairwise
from operator import getitem
from typing import Any, NamedTuple

import altair as alt

from benchmarks.ablations import Mean, interval, markdown, mean_of, minus
from benchmarks.arms import ARMS
from stages.console.sheets import Code
from stages.page import charts
from stages.text.ids import content_id

MODELS = tuple(f"M{i}" for i in range(1, 7))
SVG = "six_iterations.svg"
"""Beside the page."""
INK, COLOURS = "#6e7781", ("#3b82c4", "#c8701a", "#4f9a76", "#a069b4")
"""As an image has one colour for a light and for a dark page: each is told from both."""


class Measure(NamedTuple):
    title: str
    axis: str
    path: tuple[str, ...]
    scale: int
    digits: int


SCORE = Measure("oracle score, greedy", "checker's points, 0 to 5", ("writer", "greedy", "oracle_score"), 1, 2)
MEASURES = (
    SCORE,
    Measure("fully right %, greedy", "fully right, %", ("writer", "greedy", "fully_right"), 100, 1),
    Measure("judge: pairwise acc. %", "judge: right pairs, %", ("judge", "pairwise_accuracy"), 100, 1),
)
Loops = dict[str, list[Mapping[str, Any]]]
"""Arm to the EVAL metrics of each of its seeds."""


def loops(results: Mapping[str, Any]) -> Loops:
    """Of data/results/ablations.json, the arms of six iterations that were run."""
    names = [name for name, arm in ARMS.items() if arm.models == len(MODELS)]
    runs = {n: [r["metrics"]["EVAL"] for key, r in results.items() if key.partition("@")[0] == n] for n in names}
    return {name: evals for name, evals in runs.items() if evals}


def values(evals: list[Mapping[str, Any]], of: Measure) -> list[list[float | None]]:
    """Of each model, one of each seed."""
    read = [[reduce(getitem, (*of.path, "value"), each[model]) for each in evals] for model in MODELS]
    return [[None if value is None else of.scale * value for value in seeds] for seeds in read]


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """Markdown of `ablations, six`: means; of `six, figure` and `six, steps`, empty without a loop."""
    runs = loops(results)
    rows = [
        [Code(name), of.title, *(interval(mean_of(seeds), of.digits, sign="") for seeds in values(evals, of))]
        for name, evals in runs.items()
        for of in MEASURES
    ]
    picture = f"![Checker's points, fully right answers and the judge's right pairs by iteration]({SVG})\n"
    return {
        "ablations, six": markdown(["arm", "mean over seeds of", *MODELS], rows),
        "six, figure": picture if runs else "",
        "six, steps": f"Steps in which the checker's points fall by more than their interval: {falls(runs)}.\n"
        if runs
        else "",
    }


def falls(runs: Loops) -> str:
    """Of each arm the steps whose fall is told apart from noise."""
    found = []
    for name, evals in runs.items():
        steps = [
            f"{before} → {after} ({interval(change, SCORE.digits)})".replace("-", "−")
            for (before, after), change in steps_of(evals)
            if change and change.half_width is not None and change.value + change.half_width < 0
        ]
        seeds = "one seed, so no interval" if len(evals) == 1 else f"{len(evals)} seeds"
        found.append(f"`{name}` {', '.join(steps) or 'none'} ({seeds})")
    return "; ".join(found)


def steps_of(evals: list[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str], Mean | None]]:
    for names, (before, after) in zip(pairwise(MODELS), pairwise(values(evals, SCORE)), strict=True):
        yield names, mean_of([minus(b, a) for a, b in zip(before, after, strict=True)])


def figure(results: Mapping[str, Any]) -> str | None:
    """The SVG: a panel for each measure, a line for each arm; None without a loop. Its first line names the values that
    it shows, for the rest depends on the fonts of a machine."""
    if not (runs := loops(results)):
        return None
    shown = content_id(json.dumps({name: [values(evals, of) for of in MEASURES] for name, evals in runs.items()}))
    colour = alt.Color(
        "arm:N", scale=alt.Scale(domain=list(runs), range=list(COLOURS)), legend=alt.Legend(orient="top", title="arm")
    )
    svg = charts.drawn(alt.vconcat(*(panel(runs, of, colour) for of in MEASURES)), ink=INK)
    return f"<!-- {shown} -->\n{svg}"


def panel(runs: Loops, of: Measure, colour: alt.Color) -> alt.LayerChart:
    points = []
    for place, (name, evals) in enumerate(runs.items()):
        for i, seeds in enumerate(values(evals, of), 1):
            if average := mean_of(seeds):
                wide = average.half_width if average.n > 2 else None  # of two seeds it would be as wide as the page
                ends = {"low": average.value - (wide or 0), "high": average.value + (wide or 0)}
                points.append({"arm": name, "iteration": i + 0.05 * place, "value": average.value, **ends})
    axis = alt.Axis(values=[*range(1, 7)], labelExpr="'M' + datum.value", grid=False)
    x = alt.X("iteration:Q", scale=alt.Scale(domain=[0.8, 6.3], nice=False), axis=axis)
    base = charts.data(points).encode(x=x, color=colour)
    y = alt.Y("value:Q", title=of.axis, scale=alt.Scale(zero=False))
    return alt.layer(
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=50, opacity=1).encode(y=y),
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=of.axis), y2="high:Q"),
    ).properties(width=560, height=150)
