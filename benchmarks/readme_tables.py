"""readme_tables: the README's tables, from what is kept in data/results (by `make seeds`, `make controls` and `--run`).

python -m benchmarks.readme_tables              rewrites README.md between its markers python -m
benchmarks.readme_tables --check      fails when it is not fresh python -m benchmarks.readme_tables --run DIR    first
keeps times and some answers of the default run in DIR, best made alone on a quiet machine
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import SrlmError
from stages.store.database import connect
from stages.store.files import atomic_write, write_json
from stages.store.questions import questions
from stages.store.run import times as times_of

README = "README.md"
Run = dict[str, Any]
"""One variant: overrides, seconds, metrics (name of the metrics file -> content), stages (name -> seconds, compute_s,
peak_mb)."""

COLUMNS = (
    ("oracle score 0–5, greedy", ("writer", "greedy", "oracle_score"), 1, 2),
    ("sampled", ("writer", "sampled", "oracle_score"), 1, 2),
    ("fully right %, greedy", ("writer", "greedy", "fully_right"), 100, 1),
    ("sampled", ("writer", "sampled", "fully_right"), 100, 1),
    ("all five points %", ("writer", "greedy", "all_five"), 100, 1),
    ("characters", ("writer", "greedy", "chars"), 1, 1),
    ("judge: pairwise acc. %", ("judge", "pairwise_accuracy"), 100, 1),
    ("5-best %", ("judge", "five_best"), 100, 1),
    ("Spearman", ("judge", "spearman"), 1, 3),
)


ASKED = ("pair_quality", "score_gap")
"""Canned questions that the README answers."""


def main(check: bool = False, run: Path | None = None, root: Path = Path()) -> None:
    """Put the tables into README.md."""
    if run:
        write_json(root / "data" / "results" / "default.json", default_run(run))
    text = (root / README).read_text(encoding="utf-8")
    fresh = text
    seeds, controls, default = load(root, "seeds"), load(root, "controls"), load(root, "default")
    for name, table in (
        ("record", result(seeds, controls)),
        ("seeds", by_seed(seeds)),
        ("time", times(default["stages"])),
    ):
        fresh = between(fresh, name, table)
    for name, answer in default["answers"].items():
        fresh = between(
            fresh,
            f"query {name}",
            markdown(answer["columns"], [[shown(value) for value in row] for row in answer["rows"]]),
        )
    if check and fresh != text:
        raise SrlmError("README.md does not show what data/results holds. Run: python -m benchmarks.readme_tables")
    if fresh != text:
        with atomic_write(root / README) as partial:
            partial.write_text(fresh, encoding="utf-8")


def default_run(folder: Path) -> dict[str, Any]:
    """What is kept of the run in `folder`: threads, figures of each stage, answers to the questions of ASKED."""
    answers = {}
    with connect(folder) as store:
        for name in ASKED:
            relation = store.select(questions()[name].sql)
            answers[name] = {"columns": relation.columns, "rows": relation.fetchall()}
    spent = [{"stage": name, **figures} for name, figures in times_of(folder).items()]
    return {"threads": load_params(folder).hardware.threads, "stages": spent, "answers": answers}


def shown(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def load(root: Path, name: str) -> dict[str, Any]:
    file = root / "data" / "results" / f"{name}.json"
    if not file.is_file():
        how = "python -m benchmarks.readme_tables --run ." if name == "default" else f"make {name}"
        raise SrlmError(f"{file} is not there. Run: {how}")
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def between(text: str, name: str, table: str) -> str:
    head, tail = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(head) != 1 or text.count(tail) != 1:
        raise SrlmError(f"README.md lacks its marker {head.strip()} or {tail}")
    return f"{text.split(head)[0]}{head}{table}\n{tail}{text.split(tail)[1]}"


def result(seeds: dict[str, Run], controls: dict[str, Run]) -> str:
    """One row per model, means over seeds; then the last model under each control, below its self-judged
    self with the same seeds; then its matches against every earlier model."""
    runs = list(seeds.values())
    models = [m for m in runs[0]["metrics"] if "writer" in runs[0]["metrics"][m]]
    models.sort(key=lambda m: (m != "SFT", m))
    rows = [[model, *cells([r["metrics"][model] for r in runs])] for model in models]
    last = models[-1]
    used = list(
        dict.fromkeys(name.rpartition("-")[2] for name in controls)
    )  # the seeds that the controls were run with
    rows.append([f"*{last}, seed {', '.join(used)}*", *cells([seeds[seed]["metrics"][last] for seed in used])])
    for control in dict.fromkeys(name.rpartition("-")[0] for name in controls):
        rows.append(
            [f"*the same, {control}*", *cells([controls[f"{control}-{seed}"]["metrics"][last] for seed in used])]
        )
    matches = [m for m in (f"{last}-{other}" for other in models[:-1]) if m in runs[0]["metrics"]]
    met = "; ".join(
        f"{m.replace('-', ' against ')} {shares([r['metrics'][m]['greedy'] for r in runs])} (sampled "
        f"{shares([r['metrics'][m]['sampled'] for r in runs])})"
        for m in matches
    )
    return (
        markdown(["", *(c[0] for c in COLUMNS)], rows)
        + f"\n\nHead to head by the checker's points, greedy, win/tie/lose %: {met}."
    )


def by_seed(seeds: dict[str, Run]) -> str:
    runs = {**{seed: [run] for seed, run in seeds.items()}, "mean": list(seeds.values())}
    models = [m for m in ("M1", "M2", "M3") if m in next(iter(seeds.values()))["metrics"]]

    def chain(group: list[Run], path: tuple[str, ...], scale: float, digits: int) -> str:
        return " → ".join(f"{mean(at(r['metrics'][m], path) * scale for r in group):.{digits}f}" for m in models)

    rows = [
        [
            seed,
            chain(group, ("writer", "greedy", "oracle_score"), 1, 2),
            chain(group, ("writer", "sampled", "oracle_score"), 1, 2),
            chain(group, ("writer", "greedy", "fully_right"), 100, 1),
            chain(group, ("judge", "pairwise_accuracy"), 100, 1),
            shares([r["metrics"]["M3-M1"]["greedy"] for r in group]),
            " → ".join(f"{mean(r['metrics'][f'AIFT-{m}']['pairs'] for r in group):.0f}" for m in ("M1", "M2")),
        ]
        for seed, group in runs.items()
    ]
    return markdown(
        [
            "seed",
            "oracle score, greedy",
            "sampled",
            "fully right %, greedy",
            "judge pairwise %",
            "M3 against M1, win/tie/lose %",
            "pairs",
        ],
        rows,
    )


def times(stages: list[dict[str, Any]]) -> str:
    """Seconds of each stage, and the share that was the model's own compute."""
    total = {key: sum(s[key] for s in stages) for key in ("seconds", "compute_s")} | {
        "peak_mb": max(s["peak_mb"] for s in stages),
        "stage": "all stages",
    }
    rows = [
        [f"`{s['stage']}`", f"{s['seconds']:.1f}", f"{100 * s['compute_s'] / s['seconds']:.0f}", str(s["peak_mb"])]
        for s in (*stages, total)
    ]
    return markdown(["stage", "seconds", "model's own compute %", "peak MB"], rows)


def cells(group: list[Run]) -> list[str]:
    return [f"{mean(at(m, path) * scale for m in group):.{digits}f}" for _, path, scale, digits in COLUMNS]


def shares(group: list[Run]) -> str:
    return "/".join(f"{100 * mean(m[k]['value'] for m in group):.0f}" for k in ("win", "tie", "lose"))


def at(metrics: Run, path: tuple[str, ...]) -> float:
    for part in path:
        metrics = metrics[part]
    return float(metrics["value"])


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in rows)]
    )


if __name__ == "__main__":
    command(main)
