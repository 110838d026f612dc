"""Do the templates that params.yaml names ask for what the method reads? Rendered with marks in the place of texts,
before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from stages.config.finding import Finding
from stages.config.params import Params
from stages.console.bounded import BoundedError, bounded
from stages.console.errors import SrlmError
from stages.method.scale import OF_FIVE, Scale
from stages.method.score_line import TO, score_line
from stages.method.seed_judging import reasons
from stages.method.template import render

COMPARE = "stages/templates/compare.jinja"
MARKS = tuple(f"«{i} <b> & 'mark' of a text» " + "x" * 4000 + f" «end {i}»" for i in range(8))
"""Texts as long as an answer, with what a filter could change; what is shown whole shows them letter by letter."""
SCALE = re.compile(
    rf"(?:(?<![\w.])(?:[01](?:\.0)?|zero|one){TO}|\bout[ \t]+of[ \t]+|[\w>\])}}$][ \t]*/[ \t]*"
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
    scale = Scale(**dict(params.judge.scale)) if hasattr(params, "judge") else OF_FIVE
    if hasattr(params, "judge"):
        checks.append((params.judge.template, partial(judge_faults, scale=scale)))
    if hasattr(params, "judge_seed") and params.judge_seed.source == "ranks":
        checks.append((params.judge_seed.path, partial(rank_faults, scale=scale)))
    if hasattr(params, "write_prompts"):
        checks.append((params.write_prompts.template, writer_faults))
    by_model = hasattr(params, "evaluate") and params.evaluate.compare_by == "model"
    if by_model or (hasattr(params, "judge_candidates") and params.judge_candidates.kind == "pairwise"):
        checks.append((COMPARE, compare_faults))
    if hasattr(params, "judge_pairs") and params.judge_pairs.source == "meta_judge":
        fields = ("task", "judgement_a", "judgement_b")
        checks.append((params.judge_pairs.meta_judge.template, partial(compare_faults, fields=fields)))
    found: list[Finding] = []
    for name, check in checks:
        with suppress(OSError, ValueError):
            text = (root / name).read_text(encoding="utf-8")
            try:  # a template is a program, which need not end
                found += bounded(partial(check, name, text), seconds=2)
            except BoundedError as e:
                found.append(Finding(name, f"cannot be filled: {e}", "Make it simpler"))
    return found


def wanted(scale: Scale) -> str:
    """The line that a judge's template asks for."""
    return "Score: <letter>" if scale.letters else "Score: <n>"


def judge_faults(name: str, text: str, scale: Scale = OF_FIVE) -> list[Finding]:
    """Of the judge's template: both fields whole, and a score line that can be read."""
    found = _shown("judge.template", name, text, prompt=MARKS[0], response=MARKS[1])
    if found or Path(name).parent.name == "tinyworld":  # its M0 has read how judges write
        return found
    line, other = score_line(text, scale)
    if span := other_scale(render(text, prompt="", response=""), scale):
        seen = f"{name} asks for another range ({span!r}), and scores here are {scale}"
    elif line and not other:
        return []
    else:
        seen = f"{name} asks for {other!r}, which is not read as a score" if other else f"{name} asks for no score"
    fix = f"A score of {scale} is read from a line like {wanted(scale)!r}: end the template with it, or set judge.scale"
    return [Finding("judge.template", seen, fix)]


def rank_faults(name: str, text: str, scale: Scale = OF_FIVE) -> list[Finding]:
    """Of the template that turns ranks into judgements: whatever the counts and the wording, it ends in the score."""
    score = (scale.min + scale.max + 2) // 2 + (0.0 if scale.letters else 0.5)
    try:
        for better, equal, worse in ((0, 0, 1), (1, 0, 0), (1, 1, 1), (0, 1, 0), (3, 0, 3), (0, 2, 4), (4, 2, 0)):
            for pick in range(12):
                counts = {"better": better, "equal": equal, "worse": worse}
                reasons(text, f"Score: {scale.example}", score, pick, scale, **counts)
    except SrlmError as e:
        fix = "It may use better, equal, worse, pick and score_line, with which it ends"
        return [Finding("judge_seed.path", f"{name} makes no judgement: {e}", fix)]
    return []


def writer_faults(name: str, text: str) -> list[Finding]:
    """Of the writer's template: every demonstration is shown, whatever their number."""
    many = _shown("write_prompts.template", name, text, shots=list(MARKS))
    return many or _shown("write_prompts.template", name, text, shots=[MARKS[0]])


def compare_faults(name: str, text: str, fields: Sequence[str] = ("prompt", "answer_a", "answer_b")) -> list[Finding]:
    """Of a comparison's template: all fields, and the three verdicts."""
    from stages.method.evaluation.match import CHOICE  # brings numpy, which only this needs

    found = _shown(name, name, text, **dict(zip(fields, MARKS, strict=False)))
    if not found and len(set(CHOICE.findall(text))) < 3:
        found.append(Finding(name, "does not ask for the verdicts [[A]], [[B]] and [[C]]", "Ask for all three"))
    return found


def other_scale(text: str, scale: Scale = OF_FIVE) -> str | None:
    """The widest range of scores that a judge's template names, when it does not end at the scale's top. Ranges below
    that count only in a sentence about rating."""
    ranges = [
        (int({"five": "5", "ten": "10"}.get(top := (m["top"] or m["best"]).lower(), top)), m[0])
        for sentence in re.split(r"\n|[.!?]\s", text)
        for m in SCALE.finditer(sentence)
        if RATING.search(sentence) or len(m["top"] or "") > 1
    ]
    top, words = max(ranges, default=(scale.max, ""))
    return words if top != scale.max and not scale.letters else None


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
