"""Do the templates that params.yaml names ask for what the method reads? Rendered with marks in the place of texts,
before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

from stages.config.finding import Finding
from stages.config.params import Params
from stages.console.errors import SrlmError
from stages.method.judging import SCORE, read_score
from stages.method.template import render

COMPARE = "stages/templates/compare.jinja"
MARKS = tuple(f"«{i} <b> & 'mark' of a text» " + "x" * 4000 + f" «end {i}»" for i in range(8))
"""Texts as long as an answer, with what a filter could change; what is shown whole shows them letter by letter."""
WANTED = "Score: <n>"
# What a template writes in the place of a number: `<n>`, `[[score]]`, `0-5`, `...`
_PLACE = r"(?:[01]\s*(?:[-–]|to|\.\.+)\s*5\b|…|\.{2,}|[a-z_#?][\w-]*(?:\s+(?:of\s+)?(?:score|points|number))?)"
_OPEN = r"[\s*_`\"'\[<({$\\~]*(?:boxed\{)?"
PLACE = re.compile(rf"(\bscore[*_`\"' ]*[:：=]+{_OPEN}){_PLACE}", re.IGNORECASE)
OTHER = re.compile(
    rf"\b(?:rating|grade|marks?|points|total|verdict|result)\b[*_`\"' ]*[:：=]+{_OPEN}(?:{_PLACE}|[0-9])|\[\[",
    re.IGNORECASE,
)
"""Verdicts that templates of others ask for."""


def faults(params: Params, root: Path) -> list[Finding]:
    """What is wrong with the templates of `params`, of which sections may be absent; a file that cannot be read is told
    elsewhere."""
    found: list[Finding] = []
    if hasattr(params, "judge"):
        found += judge_faults(params.judge.template, _text(root, params.judge.template))
    if hasattr(params, "write_prompts"):
        found += writer_faults(params.write_prompts.template, _text(root, params.write_prompts.template))
    if hasattr(params, "evaluate") and params.evaluate.compare_by == "model":
        found += compare_faults(COMPARE, _text(root, COMPARE))
    return found


def judge_faults(name: str, text: str | None) -> list[Finding]:
    """Of the judge's template: both fields whole, and a score line that can be read."""
    found = _shown("judge.template", name, text, prompt=MARKS[0], response=MARKS[1])
    if text is None or found or _is_tinyworld(name):  # its M0 has read how judges write
        return found
    line, after = score_line(text)
    other = OTHER.search(after)
    if line and not other:
        return found
    asked = after[: other.end() + 40].splitlines()[after[: other.end()].count("\n")].strip() if other else ""
    seen = f"{name} asks for {asked!r}, which is not read as a score" if asked else f"{name} asks for no score"
    return [
        Finding(
            "judge.template", seen, f"A score of 0 to 5 is read from a line like {WANTED!r}: end the template with it"
        )
    ]


def writer_faults(name: str, text: str | None) -> list[Finding]:
    """Of the writer's template: every demonstration is shown, whatever their number."""
    many = _shown("write_prompts.template", name, text, shots=list(MARKS))
    return many or _shown("write_prompts.template", name, text, shots=[MARKS[0]])


def compare_faults(name: str, text: str | None) -> list[Finding]:
    """Of the comparison's template: all fields, and the three verdicts."""
    from stages.method.evaluation.match import CHOICE  # brings numpy, which only this needs

    found = _shown(name, name, text, prompt=MARKS[0], answer_a=MARKS[1], answer_b=MARKS[2])
    if text is not None and not found and {f"[[{letter}" for letter in "ABC"} - set(CHOICE.findall(text)):
        found.append(Finding(name, "does not ask for the verdicts [[A]], [[B]] and [[C]]", "Ask for all three"))
    return found


def score_line(text: str) -> tuple[str | None, str]:
    """How a judge's template shows that the score is to be written, if that can be read, and the text behind it. The
    last such line decides, as in a judgement."""
    filled = PLACE.sub(r"\g<1>4", render(text, prompt="", response=""))
    line, after = None, filled
    for match in SCORE.finditer(filled):
        written, _, after = (
            filled[match.start() :].partition("\n") if "\n" not in match[0] else (match[0], "", filled[match.end() :])
        )
        line = written.strip() if read_score(written) is not None else None
    return line, after


def _shown(key: str, name: str, text: str | None, **fields: str | list[str]) -> list[Finding]:
    """A finding for each field that the rendered template does not hold whole."""
    if text is None:
        return []
    try:
        rendered = render(text, **fields)
    except SrlmError as e:
        return [Finding(key, f"{name} cannot be filled: {e}", f"It may use {', '.join(fields)}")]
    return [
        Finding(
            key, f"{name} does not show {field} whole", f"Put {{{{ {field} }}}} in it, outside of comments and filters"
        )
        for field, value in fields.items()
        if any(mark not in rendered for mark in ([value] if isinstance(value, str) else value))
    ]


def _is_tinyworld(name: str) -> bool:
    return Path(name).parent.name == "tinyworld"


def _text(root: Path, name: str) -> str | None:
    try:
        return (root / name).read_text(encoding="utf-8") if (root / name).is_file() else None
    except (OSError, ValueError):
        return None
