"""Supervised fine-tuning through TRL: M0 -> the SFT baseline, M0 -> M1 (paper 2.1, 2.4). The loss is on the response
and its end token only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainSft
from stages.trainers.arguments import arguments
from stages.trainers.masters import train_masters
from stages.trainers.padding_free import fast_layers
from stages.trainers.resume import Checkpoints, Resumable
from stages.trainers.rows import Prepared, prepare
from stages.trainers.run import Trained, finish
from stages.trainers.short_steps import ShortSteps
from stages.trainers.validation import Validation, validate

LOG = {
    "loss": "loss",
    "lr": "learning_rate",
    "accuracy": "mean_token_accuracy",
    "tokens": "num_tokens",
    "grad_norm": "grad_norm",
}


def mixture(parts: Iterable[pl.DataFrame], params: TrainSft) -> pl.DataFrame:
    """Rows of an epoch of SFT: columns id (the first of each part), instruction, response, max_length. IFT stands
    `repeat_ift` times, within `ift_max_length`, beside one pass over the others, such as EFT: by tokens EFT is far
    larger, and drowned IFT when both stood once."""

    def rows(part: pl.DataFrame) -> list[pl.DataFrame]:
        times, limit = (params.repeat_ift, params.ift_max_length) if "ift_id" in part.columns else (1, None)
        return [part.select("instruction", "response", id=part.columns[0], max_length=pl.lit(limit, pl.Int64))] * times

    return pl.concat(frame for part in parts for frame in rows(part))


def train_sft(
    model_dir: Path,
    out: Path,
    rows: pl.DataFrame,
    params: TrainSft,
    *,
    seed: int,
    hardware: Hardware,
    label: str,
    checkpoints: Checkpoints | None = None,
    validation: Validation | None = None,
) -> Trained:
    """Tune the model in `model_dir` on `rows` (columns instruction, response, and max_length where rows have limits of
    their own, id where they have one) and save it into `out`.

    Every row is used once per epoch, in an order drawn from `seed`; repetition is the caller's. The log has the columns
    step, loss (mean negative log-likelihood per response token), lr, accuracy (of response tokens), tokens (seen so
    far), grad_norm; with `validation` also valid_loss, null where it was not measured. Raises ModelError for an
    unusable folder, TrainingError when no row fits or training fails.
    """
    trainer, ready = sft_trainer(model_dir, out, rows, params, seed=seed, hardware=hardware)
    if validation:
        validate(trainer, ready, params, "train_sft", validation, checkpoints)
    return finish(trainer, ready, out, LOG, label, checkpoints)


def sft_trainer(
    model_dir: Path, out: Path, rows: pl.DataFrame, params: TrainSft, *, seed: int, hardware: Hardware
) -> tuple[Any, Prepared]:
    """TRL's trainer ready to run."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class Trainer(Resumable, ShortSteps, SFTTrainer):
        pass

    columns = rows.select("instruction", "response", pl.col("^(id|max_length)$"))
    ready = prepare(model_dir, columns, params, "train_sft", seed)
    exchanges = [*zip(ready.rows["prompt_ids"], ready.rows["response_ids"], strict=True)]
    dataset = Dataset.from_dict(
        {
            "input_ids": [prompt + response for prompt, response in exchanges],
            "labels": [[-100] * len(prompt) + response for prompt, response in exchanges],
        }
    )
    args = SFTConfig(**arguments(params, len(dataset), out, seed, hardware), packing=False)
    trainer = Trainer(model=ready.model, args=args, train_dataset=dataset, processing_class=ready.tokenizer)
    train_masters(trainer)
    fast_layers(trainer, hardware)
    return trainer, ready
