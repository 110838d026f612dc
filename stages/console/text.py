"""Text of models and data is never markup for a model: what spells a special token in it is broken up before it reaches a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable


def plain(text: str, special: Iterable[str]) -> str:
    """`text` in which no string of `special` (a tokenizer's special tokens) stands: a space goes behind the first character of each.

    Else an answer could spell the end of its own turn and go on in the name of the judge; other text is unchanged. Tokens of one character are left.
    """
    for token in special:
        while len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
