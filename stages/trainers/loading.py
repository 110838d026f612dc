"""A model to be trained, and its tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError

DROPOUTS = (
    *("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "resid_dropout", "dropout"),
)
"""What the families of models call their dropout; those that a config has are set."""


def load(folder: Path, dropout: float, dtype: str = "float32", **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer. `options` go to from_pretrained. Raises ModelError."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    _no_bars()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        auto_model: Any = AutoModelForCausalLM
        model, loading = auto_model.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **local, **options
        )
        model.generation_config.validate(strict=True)  # what cannot be saved would be lost after hours of training
    except Exception as e:  # a broken file surfaces as OSError, ValueError, KeyError, a Rust exception, ...
        raise ModelError(
            f"{folder} holds no model that can be trained (config, tokenizer and safetensors weights are needed): {e}"
        ) from None
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"{folder} lacks {len(missing)} weights that its config.json describes, first {missing[0]}: they would be "
            f"random. Copy the whole checkpoint, or make it again with: dvc repro"
        )
    for needed, why in (("chat_template", "how prompt and answer are joined"), ("eos_token", "where an answer ends")):
        if not getattr(tokenizer, needed):
            raise ModelError(f"the tokenizer in {folder} has no {needed}, which decides {why}. Add one to its config")
    return model, tokenizer


def _no_bars() -> None:
    """Switch off the libraries' progress bars: ours shows the steps, and a bar in a log file is noise."""
    from datasets import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    os.environ["TQDM_DISABLE"] = "1"  # TRL's bar over the reference's log-probabilities has no other switch
