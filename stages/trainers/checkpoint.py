"""Model folders that we did not train: fetched, copied or made at random, then brought into one form.

The form: config, safetensors, a tokenizer with a chat template and a pad token. Pickled weights and a repository's own
code are left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError

ALLOWED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
    "adapter/adapter_config.json",  # a LoRA adapter that goes over the model: a writer or judge may have one
    "adapter/*.safetensors",
)
CHAT_TEMPLATE = Path(__file__).parents[1] / "templates" / "chat.jinja"


def download(repo: str, revision: str, folder: Path) -> None:
    """A pinned revision from the Hub. Raises ModelError naming both; the token comes from the usual places and is never
    shown."""
    from huggingface_hub import snapshot_download

    try:
        cached = snapshot_download(
            repo, revision=revision, allow_patterns=list(ALLOWED)
        )  # resumes there, where a folder of ours would begin anew
    except Exception as e:  # network, authentication, gating, unknown names: dozens of types
        raise ModelError(
            f"model {repo} at revision {revision} cannot be downloaded: {type(e).__name__}: {e}. Check name and "
            f"revision, or log in: hf auth login"
        ) from e
    copy_local(Path(cached), folder)


def copy_local(source: Path, folder: Path) -> None:
    """Copy the model files of a local folder."""
    if not source.is_dir():
        raise ModelError(f"{source} is no folder. Its name stands in params.yaml, base.<name>.path")
    for pattern in ALLOWED:
        for file in sorted(source.glob(pattern)):
            target = folder / file.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(file, target)


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
    config = LlamaConfig(
        vocab_size=len(alphabet) + 3,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_context,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def complete(folder: Path) -> None:
    """Check the form of a model folder and add what may be missing: chat template, pad token.

    Raises ModelError naming the folder and what it lacks.
    """
    from transformers import AutoTokenizer

    name = folder.name.removesuffix(".partial")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: no config.json in the model's folder. A transformers checkpoint is wanted")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name}: no *.safetensors in the model's folder. Pickled weights are not loaded; convert them with "
            f"save_pretrained"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # missing files surface as OSError, ValueError, TypeError or a Rust exception
        raise ModelError(
            f"{name}: no tokenizer that loads ({type(e).__name__}: {e}). Copy tokenizer.json and tokenizer_config.json "
            f"into the model's folder"
        ) from e
    if tokenizer.eos_token is None:
        raise ModelError(f"{name}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = (
            tokenizer.eos_token
        )  # labels and attention are masked by position, so sharing the end token is safe
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    ends = [tokenizer.eos_token_id]
    if (turn_end := end_of_turn(tokenizer)) and turn_end != tokenizer.eos_token:
        # base models often end a text otherwise than their chat template ends a turn; what ends a turn is what must
        # stop an answer
        tokenizer.eos_token = turn_end
        ends.insert(0, tokenizer.eos_token_id)
        _end_generation_at(ends, folder)
    tokenizer.save_pretrained(folder)


def end_of_turn(tokenizer: Any) -> str | None:
    """The special token that the chat template puts behind an answer; None when it puts none."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "question"}, {"role": "assistant", "content": "ANSWER"}], tokenize=False
    )
    after = text.rpartition("ANSWER")[2]
    found = [(after.index(token), -len(token), token) for token in tokenizer.all_special_tokens if token in after]
    return min(found)[2] if found else None


def _end_generation_at(ends: list[int], folder: Path) -> None:
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # the folder has none
        generation = GenerationConfig()
    known = generation.eos_token_id
    generation.eos_token_id = [*dict.fromkeys([*ends, *([known] if isinstance(known, int) else known or [])])]
    generation.save_pretrained(folder)
