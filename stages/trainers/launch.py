"""One training on several processes, by `hardware.launch`: the stage writes down what is to be trained, starts
`accelerate launch -m stages.trainers.worker`, and takes what rank 0 leaves. The first error of any process ends all."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainDpo, TrainSft
from stages.console import errors
from stages.console.errors import TrainingError
from stages.console.processes import started, this_process

JOB, LOG, RESULT = "job.json", "log.parquet", "result.json"
ERRORS = "error-*.json"
"""Of a process that failed: the error's `kind`, its `message`, and `at`, when."""
CODE = Path(__file__).parents[2]


def on_processes(
    train: Callable[..., Any],
    model_dir: Path,
    out: Path,
    rows: pl.DataFrame,
    params: TrainSft | TrainDpo,
    **options: Any,
) -> dict[str, Any]:
    """What `train` (sft.train_sft or dpo.train_dpo) does, on the processes of `options["hardware"].launch`; returns the
    fields of its result, with `processes`. Raises what the first process to fail raised, and TrainingError for a launch
    that cannot be."""
    hardware: Hardware = options.pop("hardware")
    command, processes = accelerate(hardware)
    rows_of_each(params, processes)
    with TemporaryDirectory(prefix="srlm-train-") as name:
        folder = Path(name)

        def plain(value: Any) -> Any:
            if isinstance(value, pl.DataFrame):
                place = folder / f"{len([*folder.glob('*.parquet')])}.parquet"
                value.write_parquet(place)
                return str(place)
            return str(value) if isinstance(value, Path) else vars(value)

        job = {
            **{"train": train.__name__, "model_dir": model_dir, "out": out, "rows": rows, "options": options},
            **{"params": params.model_dump(), "hardware": hardware.model_dump(), "stage": this_process()},
        }
        (folder / JOB).write_text(json.dumps(job, default=plain), encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))
        env = {"TORCH_CPP_LOG_LEVEL": "ERROR"} | os.environ | {"PYTHONPATH": path}
        with started([*command, "-m", "stages.trainers.worker", name], env) as launcher:
            while launcher.poll() is None and not [*folder.glob(ERRORS)]:
                time.sleep(0.1)
        _raise_first(folder)
        if launcher.returncode or not (folder / RESULT).exists():
            raise TrainingError(
                f"a process of the training on {processes} was ended from outside (accelerate's exit code "
                f"{launcher.returncode}): out of memory? What it wrote stands above"
            )
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return result | {"log": pl.read_parquet(folder / LOG), "processes": processes}


def accelerate(hardware: Hardware) -> tuple[list[str], int]:
    """The beginning of the command line, and how many processes it starts. Raises TrainingError."""
    import torch
    from accelerate.commands.config.config_args import load_config_from_file

    file = hardware.launch_config
    try:
        config = load_config_from_file(str(file))
    except Exception as e:  # no YAML, keys that accelerate does not know, values of another kind
        raise TrainingError(f"{file} is no config of accelerate: {' '.join(str(e).split())[:300]}") from None
    for name in ("num_processes", "num_machines"):
        if type(seen := getattr(config, name)) is not int:
            raise TrainingError(f"{file} has {name} {seen!r}. Expected a whole number")
    if config.mixed_precision not in (None, "no"):
        raise TrainingError(
            f"{file} has mixed_precision {config.mixed_precision}, and dtype (train_sft, train_dpo) decides that. Set "
            f"it to no"
        )
    gpus = 0 if hardware.device == "cpu" else torch.cuda.device_count()
    processes = config.num_processes if config.num_processes > 0 else gpus
    if config.num_machines > 1:
        raise TrainingError(f"{file} has num_machines {config.num_machines}. Expected 1: a stage runs on one machine")
    if processes < 1:
        raise TrainingError(
            f"hardware.launch {hardware.launch} starts one process for each GPU, and torch sees none. Set it to null, "
            f"or num_processes in a config of your own"
        )
    if gpus and processes > gpus:
        raise TrainingError(f"{file} has num_processes {processes}, and torch sees {gpus} GPUs")
    if not gpus and config.distributed_type in ("FSDP", "DEEPSPEED"):
        raise TrainingError(
            f"hardware.launch {hardware.launch} spreads a model over GPUs, and none is to be used: accelerate would "
            f"have each process hold all of it. Expected distributed_type MULTI_GPU on a CPU"
        )
    if config.distributed_type == "DEEPSPEED" and not find_spec("deepspeed"):
        raise TrainingError(f"hardware.launch {hardware.launch} needs DeepSpeed. Type: pip install deepspeed")
    threads = hardware.threads or max(1, (os.cpu_count() or 1) // processes)
    options = {"config_file": file, "num_processes": processes, "num_machines": 1, "main_process_port": 0}
    options |= {"num_cpu_threads_per_process": threads}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "accelerate.commands.launch", *words], processes


def rows_of_each(params: TrainSft | TrainDpo, processes: int) -> tuple[int, int]:
    """Rows per forward, and how often a process accumulates them for its share of a batch, of which each takes the
    same. Raises TrainingError."""
    share, rest = divmod(params.batch, processes)
    if rest:
        raise TrainingError(
            f"batch {params.batch} cannot be dealt out to {processes} processes. Set batch to a multiple of "
            f"{processes}, or num_processes (hardware.launch) to a divisor of {params.batch}"
        )
    micro = min(params.micro_batch, share)
    accumulate, rest = divmod(share, micro)
    if rest:
        each = f", of which each of {processes} processes takes {share}," if processes > 1 else ""
        raise TrainingError(
            f"batch {params.batch}{each} is not a multiple of micro_batch {params.micro_batch}, which it is "
            f"accumulated from. Set micro_batch to a divisor of {share}"
        )
    replay, parts = getattr(params, "replay", None), accumulate * processes
    if replay and replay.weights and replay.rows < parts:
        raise TrainingError(
            f"train_dpo.replay.rows is {replay.rows}, and {processes} processes take a step in {parts} parts: some "
            f"would have no row. Set at least {parts}"
        )
    return micro, accumulate


def _raise_first(folder: Path) -> None:
    failed = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob(ERRORS)]
    if failed:
        first = min(failed, key=lambda error: error["at"])
        raise getattr(errors, first["kind"], TrainingError)(first["message"])
