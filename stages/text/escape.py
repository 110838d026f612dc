"""Text of models and data is never markup for the person who reads it: not on a terminal, not in Markdown."""

from __future__ import annotations

import html
import re
import unicodedata


def for_terminal(text: str) -> str:
    """`text` on one line, its control and format characters written out (`\\x1b`, `\\u202e`): an answer must not
    colour, clear or reorder the screen."""
    unseen = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode() if unicodedata.category(c) in unseen else c for c in text
    )


def for_markdown(text: str) -> str:
    """`text` as the content of one cell of a Markdown table: no markup, no HTML, no new line or column."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~])", r"\\\1", html.escape(for_terminal(text), quote=False))
