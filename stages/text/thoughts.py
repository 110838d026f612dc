"""What a model thinks before it answers, kept apart from its answer."""

from __future__ import annotations

import re
from collections.abc import Callable

THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
)
"""How reasoning models open and close a thought. What a mark opened may be cut off before it is closed; plain words
open a thought only where it is closed."""
MARKS = frozenset(mark for pair in THOUGHTS for mark in pair)
_BLOCK = "|".join(
    f"({re.escape(opens)})(.*?)({re.escape(closes)}" + (")" if " " in opens else r"|\Z)") for opens, closes in THOUGHTS
)
BLOCK = re.compile(_BLOCK, re.DOTALL)
THOUGHT = re.compile(rf"(?:\s*(?:{_BLOCK}))+\s*", re.DOTALL)


def split(text: str) -> tuple[str | None, str]:
    """The thought that a text begins with, as it is written (its marks, and the white space around it), and the answer
    behind it. What does not begin with a mark has no thought, whatever else it holds; what is never closed leaves no
    answer."""
    thought = THOUGHT.match(text)
    return (thought[0], text[thought.end() :]) if thought else (None, text)


def answer(text: str) -> str:
    """A text without the thought that it begins with."""
    return split(text)[1]


def between_marks(text: str, change: Callable[[str], str]) -> str:
    """`text` changed everywhere but in the marks of the thought that it begins with."""

    def changed(block: re.Match[str]) -> str:
        opens, inner, closes = (part for part in block.groups() if part is not None)
        return f"{opens}{change(inner)}{closes}"

    thought, rest = split(text)
    return BLOCK.sub(changed, thought or "") + change(rest)
