"""Supervised fine-tuning through TRL: M0 -> the SFT baseline, M0 -> M1 (paper 2.1, 2.4). The loss is on the response
and its end token only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainSft
from stages.trainers.arguments import Prepared, Trained, arguments, finish, prepare

LOG = {"loss": "loss", "lr": "learning_rate", "accuracy": "mean_token_accuracy", "tokens": "num_tokens"}


def train_sft(
    model_dir: Path, out: Path, rows: pl.DataFrame, params: TrainSft, *, seed: int, hardware: Hardware, label: str
) -> Trained:
    """Tune the model in `model_dir` on `rows` (columns instruction, response) and save it into `out`.

    Every row is used once per epoch, in an order drawn from `seed`; repetition is the caller's. The log has the columns
    step, loss (mean negative log-likelihood per response token), lr, accuracy (of response tokens), tokens (seen so
    far). Raises ModelError for an unusable folder, TrainingError when no row fits or training fails.
    """
    trainer, ready = sft_trainer(model_dir, out, rows, params, seed=seed, hardware=hardware)
    return finish(trainer, ready, out, len(rows), LOG, label)


def sft_trainer(
    model_dir: Path, out: Path, rows: pl.DataFrame, params: TrainSft, *, seed: int, hardware: Hardware
) -> tuple[Any, Prepared]:
    """TRL's trainer ready to run."""
    from trl import SFTConfig, SFTTrainer

    texts = rows.select(prompt="instruction", completion="response")
    ready = prepare(model_dir, texts, params, "train_sft")
    shared = arguments(params, len(ready.dataset), out, seed, hardware)
    args = SFTConfig(**shared, completion_only_loss=True, packing=False)
    trainer = SFTTrainer(model=ready.model, args=args, train_dataset=ready.dataset, processing_class=ready.tokenizer)
    return trainer, ready
