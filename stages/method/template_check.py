"""Do the templates that params.yaml names ask for what the method reads? Rendered with marks in the place of texts,
before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from stages.config.finding import Finding
from stages.config.params import Params
from stages.console.bounded import BoundedError, bounded
from stages.console.errors import SrlmError
from stages.method.judging import SCORE, read_score
from stages.method.template import render

COMPARE = "stages/templates/compare.jinja"
MARKS = tuple(f"«{i} <b> & 'mark' of a text» " + "x" * 4000 + f" «end {i}»" for i in range(8))
"""Texts as long as an answer, with what a filter could change; what is shown whole shows them letter by letter."""
WANTED = "Score: <n>"
_TO = r"[ \t]*(?:[-–—…]|\.\.+|to|and|through)[ \t]*"
_RANGE = rf"(?<![\w.])[01](?:{_TO}|[1-4 ,/|or]+)5\b"
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
SCALE = re.compile(
    rf"(?:(?<![\w.])(?:[01](?:\.0)?|zero|one){_TO}|\bout[ \t]+of[ \t]+|[\w>\])}}$][ \t]*/[ \t]*"
    r"|\b(?:scale[ \t]+(?:of|to)|up[ \t]+to|maximum(?:[ \t]+of)?)[ \t]+)(?P<top>[0-9]{1,3}|five|ten)\b"
    r"(?![ \t]+(?:\w+[ \t]+)?(?:word|token|character|sentence|line|paragraph|reason|example|step|bullet)s?\b)"
    r"|(?<![\w.])(?P<best>[0-9]+)(?:[- ]points?[ \t]+(?:\w+[ \t]+)?scale\b"
    r"|[ \t]+(?:is|being|means|=)[ \t]+(?:the[ \t]+)?(?:best|highest|perfect|excellent)\b)",
    re.IGNORECASE,
)
RATING = re.compile(r"\b(?:rat(?:e|ing)|scor(?:es?|ing)|scale|grade)\b", re.IGNORECASE)


def faults(params: Params, root: Path) -> list[Finding]:
    """What is wrong with the templates of `params`, of which sections may be absent. A file that cannot be read is told
    elsewhere."""
    checks: list[tuple[str, Callable[[str, str], list[Finding]]]] = []
    if hasattr(params, "judge"):
        checks.append((params.judge.template, judge_faults))
    if hasattr(params, "write_prompts"):
        checks.append((params.write_prompts.template, writer_faults))
    if hasattr(params, "evaluate") and params.evaluate.compare_by == "model":
        checks.append((COMPARE, compare_faults))
    found: list[Finding] = []
    for name, check in checks:
        with suppress(OSError, ValueError):
            text = (root / name).read_text(encoding="utf-8")
            try:  # a template is a program, which need not end
                found += bounded(partial(check, name, text), seconds=2)
            except BoundedError as e:
                found.append(Finding(name, f"cannot be filled: {e}", "Make it simpler"))
    return found


def judge_faults(name: str, text: str) -> list[Finding]:
    """Of the judge's template: both fields whole, and a score line that can be read."""
    found = _shown("judge.template", name, text, prompt=MARKS[0], response=MARKS[1])
    if found or Path(name).parent.name == "tinyworld":  # its M0 has read how judges write
        return found
    line, other = score_line(text)
    if scale := other_scale(render(text, prompt="", response="")):
        seen = f"{name} asks for another range ({scale!r}), and scores here are 0 to 5"
    elif line and not other:
        return []
    else:
        seen = f"{name} asks for {other!r}, which is not read as a score" if other else f"{name} asks for no score"
    fix = f"A score of 0 to 5 is read from a line like {WANTED!r}: end the template with it"
    return [Finding("judge.template", seen, fix)]


def writer_faults(name: str, text: str) -> list[Finding]:
    """Of the writer's template: every demonstration is shown, whatever their number."""
    many = _shown("write_prompts.template", name, text, shots=list(MARKS))
    return many or _shown("write_prompts.template", name, text, shots=[MARKS[0]])


def compare_faults(name: str, text: str) -> list[Finding]:
    """Of the comparison's template: all fields, and the three verdicts."""
    from stages.method.evaluation.match import CHOICE  # brings numpy, which only this needs

    found = _shown(name, name, text, prompt=MARKS[0], answer_a=MARKS[1], answer_b=MARKS[2])
    if not found and len(set(CHOICE.findall(text))) < 3:
        found.append(Finding(name, "does not ask for the verdicts [[A]], [[B]] and [[C]]", "Ask for all three"))
    return found


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


def other_scale(text: str) -> str | None:
    """The widest range of scores that a judge's template names, when it does not end at 5. Ranges below that count only
    in a sentence about rating."""
    ranges = [
        (int({"five": "5", "ten": "10"}.get(top := (m["top"] or m["best"]).lower(), top)), m[0])
        for sentence in re.split(r"\n|[.!?]\s", text)
        for m in SCALE.finditer(sentence)
        if RATING.search(sentence) or len(m["top"] or "") > 1
    ]
    top, words = max(ranges, default=(5, ""))
    return words if top != 5 else None


def _shown(key: str, name: str, text: str, **fields: str | list[str]) -> list[Finding]:
    """A finding for each field that the rendered template does not hold whole."""
    try:
        rendered = render(text, **fields)
    except SrlmError as e:
        return [Finding(key, f"{name} cannot be filled: {e}", f"It may use {', '.join(fields)}")]
    if address := re.search(r"<[^<>\n]* at 0x[0-9a-f]+>", rendered):
        return [Finding(key, f"{name} shows {address[0]!r}, which is another every time", "Show a text in its place")]
    return [
        Finding(
            key, f"{name} does not show {field} whole", f"Put {{{{ {field} }}}} in it, outside of comments and filters"
        )
        for field, value in fields.items()
        if any(mark not in rendered for mark in ([value] if isinstance(value, str) else value))
    ]
