"""Trackers beside our own log and plots: what TRL reports to, under the name of the model that is trained."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.console.errors import TrainingError

PROJECT = "self-rewarding-lm"


def set_up(tracker: str | None, logs: Path, label: str) -> None:
    """Tell `tracker` where its files go; what the environment says already stays. Raises TrainingError where its
    package is not installed."""
    if tracker is None:
        return
    if find_spec(tracker) is None:
        pinned = "" if tracker == "trackio" else "-c constraints.txt "  # which has a newer pillow, of vLLM's
        raise TrainingError(
            f"hardware.report_to is {tracker}, which is not installed. Type: pip install {pinned}-e '.[{tracker}]', or "
            f"set it to null"
        )
    folder = (logs / tracker).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if tracker == "tensorboard":  # a run is a folder
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / label.replace(" ", "-"))
    elif tracker == "trackio":
        os.environ.setdefault("TRACKIO_DIR", str(folder))
    else:
        os.environ.setdefault("WANDB_DIR", str(folder))
        os.environ.setdefault("WANDB_PROJECT", PROJECT)


def name_run(args: Any, label: str) -> None:
    """TRL's arguments know how the run is called."""
    args.run_name, args.project = label, PROJECT
