"""Text of models and data is never markup for a model: what spells a control token or a chat marker is broken up before
it is tokenized."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

MARKERS = re.compile(r"<[|｜][^\s<>|｜]+[|｜]>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>")
"""What spells a special token in the commonest chat formats: ChatML and Llama 3 (`<|...|>`), DeepSeek, Gemma, Llama 2,
Mistral."""


def break_special_tokens(text: str, special: Iterable[str]) -> str:
    """`text` in which no string of `special` (a model's control tokens) stands: a space goes behind the first character
    of each that is no white space.

    Else an answer could spell the end of its own turn and go on in the name of the judge; other text is unchanged. What
    has fewer than two such characters is left. It ends: every space widens a gap between two characters for good, and
    no token matches a gap wider than its own.
    """
    if (pattern := _any_of(tuple(special))) is None:
        return text
    while (broken := pattern.sub(_broken, text)) != text:
        text = broken
    return text


def breakable(token: str) -> bool:
    return len("".join(token.split())) > 1


def _broken(token: re.Match[str]) -> str:
    behind = len(token[0]) - len(token[0].lstrip()) + 1
    return f"{token[0][:behind]} {token[0][behind:]}"


@lru_cache(maxsize=64)
def _any_of(special: tuple[str, ...]) -> re.Pattern[str] | None:
    """The longest of them first; None where none can be broken."""
    tokens = sorted({token for token in special if breakable(token)}, key=lambda t: (-len(t), t))
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def break_chat_markers(text: str, special: list[str] | None) -> str:
    """`text` in which nothing spells a special token (`break_special_tokens`), since vLLM and others take them for real
    in any text; those of the commonest chat formats where the model's own are not known."""
    return (
        break_special_tokens(text, special)
        if special is not None
        else MARKERS.sub(lambda marker: break_special_tokens(marker[0], [marker[0]]), text)
    )
