"""What a model thinks before it answers, and the frame that some write around an answer, kept apart from the answer."""

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
FRAMES = (
    ("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),
)
"""What some write around an answer behind a thought (Apriel 1.5, Hunyuan, Granite 3.3): no part of it."""
MARKS = frozenset(mark for pair in THOUGHTS for mark in pair)
_BLOCK = "|".join(
    f"({re.escape(opens)})(.*?)({re.escape(closes)}" + (")" if " " in opens else r"|\Z)") for opens, closes in THOUGHTS
)
BLOCK = re.compile(_BLOCK, re.DOTALL)
_OPENS, _TAGS = ("|".join(re.escape(opens) for opens, _ in frames) for frames in (FRAMES, FRAMES[1:]))
THOUGHT = re.compile(rf"(?!\s*(?:{_TAGS}))(?:\s*(?:{_BLOCK}|{_OPENS}))+\s*", re.DOTALL)


def _parts(text: str) -> tuple[str, str, str]:
    """Thought, answer, and what closes the answer's frame: joined, they are the text."""
    begun = THOUGHT.match(text)
    thought = begun[0] if begun else ""
    rest = text[len(thought) :]
    end = _end(thought) or FRAMES[0][1]  # which a prompt may have opened
    answer = without_end(rest, end)
    answer = rest.rstrip() if end in answer and _end(thought) else answer  # closed before its end: all of it stays
    return thought, answer, rest[len(answer) :]


def without_end(text: str, end: str) -> str:
    """`text` without the `end` that it may have, and the white space around that."""
    whole = text.rstrip()
    return whole.removesuffix(end).rstrip() if end and whole.endswith(end) else text


def _end(thought: str) -> str | None:
    return next((end for opens, end in FRAMES if thought.rstrip().endswith(opens)), None)


def split(text: str) -> tuple[str | None, str]:
    """The thought that a text begins with, as it is written (its marks, the white space around it, what opens the
    answer's frame), and the answer behind it. What does not begin with a mark has no thought, whatever else it holds;
    what is never closed leaves no answer."""
    thought, answer, _ = _parts(text)
    return thought or None, answer


def joined(thought: str | None, response: str) -> str:
    """What was `split`, as the model wrote it, but for white space at its end: a frame is closed as it was opened, on a
    line of its own or not, and once."""
    thought = thought or ""
    end = _end(thought)
    gap = "\n" if "\n" in thought[len(thought.rstrip()) :] else ""
    closes = end and response and end not in response  # behind a thought that is never closed nothing is
    return f"{thought}{response}" + (f"{gap}{end}" if closes else "")


def answer(text: str) -> str:
    """A text without the thought that it begins with, and without the frame of its answer."""
    return split(text)[1]


def between_marks(text: str, change: Callable[[str], str]) -> str:
    """`text` changed everywhere but in the marks of the thought that it begins with."""

    def changed(block: re.Match[str]) -> str:
        opens, inner, closes = (part for part in block.groups() if part is not None)
        return f"{opens}{change(inner)}{closes}"

    thought, answer, end = _parts(text)
    return BLOCK.sub(changed, thought) + change(answer) + end
