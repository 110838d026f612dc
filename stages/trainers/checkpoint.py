"""Model folders that we did not train: fetched, copied or made at random, then brought into one form.

The form: config, safetensors, a tokenizer with a chat template and a pad token. Pickled weights and a repository's own
code are left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages.console.bounded import BoundedError, bounded
from stages.console.errors import ModelError
from stages.console.terminal import warn

ALLOWED = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "chat_template.jinja"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    "adapter/adapter_config.json",  # a LoRA adapter that goes over the model: a writer or judge may have one
    "adapter/*.safetensors",
)
CHAT_TEMPLATE = Path(__file__).parents[1] / "templates" / "chat.jinja"


def download(repo: str, revision: str, folder: Path) -> None:
    """A pinned revision from the Hub. Raises ModelError naming both."""
    from huggingface_hub import snapshot_download

    try:  # into the Hub's cache, where it resumes
        cached = snapshot_download(repo, revision=revision, allow_patterns=list(ALLOWED))
    except Exception as e:  # network, authentication, gating, unknown names: dozens of types
        raise ModelError(
            f"model {repo} at revision {revision} cannot be downloaded: {type(e).__name__}: {e}. Check name and "
            f"revision, or log in: hf auth login"
        ) from e
    copy_local(Path(cached), folder)


def copy_local(source: Path, folder: Path) -> None:
    """Copy the model files of a local folder. Raises ModelError when it is none, or holds what is no file."""
    if not source.is_dir():
        raise ModelError(f"{source} is not a folder. Fix base.<name>.path in params.yaml")
    for file in sorted(file for pattern in ALLOWED for file in source.glob(pattern)):
        if not file.is_file():
            raise ModelError(f"{file} is not a regular file (or a link to nothing). Copy the whole checkpoint")
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


def complete(folder: Path) -> None:
    """Bring a model folder into the form: a pad token, a chat template, an end token that really ends a turn, and a
    generation config that can be saved again. Raises ModelError naming the folder and the file that cannot be used."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    name = folder.name.removesuffix(".partial")
    tokenizer = _read(AutoTokenizer, folder, f"{name}: tokenizer.json")
    config = _read(AutoConfig, folder, f"{name}: config.json").get_text_config()
    if tokenizer.eos_token is None:
        raise ModelError(f"{name}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # safe: labels and attention are masked by position
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    exchange = try_template(tokenizer, name)
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    highest = max(ids.union(tokenizer(exchange, add_special_tokens=False).input_ids))
    if highest >= config.vocab_size:
        raise ModelError(
            f"{name}: the tokenizer's {tokenizer.convert_ids_to_tokens(highest)!r} has id {highest}, and the model "
            f"{config.vocab_size} embeddings (config.json, vocab_size). Use the tokenizer of this model, or resize it: "
            f"resize_token_embeddings"
        )
    if (folder / "generation_config.json").is_file():
        generation = _read(GenerationConfig, folder, f"{name}: generation_config.json")
    else:
        generation = GenerationConfig.from_model_config(config)
    try:
        generation.validate(strict=True)
    except ValueError:  # it could not be saved again (Vicuna's), which would lose a trained model: keep its ids alone
        listed = {key: getattr(generation, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        generation = GenerationConfig(**{k: v for k, v in listed.items() if not isinstance(v, int) or v >= 0})
    if (turn_end := end_of_turn(tokenizer, exchange)) and turn_end != tokenizer.eos_token:
        # base models often end a text otherwise than their chat template ends a turn; both must stop an answer
        ends = [tokenizer.convert_tokens_to_ids(turn_end), tokenizer.eos_token_id]
        listed = generation.eos_token_id
        generation.eos_token_id = [*dict.fromkeys([*ends, *([listed] if isinstance(listed, int) else listed or [])])]
        tokenizer.eos_token = turn_end
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read(auto: Any, folder: Path, where: str) -> Any:
    try:
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # OSError, ValueError, TypeError, a Rust exception, ...
        raise ModelError(f"{where} cannot be used ({type(e).__name__}: {e}). Copy the whole checkpoint again") from None


def try_template(tokenizer: Any, where: str) -> str:
    """What the chat template makes of QUESTION and ANSWER. It is a program by others, so it is tried apart.

    Raises ModelError, beginning with `where`, when it fails, or leaves the question or the answer out; warns when a
    model trained with it would not learn what it is asked to do.
    """
    asked = [{"role": "user", "content": "QUESTION"}]
    answered = [*asked, {"role": "assistant", "content": "ANSWER"}]
    try:
        prompt, text = bounded(
            lambda: (
                tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True),
                tokenizer.apply_chat_template(answered, tokenize=False),
            )
        )
        if "QUESTION" not in prompt or "QUESTION" not in text:
            raise BoundedError("it leaves out the question (role user)")
        if "ANSWER" not in text:
            raise BoundedError("it leaves out the answer (role assistant)")
    except BoundedError as e:
        raise ModelError(
            f"{where}: the chat template cannot be used ({e}). Fix it, or delete it to get a plain one"
        ) from None
    if not text.startswith(prompt):
        warn(
            f"{where}: with add_generation_prompt the chat template writes another beginning ({prompt[-40:]!r}) than "
            f"before an answer that is there, so that a model is trained on other texts than it continues"
        )
    if not end_of_turn(tokenizer, text):
        warn(
            f"{where}: the chat template puts no special token behind an answer, so that a model trained with it does "
            f"not learn where to stop. Let it end with {{{{ eos_token }}}}"
        )
    return text


def end_of_turn(tokenizer: Any, exchange: str) -> str | None:
    """The special token that the chat template puts behind an answer; None when it puts none."""
    after = exchange.rpartition("ANSWER")[2]
    ends = [(after.index(token), -len(token), token) for token in tokenizer.all_special_tokens if token in after]
    return min(ends)[2] if ends else None
