"""Beside a training, every few steps: the loss of IFT_VALID, whose rows are not trained, and the model as it then is,
to be chosen from (paper 3.1: a checkpoint every 200 steps)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.config.sections import TrainDpo, TrainSft
from stages.console.errors import TrainingError
from stages.trainers.replay import in_a_batch
from stages.trainers.resume import CANDIDATES, Checkpoints, free, step_of
from stages.trainers.rows import Prepared, in_tokens
from stages.trainers.saving import save_model

LOSS = "valid_loss"


class Validation(NamedTuple):
    rows: pl.DataFrame
    """Columns instruction and response."""
    every_steps: int
    keep: bool
    """Whether models are kept to choose from."""


def candidates(folder: Path) -> dict[int, Path]:
    """Models that a training, whose checkpoints are in `folder`, kept, by step."""
    return {step_of(path): path for path in (folder / CANDIDATES).glob("step-*")}


def validate(
    trainer: Any,
    ready: Prepared,
    params: TrainSft | TrainDpo,
    key: str,
    validation: Validation,
    checkpoints: Checkpoints | None,
) -> None:
    """Have `trainer` log the loss every few steps and after the last, and keep models before that. Neither draws a
    random number. Raises TrainingError where no row fits, or a model that was kept before a kill is gone."""
    import torch
    from transformers import Trainer, TrainerCallback

    rows = validation.rows.select("instruction", "response")
    valid = in_tokens(ready.model, ready.tokenizer, ready.folder, rows, params, key)
    kept = checkpoints.folder if validation.keep and checkpoints else None

    class Validate(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if kept and checkpoints and trainer.is_world_process_zero():
                if not state.global_step and candidates(kept):
                    checkpoints.delete()  # of another run, whose checkpoint is nothing without its models
                before = range(validation.every_steps, state.global_step + 1, validation.every_steps)
                keep_only({*before}, kept)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            step = state.global_step
            if step % validation.every_steps and step != state.max_steps:
                return
            due = control.should_log  # of the step itself, and logging clears it
            Trainer.log(trainer, {LOSS: loss(trainer, valid)})  # TRL's would end its means here
            control.should_log = due
            if kept and step != state.max_steps:
                gpus = [args.device] if args.device.type == "cuda" else []
                with torch.random.fork_rng(gpus):
                    keep(trainer, ready, kept / CANDIDATES / f"step-{step}")

    trainer.add_callback(Validate())


def loss(trainer: Any, valid: Prepared) -> float:
    """Mean negative log-likelihood per response token."""
    import torch

    rows = [*zip(valid.rows["prompt_ids"], valid.rows["response_ids"], strict=True)]
    rows.sort(key=lambda row: sum(map(len, row)))
    model, total = trainer.model, 0.0
    model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for at in range(0, len(rows), size := trainer.args.per_device_train_batch_size):
            inputs = trainer._prepare_inputs(in_a_batch(rows[at : at + size], valid.tokenizer.pad_token_id))
            total -= model(**inputs, use_cache=False, fused_lm_head=True).log_probs.double().sum().item()
    model.train()
    return float(total / sum(len(response) for _, response in rows))


def keep(trainer: Any, ready: Prepared, place: Path) -> None:
    """Whole or absent."""
    partial = place.with_name(f"unfinished-{step_of(place)}")
    writes = trainer.is_world_process_zero()
    if writes:
        shutil.rmtree(partial, ignore_errors=True)
    try:
        save_model(trainer, ready, partial)
        if writes:
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
    except Exception as e:  # OSError, RuntimeError of torch, SafetensorError of Rust
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"the model of step {step_of(place)} could not be written into {place.parent} ({free(place)}): {e}. Make "
            f"room, or set choose.every_steps to null or higher"
        ) from None


def keep_only(steps: set[int], folder: Path) -> None:
    """What was kept after the checkpoint that training continues from is kept anew."""
    there = candidates(folder)
    if lost := sorted(steps - there.keys()):
        raise TrainingError(
            f"the model of step {lost[0]} is gone from {folder / CANDIDATES}, and training continues after it. Begin "
            f"anew: srlm cache --prune --model {folder.name}"
        )
    for step in there.keys() - steps:
        shutil.rmtree(there[step])
