"""Model folders that we did not train: fetched, copied, converted or made at random. `intake.py` brings them into one
form. Pickled weights and a repository's own code are left out."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import redirect_stderr
from fnmatch import fnmatch
from io import StringIO
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError
from stages.models.model_files import settle

TOKENIZER = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
ALLOWED = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *TOKENIZER,
    "adapter/adapter_config.json",  # a LoRA adapter that goes over the model: a writer or judge may have one
    "adapter/*.safetensors",
)
TWICE = ("[!a]*/*", "a[!d]*/*", "consolidated*.safetensors")
"""The same weights in another format: gpt-oss's original/, Mistral's consolidated; no folder adapter/."""


def download(repo: str, revision: str, folder: Path) -> None:
    """A pinned revision from the Hub. Raises ModelError naming both."""
    try:
        cached = snapshot(repo, revision)
    except Exception as e:  # network, authentication, gating, unknown names: dozens of types
        raise ModelError(
            f"model {repo} at revision {revision} cannot be downloaded: {type(e).__name__}: "
            f"{' '.join(str(e).split())}. Check name and revision, or log in: hf auth login"
        ) from e
    copy_local(cached, folder)


def snapshot(repo: str, revision: str | None) -> Path:
    """A model's files in the Hub's cache, where a download resumes: a folder named by its commit."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repo, revision=revision, allow_patterns=[*ALLOWED], ignore_patterns=[*TWICE]))


def copy_local(source: Path, folder: Path, *, weights: bool = True, but: Collection[str] = ()) -> None:
    """Copy the model files of a local folder, without `weights` and those named in `but` where asked. Raises ModelError
    when it is none, or holds what is no file."""
    if not source.is_dir():
        raise ModelError(f"{source} is not a folder. Fix base.<name>.path in params.yaml")
    for file in sorted({file for pattern in ALLOWED for file in source.glob(pattern)}):
        if file.name in but or (not weights and ".safetensors" in file.name) or fnmatch(file.name, TWICE[-1]):
            continue
        if not file.is_file():
            raise ModelError(f"{file} is not a regular file (or a link to nothing). Copy the whole checkpoint")
        target = folder / file.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(file, target)
    settle(folder, folder.name.removesuffix(".partial"))


def from_gguf(file: Path, folder: Path) -> None:
    """A GGUF file, dequantized to float32 safetensors, with the tokenizer that it holds. Raises ModelError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401
    except ModuleNotFoundError:
        raise ModelError(f"{file} needs the package gguf. Type: pip install -c constraints.txt -e '.[gguf]'") from None
    auto_model: Any = AutoModelForCausalLM
    try:
        read = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
        with redirect_stderr(StringIO()):  # a bar that no setting of transformers switches off
            model = auto_model.from_pretrained(file.parent, dtype="float32", **read)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **read)
        config = model.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # of the file; these weights are dequantized
        plain = type(model)(type(config)(**{k: v for k, v in config.to_dict().items() if k != "quantization_config"}))
        plain.load_state_dict(model.state_dict())
        plain.tie_weights()
        plain.generation_config = model.generation_config
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as e:  # an architecture that transformers does not read from GGUF, a damaged file, no memory
        raise ModelError(
            f"{file} is no GGUF that transformers can read ({type(e).__name__}: {' '.join(str(e).split())[:300]}). Get "
            f"the model's safetensors instead, and set source: local"
        ) from None


def random_llama(folder: Path, *, seed: int, max_context: int) -> None:
    """A small Llama with random weights and a byte tokenizer: it writes noise, at real lengths."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = {"<s>": 0, "</s>": 1, "<pad>": 2}
    tokenizer = Tokenizer(models.BPE(vocab=special | {c: i + 3 for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    size: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = LlamaConfig(
        vocab_size=len(alphabet) + 3, max_position_embeddings=max_context, tie_word_embeddings=True, **size, **ids
    )
    LlamaForCausalLM(config).save_pretrained(folder)
