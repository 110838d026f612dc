"""A trained model as a folder that engines load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.trainers.adapters import save
from stages.trainers.masters import as_stored
from stages.trainers.rows import Prepared


def save_model(trainer: Any, ready: Prepared, out: Path) -> None:
    """Weights (safetensors), config, generation config and tokenizer into `out`."""
    model, weights = trainer.accelerator.unwrap_model(trainer.model), None
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:  # parts of it are in every process
        weights = trainer.accelerator.get_state_dict(trainer.deepspeed or trainer.model)
    if trainer.is_world_process_zero():
        masters = as_stored(model)
        with _as_used(model):
            save(model, ready.folder, out, ready.adapter, weights or masters)
        if masters:
            _set_dtype(out / "config.json", next(iter(masters.values())).dtype)
        ready.tokenizer.save_pretrained(out)


def _set_dtype(file: Path, dtype: Any) -> None:
    """transformers writes what the model computes in."""
    config = json.loads(file.read_text(encoding="utf-8")) | {"dtype": str(dtype).removeprefix("torch.")}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _as_used(model: Any) -> Iterator[None]:
    """Training switches the cache off, and a model that carries that along generates at a crawl. TRL switches on the
    logits of routers, to balance experts; padded batches fail with them."""
    text_config = model.config.get_text_config()
    settings: list[Any] = [(model.config, "use_cache", True), (model.generation_config, "use_cache", True)]
    if hasattr(text_config, "output_router_logits"):
        settings.append((text_config, "output_router_logits", False))
    before = [(of, name, getattr(of, name, None)) for of, name, _ in settings]
    for of, name, value in settings:
        setattr(of, name, value)
    try:
        yield
    finally:
        for of, name, value in before:
            setattr(of, name, value)
