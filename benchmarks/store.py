"""Scores, pairs and every canned question over a made store of 10 million judgements, beside the same work in pandas.

    python -m benchmarks.store make DIR [--prompts 833333]     833 k prompts x 4 candidates x 3 judgements, split 1 : 3
over M1 and M2
    python -m benchmarks.store run DIR                         each task in a process of its own, start and imports
included: seconds, peak memory, ratio

The pandas side reads only the columns that it needs; what it leaves out (text of the result, checks of the contract)
ours does not leave out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from rich.table import Table as Shown

from benchmarks import in_pandas
from stages.console.terminal import Console
from stages.store import catalog
from stages.store.questions import questions
from stages.store.tables import ANSWERS, CANDIDATES, IFT_TRAIN, JUDGEMENTS, PROMPTS, TEST_PROMPTS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
N, K = 4, 3
SHARES = {"M1": 0.25, "M2": 0.75}
SRLM = (sys.executable, "-c", "from stages.commands.cli import main; main()")
PROFILE = Path(__file__).parents[1] / "stages" / "config" / "profiles" / "tiny.yaml"


@app.command()
def make(folder: Path, prompts: Annotated[int, typer.Option()] = 833_333) -> None:
    """Write the made store. Scores saturate (most are 4 or 5), answers repeat, some judgements cannot be read: as real
    stores do."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(PROFILE, folder / "params.yaml")
    rng = np.random.default_rng(1)
    write(
        IFT_TRAIN,
        folder,
        pl.DataFrame({"ift_id": [f"i{i}" for i in range(600)]}).with_columns(
            instruction=pl.lit("seed ") + pl.col("ift_id"),
            response=pl.lit("ok"),
            source=pl.lit("made"),
            source_id=pl.col("ift_id"),
        ),
    )
    for model, share in SHARES.items():
        made(folder, model, round(prompts * share), rng)
    tests = pl.DataFrame({"prompt_id": [f"t{i}" for i in range(500)]})
    tests = tests.with_columns(
        prompt=pl.lit("test ") + pl.col("prompt_id"), source=pl.lit("made"), source_id=pl.lit("x")
    )
    write(TEST_PROMPTS, folder, tests)
    for model in ("SFT", "M1", "M2", "M3"):
        answers = tests.select(
            "prompt_id",
            model=pl.lit(model),
            decoding=pl.lit("greedy"),
            response=pl.lit("said"),
            finish_reason=pl.lit("stop"),
        ).with_columns(
            tokens=pl.lit(5, pl.Int32),
            oracle_score=pl.Series(rng.integers(0, 6, 500).astype(float)),
            points=pl.lit(None, pl.List(pl.String)),
        )
        write(ANSWERS, folder, answers, model)


def made(folder: Path, model: str, prompts: int, rng: np.random.Generator) -> None:
    """One AIFT without its scores and pairs."""
    ids = pl.select(prompt_id=pl.int_range(prompts).hash(len(model)).cast(pl.String)).to_series()
    number = pl.Series(rng.integers(0, prompts * 20, prompts))
    shots = pl.Series([[f"i{j}" for j in row] for row in rng.integers(0, 600, (prompts, 8))], dtype=pl.List(pl.String))
    frame = pl.DataFrame({"prompt_id": ids, "number": number, "shots": shots})
    write(
        PROMPTS,
        folder,
        frame.select(
            "prompt_id",
            model=pl.lit(model),
            prompt=pl.format("Explain in simple words what number {} has to do with the weather.", "number"),
            writer=pl.lit("M0"),
            shots="shots",
            dropped=pl.lit(None, pl.String),
        ),
        model,
    )
    candidates = (
        frame.select("prompt_id")
        .with_columns(n=pl.lit(list(range(N)), pl.List(pl.Int32)))
        .explode("n")
        .with_columns(
            candidate_id=pl.format("{}-{}-{}", "prompt_id", pl.lit(model), "n"),
            model=pl.lit(model),
            tokens=pl.Series(rng.integers(20, 400, prompts * N), dtype=pl.Int32),
            word=pl.Series(rng.integers(0, prompts, prompts * N)),
            finish_reason=pl.Series(np.where(rng.random(prompts * N) < 0.02, "length", "stop")),
        )
        .with_columns(
            response=pl.format(
                "It is {} of them, which one can see from the way that {} is written down.", "word", "tokens"
            )
        )
    )
    write(CANDIDATES, folder, candidates.select(*CANDIDATES.schema), model)
    total = prompts * N * K
    score = pl.Series(
        rng.choice([1.0, 2.0, 3.0, 4.0, 5.0, np.nan], total, p=[0.05, 0.08, 0.15, 0.4, 0.3, 0.02])
    ).fill_nan(None)
    judged = (
        candidates.select("candidate_id", "prompt_id")
        .with_columns(k=pl.lit(list(range(K)), pl.List(pl.Int32)))
        .explode("k")
        .with_columns(
            judge=pl.lit(model),
            finish_reason=pl.lit("stop"),
            score=score,
            expected=pl.lit(None, pl.Float64),
            word=pl.Series(rng.integers(0, 10**9, total)),
        )
        .with_columns(
            text=pl.format(
                "The answer is relevant and covers {} in a useful way, but is not clearly organised. Score: {}",
                "word",
                "score",
            )
        )
    )
    write(
        JUDGEMENTS,
        folder,
        judged.with_columns(text=pl.col("text").fill_null("I cannot say.")).select(*JUDGEMENTS.schema),
        model,
    )


def write(table: catalog.Table, folder: Path, frame: pl.DataFrame, model: str | None = None) -> None:
    catalog.write(table, frame, folder, model)


@app.command()
def run(folder: Path, only: Annotated[str | None, typer.Option(help="one task")] = None) -> None:
    """Measure. Ours first: it makes the scores and pairs that the questions are asked of."""
    console = Console(width=120)
    shown = Shown("task", "ours s", "ours GB", "pandas s", "pandas GB", "pandas / ours", box=None)
    root = folder.resolve()
    tasks: dict[str, list[list[str]]] = {
        "scores and pairs": [[sys.executable, "-m", "stages.build_pairs", model] for model in SHARES]
    }
    tasks |= {name: [[*SRLM, "query", name, "--format", "csv"]] for name in questions()}
    page = root / "report.html"
    tasks["report"] = [[*SRLM, "report", "--out", str(page)]]
    for name, commands in tasks.items():
        if only and name != only:
            continue
        ours = [measured(command, root) for command in commands]
        seconds, peak = sum(s for s, _ in ours), max(p for _, p in ours)
        row = [name, f"{seconds:.1f}", f"{peak:.1f}"]
        if name.replace(" ", "_") in vars(in_pandas):
            other = measured([sys.executable, "-m", "benchmarks.in_pandas", name], root)
            row += [f"{other[0]:.1f}", f"{other[1]:.1f}", f"{other[0] / seconds:.1f}"]
        shown.add_row(*row)
    console.print(shown)
    if page.is_file():
        console.print(f"report: {page.stat().st_size / 1e6:.1f} MB")


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak GB of a process that runs in `folder`, imports and all."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - started, usage.ru_maxrss / 1024**2


if __name__ == "__main__":
    app()
