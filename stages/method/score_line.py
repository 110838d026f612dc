"""The line in which a judge's template shows how the score is to be written."""

from __future__ import annotations

import re

from stages.method.judging import SCORE, read_score
from stages.method.template import render

TO = r"[ \t]*(?:[-–—…]|\.\.+|to|and|through)[ \t]*"
_RANGE = rf"(?<![\w.])[01](?:{TO}|[1-4 ,/|or]+)5\b"
# What a template writes in the place of a number: `<n>`, `[[score]]`, `0-5`, `...`; not `A, B or C`, `good/bad`, `A-F`
_WORD = r"[a-z_#?](?![-–][a-z]\b)[\w-]*+(?:\s+(?:of\s+)?(?:score|points|number))?+"
_CHOICE = r"(?:[ \t]*[/|][ \t]*|,?[ \t]+or[ \t]+)[a-z]|,[ \t]*[a-z]\w*(?:,|[ \t]+or\b)"
_PLACE = rf"(?:{_RANGE}|…|\.{{2,}}|{_WORD}(?!{_CHOICE}))"
_OPEN = r"[\s*_`\"'\[<({$\\~]*(?:boxed\{)?"
PLACE = re.compile(rf"(\bscore[*_`\"' ]*[:：=]+{_OPEN}){_PLACE}", re.IGNORECASE)
RANGE = re.compile(rf"[ \t,;(]*(?:(?:from|between|of)[ \t]+)?{_RANGE}", re.IGNORECASE)
OTHER = re.compile(
    rf"\b(?:rating|grade|marks?|points|total|verdict|result|score)\b[*_`\"' ]*[:：=]+{_OPEN}(?:[\w#?…]|\.\.)|\[\[",
    re.IGNORECASE,
)
"""Verdicts that templates of others ask for."""


def score_line(text: str) -> tuple[str | None, str | None]:
    """The last line in which a judge's template shows how the score is to be written, if it can be read; and a line
    behind it that asks for another verdict."""
    filled = RANGE.sub("", PLACE.sub(r"\g<1>4", render(text, prompt="", response="")))
    line, after = "", filled
    if matches := list(SCORE.finditer(filled)):
        start = len(filled[: matches[-1].start()].rstrip("*_`\"'{"))
        rest, _, after = filled[matches[-1].end() :].partition("\n")
        line = (filled[start : matches[-1].end()] + rest).strip().strip("`")
    other = next((line.strip() for line in after.splitlines() if OTHER.search(line)), None)
    if read_score(line) is None:
        return None, other or line or None
    return line, other
