"""The scale that a judge scores on (`judge.scale`), and how a score is read from its text.

A judgement that cannot be read has the score null: never 0, never -1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from stages.method.template import fold
from stages.text.thoughts import answer

_BLANK = r"(?:[ \t]|\\[A-Za-z]++\{?)*+"  # and LaTeX's `\text{`
_TAG = r"</?(?:b|i|u|p|em|strong|code|span|t[dh])>"  # none holds the label: each run ends before the next
_CLOSED = rf"""(?:[*_`"'>\])}}$\\]|{_TAG})*+"""
_LABEL = rf"""(?<![^\W_])(score)(?:[*_`"'\])}} \t\xa0]|{_TAG})*+"""
_OPEN = rf"""(?:{_TAG}|[*_`"' \t\xa0~•<\[({{}}|$\\]|(?:boxed|text[a-z]{{0,2}}|math[a-z]{{2}})\{{)*+"""
_NUMBER = r"[+\-−–]?[0-9]++(?:[.,][0-9]++)*+"
_ALONE = r"""(?:\.?+[*_`"' \t]*+(?:\r?\n(?!\s*+[0-9])|\Z)|\s*+</|[ \t]*+\|)"""
_WORDS = {3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 10: "ten"}
_RANGE = r"(?:[0-9.]++[ \t]*+(?:-|–|—|to\b)[ \t]*+)?+"
ECHO = 20
"""Characters before a score line that tell whose it is."""


class Patterns(NamedTuple):
    """How numbers up to `top` are read. Every run is possessive (`*+`), so that hostile text takes linear time."""

    score: re.Pattern[str]
    same: re.Pattern[str]
    other: re.Pattern[str]
    remark: re.Pattern[str]
    total: re.Pattern[str]


@lru_cache(maxsize=16)
def patterns(top: int) -> Patterns:
    # What leaves the number as it is: the end of its dress, ` points`, `/5`, `out of 5`, `von 5`.
    whole = rf"(?:a[ \t]++(?:maximum|possible|total)[ \t]++(?:of[ \t]++)?+)?+(?:{top}|{_WORDS.get(top, top)}\b)"
    same = (
        rf"""{_CLOSED}(?:{_BLANK}(?:points?|pts?|stars?)\b)?"""
        rf"""(?:{_BLANK}\(?(?:/|(?:(?:out[ \t]++)?of|from|on|von|van|sur|de|di)\b)[ \t*_`<\[({{}}]*+"""
        rf"""{whole}(?:\.0++)?+(?![0-9.,/]*[0-9]))?{_CLOSED}"""
    )
    # The label, a colon or `=`, then a number, in the dress that models give it: `Score: 4`, `**Score:** <4>`,
    # `"score": 4`, `Score = \boxed{4}`, `<b>Score</b>: 4`. Where it stands on the next line, behind a dash, in the next
    # cell of a table or in a tag, nothing else may stand there: `Score:\n4`, `Final score - 4`, `| Score | 4 |`,
    # `<score>4</score>`, but not `Score:\n1. Relevant`. The rubric's own numbers have no such label. Group 1 is the
    # label, group 2 the number.
    score = (
        rf"{_LABEL}(?:[:：=]{{1,2}}+{_OPEN}(?=[+\-−–]?[0-9])|"
        rf"(?:[:：=]{{0,2}}+(?:{_OPEN}[\r\n]++)++|[-–—]++(?=[ \t])|(?=[-−–][0-9])|\||(?:[-=]?>|→)\s*+){_OPEN}"
        rf"(?={_NUMBER}{same}{_ALONE}))({_NUMBER})"
    )
    # What makes it another number: `4/10`, `4th`, `3 or 4`, `40 %`; a second number with nothing but signs or one word
    # between, also behind a remark in brackets: `4-5`, `3 -> 4`, `4 sur 10`, `1 (relevance) + 1 (coverage) = 2`; points
    # of which each is for something: `2 points for A and 1 for B`. A new sentence may begin with a number.
    other = (
        rf"{_BLANK}(?:\(?(?:/|(?:out[ \t]+)?of\b|[0-9.,]++\))|(?:or|to|and|plus|minus|times|percent)\b)|[^\W_]"
        rf"|(?:{_BLANK}\([^()\n]*+\))?+(?:{_BLANK}[%+=×^]|{_BLANK}(?!because\b)[^\W\d_]++[ \t]++[0-9]"
        r"|(?!\.[ \t])(?:\\[A-Za-z]++|[^\w\r\n(]|_)*+[0-9])"
        r"|[ \t]*+for\b[^.\n]*\b[0-9]++[ \t]++(?:points?[ \t]++)?for\b"
        # per mille, parts and multiples: `4 ‰`, `4 percentile`, `4 tenths`, `4 hundred`
        rf"|{_BLANK}(?:[‰٪]|\\%|(?:percent|(?:half|halves|third|quarter|tenth|hundred|thousand|million)s?\b))"
        rf"|(?:</?[a-z]{{1,6}}>|[^\w/(])*+(?:/|\bout[ \t]++of\b)[ \t]*+(?!{top}\b)[0-9]"  # `4</b>/10`, and a line below
    )
    # What another remark on the line makes of it. A scale that does not end at the top: `(max 10)`, `(0-10)`, `(8/10)`,
    # `on a scale from 1 to 10`, `on a 10-point scale`; a correction: `3, raised to 4`, `5 (reduced to 4)`,
    # `4, no, 3`, `4, minus 1 = 3`.
    another = rf"(?!{top}(?:\.0++)?(?!\.?[0-9]))[0-9]++"
    remark = (
        rf"\b(?:max(?:imum)?|scale|range|out[ \t]++of)\b(?:[ \t:=]|of\b|is\b|from\b)*+{_RANGE}{another}"
        rf"|[(\[][= \t]*+[0-9.]++[ \t]*+(?:/|-|–|—|to\b|of\b)[ \t]*+{another}[ \t]*+[)\]]"
        rf"|(?<![\w.]){another}[- ]points?\b[ \t]++scale\b"
        r"|(?:\b(?:actually|rather|raised|reduced|lowered|increased|corrected|changed|revised|adjusted|final|so|thought)\b"
        rf"|\bno[,;:.–—-]|\b(?:minus|plus)\b[^\n0-9=]{{0,9}}[0-9.]++[^\n0-9=]{{0,9}}=)"
        rf"[^\n0-9]{{0,20}}[0-9]{'++' if top > 9 else ''}(?:\.[05])?[ \t.)\]]*+$"
    )
    # What a list of points adds up to, behind its last score line.
    total = (
        rf"""\b(?:total|overall|sum)(?:[ \t]++(?:points?|rating|grade|marks?))?+[*_`"' \t]*+[:：=|]{{1,2}}+{_OPEN}"""
        rf"({_NUMBER}){same}{_ALONE}"
    )
    return Patterns(*(re.compile(pattern, re.IGNORECASE) for pattern in (score, same, other, remark, total)))


SCORE = patterns(5).score
LETTER = re.compile(
    rf"""{_LABEL}[:：=]{{1,2}}+(?:</[a-z]{{1,6}}>|[*_`"' \t\xa0~<\[({{}}|$\\]|(?:boxed|text[a-z]{{0,2}})\{{)*+"""
    r"([^\W_]++)",
    re.IGNORECASE,
)
LAST = re.compile(rf"{_CLOSED}\.?+{_CLOSED}[ \t]*+(?:\r?\n|\Z)")
"""What may stand behind a letter."""


class Scale(NamedTuple):
    """What a judge's scores are (`judge.scale`): the numbers from `min` to `max`, halves allowed, or `letters` in
    their places, the worst first."""

    min: int = 0
    max: int = 5
    letters: str | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """The whole scores, from `min` on, as a judge writes them."""
        return tuple(self.letters or map(str, range(self.min, self.max + 1)))

    @property
    def example(self) -> str:
        """A good score, but not the best."""
        return self.choices[-2]

    def written(self, score: float) -> str:
        return f"{score:g}" if self.letters is None else self.letters[round(score) - self.min]

    @property
    def verdict(self) -> re.Pattern[str]:
        """What is read as a score line; group 1 is the label, group 2 the score."""
        return patterns(self.max).score if self.letters is None else LETTER

    @property
    def score_logprobs(self) -> tuple[str, int, tuple[str, ...]]:
        """Where the judge's own probabilities are asked for, and of what: pattern, group, choices
        (`request.ScoreLogprobs`)."""
        return f"(?i){self.verdict.pattern}", 2, self.choices

    def __str__(self) -> str:
        return f"{self.choices[0]} to {self.choices[-1]}"


OF_FIVE = Scale()
SHARES = Scale(0, 1)
"""Of a judge that compares (`judge_candidates.kind: pairwise`): shares of wins."""


def read_score(text: str, finish_reason: str = "stop", scale: Scale = OF_FIVE) -> float | None:
    """The score that a judgement gives, on `scale` in halves; None when it cannot be read.

    The last score line decides, readable or not: a judge that ends on `Score: 10` of 5 gave no score, whatever it wrote
    before. `Score: <n>`, `Score (out of 5): 4`, `a score of 4`, `Score 4` and `Score: four` are no score lines.
    Unreadable are numbers off the scale or between halves, a number that goes on as another (`4/10`, `3 or 4`,
    `1 + 1 = 2`), on another scale or corrected in the same line, with another total behind it, and a judgement cut off
    by the length limit. A letter stands alone: `Score: B`, not `Score: B or C`. Nothing is read in what the judge
    thought first (`thoughts.split`). Read as it is seen (`template.fold`).
    """
    text = fold(answer(text))
    if finish_reason == "length" or not (lines := list(scale.verdict.finditer(text))):
        return None
    written, end = lines[-1][2], lines[-1].end()
    if scale.letters is not None:
        at = scale.letters.find(written.upper())
        return float(scale.min + at) if len(written) == 1 and at >= 0 and LAST.match(text, end) else None
    _, same, other, remark, total = patterns(scale.max)
    after = same.match(text, end)
    if (after and other.match(text, after.end())) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", written):
        return None
    if remark.search(text[end:].partition("\n")[0]):
        return None
    if any(number != written for number in total.findall(text, end)):
        return None
    score = float(written)
    return score if scale.min <= score <= scale.max and (2 * score).is_integer() else None


def is_echo(text: str, response: str, scale: Scale = OF_FIVE) -> bool:
    """Whether the last score line of a judgement stands in the answer, behind the same words: the judge repeated the
    answer without the mark (`mask_verdicts`), and gave no score of its own."""
    seen, told, verdict = fold(answer(text)), fold(answer(response)), scale.verdict
    if not (verdict.search(told) and (lines := list(verdict.finditer(seen)))):
        return False
    before = seen[max(0, lines[-1].start() - ECHO) : lines[-1].start()]
    return len(re.findall(r"\w", before)) >= ECHO // 2 and before + lines[-1][0] in told


def expected(probs: Sequence[float] | None, least: int = 0) -> float | None:
    """Mean score under the judge's probabilities of the whole scores from `least` on (`Scale.choices`), taken as adding
    up to 1; None when they are not known or all 0. Rounded to 1/1024, so that sums are exact and no order of rows can
    change a mean."""
    if probs is None or not sum(probs):
        return None
    return round(sum(score * p for score, p in enumerate(probs, least)) / sum(probs) * 1024) / 1024
