"""results: did the loop improve the model? Tables of the metrics that the pipeline left, on a terminal or as Markdown.

    srlm results [--markdown]

Reads `data/metrics/*.json`. Shows what is there; a figure that nothing measured is a dash.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.terminal import Console
from stages.store.metrics import read_all

Metrics = dict[str, Any]
"""Name of a metrics file (M1, AIFT-M1, M3-M1 ...) to its content."""


class Sheet(NamedTuple):
    title: str
    columns: list[str]
    rows: list[list[str]]


class Column(NamedTuple):
    title: str
    key: str
    digits: int
    scale: int = 1
    """100 shows a share as a percentage."""


WRITER = (
    Column("oracle score", "oracle_score", 2),
    Column("fully right %", "fully_right", 1, 100),
    Column("all five %", "all_five", 1, 100),
    Column("characters", "chars", 1),
)
POINTS = tuple(Column(f"{name} %", name, 1, 100) for name in ("relevant", "useful", "right", "tidy", "polite"))
JUDGE = (
    Column("pairwise acc. %", "pairwise_accuracy", 1, 100),
    Column("ties %", "tie_share", 1, 100),
    Column("5-best %", "five_best", 1, 100),
    Column("exact %", "exact_match", 1, 100),
    Column("Spearman", "spearman", 3),
    Column("Kendall", "kendall", 3),
    Column("unreadable %", "unreadable_share", 1, 100),
)


def show(root: Path, markdown: bool = False) -> None:
    """Print every sheet there are metrics for."""
    params = load_params(root)
    sheets = collect(root, params)
    if markdown:
        print("\n\n".join(as_markdown(sheet) for sheet in sheets))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for sheet in sheets:
        table = Table(title=sheet.title, title_justify="left", title_style="bold")
        for i, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if i else "left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
    if not sheets:
        console.print("No metrics yet. Run: srlm repro")
        return
    console.print(
        "Datasets: data/ (columns in data/README.md). Lineage: data/models/*/lineage.json. Times: data/logs/runs.jsonl",
    )
    console.print(
        "Look closer: srlm report (a page), srlm query (any question), dvc metrics show, dvc plots show, dvc dag",
    )
    console.print("Next: a fourth iteration: three entries in params.yaml, then srlm repro")


def collect(root: Path, params: Params) -> list[Sheet]:
    metrics = {
        "-".join([*([kind] if kind not in ("EVAL", "head_to_head") else []), *([name] if name else [])]): content
        for (kind, name), content in read_all(root).items()
    }
    sheets = (
        writers(metrics, params),
        points(metrics, params),
        judges(metrics, params),
        matches(metrics, params),
        datasets(metrics, params),
        histograms(metrics, params, "fates", "What became of every candidate"),
        histograms(metrics, params, "score_histogram", "Readable judgements by score"),
        warned(metrics),
    )
    return [sheet for sheet in sheets if sheet.rows]


def writers(metrics: Metrics, params: Params) -> Sheet:
    """Greedy with the half-width of its 95 % interval, then sampled."""
    rows = []
    for model in (m for m in params.evaluated if m in metrics):
        greedy, sampled = metrics[model]["writer"]["greedy"], metrics[model]["writer"]["sampled"]
        rows.append([model, *(f"{interval(greedy.get(c.key), c)} | {number(sampled.get(c.key), c)}" for c in WRITER)])
    return Sheet(
        "As a writer, on held-out prompts (greedy ± 95 % | sampled)", ["model", *(c.title for c in WRITER)], rows
    )


def points(metrics: Metrics, params: Params) -> Sheet:
    """How often each point of the rubric is given."""
    rows = []
    for model in (m for m in params.evaluated if m in metrics):
        greedy, sampled = (metrics[model]["writer"][decoding]["points"] for decoding in ("greedy", "sampled"))
        if greedy:
            rows.append([model, *(f"{number(greedy.get(c.key), c)} | {number(sampled.get(c.key), c)}" for c in POINTS)])
    return Sheet(
        "Points of the rubric that the checker gave (greedy | sampled)", ["model", *(c.title for c in POINTS)], rows
    )


def judges(metrics: Metrics, params: Params) -> Sheet:
    """Agreement with people's ranks."""
    rows = [
        [model, *(interval(metrics[model]["judge"][c.key], c) for c in JUDGE)]
        for model in params.evaluated
        if model in metrics
    ]
    return Sheet("As a judge, against held-out ranks (± 95 %)", ["model", *(c.title for c in JUDGE)], rows)


def matches(metrics: Metrics, params: Params) -> Sheet:
    def shares(match: str, decoding: str) -> str:
        found = metrics[match].get(decoding)
        return " / ".join(number(found[k], Column(k, k, 1, 100)) for k in ("win", "tie", "lose")) if found else "–"

    rows = [
        [f"{m.model} against {m.other}", shares(name, "greedy"), shares(name, "sampled")]
        for name, m in params.head_to_head.items()
        if name in metrics
    ]
    return Sheet("Head to head, win / tie / lose %", ["match", "greedy", "sampled"], rows)


def datasets(metrics: Metrics, params: Params) -> Sheet:
    """What each model made."""
    made = [(model, metrics[f"AIFT-{model}"]) for model in params.aift if f"AIFT-{model}" in metrics]
    rows = [
        [
            f"AIFT({model})",
            str(m["prompts"]),
            str(sum(m["dropped"].values())),
            str(m["candidates"]),
            str(m["pairs"]),
            f"{m['mean_margin']:.2f}",
            share(m["unreadable_share"]),
        ]
        for model, m in made
    ]
    return Sheet(
        "Preference data that the models made",
        ["dataset", "prompts", "dropped", "candidates", "pairs", "mean margin", "unreadable %"],
        rows,
    )


def histograms(metrics: Metrics, params: Params, key: str, title: str) -> Sheet:
    """Counts by fate or by score."""
    made = {f"AIFT({model})": metrics[f"AIFT-{model}"][key] for model in params.aift if f"AIFT-{model}" in metrics}
    columns = [c for c in next(iter(made.values()), {}) if any(counts[c] for counts in made.values())]
    return Sheet(
        title, ["dataset", *columns], [[name, *(str(counts[c]) for c in columns)] for name, counts in made.items()]
    )


def warned(metrics: Metrics) -> Sheet:
    """What the stages warned of."""
    rows = [
        [f"AIFT({name.partition('-')[2]})", warning]
        for name, found in metrics.items()
        for warning in found.get("warned", [])
    ]
    return Sheet("Warnings", ["dataset", "warning"], rows)


# Figures are {value, low, high, n}, null where nothing was measured


def number(f: dict[str, Any] | None, column: Column) -> str:
    return "–" if f is None or f["value"] is None else f"{f['value'] * column.scale:.{column.digits}f}"


def interval(f: dict[str, Any] | None, column: Column) -> str:
    if f is None or f["value"] is None:
        return "–"
    if f["low"] is None:
        return number(f, column)
    return f"{number(f, column)} ±{(f['high'] - f['low']) / 2 * column.scale:.{column.digits}f}"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def as_markdown(sheet: Sheet) -> str:
    cell = [[c.replace("|", "\\|") for c in row] for row in sheet.rows]
    head = [c.replace("|", "\\|") for c in sheet.columns]
    lines = [
        f"**{sheet.title.replace('|', chr(92) + '|')}**",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in cell),
    ]
    return "\n".join(lines)
