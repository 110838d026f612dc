"""What TRL's configs take: the training arguments set on purpose."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from stages.config.machine import Hardware
from stages.config.sections import TrainDpo, TrainSft
from stages.console.errors import TrainingError
from stages.console.memory import keep_freed_memory
from stages.trainers.launch import rows_of_each
from stages.trainers.masters import by_masters


def arguments(params: TrainSft | TrainDpo, rows: int, out: Path, seed: int, hardware: Hardware) -> dict[str, Any]:
    """What both of TRL's configs take to train on `rows` rows. Raises TrainingError when `batch` cannot be
    dealt out, CUDA is missing, or there is more than one GPU for one process."""
    import torch
    from transformers.utils import is_torch_tf32_available

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    micro, accumulate = rows_of_each(params, processes)
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("hardware.device is cuda, and torch sees no CUDA device. Set it to auto or cpu")
    if hardware.device != "cpu" and torch.cuda.device_count() > 1 and "WORLD_SIZE" not in os.environ:
        raise TrainingError(
            f"torch sees {torch.cuda.device_count()} GPUs, and one process trains on one. Train on all of them with "
            f"hardware.launch: ddp, or show it one: CUDA_VISIBLE_DEVICES=0"
        )
    if hardware.threads > 0:
        torch.set_num_threads(hardware.threads)
    keep_freed_memory()
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # dtype decides, and not whoever set this
    steps = params.epochs * math.ceil(math.ceil(rows / (micro * processes)) / accumulate)
    return {
        "output_dir": str(out),
        "num_train_epochs": params.epochs,
        "learning_rate": params.lr,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": params.lr_end},
        # a run of few steps must not end inside its warmup, where the first rate is 0
        "warmup_steps": min(params.warmup_steps, steps // 2),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulate,
        "max_length": None,  # rows that are too long are left out and counted, never cut
        "gradient_checkpointing": params.gradient_checkpointing,
        "bf16": params.dtype != "float32" and not by_masters(params.dtype),  # autocast
        "tf32": True if is_torch_tf32_available() else None,  # what stays float32, at the speed of 19-bit products
        "optim": "adamw_torch_fused",
        "seed": seed,
        "data_seed": seed,
        "use_cpu": hardware.device == "cpu" or not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": hardware.report_to or "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a NaN must be seen
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
