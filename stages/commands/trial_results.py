"""What a try came to, beside the run here: figures of both with intervals, and their differences, paired by prompt
where both were measured on the same prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import polars as pl

from stages.commands.results import cells
from stages.config.load import load_params
from stages.config.params import Params
from stages.console.sheets import UNKNOWN, Figure, Sheet, number
from stages.method.evaluation import paired
from stages.method.evaluation.paired import Difference
from stages.store import catalog
from stages.store.metrics import MIN_N, Metrics, read_all, without_empty_claims
from stages.store.tables import ANSWERS, JUDGED, VERDICTS, Table


class Compared(NamedTuple):
    """One figure in both runs; null where a run does not have it."""

    figure: str
    of: str
    here: Any
    tried: Any
    difference: Difference


class Run(NamedTuple):
    """A finished run: its folder, parameters and metrics."""

    folder: Path
    params: Params
    metrics: Metrics

    @classmethod
    def read(cls, folder: Path) -> Run:
        return cls(folder, load_params(folder), read_all(folder))


def compare(here: Run, tried: Run) -> list[Compared]:
    """Figures that either run has, in the order of `srlm results`."""
    return [
        Compared(title, of, first, second, _difference(here, tried, key, first, second))
        for key, title, of in _keys(here, tried)
        for first, second in [(_figure(here, key), _figure(tried, key))]
        if first is not None or second is not None
    ]


Key = tuple[str, str, tuple[str, ...]]
"""Kind and name of the metrics, and the way to the figure in them."""


def _keys(*runs: Run) -> Iterator[tuple[Key, str, str]]:
    """What is compared, with its title and what it is of."""
    params = [run.params for run in runs]
    models = dict.fromkeys(model for p in params for model in p.evaluated)
    shares = dict.fromkeys(name for run in runs for name in _points(run.params))
    for name in ("oracle_score", *shares):
        for model in models:
            yield ("EVAL", model, ("writer", "greedy", name)), _title(name), f"{model}, greedy"
    for model in models:
        yield ("EVAL", model, ("judge", "pairwise_accuracy")), "judge: pairwise acc. %", model
    for match in dict.fromkeys(match for p in params for match in p.head_to_head):
        sides = next(p.head_to_head[match] for p in params if match in p.head_to_head)
        yield ("head_to_head", match, ("greedy", "win")), "wins %", f"{sides.model} against {sides.other}, greedy"
    for model in dict.fromkeys(model for p in params for model in p.aift):
        for name, title in (("pairs", "pairs"), ("mean_margin", "mean margin"), ("unreadable_share", "unreadable %")):
            yield ("AIFT", model, (name,)), title, f"AIFT({model})"


def _title(name: str) -> str:
    return next(iter(cells({name: {"value": 0.0}})))


def _points(params: Params) -> Mapping[str, tuple[str, ...]]:
    """Shares of answers that the checker counts -> the points that they need."""
    if params.evaluate.oracle == "tinyworld":
        from stages.tinyworld.oracle import SHARES

        return SHARES
    if params.evaluate.oracle == "constraints":
        from stages.constraints.oracle import SHARES as CONSTRAINTS

        return CONSTRAINTS
    return {}


def _figure(run: Run, key: Key) -> Any:
    """A number, or {value, low, high, n}; None where the run has none."""
    kind, name, path = key
    content: Any = run.metrics.get((kind, name))
    for part in path:
        content = content.get(part) if isinstance(content, dict) else None
    return None if isinstance(content, dict) and content.get("value") is None else content


def _difference(here: Run, tried: Run, key: Key, first: Any, second: Any) -> Difference:
    if first is None or second is None:
        return Difference(None)
    if not isinstance(first, dict):
        return Difference(second - first)
    table, count = _rows(key, here.params)
    frames = [_counted(run, table, key[1], count) for run in (here, tried)]
    n, seed = here.params.evaluate.bootstrap, here.params.seed
    found = paired.of_ratios(*frames, n=n, seed=seed) if len(frames[0]) >= MIN_N else None
    if found is None:
        return paired.of_figures(first, second)
    return found._replace(**{k: v for k, v in without_empty_claims(found._asdict()).items() if k in ("low", "high")})


def _rows(key: Key, params: Params) -> tuple[Table, Any]:
    """The table behind a figure, and how its rows are counted."""
    kind, _, path = key
    if kind == "head_to_head":
        return VERDICTS, paired.won
    if path[0] == "judge":
        return JUDGED, paired.ordered
    return ANSWERS, partial(paired.scored, points=_points(params).get(path[-1]))


def _counted(run: Run, table: Table, name: str, count: Any) -> pl.DataFrame:
    rows: pl.DataFrame = count(catalog.read(table, run.folder, name))
    return rows


def sheet(compared: Sequence[Compared], tried: str) -> Sheet:
    """Both runs side by side, where they differ."""
    rows = [
        [c.figure, c.of, _shown(c.figure, c.here), _shown(c.figure, c.tried), signed(c.figure, c.difference), how(c)]
        for c in compared
        if c.here != c.tried
    ]
    return Sheet(
        ["", "of", "here", tried, "difference", "over"], rows, "Here, and with the change, where they differ (± 95 %)"
    )


def how(compared: Compared) -> str:
    if compared.difference.paired:
        return f"{compared.difference.n} prompts, paired"
    return "other prompts" if isinstance(compared.here, dict) and compared.difference.value is not None else ""


def _form(title: str) -> dict[str, Any]:
    return {"digits": 1, "scale": 100} if title.endswith("%") else {"digits": 2, "scale": 1}


def _shown(title: str, figure: Any) -> Any:
    if isinstance(figure, dict):
        return Figure(**{k: figure[k] for k in ("value", "low", "high", "n")}, **_form(title), shows_n=False)
    return figure if figure is None or isinstance(figure, int) else Figure(figure, **_form(title))


def signed(title: str, difference: Difference) -> str:
    if difference.value is None:
        return UNKNOWN
    if isinstance(difference.value, int):
        return number(difference.value, "+")
    figure = Figure(difference.value, difference.low, difference.high, **_form(title), shows_n=False)
    return f"{'+' if difference.value >= 0 else ''}{figure}"


def mean_over_seeds(figures: Sequence[Any]) -> dict[str, float | int | None] | None:
    """Of one figure in the runs of a combination: its mean with Student's 95 % interval over the seeds; of one run its
    own interval. None where a run does not have it."""
    if not figures or any(figure is None for figure in figures):
        return None
    if len(figures) == 1:
        only = figures[0]
        only = only if isinstance(only, dict) else {"value": only}
        return {key: only.get(key) for key in ("value", "low", "high", "n")}
    from scipy.stats import t

    values = [figure["value"] if isinstance(figure, dict) else figure for figure in figures]
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return {"value": mean(values), "low": mean(values) - half, "high": mean(values) + half, "n": len(values)}


def table(groups: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """A row per combination of a sweep: the figures of its last model, and the pairs of its datasets."""
    rows = []
    for name, runs in groups.items():
        row: dict[str, Any] = {"change": name, "seeds": len(runs)}
        last = runs[0].params.evaluated[-1]
        for key, title, of in _keys(*runs):
            side = of.startswith(f"{last} against ") or key[1] == last
            if (side and key[0] != "AIFT") or (key[0] == "AIFT" and title == "pairs"):
                row[f"{title}, {of}"] = mean_over_seeds([_figure(run, key) for run in runs])
        rows.append(row)
    return rows


def table_sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The table of a sweep: of the checker's shares the first, of the matches that with the first model."""
    known = dict.fromkeys(name for row in rows for name in row if any(r.get(name) is not None for r in rows))
    shares = [name for name in known if "%, " in name and name.endswith(", greedy")]
    matches = [name for name in shares if " against " in name]
    less = {*matches[1:], *[name for name in shares if name not in matches][1:]}
    columns = [name for name in known if name not in less]
    shown = [[_cell(name, row.get(name)) for name in columns] for row in rows]
    several = any(row["seeds"] > 1 for row in rows)
    over = (
        "of several seeds the mean, ± 95 % over them; of one ± 95 % over prompts" if several else "± 95 % over prompts"
    )
    return Sheet(columns, shown, f"Each combination ({over})")


def _cell(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    title = name.partition(", ")[0]
    form = {"digits": 1, "scale": 1} if title == "pairs" else _form(title)
    whole = title == "pairs" and isinstance(value["value"], int)
    return value["value"] if whole else Figure(value["value"], value["low"], value["high"], **form, shows_n=False)
