"""Direct preference optimisation through TRL: Mt + AIFT(Mt) -> Mt+1 (paper 2.4). The reference is the model that
training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from stages.config.machine import Hardware
from stages.config.sections import TrainDpo
from stages.console.errors import TrainingError
from stages.trainers.adapters import packages
from stages.trainers.arguments import arguments
from stages.trainers.masters import train_masters
from stages.trainers.padding_free import fast_layers
from stages.trainers.references import Source, add_references
from stages.trainers.replay import Replaying
from stages.trainers.resume import Checkpoints, Resumable
from stages.trainers.rows import NOTHING, Prepared, in_tokens, prepare
from stages.trainers.run import Trained, finish
from stages.trainers.short_steps import ShortSteps
from stages.trainers.validation import Validation, validate

LOG = {
    "loss": "loss",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "lr": "learning_rate",
    "tokens": "num_tokens",
    "grad_norm": "grad_norm",
}
TOLERANCE = {"float32": 0.01, "bfloat16": 1.0, "bfloat16_weights": 1.0}
"""How far, in nats per answer, the model may be from its reference before training: rounding only. Another checkpoint
is several nats away."""


def train_dpo(
    model_dir: Path,
    out: Path,
    pairs: pl.DataFrame,
    params: TrainDpo,
    *,
    seed: int,
    hardware: Hardware,
    label: str,
    checkpoints: Checkpoints | None = None,
    references: Source | None = None,
    replay: Mapping[str, pl.DataFrame] = NOTHING,
    validation: Validation | None = None,
) -> Trained:
    """Tune the model in `model_dir` on `pairs` (columns prompt, chosen, rejected; id where they have one) and save it
    into `out`. What the reference says of them is kept where `references` says. `replay`: rows of
    eft and ift (columns instruction, response) that are trained beside them.

    The log has the columns step, loss, reward_chosen and reward_rejected (beta times the log-probability gained over
    the reference), margin (their difference), accuracy (share of pairs with a positive margin), lr, tokens (seen so
    far), grad_norm; with replay also dpo_loss (of the pairs alone), replay_eft and replay_ift (per token); with
    `validation` valid_loss, null where it was not measured. Raises ModelError for an unusable folder, TrainingError
    when no pair fits, the reference is not the model that training starts from, or training fails.
    """
    more: dict[str, Any] = {"references": references, "replay": replay}
    trainer, ready = dpo_trainer(model_dir, out, pairs, params, seed=seed, hardware=hardware, **more)
    if validation:
        validate(trainer, ready, params, "train_dpo", validation, checkpoints)
    beside = {"dpo_loss": "dpo_loss"} | {f"replay_{name}": f"replay/{name}" for name in replay}
    return finish(trainer, ready, out, LOG | (beside if replay else {}), label, checkpoints)


def dpo_trainer(
    model_dir: Path,
    out: Path,
    pairs: pl.DataFrame,
    params: TrainDpo,
    *,
    seed: int,
    hardware: Hardware,
    references: Source | None = None,
    replay: Mapping[str, pl.DataFrame] = NOTHING,
) -> tuple[Any, Prepared]:
    """TRL's trainer ready to run. Its first act is to check the reference."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Trainer(Resumable, Replaying, ShortSteps, DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset  # in tokens already: TRL would ask the chat template again, and cut where it differs

        def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
            return dataset  # add_references does it, below

    class CheckReference(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            check_reference(kwargs["metrics"], params)

    columns = pairs.select("prompt", "chosen", "rejected", pl.col("^id$"))
    ready = prepare(model_dir, columns, params, "train_dpo", seed)
    in_memory = ready.model, ready.tokenizer, model_dir
    beside = {name: rows.select("instruction", "response") for name, rows in replay.items()}
    ready = ready._replace(
        replayed={name: in_tokens(*in_memory, rows, params, "train_dpo") for name, rows in beside.items()}
    )
    dataset = Dataset.from_dict(ready.rows)
    args = DPOConfig(
        **arguments(params, len(dataset), out, seed, hardware),
        beta=params.beta,
        label_smoothing=params.label_smoothing,
        loss_type=[*(weights := losses(params))],
        loss_weights=[*weights.values()],
        # by the model in memory, before its first step: no second model is loaded from a path that may be stale, and
        # half the memory is free
        precompute_ref_log_probs=True,
        disable_dropout=params.dropout == 0 and not (params.adapter and params.adapter.dropout),
        eval_on_start=True,
        router_aux_loss_coef=0.0,  # the loss is the paper's; experts were balanced before
        per_device_eval_batch_size=params.micro_batch,
    )
    trainer = Trainer(
        model=ready.model,
        args=args,
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=ready.tokenizer,
        callbacks=[CheckReference()],
    )
    trainer.replay, trainer.replayed = params.replay, ready.replayed
    train_masters(trainer)
    fast_layers(trainer, hardware)
    beside_torch = map(version, packages(model_dir, params.adapter, hardware.kernels))
    way = hardware.compile, hardware.kernels, params.adapter and params.adapter.parent_adapter, *beside_torch
    trainer.train_dataset = dataset = add_references(trainer, ready.rows, references, way)
    trainer.eval_dataset = dataset.select(range(min(len(dataset), params.micro_batch)))
    return trainer, ready


def losses(params: TrainDpo) -> dict[str, float]:
    """TRL's loss types with their weights.

    Conservative DPO is none of them: `sigmoid` does not read `label_smoothing`. It is a sum of two. With x the margin,
    e the smoothing, sigmoid = -log s(x) and robust = (-(1-e) log s(x) + e log s(-x)) / (1-2e):
    2(1-e) sigmoid - (1-2e) robust = -(1-e) log s(x) - e log s(-x) (Mitchell, ericmitchell.ai/cdpo.pdf, eq. 3).
    """
    pairs = {params.loss: 1.0}
    if params.loss == "sigmoid" and (e := params.label_smoothing):
        pairs = {"sigmoid": 2 * (1 - e), "robust": 2 * e - 1}
    return pairs | ({"sft": params.nll_weight} if params.nll_weight else {})


def check_reference(metrics: Mapping[str, float], params: TrainDpo) -> None:
    """Before the first step policy and reference are one model, so that every reward is 0 (and the paper's loss ln 2).
    Raises TrainingError if not."""
    rewards = {side: metrics[f"eval_rewards/{side}"] for side in ("chosen", "rejected")}
    if any(abs(reward) > TOLERANCE[params.dtype] * params.beta for reward in rewards.values()):
        raise TrainingError(
            f"before the first step the reward of chosen is {rewards['chosen']:.4f} and of rejected "
            f"{rewards['rejected']:.4f}, where both must be 0: "
            "the reference is not the model that training starts from"
        )
