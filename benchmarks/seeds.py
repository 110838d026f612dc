"""seeds: the same pipeline again under other parameters, each in a folder of its own that shares DVC's cache.

    python -m benchmarks.seeds seeds --first 101 --count 5     five runs from scratch: does the result hold?
    python -m benchmarks.seeds controls                        CONTROLS: what does each part do?

A variant is a copy of the code with another `params.yaml`; since the cache is shared, a control restores all that it
has in common with the run at hand (M0 to AIFT(M1)'s judgements) and computes only the rest. What is kept is each
variant's metrics, in `data/results/`; variants that were run earlier stay there.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from stages.console.command import own_path, run
from stages.console.errors import SrlmError
from stages.console.progress import progress
from stages.console.terminal import stderr
from stages.store.copies import prepare
from stages.store.files import write_json
from stages.store.metrics import read_all
from stages.store.run import times

Overrides = dict[str, Any]
PLAIN: Overrides = {"aift.M2.judge": "M2", "train_dpo.replay.eft": 0.0, "train_dpo.replay.rows": 16}
"""The paper's loop: Mt judges AIFT(Mt), nothing is replayed."""
CONTROLS: dict[str, Overrides] = {  # the judge's order replaced by chance, and by length
    "plain": PLAIN,
    "shuffled": {"build_pairs.signal": "shuffled"},
    "longest": {"build_pairs.signal": "longest"},
}


def seeds(first: int, count: int, shared: Overrides, jobs: int = 1, root: Path = Path()) -> None:
    """Run `count` seeds from scratch; writes data/results/seeds.json. `shared` overrides stand in every variant."""
    run_all("seeds", {str(seed): {**shared, "seed": seed} for seed in range(first, first + count)}, root, jobs)


def controls(seeds: list[int], shared: Overrides, jobs: int = 1, root: Path = Path()) -> None:
    """Run every control under every seed; writes data/results/controls.json."""
    pairs = product(seeds, CONTROLS)
    run_all("controls", {f"{c}-{seed}": {**shared, **CONTROLS[c], "seed": seed} for seed, c in pairs}, root, jobs)


def run_all(
    name: str, variants: dict[str, Overrides], root: Path, jobs: int, measure: Callable[[Path], Any] | None = None
) -> None:
    """Run variants, `jobs` at a time, and keep their metrics, and what `measure` says of their folders, beside those of
    other variants, run earlier. Raises SrlmError naming the log of one that failed; stopped, it starts no other and
    stops those that run."""
    results = root / "data" / "results" / f"{name}.json"
    done: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {}
    with progress(name, len(variants), "runs") as advance, ThreadPoolExecutor(jobs) as pool:
        outcomes = pool.map(lambda v: run_one(root, name, v, variants[v], measure), variants)
        try:
            for variant, outcome in zip(variants, outcomes, strict=True):
                done[variant] = outcome
                write_json(results, done)
                advance(note=f"{variant}: {outcome['seconds']:.0f} s")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it ended meanwhile
                    child.send_signal(signal.SIGINT)
            raise
    stderr.print(f"kept in {results}")


def run_one(
    root: Path, name: str, variant: str, overrides: Overrides, measure: Callable[[Path], Any] | None = None
) -> dict[str, Any]:
    """One variant, in runs/{name}/{variant}. The same command after a crash goes on where it stopped."""
    folder = (root / "runs" / name / variant).resolve()
    prepare(root, folder, overrides)
    started = time.monotonic()
    with (folder / "repro.log").open("a") as log:
        code = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], cwd=folder, stdout=log, stderr=log, check=False, env=own_path()
        ).returncode
    if code:
        raise SrlmError(
            f"variant {variant} failed: read {folder / 'repro.log'}, fix it, and run the same command again"
        )
    metrics: dict[str, Any] = {}  # kind -> name -> content
    for (kind, key), content in read_all(folder).items():
        if key is None:
            metrics[kind] = content
        else:
            metrics.setdefault(kind, {})[key] = content
    return {
        "overrides": overrides,
        "seconds": round(time.monotonic() - started, 1),
        "metrics": metrics,
        "stages": times(folder),
        **({"measured": measure(folder)} if measure else {}),
    }


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
First = Annotated[int, typer.Option(help="the first seed")]
Count = Annotated[int, typer.Option(min=1, help="how many seeds")]
Jobs = Annotated[int, typer.Option(min=1, help="variants at a time")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads of each; 0 keeps params.yaml's hardware.threads")]


@app.command("seeds")
def seeds_command(first: First = 301, count: Count = 5, jobs: Jobs = 1, threads: Threads = 0) -> None:
    """Run several seeds from scratch; keeps their metrics in data/results/seeds.json."""
    seeds(first, count, {"hardware.threads": threads} if threads else {}, jobs)


@app.command("controls")
def controls_command(first: First = 301, count: Count = 1, jobs: Jobs = 1, threads: Threads = 0) -> None:
    """Run the loop with shuffled scores, and with "longest wins"; keeps their metrics in data/results/controls.json."""
    controls(list(range(first, first + count)), {"hardware.threads": threads} if threads else {}, jobs)


if __name__ == "__main__":
    run(app)
