"""What ends an answer of a model that others made: a token that only its own spelling can be, on which the tokenizer,
the template, the weights and the generation config agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError
from stages.models.model_files import change_config, read
from stages.text.chat import Chat, Turn
from stages.text.special_tokens import breakable


def match_as_written(tokenizer: Any, mended: list[str]) -> None:
    """Control tokens are found in a text as it is written, and wherever they stand. Behind a normalizer other texts
    become them (capitals, full-width letters), as parts of words they are none, and taken apart nothing ends."""
    from tokenizers import Tokenizer

    if getattr(tokenizer, "split_special_tokens", False):
        tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = False
        mended.append("split_special_tokens takes control tokens apart, so that nothing ends an answer: switched off")
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return
    state, control = json.loads(backend.to_str()), {*Chat(tokenizer).control}
    normalizer = state["normalizer"]
    normalizes = normalizer is not None and normalizer.get("normalizers") != []
    loose = [
        token
        for token in state["added_tokens"]
        if token["content"] in control and (token["single_word"] or (normalizes and token["normalized"]))
    ]
    for token in loose:
        token["single_word"] = token["normalized"] = False
    if loose:
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
        names = " ".join(token["content"] for token in loose[:3]) + (" ..." if len(loose) > 3 else "")
        mended.append(f"what its normalizer makes of a text could become {names}: only what spells them does")


def end_answers(tokenizer: Any, turn: Turn, generation: Any, mended: list[str]) -> None:
    """What ends a turn ends an answer, for whoever writes with this model; so does what ends a text, which base models
    often have besides."""
    stop, listed = tokenizer.convert_tokens_to_ids(turn.stop), ends_of(generation)
    ends = [i for i in listed if _is_id(i, tokenizer)]
    if ends != listed:
        mended.append(
            f"generation_config.json lists {listed} as ends, not all tokens of the tokenizer: {ends} are left"
        )
    if turn.stop != tokenizer.eos_token:
        mended.append(f"a turn ends with {turn.stop}, a text with {tokenizer.eos_token}: both end an answer")
        ends = [stop, tokenizer.eos_token_id, *ends]
        if re.search(r"\beos_token\b", tokenizer.chat_template):  # what it writes stays what it was
            was = json.dumps(tokenizer.eos_token, ensure_ascii=False)
            tokenizer.chat_template = f"{{% set eos_token = {was} %}}\n{tokenizer.chat_template}"
        tokenizer.eos_token = turn.stop
    elif stop not in ends:
        mended.append(f"generation_config.json does not end an answer with {turn.stop}: added")
        ends = [stop, *ends]
    if ends != listed:
        ends = [*dict.fromkeys(ends)]
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]
    for key in ("bos_token_id", "pad_token_id"):
        if not _is_id(was := getattr(generation, key), tokenizer) and was is not None:
            setattr(generation, key, getattr(tokenizer, key))
            mended.append(f"generation_config.json: {key} is {was!r:.40}, no token: now {getattr(tokenizer, key)}")


def mend_config_ids(folder: Path, config: Any, tokenizer: Any, mended: list[str]) -> None:
    """A config may name tokens of the vocabulary that its class has by default (GPT-2's 50256)."""
    wrong = {}
    for key in ("bos_token_id", "eos_token_id"):
        was = getattr(config, key, None)
        if not all(_is_id(i, tokenizer) for i in (was if isinstance(was, list) else [was])) and was is not None:
            wrong[key] = getattr(tokenizer, key)
            mended.append(f"config.json: {key} is {was!r:.40}, no token of the tokenizer: now {wrong[key]}")
    if wrong:
        change_config(folder, wrong)


def _is_id(i: Any, tokenizer: Any) -> bool:
    return type(i) is int and 0 <= i < len(tokenizer) and bool(tokenizer.convert_ids_to_tokens(i))


def check_ids(tokenizer: Any, turn: Turn, rows: int, name: str) -> None:
    """Each token that a text can have, and those that we write, has a row in the embeddings."""
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    exchange = tokenizer(turn.exchange, add_special_tokens=False).input_ids
    ids |= {*exchange}
    if exchange[-1] != tokenizer.convert_tokens_to_ids(turn.stop):
        raise ModelError(
            f"{name}: a turn ends with {turn.stop!r}, which the tokenizer takes apart, so that a model trained with it "
            f"would never stop. Use the tokenizer of this model"
        )
    if not breakable(turn.stop):
        raise ModelError(
            f"{name}: a turn ends with {turn.stop!r}, which any text may hold: each would end an answer. Use another "
            f"end in the chat template, or delete it to get a plain one"
        )
    highest = max(ids | {i for i in tokenizer.get_vocab().values() if i not in special})
    if highest >= rows:
        raise ModelError(
            f"{name}: the tokenizer's {tokenizer.convert_ids_to_tokens(highest)!r} has id {highest}, and the model "
            f"{rows} embeddings (config.json, vocab_size). Use the tokenizer of this model, or resize it: "
            f"resize_token_embeddings"
        )


def generation_config(folder: Path, config: Any, name: str, mended: list[str]) -> Any:
    """A generation config that can be saved again, else a trained model would be lost for a flag."""
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        generation = read(GenerationConfig, folder, f"{name}: generation_config.json")
    else:
        generation = GenerationConfig.from_model_config(config)
    try:
        generation.validate(strict=True)
    except ValueError as e:  # Vicuna's
        listed = {key: getattr(generation, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        generation = GenerationConfig(**{k: v for k, v in listed.items() if not isinstance(v, int) or v >= 0})
        why = " ".join(str(e).split())[:120]
        mended.append(f"generation_config.json could not be saved again ({why}): its token ids alone are kept")
    if hasattr(generation, "trust_remote_code"):  # ours, which it takes for a setting
        del generation.trust_remote_code
    if generation.use_cache is False:
        generation.use_cache = None
        mended.append("generation_config.json switches the cache off, as in training: left out")
    return generation


def ends_of(generation: Any) -> list[Any]:
    """The ids that a generation config lists, which may be none, one or several."""
    ends = generation.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]
