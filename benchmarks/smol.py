"""What a run of the profile smol came to, as kept in data/results/smol.json, and shown in README.md and docs/results.md
(`python -m benchmarks.readme_tables --smol DIR`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from typing import Any

from stages.console.sheets import Figure, Sheet, to_markdown
from stages.store.metrics import read_all
from stages.store.run import times

Run = dict[str, Any]
"""`metrics` (kind -> name -> content) and `stages` (name -> seconds, compute_s, peak_mb) of one run."""
DECODINGS = ("greedy", "sampled")
SHORT = (
    *((f"constraints kept %, {d}", ("writer", d, "instruction_strict"), 100, 1) for d in DECODINGS),
    *((f"loosely, {d}", ("writer", d, "instruction_loose"), 100, 1) for d in DECODINGS),
    ("judge: pairwise acc. %", ("judge", "pairwise_accuracy"), 100, 1),
)
ALL = (
    *SHORT[:-1],
    *((f"all of a prompt's %, {d}", ("writer", d, "prompt_strict"), 100, 1) for d in DECODINGS),
    *((f"all loosely, {d}", ("writer", d, "prompt_loose"), 100, 1) for d in DECODINGS),
    ("tokens, greedy", ("writer", "greedy", "tokens"), 1, 1),
    ("cut off %, greedy", ("writer", "greedy", "cut_off"), 100, 1),
    SHORT[-1],
    ("Spearman", ("judge", "spearman"), 1, 3),
    ("Kendall", ("judge", "kendall"), 1, 3),
    ("unreadable %", ("judge", "unreadable_share"), 100, 1),
)
NONE = "No run is recorded yet: `make smol`, then `python -m benchmarks.readme_tables --smol .`\n"


def record(folder: Path) -> Run:
    """Of the run in `folder`."""
    metrics: Run = {}
    for (kind, name), content in read_all(folder).items():
        if name is None:
            metrics[kind] = content
        else:
            metrics.setdefault(kind, {})[name] = content
    return {"metrics": metrics, "stages": times(folder)}


def prompts(run: Run) -> int:
    """New prompts of an iteration."""
    return max(aift["prompts"] for aift in run["metrics"]["AIFT"].values())


def table(runs: dict[str, Run], columns: Sequence[tuple[str, tuple[str, ...], int, int]]) -> str:
    """A table with 95 % intervals and a sentence on its sizes for each run."""
    return "\n".join(_one(run, columns) for run in runs.values()) or NONE


def _one(run: Run, columns: Sequence[tuple[str, tuple[str, ...], int, int]]) -> str:
    metrics = run["metrics"]
    models = sorted(metrics["EVAL"], key=lambda model: (model != "SFT", len(model), model))
    rows: list[list[Any]] = []
    for model in models:
        match = metrics["head_to_head"].get(f"{model}-SFT", {}).get("greedy")
        against = "/".join(f"{100 * match[o]['value']:.0f}" for o in ("win", "tie", "lose")) if match else "–"
        rows.append([model, *(_figure(metrics["EVAL"][model], *column[1:]) for column in columns), against])
    file = StringIO()
    to_markdown(Sheet(["", *(column[0] for column in columns), "against SFT, win/tie/lose %"], rows), file)
    return f"{file.getvalue()}\n{_sizes(run)} {_trend(metrics['EVAL'], models[1], models[-1], columns)}\n"


def _figure(content: Any, path: tuple[str, ...], scale: int, digits: int) -> Figure:
    figure = reduce(getitem, path, content)
    return Figure(figure["value"], figure["low"], figure["high"], digits=digits, scale=scale)


def _sizes(run: Run) -> str:
    metrics, stages = run["metrics"], run["stages"]
    one = next(iter(metrics["EVAL"].values()))
    parts = {name: part["prompts"] for name, part in metrics["seed"]["parts"].items()}
    made = "; ".join(f"AIFT({name}) {a['prompts']} prompts, {a['pairs']} pairs" for name, a in metrics["AIFT"].items())
    writer, judge = one["writer"]["greedy"], one["judge"]
    minutes = sum(stage["seconds"] for stage in stages.values()) / 60
    return (
        f"One run, one seed: IFT {parts['ift']} prompts; EFT {metrics['EFT']['eft']} judgements; {made}. Measured on "
        f"{writer['oracle_score']['n']} held-out prompts with {writer['instruction_strict']['n']} constraints, and "
        f"{judge['pairwise_accuracy']['n']} pairs of answers to {parts['ranked_valid']} prompts that people ranked; ± "
        f"is half of a 95 % interval over prompts. {minutes:.0f} minutes, at most "
        f"{max(stage['peak_mb'] for stage in stages.values()) * 2**20 / 1e9:.1f} GB."
    )


def _trend(evaluated: Run, first: str, last: str, columns: Sequence[tuple[str, tuple[str, ...], int, int]]) -> str:
    """Which figures of the last model are outside of the first's interval, and the reverse."""
    by: dict[str, list[str]] = {"rises": [], "falls": [], "stays within the intervals": []}
    for title, path, scale, digits in columns:
        a, b = (_figure(evaluated[model], path, scale, digits) for model in (first, last))
        if a.value is None or b.value is None or a.low is None or a.high is None or b.low is None or b.high is None:
            continue
        rises, falls = b.value > a.high and a.value < b.low, b.value < a.low and a.value > b.high
        by["rises" if rises else "falls" if falls else "stays within the intervals"].append(title)
    said = [f"{how}: {', '.join(which)}" for how, which in by.items() if which]
    return f"From {first} to {last}: {'; '.join(said)}."
