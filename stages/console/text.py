"""Text of models and data is never markup: not for a model (what spells a special token), not for a terminal, not for Markdown."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable


def plain(text: str, special: Iterable[str]) -> str:
    """`text` in which no string of `special` (a tokenizer's special tokens) stands: a space goes behind the first character of each.

    Else an answer could spell the end of its own turn and go on in the name of the judge; other text is unchanged. Tokens of one character are left.
    """
    for token in special:
        while len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def for_terminal(text: str) -> str:
    """`text` on one line, its control and format characters written out (`\\x1b`, `\\u202e`): an answer must not colour, clear or reorder the screen."""
    unseen = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    return "".join(c.encode("unicode_escape", "surrogatepass").decode() if unicodedata.category(c) in unseen else c for c in text)


def for_markdown(text: str) -> str:
    """`text` as the content of one cell of a Markdown table: no markup, no HTML, no new line or column."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~])", r"\\\1", html.escape(for_terminal(text), quote=False))
