"""results: did the loop improve the model? Tables of the metrics that the pipeline left, on a terminal or as Markdown.

    srlm results [--markdown]

Reads `data/metrics/*.json`. Shows what is there; a figure that nothing measured is a dash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from stages.config.params import Params, load_params

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
    console = Console()
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
    console.print("Datasets: data/ (columns in data/README.md). Lineage: data/models/*/lineage.json. Times: data/logs/runs.jsonl", highlight=False)
    console.print("Next: dvc metrics show, dvc plots show, dvc dag; a fourth iteration: three entries in params.yaml, then srlm repro", highlight=False)


def collect(root: Path, params: Params) -> list[Sheet]:
    metrics = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((root / "data" / "metrics").glob("*.json"))}
    sheets = (writers(metrics, params), judges(metrics, params), matches(metrics, params), datasets(metrics, params))
    return [sheet for sheet in sheets if sheet.rows]


def writers(metrics: Metrics, params: Params) -> Sheet:
    """Greedy with the half-width of its 95 % interval, then sampled; the rubric's points greedily."""
    rows = []
    for model in (m for m in params.evaluated if m in metrics):
        greedy, sampled = metrics[model]["writer"]["greedy"], metrics[model]["writer"]["sampled"]
        rows.append(
            [model, *(f"{interval(greedy[c.key], c)} | {number(sampled[c.key], c)}" for c in WRITER), *(number(greedy["points"].get(c.key), c) for c in POINTS)]
        )
    return Sheet("As a writer, on held-out prompts (greedy ± 95 % | sampled)", ["model", *(c.title for c in WRITER + POINTS)], rows)


def judges(metrics: Metrics, params: Params) -> Sheet:
    """Agreement with people's ranks."""
    rows = [[model, *(interval(metrics[model]["judge"][c.key], c) for c in JUDGE)] for model in params.evaluated if model in metrics]
    return Sheet("As a judge, against held-out ranks (± 95 %)", ["model", *(c.title for c in JUDGE)], rows)


def matches(metrics: Metrics, params: Params) -> Sheet:
    def shares(match: str, decoding: str) -> str:
        found = metrics[match].get(decoding)
        return " / ".join(number(found[k], Column(k, k, 1, 100)) for k in ("win", "tie", "lose")) if found else "–"

    rows = [[f"{m.model} against {m.other}", shares(name, "greedy"), shares(name, "sampled")] for name, m in params.head_to_head.items() if name in metrics]
    return Sheet("Head to head, win / tie / lose %", ["match", "greedy", "sampled"], rows)


def datasets(metrics: Metrics, params: Params) -> Sheet:
    rows = []
    for model in params.aift:
        if (m := metrics.get(f"AIFT-{model}")) is not None:
            histogram = " ".join(f"{s}:{n}" for s, n in m["score_histogram"].items() if n)
            fates = " ".join(f"{fate}:{n}" for fate, n in m["fates"].items() if n)
            rows.append(
                [
                    f"AIFT({model})",
                    str(m["prompts"]),
                    str(m["candidates"]),
                    str(m["pairs"]),
                    f"{m['mean_margin']:.2f}",
                    percent(m["unreadable_share"]),
                    histogram,
                    fates,
                ]
            )
    return Sheet("Preference data that the models made", ["dataset", "prompts", "candidates", "pairs", "margin", "unreadable %", "scores", "fates"], rows)


# Figures are {value, low, high, n}, null where nothing was measured


def number(f: dict[str, Any] | None, column: Column) -> str:
    return "–" if f is None or f["value"] is None else f"{f['value'] * column.scale:.{column.digits}f}"


def interval(f: dict[str, Any] | None, column: Column) -> str:
    if f is None or f["value"] is None:
        return "–"
    return f"{number(f, column)} ±{(f['high'] - f['low']) / 2 * column.scale:.{column.digits}f}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


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
