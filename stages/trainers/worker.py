"""One of the processes that launch.py starts: python -m stages.trainers.worker FOLDER"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainDpo, TrainSft
from stages.console import live
from stages.console.errors import SrlmError, TrainingError
from stages.console.processes import end_with
from stages.console.quiet import quiet_libraries
from stages.trainers.launch import JOB, LOG, RESULT

AFTERMATH_S = 2.0
"""How long after an error it is told: one that another process's death brought about is not, for accelerate ends this
one before."""
GRACE_S = 60.0
"""How long a process that failed waits to be ended by the stage, which then ends the others with it."""


def main(folder: Path) -> None:
    rank = int(os.environ.get("RANK", "0"))
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    threading.Thread(target=end_with, args=job["stage"], daemon=True).start()
    if rank:  # what all would say is said once
        sys.stdout = sys.stderr = io.StringIO()
        os.environ.pop(live.VARIABLE, None)
    quiet_libraries()
    try:
        work(job, folder, rank)
    except BaseException as e:
        at, kind, message = time.time(), type(e).__name__, str(e)
        time.sleep(AFTERMATH_S)
        if not isinstance(e, SrlmError):
            traceback.print_exc(file=sys.__stderr__)
            kind, message = TrainingError.__name__, f"process {rank} failed: {kind}: {message}"
        partial = folder / f"{rank}.partial"
        partial.write_text(json.dumps({"kind": kind, "message": message, "at": at}), encoding="utf-8")
        partial.rename(folder / f"error-{rank}.json")
        time.sleep(GRACE_S)
        os._exit(1)


def work(job: dict[str, Any], folder: Path, rank: int) -> None:
    from stages.trainers.dpo import train_dpo
    from stages.trainers.faults import of_the_device
    from stages.trainers.references import Source
    from stages.trainers.resume import Checkpoints
    from stages.trainers.sft import train_sft
    from stages.trainers.validation import Validation

    section, options = job["train"], job["options"]
    train: Any = {"train_sft": train_sft, "train_dpo": train_dpo}[section]
    kind: Any = {"train_sft": TrainSft, "train_dpo": TrainDpo}[section]
    params, saved = kind.model_validate(job["params"]), options.pop("checkpoints")
    checkpoints = Checkpoints(Path(saved["folder"]), saved["every_s"], saved["of"])
    if "references" in options:
        path, *of = options["references"]
        options["references"] = Source(path and Path(path), *of)
    if "replay" in options:
        options["replay"] = {name: pl.read_parquet(file) for name, file in options["replay"].items()}
    if "validation" in options:
        file, *of = options["validation"]
        options["validation"] = Validation(pl.read_parquet(file), *of)
    options |= {"hardware": Hardware.model_validate(job["hardware"]), "checkpoints": checkpoints}
    with of_the_device(section, params, checkpoints):
        rows = pl.read_parquet(job["rows"])
        trained = train(Path(job["model_dir"]), Path(job["out"]), rows, params, **options)
    if rank == 0:
        fields = trained._asdict()
        fields.pop("log").write_parquet(folder / LOG)
        (folder / RESULT).write_text(json.dumps(fields), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
