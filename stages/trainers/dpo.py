"""Direct preference optimisation through TRL: Mt + AIFT(Mt) -> Mt+1 (paper 2.4). The reference is the model that
training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainDpo
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

LOG = {
    "loss": "loss",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "lr": "learning_rate",
}
TOLERANCE = {"float32": 0.01, "bfloat16": 1.0}
"""How far, in nats per answer, the model may be from its reference before training: rounding only. Another checkpoint
is several nats away."""


def train_dpo(
    model_dir: Path, out: Path, pairs: pl.DataFrame, params: TrainDpo, *, seed: int, hardware: Hardware, label: str
) -> Trained:
    """Tune the model in `model_dir` on `pairs` (columns prompt, chosen, rejected) and save it into `out`.

    The log has the columns step Int32, then Float64: loss, reward_chosen and reward_rejected (beta times the
    log-probability gained over the reference), margin (their difference), accuracy (share of pairs with a positive
    margin), lr. Raises ModelError for an unusable folder, TrainingError when no pair fits into `max_length`,
    micro_batch does not divide batch, the reference is not the model that training starts from, or training changed
    nothing.
    """
    trainer, tokenizer, used, longest = dpo_trainer(model_dir, out, pairs, params, seed=seed, hardware=hardware)
    steps = train(trainer, label)
    save(trainer, tokenizer, out)
    return Trained(log_frame(steps, LOG), used, len(pairs) - used, longest, threads())


def dpo_trainer(
    model_dir: Path, out: Path, pairs: pl.DataFrame, params: TrainDpo, *, seed: int, hardware: Hardware
) -> tuple[Any, Any, int, int]:
    """TRL's trainer ready to run, the tokenizer, the number of pairs that fit, and into how many tokens. Its first act
    is to check the reference."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class CheckReference(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            check_reference(kwargs["metrics"], params)

    model, tokenizer = load(model_dir, params.dropout)
    rows = list(pairs.select("prompt", "chosen", "rejected").iter_rows())
    limit = max_length(model, params.max_length)
    tokens = pl.DataFrame(
        [lengths(tokenizer, [turns(tokenizer, row[0], row[i]) for row in rows]).alias(str(i)) for i in (1, 2)]
    ).max_horizontal()
    used = [row for row, fits in zip(rows, tokens <= limit, strict=True) if fits]
    if not used:
        raise TrainingError(
            f"none of {len(pairs)} pairs fits into max_length {limit} tokens. Raise train_dpo.max_length, "
            f"or look at the pairs"
        )
    columns = zip(
        *(
            (chat[0][:1], chat[0][1:], chat[1][1:])
            for chat in ((turns(tokenizer, p, c), turns(tokenizer, p, r)) for p, c, r in used)
        ),
        strict=True,
    )
    dataset = Dataset.from_dict(dict(zip(("prompt", "chosen", "rejected"), map(list, columns), strict=True)))
    args = DPOConfig(
        **arguments(params, len(used), out, seed, hardware),
        beta=params.beta,
        loss_type=["sigmoid", "sft"] if params.nll_weight > 0 else ["sigmoid"],
        loss_weights=[1.0, params.nll_weight] if params.nll_weight > 0 else [1.0],
        # by the model in memory, before its first step: no second model is loaded from a path that may be stale, and
        # half the memory is free
        precompute_ref_log_probs=True,
        disable_dropout=params.dropout == 0,
        eval_on_start=True,
        per_device_eval_batch_size=params.micro_batch,
    )
    trainer = DPOTrainer(
        model=model,
        args=args,
        train_dataset=dataset,
        eval_dataset=dataset.select(range(min(len(used), params.micro_batch))),
        processing_class=tokenizer,
        callbacks=[CheckReference()],
    )
    return trainer, tokenizer, len(used), limit


def check_reference(metrics: Mapping[str, float], params: TrainDpo) -> None:
    """Before the first step policy and reference are one model, so that every reward is 0 and the DPO loss is ln 2.
    Raises TrainingError if not."""
    rewards = {side: metrics[f"eval_rewards/{side}"] for side in ("chosen", "rejected")}
    if any(abs(reward) > TOLERANCE[params.dtype] * params.beta for reward in rewards.values()):
        raise TrainingError(
            f"before the first step the reward of chosen is {rewards['chosen']:.4f} and of rejected "
            f"{rewards['rejected']:.4f}, where both must be 0: "
            "the reference is not the model that training starts from"
        )
