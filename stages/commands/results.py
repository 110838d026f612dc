"""results: did the loop improve the model? Tables of the metrics that the pipeline left.

    srlm results [--markdown | --json]

Shows what is there; a figure that nothing measured is a dash, a column of dashes is left out. ± is half of a 95 %
interval, where there are enough values for one; in brackets what a figure is a mean or share of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.sheets import Figure, Sheet, to_json, to_markdown, to_terminal
from stages.console.terminal import Console, stderr
from stages.method.drift import both_scores, parted
from stages.method.scale import OF_FIVE, SHARES, Scale
from stages.store.damage import other_bank, other_params
from stages.store.metrics import left_out, read_all

DECODINGS = ("greedy", "sampled")
TITLES = {
    **{"pairwise_accuracy": "pairwise acc. %", "tie_share": "ties %", "five_best": "{best}-best %"},
    **{"exact_match": "exact %", "unreadable_share": "unreadable %", "pair_yield": "yield %"},
    **{"oracle_score": "oracle score", "margin": "margin", "mean_margin": "mean margin"},
    **{"chars": "characters", "tokens": "tokens", "spearman": "Spearman", "kendall": "Kendall"},
    **{"accuracy": "pairs %", "tries_apart": "tries apart"},
}
"""What does not end in % is no share; the title of any other figure is its name. `best`: of the judge's scale."""
DIGITS = {"oracle_score": 2, "tries_apart": 2, "mean_margin": 2, "spearman": 3, "kendall": 3}
NEXT = """Datasets: data/ (columns in data/README.md). Lineage: data/models/*/lineage.json. Times: data/logs/runs.jsonl
Trainings: dvc metrics show data/metrics/train/*; their curves: dvc plots show
Look closer: srlm report (a page that needs no network), srlm query (any question);
the run in a line: dvc metrics show data/summary.json
A fourth iteration: one entry each in aift, models, drift and evaluated of params.yaml, then srlm repro"""

BESIDE = ("accuracy", "length_matched", "longer_better", "shorter_better", "tries_agree")
"""What of `trust` stands beside the plain figures of a judge on the bank."""
Row = dict[str, Any]


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
    for note in filter(None, (other_params(root), other_bank(root, read_all(root)))):
        stderr.print(note, markup=False)
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
    """The sheets that have rows, by name; without columns of which nothing is known."""
    metrics = read_all(root)
    evaluated = {model: metrics["EVAL", model] for model in params.evaluated if ("EVAL", model) in metrics}
    aift = {model: metrics["AIFT", model] for model in params.aift if ("AIFT", model) in metrics}
    scale = Scale(**dict(params.judge.scale))
    judges = [{"model": model, **cells(m["judge"], best=scale.choices[-1])} for model, m in evaluated.items()]
    datasets = [
        {"dataset": f"AIFT({model})", "judge": params.aift[model].judge}
        | {"prompts": m["prompts"], "dropped": sum(m["dropped"].values()), "candidates": m["candidates"]}
        | {"pairs": m["pairs"], **cells({name: m[name] for name in ("pair_yield", "mean_margin", "unreadable_share")})}
        for model, m in aift.items()
    ]
    matches = [
        {"match": f"{match.model} against {match.other}", "decoding": decoding, "n": shares["n"]}
        | cells({outcome: shares[outcome] for outcome in ("win", "tie", "lose")}, shows_n=False)
        | {"unreadable": shares["unreadable"]}
        for decoding in DECODINGS
        for name, match in params.head_to_head.items()
        if (shares := metrics.get(("head_to_head", name), {}).get(decoding))
    ]
    warned = [
        {"dataset": named(kind, name), "warning": warning}
        for (kind, name), content in metrics.items()
        for warning in content.get("warned", [])
    ]
    benchmarks = [
        {"judge": name, "by": way, **cells(of_pairs(subsets.get("all", {})))}
        for (kind, name), content in metrics.items()
        if kind == "judgebench"
        for way in ("pointwise", "pairwise")
        if (subsets := content.get(way))
    ]
    rewards = [
        {"judge": name, **cells({subset: figures.get("score") for subset, figures in content["subsets"].items()})}
        for (kind, name), content in metrics.items()
        if kind == "rewardbench"
    ]
    calibrated = [
        {"model": model, **{scale.written(float(score)): Figure(**of, digits=1) for score, of in scored.items()}}
        for model, m in evaluated.items()
        if (scored := m.get("calibration"))
    ]
    trusted = [{"model": model, **cells(m["trust"])} for model, m in evaluated.items() if m.get("trust")]
    scores = both_scores(metrics, params.aift)
    of_aift = SHARES if params.judge_candidates.kind == "pairwise" else scale
    apart = parted(scores, params.warn.scores_apart, params.score_points)
    warned += [{"dataset": "iterations", "warning": text} for text in apart]
    in_brackets = "± 95 %, in brackets how many pairs, fives, prompts or answers"
    sheets = {
        "writers": sheet("As a writer, on n held-out prompts (± 95 %)", writers(evaluated)),
        "judges": sheet(f"As a judge, against held-out ranks ({in_brackets})", judges),
        "judgebench": sheet("JudgeBench, by n pairs (± 95 %)", benchmarks),
        "rewardbench": sheet("RewardBench 2, by ratings: scores by n prompts (± 95 %)", rewards),
        "trust": sheet("The judge, every answer counted (docs/evaluation.md says how)", trusted),
        "calibration": sheet("Mean rank by people, 0 is best, of the answers that got a score", calibrated),
        "matches": sheet("Head to head, by n readable verdicts (± 95 %)", matches),
        "tournament": tournaments(of_kind(metrics, "tournament")),
        **dict(zip(("bank", "bank_authors"), banks(of_kind(metrics, "bank"), scale), strict=True)),
        "datasets": sheet("Preference data that the models made", datasets),
        "iterations": sheet(
            f"Mean scores: AIFT's answers by the loop's judge, {ends(of_aift)}; held-out ones by the checker, {ends()}",
            [{"model": m, "judge": params.aift[m].judge, "judge's": own, "checker's": of} for m, own, of in scores],
        ),
        "fates": sheet("What became of every candidate", histograms(aift, "fates")),
        "scores": sheet("Readable judgements by score", histograms(aift, "score_histogram")),
        "warnings": sheet("Warnings", warned),
    }
    return {name: sheet for name, sheet in sheets.items() if sheet.rows}


def named(kind: str, name: str | None) -> str:
    """What a metrics file is about."""
    return f"AIFT({name})" if kind in ("AIFT", "drift") else f"{kind} {name}" if name else kind


def of_kind(metrics: Mapping[tuple[str, str | None], Any], kind: str) -> dict[str, Any]:
    """The figures of one kind, by name."""
    return {name: content for (of, name), content in metrics.items() if of == kind and name}


def tournaments(by_judge: Mapping[str, Any]) -> Sheet:
    """A row per judge, decoding and model: its strength, and its points against each other model."""
    rows = []
    for (judge, figures), decoding in product(by_judge.items(), DECODINGS):
        if table := figures.get(decoding):
            strongest = sorted(table["elo"], key=lambda model: -table["elo"][model]["value"])
            for model in strongest:
                against = {f"against {other} %": table["points"][model].get(other) for other in strongest}
                if constant := table.get("constant", {}).get(model):
                    against["against a constant answer %"] = _turned(constant)
                rows.append(
                    {"judge": judge, "decoding": decoding, "model": model, "n": table["elo"][model]["n"]}
                    | {"Elo": Figure(**table["elo"][model], digits=0, shows_n=False)}
                    | {"points %": Figure(**table["share"][model], digits=1, scale=100, shows_n=False)}
                    | {
                        title: figure and Figure(**figure, digits=1, scale=100, shows_n=False)
                        for title, figure in against.items()
                    }
                )
    return sheet("Every model against every other, in % of the points, a tie is half (± 95 %)", rows)


def ends(scale: Scale = OF_FIVE) -> str:
    return f"{scale.min} to {scale.max}"


def banks(by_judge: Mapping[str, Any], scale: Scale) -> list[Sheet]:
    """Judges on the frozen bank: agreement with its order, and what each thinks of each author's answers."""
    agreement = [
        {"judge": judge, "answers": source, **cells(part["judge"] | beside, best=scale.choices[-1])}
        | cells({"beaten by a constant answer": figures.get("constant")})
        for source in ("ranked", "candidates")
        for judge, figures in by_judge.items()
        if (part := figures.get(source))
        for beside in [{name: part["trust"][name] for name in BESIDE if name in part["trust"]}]
    ]
    authors: dict[str, Row] = {}
    for judge, figures in by_judge.items():
        for author, of in figures["authors"].items():
            row = authors.setdefault(author, {"answers of": author})
            row["checker"] = Figure(**of["checker"], shows_n=False) if of["checker"]["value"] is not None else None
            row[f"judge {judge}"] = Figure(**of["score"], shows_n=False) if of["score"]["value"] is not None else None
    return [
        sheet("Judges on the frozen bank (± 95 %, in brackets of how many)", agreement),
        sheet(f"Mean scores on the frozen bank: checker {ends()}, judges {ends(scale)} (± 95 %)", [*authors.values()]),
    ]


def _turned(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A share seen from the other side."""
    value, low, high = (None if figure[key] is None else 1 - figure[key] for key in ("value", "high", "low"))
    return {**figure, "value": value, "low": low, "high": high}


def sheet(title: str, rows: list[Row]) -> Sheet:
    known = {name for row in rows for name, value in row.items() if value is not None}
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name in known]
    return Sheet(columns, [[row.get(name) for name in columns] for row in rows], title)


def cells(figures: Mapping[str, Any], shows_n: bool = True, best: str = "5") -> Row:
    """Figures of a metrics file, numbers or {value, low, high, n}, by title; what is unknown is null."""
    result: Row = {}
    for name, figure in figures.items():
        title = TITLES.get(name, f"{name.replace('_', ' ')} %").replace("{best}", best)
        known = figure if isinstance(figure, dict) else {"value": figure}
        scale = 100 if title.endswith("%") else 1
        written = Figure(**known, digits=DIGITS.get(name, 1), scale=scale, shows_n=shows_n)
        result[title] = None if written.value is None else written
    return result


def of_pairs(figures: Mapping[str, Any]) -> Row:
    """JudgeBench's accuracy is of right pairs, beside those right in both orders."""
    return {"right" if name == "accuracy" else name: figure for name, figure in figures.items()}


def writers(evaluated: Mapping[str, Any]) -> list[Row]:
    """A row per model and decoding: what the stage measured, and the points that a checker gives to any answer."""
    rows = []
    for decoding, model in product(DECODINGS, evaluated):
        if figures := dict(evaluated[model]["writer"].get(decoding, {})):
            points = figures.pop("points", {})
            n = (figures.get("chars") or figures["oracle_score"])["n"]
            points = {f"point {name}": figure for name, figure in points.items() if figure["n"] == n}
            rows.append({"model": model, "decoding": decoding, "n": n, **cells(figures | points, shows_n=False)})
    return rows


def histograms(aift: Mapping[str, Any], key: str) -> list[Row]:
    """A row per dataset of counts by name; names that never occur are left out."""
    names = [
        n for n in dict.fromkeys(n for m in aift.values() for n in m[key]) if any(m[key].get(n) for m in aift.values())
    ]
    return [{"dataset": f"AIFT({model})", **{n: m[key].get(n, 0) for n in names}} for model, m in aift.items()]
