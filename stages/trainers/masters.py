"""dtype bfloat16_weights: weights, activations and gradients in bfloat16, each weight once more in float32, its master.

A step of AdamW is often less than the grain of bfloat16 (a 256th of a weight) and would be rounded away. Here it moves
the master, which is then rounded into the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def by_masters(dtype: str) -> bool:
    """Whether the trainer's weights have masters. FSDP2 and DeepSpeed hold those themselves, in their mixed precision:
    dtype bfloat16 and bfloat16_weights are one there."""
    spread = {os.environ.get(name) for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")}
    return dtype == "bfloat16_weights" and "true" not in spread


def precision(trainer: Any) -> str:
    """What a trainer's model computes in."""
    return "bfloat16" if trainer.args.bf16 or trainer.model.dtype == torch.bfloat16 else "float32"


def cast(model: Any, dtype: torch.dtype) -> None:
    """Weights as from_pretrained gives them: buffers, and what a family wants in float32, stay."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not _strict(model) & {*name.split(".")}:
            weight.data = weight.data.to(dtype)


def _strict(model: Any) -> set[str]:
    """Modules that its family wants in float32."""
    return set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())


def dtype_of_files(folder: Path, model: Any) -> torch.dtype:
    """bfloat16 where the files of `model` in `folder` hold all that it may have in that, else float32. What config.json
    says may be of other files."""
    from safetensors import safe_open

    kinds = set[str]()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            names = weights.keys()  # it is no mapping
            kinds |= {weights.get_slice(n).get_dtype() for n in names if not _strict(model) & {*n.split(".")}}
    return torch.bfloat16 if {kind for kind in kinds if "F" in kind} == {"BF16"} else torch.float32


def add_masters(model: Any, folder: Path | None = None) -> None:
    """Before a model, whose weights are in float32 and nowhere rounded, is trained. It will be saved as the files in
    `folder` hold it; None: in float32."""
    stored = dtype_of_files(folder, model) if folder else torch.float32
    for weight in model.parameters():
        weight.stored, weight.master = stored, weight.data
    cast(model, torch.bfloat16)


def train_masters(trainer: Any) -> None:
    """Let a trainer's optimizer move the masters of its model, if that has any."""
    if any(hasattr(weight, "master") for weight in trainer.model.parameters()):
        _, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        trainer.optimizer_cls_and_kwargs = MasterAdamW, options


class MasterAdamW(torch.optim.AdamW):
    """AdamW over the masters of the weights that it is given. Its state_dict has `masters`, in the weights' order."""

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        self.weights = [weight for group in groups for weight in group["params"]]
        for weight in self.weights:
            weight.master = weight.master.to(weight.device)
        super().__init__([group | {"params": [w.master for w in group["params"]]} for group in groups], **options)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for weight in self.weights:
            if weight.grad is not None:
                weight.master.grad, weight.grad = weight.grad.float(), None
        super().step()
        for weight in self.weights:
            weight.master.grad = None
            weight.copy_(weight.master)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"masters": [weight.master for weight in self.weights]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for weight, master in zip(self.weights, state_dict["masters"], strict=True):
            weight.master.copy_(master)
            weight.copy_(master)


def as_stored(model: Any) -> dict[str, Any] | None:
    """Its state_dict with the masters, in bfloat16 where the model that training began from was, else in float32; None
    where it has none."""
    weights = model.state_dict(keep_vars=True)
    if not any(hasattr(weight, "master") for weight in weights.values()):
        return None
    return {
        name: weight.data if getattr(weight, "stored", None) in (None, torch.bfloat16) else weight.master
        for name, weight in weights.items()
    }
