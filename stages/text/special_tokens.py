"""Text of models and data is never markup for a model: what spells a special token or a chat marker is broken up before
it is tokenized."""

from __future__ import annotations

import re
from collections.abc import Iterable

MARKERS = re.compile(r"<[|｜][^\s<>|｜]+[|｜]>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>")
"""What spells a special token in the commonest chat formats: ChatML and Llama 3 (`<|...|>`), DeepSeek, Gemma, Llama 2,
Mistral."""


def break_special_tokens(text: str, special: Iterable[str]) -> str:
    """`text` in which no string of `special` (a tokenizer's special tokens) stands: a space goes behind the first
    character of each.

    Else an answer could spell the end of its own turn and go on in the name of the judge; other text is unchanged.
    Tokens of one character are left.
    """
    for token in special:
        while len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def break_chat_markers(text: str, special: list[str] | None) -> str:
    """`text` in which nothing spells a special token (`break_special_tokens`), since vLLM and others take them for real
    in any text; those of the commonest chat formats where the model's own are not known."""
    return (
        break_special_tokens(text, special)
        if special is not None
        else MARKERS.sub(lambda marker: break_special_tokens(marker[0], [marker[0]]), text)
    )
