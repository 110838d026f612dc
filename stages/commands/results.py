"""results: did the loop improve the model? Tables of the metrics that the pipeline left.

    srlm results [--markdown | --json]

Shows what is there; a figure that nothing measured is a dash, a column of dashes is left out. ± is half of a 95 %
interval, where there are enough values for one; in brackets what a figure is a mean or share of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.sheets import UNKNOWN, Figure, Sheet, text, to_json, to_markdown, to_terminal
from stages.console.terminal import Console, stderr
from stages.store.metrics import Metrics, left_out, read_all

DECODINGS = ("greedy", "sampled")
NO_SHARES = {"oracle_score": ("oracle score", 2), "chars": ("characters", 1), "tokens": ("tokens", 1)}
"""Figures of a writer that are no shares: their titles and digits."""
JUDGE = {
    "pairwise_accuracy": "pairwise acc. %",
    "tie_share": "ties %",
    "five_best": "5-best %",
    "exact_match": "exact %",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "unreadable_share": "unreadable %",
}
CORRELATIONS = ("spearman", "kendall")
NEXT = """Datasets: data/ (columns in data/README.md). Lineage: data/models/*/lineage.json. Times: data/logs/runs.jsonl
Look closer: srlm report (a page that needs no network), srlm query (any question);
the run in a line: dvc metrics show data/summary.json
A fourth iteration: one entry each in aift, models, drift and evaluated of params.yaml, then srlm repro"""


def show(root: Path, form: str = "table") -> None:
    """Print every sheet there are metrics for, as `table`, `markdown` or `json`. Raises ParamsError, TableError."""
    sheets = collect(root, load_params(root))
    if form == "json":
        print(json.dumps({name: json.loads(_written(to_json, sheet)) for name, sheet in sheets.items()}, indent=1))
    elif form == "markdown":
        print("\n".join(_written(to_markdown, sheet) for sheet in sheets.values()), end="")
    else:
        for sheet in sheets.values():
            to_terminal(sheet, sys.stdout, longest=200)
            print()
        Console().print(NEXT if sheets else "No metrics yet. Run: srlm repro", highlight=False, soft_wrap=True)
    if stale := left_out(root):
        stderr.print(
            f"left out: {len(stale)} file(s) of models or matches that params.yaml does not name, first {stale[0]}",
            markup=False,
        )


def _written(write: Callable[[Sheet, StringIO], None], sheet: Sheet) -> str:
    file = StringIO()
    write(sheet, file)
    return file.getvalue()


def collect(root: Path, params: Params) -> dict[str, Sheet]:
    """The sheets that have rows, by name."""
    metrics = read_all(root)
    evaluated = {model: metrics["EVAL", model] for model in params.evaluated if ("EVAL", model) in metrics}
    made = {model: metrics["AIFT", model] for model in params.aift if ("AIFT", model) in metrics}
    sheets = {
        "writers": writers(evaluated),
        "judges": judges(evaluated),
        "matches": matches(metrics, params),
        "datasets": datasets(made, params),
        "fates": histograms(made, "fates", "What became of every candidate"),
        "scores": histograms(made, "score_histogram", "Readable judgements by score"),
        "warnings": warned(metrics),
    }
    return {name: without_unknown(sheet) for name, sheet in sheets.items() if sheet.rows}


def writers(evaluated: dict[str, Any]) -> Sheet:
    """A row per model and decoding; the columns are what the stage measured, and the points that a checker gives."""
    rows = {
        (model, decoding): figures | {f"point {point}": f for point, f in figures.get("points", {}).items()}
        for decoding in DECODINGS
        for model, metrics in evaluated.items()
        if (figures := metrics["writer"].get(decoding))
    }
    names = [name for name in dict.fromkeys(n for figures in rows.values() for n in figures) if name != "points"]
    titles = {name: NO_SHARES.get(name, (f"{name.replace('_', ' ')} %", 1)) for name in names}

    def cell(figure: dict[str, Any] | None, name: str) -> Figure | None:
        return measured(figure, titles[name][1], 1 if name in NO_SHARES else 100, shows_n=False)

    return Sheet(
        ["model", "decoding", "n", *(title for title, _ in titles.values())],
        [
            [
                *row,
                max(f["n"] for f in figures.values() if "n" in f),
                *(cell(figures.get(name), name) for name in names),
            ]
            for row, figures in rows.items()
        ],
        "As a writer, on n held-out prompts (± 95 %)",
    )


def judges(evaluated: dict[str, Any]) -> Sheet:
    """Agreement with people's ranks."""
    rows = [
        [
            model,
            *(measured(metrics["judge"].get(name), *((3, 1) if name in CORRELATIONS else (1, 100))) for name in JUDGE),
        ]
        for model, metrics in evaluated.items()
    ]
    return Sheet(
        ["model", *JUDGE.values()],
        rows,
        "As a judge, against held-out ranks (± 95 %, in brackets how many pairs, fives, prompts or answers)",
    )


def matches(metrics: Metrics, params: Params) -> Sheet:
    rows = [
        [
            f"{match.model} against {match.other}",
            decoding,
            shares["n"],
            *(measured(shares[outcome], 1, 100, shows_n=False) for outcome in ("win", "tie", "lose")),
            shares["unreadable"],
        ]
        for decoding in DECODINGS
        for name, match in params.head_to_head.items()
        if (shares := metrics.get(("head_to_head", name), {}).get(decoding))
    ]
    return Sheet(
        ["match", "decoding", "n", "win %", "tie %", "lose %", "unreadable"],
        rows,
        "Head to head, by n readable verdicts (± 95 %)",
    )


def datasets(made: dict[str, Any], params: Params) -> Sheet:
    """What each model made."""
    rows = [
        [
            f"AIFT({model})",
            params.aift[model].judge,
            m["prompts"],
            sum(m["dropped"].values()),
            m["candidates"],
            m["pairs"],
            Figure(m["pair_yield"], digits=1, scale=100),
            Figure(m["mean_margin"]),
            Figure(m["unreadable_share"], digits=1, scale=100),
        ]
        for model, m in made.items()
    ]
    return Sheet(
        ["dataset", "judge", "prompts", "dropped", "candidates", "pairs", "yield %", "mean margin", "unreadable %"],
        rows,
        "Preference data that the models made",
    )


def histograms(made: dict[str, Any], key: str, title: str) -> Sheet:
    """A row per dataset of counts by name; names that never occur are left out."""
    counts = {f"AIFT({model})": m[key] for model, m in made.items()}
    columns = [c for c in next(iter(counts.values()), {}) if any(count.get(c) for count in counts.values())]
    return Sheet(["dataset", *columns], [[name, *(n.get(c, 0) for c in columns)] for name, n in counts.items()], title)


def warned(metrics: Metrics) -> Sheet:
    """What the stages warned of."""
    rows = [[f"AIFT({name})", w] for (_, name), content in metrics.items() for w in content.get("warned", [])]
    return Sheet(["dataset", "warning"], rows, "Warnings")


def measured(figure: dict[str, Any] | None, digits: int, scale: int, shows_n: bool = True) -> Figure | None:
    """{value, low, high, n} of a metrics file."""
    if figure is None or figure.get("value") is None:
        return None
    return Figure(figure["value"], figure["low"], figure["high"], figure["n"], digits, scale, shows_n)


def without_unknown(sheet: Sheet) -> Sheet:
    """Without columns of which nothing is known."""
    rows = list(sheet.rows)
    kept = [i for i in range(len(sheet.columns)) if any(text(row[i]) != UNKNOWN for row in rows)]
    return Sheet([sheet.columns[i] for i in kept], [[row[i] for i in kept] for row in rows], sheet.title)
