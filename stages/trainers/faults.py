"""What stops a training: a loss that is no number, a gradient that explodes, a GPU that is full or gone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages.config.sections import TrainDpo, TrainSft
from stages.console.errors import TrainingError
from stages.trainers.resume import Checkpoints
from stages.trainers.rows import Prepared

EXPLODED = 1000
"""Times the largest gradient norm of all steps before, of which there were at least BEFORE: no batch is that odd."""
BEFORE = 10
SHOWN = 8
"""Rows of a batch that are named."""


def check_step(logs: dict[str, float], trainer: Any, ready: Prepared, label: str, checkpoints: Checkpoints) -> None:
    """Raises TrainingError, with the rows of the step, when its loss or gradient norm is no number, or its norm is
    far above all before."""
    state = trainer.state
    loss, norm = logs["loss"], logs.get("grad_norm", 0.0)
    norms = [entry["grad_norm"] for entry in state.log_history[:-1] if "grad_norm" in entry]
    if not math.isfinite(loss):
        seen = "the loss was no longer a number"
    elif not math.isfinite(norm):
        seen = "the gradient was no longer a number"
    elif len(norms) >= BEFORE and norm > EXPLODED * max(norms):
        seen = f"the gradient's norm was {norm:.3g}, after at most {max(norms):.3g} before,"
    else:
        return
    indexes = rows_of(trainer, state.global_step)
    names = [ready.name(index) for index in indexes[:SHOWN]]
    more = f", and {rest} more" if (rest := len(indexes) - SHOWN) > 0 else ""
    raise TrainingError(
        f"{label}: {seen} at step {state.global_step} of {state.max_steps}, in the batch of {'; '.join(names)}{more}. "
        f"Look at these rows, lower lr, or use dtype float32. No model was saved"
        + (f"; the checkpoint before is {last}" if (last := checkpoints.own) else "")
    )


def rows_of(trainer: Any, step: int) -> list[int]:
    """Indexes of the training set's rows in optimizer step `step`, counted from 1, of this process."""
    loader = trainer.get_train_dataloader()
    accumulate = trainer.args.gradient_accumulation_steps
    epoch, nth = divmod(step - 1, math.ceil(len(loader) / accumulate))
    loader.set_epoch(epoch)
    batches = list(loader.batch_sampler)[nth * accumulate : (nth + 1) * accumulate]
    return [index for batch in batches for index in batch]


@contextmanager
def of_the_device(section: str, params: TrainSft | TrainDpo, checkpoints: Checkpoints) -> Iterator[None]:
    """Raises TrainingError, with what to lower and where the next run continues, for memory that is full and a GPU
    that is gone."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as e:
        on_gpu = isinstance(e, torch.OutOfMemoryError)
        if on_gpu or isinstance(e, MemoryError) or "can't allocate memory" in str(e):  # torch's words on a CPU
            what = "the memory of the GPU" if on_gpu else "the memory"
            lower = [f"{section}.micro_batch (seen {params.micro_batch})"] if params.micro_batch > 1 else []
            lower += [f"{section}.max_length (seen {params.max_length})"]
            more = "" if params.gradient_checkpointing else f", or set {section}.gradient_checkpointing to true"
            raise TrainingError(
                f"{what} is full: {first_line(e)}. Lower {' or '.join(lower)}{more}; {checkpoints.next_time}"
            ) from None
        if not isinstance(e, torch.AcceleratorError) and "CUDA" not in str(e) and "NCCL" not in str(e):
            raise
        raise TrainingError(
            f"the GPU failed: {first_line(e)}. Look at it (nvidia-smi), then {checkpoints.next_time}"
        ) from None


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
