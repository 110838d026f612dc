"""hardware.kernels: liger. Norms and gated layers of the model that is trained by Liger's kernels (triton); losses stay
TRL's, and padding-free the layers. Other models of the process, as those that answer to be chosen, are torch's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.config.machine import Hardware
from stages.console.errors import TrainingError
from stages.trainers.adapters import INSTALL


def without_cuda(hardware: Hardware) -> str | None:
    """What hardware.kernels lacks on this machine, in words."""
    if not hardware.kernels or (hardware.device != "cpu" and torch.cuda.is_available()):
        return None
    seen = "hardware.device is cpu" if hardware.device == "cpu" else "torch sees none"
    return f"liger needs a CUDA device, and {seen}"


def use_kernels(model: Any, hardware: Hardware) -> None:
    """Patch the layers of `model` as hardware.kernels says. Raises TrainingError where that cannot be."""
    if not hardware.kernels:
        return
    if fault := without_cuda(hardware):
        raise TrainingError(f"hardware.kernels: {fault}. Set it to null")
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    except ModuleNotFoundError:
        raise TrainingError(f"hardware.kernels: liger needs liger-kernel. {INSTALL.format('liger')}") from None
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    if (family := model.config.model_type) not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise TrainingError(f"hardware.kernels: Liger has none for models of the type {family}. Set it to null")
    others = {"rope": False, "layer_norm": False}  # functions and classes that all models of the process share
    others |= {"cross_entropy": False, "fused_linear_cross_entropy": False}  # TRL's head computes labelled tokens alone
    with _classes_as_before(model):
        _apply_liger_kernel_to_instance(model=model, **others)


@contextmanager
def _classes_as_before(model: Any) -> Iterator[None]:
    """Afterwards the names in the modules that `model` is built of are what they were: beside the layers of a model,
    Liger replaces the classes from which the next one would be built."""
    from transformers.activations import ACT2FN

    spaces = [ACT2FN, *(vars(sys.modules[name]) for name in {type(part).__module__ for part in model.modules()})]
    before = [dict(dict.items(names)) for names in spaces]  # ACT2FN[name] would build one
    try:
        yield
    finally:
        for names, as_before in zip(spaces, before, strict=True):
            names.update(as_before)
