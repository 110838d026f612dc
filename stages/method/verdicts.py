"""The last score line of a judgement: with another score in it, or alone."""

from __future__ import annotations

import re

import polars as pl

from stages.console.errors import TableError
from stages.method.scale import Scale, read_score
from stages.method.template import folded
from stages.text.ids import content_id
from stages.text.thoughts import split

DRESS = re.compile(r"""[*_`"'{<\[(|# \t-]*\Z""")
"""What stands before the label of a score and is part of its line: `**Score:** 4`, `| Score | 4 |`, `{"score": 4}`."""


def _last(text: str, scale: Scale) -> tuple[int, int, int]:
    """Where the last score line begins, and where its score begins and ends; raises
    TableError where there is none."""
    thought, shown = split(text)
    seen, places = folded(shown)
    lines = list(scale.verdict.finditer(seen))
    if not lines:
        raise TableError(f"a judgement has no score line that judge.scale can read: {text[-80:]!r}. Run: dvc repro")
    first = len(thought or "")
    label, start, last = (first + places[at] for at in (lines[-1].start(), lines[-1].start(2), lines[-1].end(2) - 1))
    before = DRESS.search(text[first:label])
    return label - len(before[0] if before else ""), start, last + 1


def with_score(text: str, score: float, scale: Scale) -> str:
    """A judgement with another score in its last score line. What stands behind stays, unless the score could not be
    read for it (`Score: 4. Total: 4`)."""
    _, start, end = _last(text, scale)
    head = text[:start] + scale.written(score)
    changed = head + text[end:]
    return changed if read_score(changed, scale=scale) == score else head


def alone(text: str, scale: Scale) -> str:
    """The last score line of a judgement, from its label on."""
    begin, _, end = _last(text, scale)
    line = text[begin:end] + text[end:].partition("\n")[0].rstrip()
    score = read_score(text, scale=scale)
    if score is None or read_score(line, scale=scale) == score:
        return line.lstrip()
    return f"Score: {scale.written(score)}"


def shuffle_scores(eft: pl.DataFrame, scale: Scale, seed: int) -> pl.DataFrame:
    """Control of EFT replay: `eft` (EFT rows) with their scores dealt out anew among them, by a hash of
    `(seed, eft_id)`, in the score line as well. The reasons stay, so that they speak of another score."""
    hashes = pl.Series([content_id(seed, "scores", row) for row in eft["eft_id"]], dtype=pl.String)
    dealt = eft["score"].gather(hashes.arg_sort())
    texts = [with_score(*row, scale) for row in zip(eft["response"], dealt, strict=True)]
    return eft.with_columns(score=dealt, response=pl.Series(texts, dtype=pl.String))


def without(text: str, scale: Scale) -> str:
    """A judgement's answer without any of its score lines, from their labels on."""
    shown = split(text)[1]
    while scale.verdict.search(folded(shown)[0]):
        begin, _, end = _last(shown, scale)
        shown = f"{shown[:begin].rstrip()}\n{shown[end:].partition(chr(10))[2]}".strip()
    return shown
