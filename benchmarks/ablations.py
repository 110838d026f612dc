"""ablations: the plain loop with one thing changed, on several seeds: what each part is worth, what keeps a judge.

    python -m benchmarks.ablations list                        the arms
    python -m benchmarks.ablations run --count 5 --jobs 2      hours; stopped, it goes on with the same command
    python -m benchmarks.ablations run --arms plain,lagged     some of them
    python -m benchmarks.readme_tables                         docs/ablations.md from data/results/ablations.json

Every arm of a seed shares M0, and M1 where it changes nothing before it, through DVC's cache. The judge of every model
is measured on the same held-out ranked prompts (BANK), greedily once; that AIFT's pairs are right is what the checker
says, which no stage of the loop ever asks. An arm beside its control, and beside `plain`, is a mean of differences
within a seed, with Student's 95 % interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from io import StringIO
from math import sqrt
from operator import getitem
from pathlib import Path
from statistics import mean, median, stdev
from typing import Annotated, Any, NamedTuple

import polars as pl
import typer
from scipy.stats import mannwhitneyu, t

from benchmarks.arms import ARMS, BANK
from benchmarks.seeds import PLAIN, run_all
from stages.console.command import run
from stages.console.errors import SrlmError
from stages.console.sheets import UNKNOWN, Code, Figure, Sheet, to_markdown
from stages.console.terminal import stderr
from stages.store.files import write_json
from stages.tinyworld.oracle import score

RUN_S, M0_S = 80, 170
"""Of one core, where nothing was measured yet: an arm from M0 on, and M0."""


def checked_pairs(folder: Path) -> dict[str, dict[str, float | int | None]]:
    """What the checker says of each AIFT's pairs in the run `folder`: share whose chosen answer is the better one
    (a tie is half), and the mean difference of points; `tau_auc` (`auc`) where a second judge gave a tau."""
    result: dict[str, dict[str, float | int | None]] = {}
    for file in sorted((folder / "data" / "AIFT").glob("*/pairs.parquet")):
        taus = dict(pl.read_parquet(file.with_name("scores.parquet")).select("prompt_id", "tau").iter_rows())
        pairs = pl.read_parquet(file).select("prompt_id", "prompt", "chosen", "rejected")
        checked = [
            (taus[prompt_id] or 0.0, chosen.total - rejected.total)  # a tau that is not known counts as 0
            for prompt_id, prompt, a, b in pairs.iter_rows()
            if (chosen := score(prompt, a)) and (rejected := score(prompt, b))
        ]
        gaps = [gap for _, gap in checked]
        result[file.parent.name] = {
            "pairs": len(gaps),
            "right": mean((gap > 0) + (gap == 0) / 2 for gap in gaps) if gaps else None,
            "gap": mean(map(float, gaps)) if gaps else None,
            "tau_auc": auc(checked) if any(tau is not None for tau in taus.values()) else None,
        }
    return result


def auc(pairs: Sequence[tuple[float, float]]) -> float | None:
    """How often a right pair has the higher tau than a wrong one, a tie as half (Mann and Whitney's U), of (tau, the
    checker's difference of points); null where all are right, or all wrong."""
    right, wrong = ([tau for tau, gap in pairs if sign * gap > 0] for sign in (1, -1))
    if not right or not wrong:
        return None
    return float(mannwhitneyu(right, wrong).statistic) / (len(right) * len(wrong))


def start(names: list[str], seeds: list[int], jobs: int, root: Path = Path()) -> None:
    """Run the arms that data/results/ablations.json does not hold yet; a stopped run goes on so. Says beforehand how
    long it takes, from what is there."""
    results = load(root)
    variants = {
        f"{name}@{seed}": {"hardware.threads": 1, **PLAIN, **BANK, **ARMS[name].overrides, "seed": seed}
        for name in names
        for seed in seeds
    }
    missing = {key: v for key, v in variants.items() if results.get(key, {}).get("overrides") != v}
    new_seeds = {v["seed"] for v in missing.values()} - {result["overrides"]["seed"] for result in results.values()}
    seconds = [result["seconds"] for result in results.values()]
    each = max(RUN_S, median(seconds)) if seconds else RUN_S  # what was restored from the cache took seconds
    hours = (len(missing) * each + len(new_seeds) * M0_S) / jobs / 3600
    stderr.print(f"{len(missing)} of {len(variants)} runs are left: about {hours:.1f} h, {jobs} at a time")
    run_all("ablations", missing, root, jobs, checked_pairs)
    file = root / "data" / "results" / "ablations.json"
    write_json(file, {key: shown_of(result) for key, result in load(root).items()})


def shown_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Of one run, what the page is made of: git holds a tenth of all its metrics for each of some hundred runs."""
    evals = {
        model: {
            "judge": {name: of["judge"][name] for name in ("pairwise_accuracy", "exact_match")},
            "writer": {"greedy": {name: of["writer"]["greedy"][name] for name in ("fully_right", "oracle_score")}},
        }
        for model, of in result["metrics"]["EVAL"].items()
    }
    return {key: result[key] for key in ("overrides", "seconds", "measured")} | {"metrics": {"EVAL": evals}}


def load(root: Path = Path()) -> dict[str, Any]:
    """arm@seed -> what `run_all` keeps of it."""
    file = root / "data" / "results" / "ablations.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def figures(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Of one run: of the first and the last model of its loop as a judge (pairwise accuracy, exact order, %), their
    fully right answers (greedy, %), the checker's view of the last AIFT's pairs."""
    evals, measured = result["metrics"]["EVAL"], result["measured"]
    aifts = sorted(measured, key=lambda model: model != "SFT")  # which is the first where there is one; M1, M2 ..
    first, last = aifts[0], [m for m in evals if m != "SFT"][-1]
    pairs = [measured[model] for model in aifts]

    def percent(model: str, *path: str) -> float | None:
        value = reduce(getitem, (*path, "value"), evals[model])
        return None if value is None else 100 * value

    judge = {m: percent(m, "judge", "pairwise_accuracy") for m in (first, last)}
    return {
        "judge_first": judge[first],
        "judge_last": judge[last],
        "judge_gain": minus(judge[last], judge[first]),
        "exact": percent(last, "judge", "exact_match"),
        "right_first": percent(first, "writer", "greedy", "fully_right"),
        "right_last": percent(last, "writer", "greedy", "fully_right"),
        "right_pairs": times_100(pairs[-1]["right"]),
        "gap": pairs[-1]["gap"],
        "tau_auc": pairs[-1].get("tau_auc"),
        "gap_kept": share_kept(pairs[0]["gap"], pairs[-1]["gap"]),
    }


def share_kept(first: float | None, last: float | None) -> float | None:
    """None where there was nothing to keep: pairs made by chance have a first gap of about 0, of either sign."""
    return None if first is None or last is None or first <= 0 else last / first


def minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def times_100(share: float | None) -> float | None:
    return None if share is None else 100 * share


class Mean(NamedTuple):
    """With Student's 95 % interval over seeds; null below two."""

    n: int
    value: float
    half_width: float | None


def mean_of(values: Sequence[float | None]) -> Mean | None:
    """None where a value is unknown, or there is none."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    n = len(known)
    half_width = float(t.ppf(0.975, n - 1)) * stdev(known) / sqrt(n) if n > 1 else None
    return Mean(n, mean(known), half_width)


def by_arm(results: Mapping[str, Any]) -> dict[str, dict[int, dict[str, float | None]]]:
    """arm -> seed -> figures, in the order of ARMS."""
    runs: dict[str, dict[int, dict[str, float | None]]] = {name: {} for name in ARMS}
    for key, result in results.items():
        name, _, seed = key.partition("@")
        if name in runs:
            runs[name][int(seed)] = figures(result)
    return {name: seeds for name, seeds in runs.items() if seeds}


def difference(runs: Mapping[int, Any], other: Mapping[int, Any], figure: str) -> Mean | None:
    """Of `runs` from `other`, within the seeds that both have."""
    return mean_of([minus(runs[seed][figure], other[seed][figure]) for seed in sorted(runs.keys() & other.keys())])


COLUMNS = (
    "runs",
    "judge %, M1 → last",
    "gain",
    "exact order %",
    "fully right %, M1 → last",
    "right pairs %",
    "gap kept",
    "judge − plain",
    "fully right − plain",
)

COMPARED = {"judge": "judge_last", "exact order": "exact", "fully right": "right_last", "right pairs": "right_pairs"}


def comparable(name: str) -> bool:
    """Whether an arm's last model stands where that of `plain` does."""
    return name != "plain" and ARMS[name].models == ARMS["plain"].models


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """Markdown of `ablations`, a row for each arm, and of `ablations, controls`."""
    runs = by_arm(results)
    plain = runs.get("plain", {})
    rows = [
        [
            Code(name),
            ARMS[name].what,
            len(own),
            tuple(shown(own, f"judge_{when}") for when in ("first", "last")),
            interval(mean_of([run["judge_gain"] for run in own.values()])),
            shown(own, "exact"),
            tuple(shown(own, f"right_{when}") for when in ("first", "last")),
            shown(own, "right_pairs"),
            shown(own, "gap_kept", digits=2),
            *(
                interval(difference(own, plain, figure)) if comparable(name) else UNKNOWN
                for figure in ("judge_last", "right_last")
            ),
        ]
        for name, own in runs.items()
    ]
    against = [
        [Code(name), Code(control), *(interval(difference(runs[name], runs[control], f)) for f in COMPARED.values())]
        for name in runs
        if (control := ARMS[name].control) in runs and control
    ]
    taus = {name: mean_of([run["tau_auc"] for run in own.values()]) for name, own in runs.items()}
    of_tau = [[Code(name), interval(average, 2, sign="")] for name, average in taus.items() if average]
    return {
        "ablations": markdown(["arm", "what differs", *COLUMNS], rows),
        "ablations, controls": markdown(["arm", "its control", *COMPARED], against),
        "ablations, tau": markdown(["arm", "AUC of tau"], of_tau),
    }


def shown(runs: Mapping[int, Mapping[str, float | None]], figure: str, digits: int = 1) -> Figure:
    average = mean_of([run[figure] for run in runs.values()])
    return Figure(average and average.value, digits=digits)


def markdown(columns: Sequence[str], rows: list[list[Any]]) -> str:
    file = StringIO()
    to_markdown(Sheet(columns, rows), file)
    return file.getvalue()


def interval(average: Mean | None, digits: int = 1, sign: str = "+") -> str:
    """A signed difference; without `sign` a value."""
    if average is None:
        return UNKNOWN
    return f"{average.value:{sign}.{digits}f}" + (f" ±{average.half_width:.{digits}f}" if average.half_width else "")


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command("run")
def run_command(
    arms: Annotated[str, typer.Option(help="names, comma-separated; all of them if empty")] = "",
    first: Annotated[int, typer.Option(help="the first seed")] = 401,
    count: Annotated[int, typer.Option(min=1, help="how many seeds")] = 5,
    jobs: Annotated[int, typer.Option(min=1, help="runs at a time")] = 2,
) -> None:
    """Run arms on several seeds; keeps their figures in data/results/ablations.json."""
    names = [name.strip() for name in arms.split(",")] if arms else list(ARMS)
    if unknown := [name for name in names if name not in ARMS]:
        raise SrlmError(f"no arm is called {', '.join(unknown)}. There are: {', '.join(ARMS)}")
    start(names, list(range(first, first + count)), jobs)


@app.command("list")
def list_command() -> None:
    """The arms, and what each changes."""
    for name, arm in ARMS.items():
        print(f"{name:<18}{arm.what}")


if __name__ == "__main__":
    run(app)
