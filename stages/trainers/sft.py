"""Supervised fine-tuning through TRL: M0 -> the SFT baseline, M0 -> M1 (paper 2.1, 2.4). The loss is on the response
and its end token only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainSft
from stages.console.errors import TrainingError
from stages.trainers.arguments import (
    Trained,
    arguments,
    lengths,
    load,
    log_frame,
    max_length,
    save,
    threads,
    train,
    turns,
)

LOG = {"loss": "loss", "lr": "learning_rate", "accuracy": "mean_token_accuracy", "tokens": "num_tokens"}


def train_sft(
    model_dir: Path, out: Path, rows: pl.DataFrame, params: TrainSft, *, seed: int, hardware: Hardware, label: str
) -> Trained:
    """Tune the model in `model_dir` on `rows` (columns instruction, response) and save it into `out`.

    Every row is used once per epoch, in an order drawn from `seed`; repetition is the caller's. The log has the columns
    step Int32, loss Float64 (mean negative log-likelihood per response token), lr Float64, accuracy Float64 (of
    response tokens), tokens Float64 (seen so far). Raises ModelError for an unusable folder, TrainingError when no row
    fits into `max_length` or micro_batch does not divide batch.
    """
    trainer, tokenizer, used, longest = sft_trainer(model_dir, out, rows, params, seed=seed, hardware=hardware)
    steps = train(trainer, label)
    save(trainer, tokenizer, out)
    return Trained(log_frame(steps, LOG), used, len(rows) - used, longest, threads())


def sft_trainer(
    model_dir: Path, out: Path, rows: pl.DataFrame, params: TrainSft, *, seed: int, hardware: Hardware
) -> tuple[Any, Any, int, int]:
    """TRL's trainer ready to run, the tokenizer, the number of rows that fit, and into how many tokens. Conversational
    prompt-completion rows: the chat template joins them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load(model_dir, params.dropout)
    exchanges = [turns(tokenizer, *row) for row in rows.select("instruction", "response").iter_rows()]
    limit = max_length(model, params.max_length)
    fits = lengths(tokenizer, exchanges) <= limit
    used = [exchange for exchange, fit in zip(exchanges, fits, strict=True) if fit]
    if not used:
        raise TrainingError(
            f"none of {len(rows)} rows fits into max_length {limit} tokens. Raise train_sft.max_length, or "
            f"look at the rows"
        )
    dataset = Dataset.from_dict({"prompt": [e[:1] for e in used], "completion": [e[1:] for e in used]})
    args = SFTConfig(**arguments(params, len(used), out, seed, hardware), completion_only_loss=True, packing=False)
    trainer = SFTTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
    return trainer, tokenizer, len(used), limit
