"""The line in which a judge's template shows how the score is to be written."""

from __future__ import annotations

import re
from functools import lru_cache

from stages.method.scale import OF_FIVE, Scale, read_score
from stages.method.template import render

TO = r"[ \t]*(?:[-–—…]|\.\.+|to|and|through)[ \t]*"
_WORD = r"[a-z_#?](?![-–][a-z]\b)[\w-]*+(?:\s+(?:of\s+)?(?:score|points|number))?+"
_CHOICE = r"(?:[ \t]*[/|][ \t]*|,?[ \t]+or[ \t]+)[a-z]|,[ \t]*[a-z]\w*(?:,|[ \t]+or\b)"
_OPEN = r"[\s*_`\"'\[<({$\\~]*(?:boxed\{)?"
OTHER = re.compile(
    rf"\b(?:rating|grade|marks?|points|total|verdict|result|score)\b[*_`\"' ]*[:：=]+{_OPEN}(?:[\w#?…]|\.\.)|\[\[",
    re.IGNORECASE,
)
"""Verdicts that templates of others ask for."""


@lru_cache(maxsize=16)
def _places(scale: Scale) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What a template writes in the place of a score behind its label, which is group 1: `<n>`, `[[score]]`, `0-5`,
    `...`; of numbers not `A, B or C`, `good/bad`, `A-F`. And such a range behind a score."""
    ends, between = ("[01]", "1-4") if scale == OF_FIVE else (str(scale.min), "0-9")
    if scale.letters:
        ends, between = f"[{scale.letters}]", scale.letters
    top = ends if scale.letters else scale.max
    span = rf"(?<![\w.]){ends}(?:{TO}|[{between} ,/|or]+){top}\b"
    word = _WORD if scale.letters else rf"(?!(?:letter|choice|option)\b){_WORD}"
    place = rf"(?:{span}|…|\.{{2,}}|{word}(?!{_CHOICE}))"
    return (
        re.compile(rf"(\bscore[*_`\"' ]*[:：=]+{_OPEN}){place}", re.IGNORECASE),
        re.compile(rf"[ \t,;(]*(?:(?:from|between|of)[ \t]+)?{span}", re.IGNORECASE),
    )


def score_line(text: str, scale: Scale = OF_FIVE) -> tuple[str | None, str | None]:
    """The last line in which a judge's template shows how the score is to be written, if it can be read; and a line
    behind it that asks for another verdict."""
    place, span = _places(scale)
    filled = span.sub("", place.sub(rf"\g<1>{scale.example}", render(text, prompt="", response="")))
    line, after = "", filled
    if matches := list(scale.verdict.finditer(filled)):
        start = len(filled[: matches[-1].start()].rstrip("*_`\"'{"))
        rest, _, after = filled[matches[-1].end() :].partition("\n")
        line = (filled[start : matches[-1].end()] + rest).strip().strip("`")
    other = next((line.strip() for line in after.splitlines() if OTHER.search(line)), None)
    if read_score(line, scale=scale) is None:
        return None, other or line or None
    return line, other
