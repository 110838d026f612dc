"""kill -9 at random moments of a run, and a disk that is full, each time followed by the same command: does it end as
if nothing had happened?

    python -m benchmarks.crash kill RUN [--kills 20] [--seed 1]      RUN: a clone in which `srlm repro` has run once,
from nothing to the end
    python -m benchmarks.crash kill RUN --stage train_sft_M1 --stage train_dpo@M2 --save-every 1      only these, while
they compute, with a checkpoint every second
    python -m benchmarks.crash fill RUN [--stage judge_candidates@M2]      as root: a small disk is mounted in memory,
and grows after it was full

    python -m benchmarks.crash train RUN [--kills 20]      trainings alone, of RUN's M0 on its IFT, each killed once in
a process of its own and continued in another: are weights and log as without?

A moment is drawn over the run's own time. The workspace is put into the state in which the run had met that moment
(stages before it done, nothing of later ones anywhere), `srlm repro STAGE` is started and killed there, all its
processes at once, and started again. What then stands in `dvc.lock` must be what stood there after that stage of the
uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.table import Table
from ruamel.yaml import YAML

from stages.console.terminal import Console

STARTING_S = 4.0
"""What DVC and Python take before and after a stage: moments there count too."""
REPRO = (sys.executable, "-c", "from stages.commands.cli import main; main()", "repro")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def kill(
    run: Path,
    kills: Annotated[int, typer.Option()] = 20,
    seed: Annotated[int, typer.Option()] = 1,
    stages: Annotated[list[str], typer.Option("--stage", help="only these, while they compute")] = [],  # noqa: B006
    save_every: Annotated[float | None, typer.Option(help="hardware.save_every_s")] = None,
) -> None:
    """Print a row per kill; exit code 1 if one did not end as the run did."""
    run = run.resolve()
    lock = YAML(typ="safe").load(run / "dvc.lock")["stages"]
    log = [json.loads(line) for line in (run / "data/logs/runs.jsonl").read_text().splitlines()]
    seconds = [entry["seconds"] for entry in log if entry["outcome"] == "done"]
    compute = [entry["compute_s"] for entry in log if entry["outcome"] == "done"]
    ran = [entry["stage"].partition("@")[0] for entry in log if entry["outcome"] == "done"]
    if len(ran) != len(lock) or not all(map(str.startswith, lock, ran)):
        raise SystemExit(
            f"{run}: {len(lock)} stages in dvc.lock, and not the same ones in data/logs/runs.jsonl: not one run from "
            f"nothing to the end"
        )
    rng, console = random.Random(seed), Console()
    shown = Table("stage", "killed after s", "texts kept", "step kept", "again s", "as without", box=None)
    wrong = 0
    for _ in range(kills):
        stage = rng.choice(stages) if stages else rng.choices(list(lock), [s + STARTING_S for s in seconds])[0]
        at = list(lock).index(stage)
        after = seconds[at] + STARTING_S - rng.uniform(0, compute[at] if stages else seconds[at] + STARTING_S)
        with TemporaryDirectory(prefix="crash-") as name:
            folder = before(run, lock, stage, Path(name) / "run")
            if save_every is not None:
                set_save_every(folder / "params.yaml", save_every)
            start_and_kill(folder, stage, after)
            kept = finished(folder)
            started = time.monotonic()
            done = subprocess.run(
                [*REPRO, stage], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
            )
            again = time.monotonic() - started
            same = done.returncode == 0 and as_without(folder, lock, stage)
            step = continued_at(folder)
        wrong += not same
        shown.add_row(stage, f"{after:.1f}", f"{kept:,}", step, f"{again:.0f}", "yes" if same else "NO")
        print(
            f"{stage} killed after {after:.1f} s, step {step}: {'as without' if same else 'NOT as without'}", flush=True
        )  # an hour's work is seen as it comes
        if not same:
            console.print(done.stdout[-1500:] + done.stderr[-1500:])
    console.print(shown)
    console.print(f"{kills - wrong} of {kills} as without")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def train(
    run: Path,
    kills: Annotated[int, typer.Option()] = 20,
    seed: Annotated[int, typer.Option()] = 1,
    save_every: Annotated[float, typer.Option(help="seconds between checkpoints")] = 0.2,
) -> None:
    """Print a row per kill; exit code 1 if weights (sha256 of model.safetensors) or log are others."""
    run, rng, console = run.resolve(), random.Random(seed), Console()
    import stages.trainers.dpo
    import stages.trainers.sft  # noqa: F401  # once, for all processes

    shown = Table("training", "killed after s", "of s", "continued at", "of steps", "as without", box=None)
    wrong = 0
    with TemporaryDirectory(prefix="crash-") as name:
        whole = {}
        for kind in ("train_sft", "train_dpo"):
            started = time.monotonic()
            wait(forked(run, kind, folder := Path(name) / kind, save_every), folder)
            whole[kind] = time.monotonic() - started, result(folder)
        for nth in range(kills):
            kind = ("train_sft", "train_dpo")[nth % 2]
            seconds, (digest, log, _) = whole[kind]
            after, folder = rng.uniform(0, seconds), Path(name) / f"{nth}"
            child = forked(run, kind, folder, save_every)
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            wait(forked(run, kind, folder, save_every), folder)
            again = result(folder)
            same = again[:2] == (digest, log)
            wrong += not same
            shown.add_row(
                kind, f"{after:.1f}", f"{seconds:.1f}", again[2], str(log.count("\n") - 1), "yes" if same else "NO"
            )
    console.print(shown)
    console.print(f"{kills - wrong} of {kills} as without")
    raise typer.Exit(1 if wrong else 0)


def forked(run: Path, kind: str, folder: Path, save_every: float) -> int:
    """The number of a process that trains `run`'s M0 on 96 rows of its IFT into `folder`, with dropout and accumulated
    batches: 30 steps. A rejected answer is another row's."""
    if child := os.fork():
        return child
    try:
        import polars as pl

        from stages.config.load import load_params
        from stages.trainers import dpo, sft
        from stages.trainers.resume import Checkpoints

        folder.mkdir(exist_ok=True)
        silent = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        params = load_params(Path(__file__).parents[1])
        rows = pl.read_parquet(run / "data/IFT/train.parquet")[:96]
        if kind == "train_dpo":
            rows = rows.select(
                prompt="instruction", chosen="response", rejected=pl.col("response").shift(1).fill_null("No.")
            )
        fixed = {"epochs": 5, "batch": 16, "micro_batch": 8, "dropout": 0.1}
        trained = {"train_sft": sft.train_sft, "train_dpo": dpo.train_dpo}[kind](
            run / "data/models/M0",
            folder,
            rows,
            getattr(params, kind).model_copy(update=fixed),
            seed=1,
            hardware=params.hardware.model_copy(update={"device": "cpu", "threads": 1}),
            label=kind,
            checkpoints=Checkpoints(folder / "checkpoints", save_every, {}),
        )
        (folder / "continued").write_text(str(trained.figures.get("continued_at", "-")))
        trained.log.write_csv(folder / "log.csv")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def wait(child: int, folder: Path) -> None:
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit((folder / "said.txt").read_text()[-2000:])


def result(folder: Path) -> tuple[str, str, str]:
    """Hash of the weights, the log, and the step at which the training was continued."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return digest, (folder / "log.csv").read_text(), (folder / "continued").read_text()


@app.command()
def fill(
    run: Path,
    stage: Annotated[str, typer.Option()] = "judge_candidates@M2",
    rooms: Annotated[list[float], typer.Option("--room", help="MB that are free when the stage starts")] = [  # noqa: B006
        0.1,
        0.5,
        1,
        2,
        4,
        8,
    ],
    save_every: Annotated[float | None, typer.Option(help="hardware.save_every_s")] = None,
) -> None:
    """Print a row per disk; exit code 1 if one did not end as the run did, or the error was no sentence."""
    run = run.resolve()
    lock = YAML(typ="safe").load(run / "dvc.lock")["stages"]
    console, wrong = Console(), 0
    shown = Table("MB free", "exit code", "what it said", "texts kept", "then, with room", box=None)
    for room in rooms:
        with TemporaryDirectory(prefix="fill-") as name:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", name], check=True)
            try:
                folder = before(run, lock, stage, Path(name) / "run")
                if save_every is not None:
                    set_save_every(folder / "params.yaml", save_every)
                used = shutil.disk_usage(name).used
                subprocess.run(["mount", "-o", f"remount,size={used + int(room * 1e6)}", name], check=True)
                full = subprocess.run(
                    [*REPRO, stage], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
                )
                subprocess.run(["mount", "-o", "remount,size=4g", name], check=True)
                kept = finished(folder)
                done = subprocess.run(
                    [*REPRO, stage], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
                )
                same = done.returncode == 0 and as_without(folder, lock, stage)
            finally:
                subprocess.run(["umount", "-l", name], check=True)
        said = [line for line in (full.stdout + full.stderr).splitlines() if "rror" in line]
        good = same and (full.returncode == 0 or (bool(said) and "Traceback" not in full.stderr))
        wrong += not good
        shown.add_row(
            f"{room:g}",
            str(full.returncode),
            " ".join(said)[:160],
            f"{kept:,}",
            "as without" if same else "NOT as without",
        )
        if not good:
            console.print(full.stderr[-3000:], done.stderr[-1500:])
    console.print(shown)
    raise typer.Exit(1 if wrong else 0)


def before(run: Path, lock: dict[str, Any], stage: str, folder: Path) -> Path:
    """A copy of `run` as it was before `stage`."""
    gone = list(lock)[list(lock).index(stage) :]
    keep = shutil.ignore_patterns(".venv", "runs", "tmp", "finished", "logs", "__pycache__", "report.html")
    shutil.copytree(run, folder, symlinks=True, ignore=keep)
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)
    outs = [out["path"] for name in gone for out in lock[name]["outs"]]
    for out in outs:
        path = folder / out
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with (folder / "dvc.lock").open("w") as file:
        YAML().dump(
            {"schema": "2.0", "stages": {name: entry for name, entry in lock.items() if name not in gone}}, file
        )
    return folder


def as_without(folder: Path, lock: dict[str, Any], stage: str) -> bool:
    """Whether dvc.lock says of all stages up to this one what it says after the uninterrupted run."""
    done = list(lock)[: list(lock).index(stage) + 1]
    return bool(YAML(typ="safe").load(folder / "dvc.lock")["stages"] == {name: lock[name] for name in done})


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def start_and_kill(folder: Path, stage: str, after: float) -> None:
    """Start the stage and kill every process of it `after` seconds later."""
    process = subprocess.Popen(
        [*REPRO, stage],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def set_save_every(params: Path, seconds: float) -> None:
    yaml = YAML()
    content = yaml.load(params)
    content["hardware"]["save_every_s"] = seconds
    yaml.dump(content, params)


def continued_at(folder: Path) -> str:
    """The step after which the stage that ran last went on; "-" for one that began anew."""
    log = folder / "data/logs/runs.jsonl"
    last = json.loads(log.read_text().splitlines()[-1]) if log.is_file() else {}
    return str(last.get("continued_at", "-"))


def finished(folder: Path) -> int:
    """Completions that the killed stage kept."""
    from stages.engines.cache import CompletionCache
    from stages.store.run import COMPLETION_CACHE

    path = folder / COMPLETION_CACHE
    if not path.is_file():
        return 0
    with CompletionCache(path) as kept:
        return sum(size.completions for size in kept.sizes())


if __name__ == "__main__":
    app()
