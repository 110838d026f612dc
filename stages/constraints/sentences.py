"""Constraints in plain words: drawn by a seed, written behind a prompt, and read back from the prompt's text alone."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

MOST = 3
"""Constraints of one prompt."""


class Kind(NamedTuple):
    """One of IFEval's instructions. Of a `group` a prompt has one kind at most; IFEval's table of conflicts is kept."""

    instruction: str
    group: str
    phrasings: tuple[str, ...]
    choices: Mapping[str, Sequence[Any]] = {}
    """What is drawn for each argument of the checker."""
    fixed: Mapping[str, Any] = {}
    """Its other arguments."""


class Constraint(NamedTuple):
    name: str
    """A key of KINDS."""
    arguments: Mapping[str, Any]
    """Of IFEval's checker."""


LENGTH, KEYWORDS, WRAP = "length", "keywords", "wrap"
KINDS = {
    "no_comma": Kind(
        "punctuation:no_comma",
        "commas",
        ("Do not use any commas.", "Write without a single comma.", "No commas are allowed in your answer."),
    ),
    "lowercase": Kind(
        "change_case:english_lowercase",
        "case",
        ("Write everything in lowercase letters.", "Use no capital letters.", "All letters must be lowercase."),
    ),
    "capitals": Kind(
        "change_case:english_capital",
        "case",
        ("WRITE EVERYTHING IN CAPITAL LETTERS.", "Use capital letters only.", "All letters must be uppercase."),
    ),
    "quotation": Kind(
        "startend:quotation",
        WRAP,
        (
            "Wrap your whole answer in double quotation marks.",
            "Begin and end your answer with a double quotation mark.",
            "Put the entire response inside double quotes.",
        ),
    ),
    "title": Kind(
        "detectable_format:title",
        WRAP,
        (
            "Give your answer a title in double angular brackets, such as <<my title>>.",
            "Start with a title that is written like this: <<title>>.",
            "Add a title wrapped in << and >>.",
        ),
    ),
    "end_phrase": Kind(
        "startend:end_checker",
        "end",
        (
            "End your answer with the words: {end_phrase}",
            "The last words must be: {end_phrase}",
            "Finish with exactly this: {end_phrase}",
        ),
        {"end_phrase": ("That is all.", "I hope this helps.", "Is there anything else I can help with?")},
    ),
    "postscript": Kind(
        "detectable_content:postscript",
        "end",
        (
            "At the end add a postscript that starts with P.S.",
            "Close with a postscript beginning with P.S.",
            "Your answer must have a postscript, marked P.S.",
        ),
        fixed={"postscript_marker": "P.S."},
    ),
    "keyword": Kind(
        "keywords:existence",
        KEYWORDS,
        ("Use the word {keywords}.", "The word {keywords} must appear.", "Make sure to mention the word {keywords}."),
        {"keywords": (["example"], ["people"], ["time"], ["world"], ["simple"], ["together"], ["different"])},
    ),
    "forbidden": Kind(
        "keywords:forbidden_words",
        KEYWORDS,
        (
            "Do not use the word {forbidden_words}.",
            "Avoid the word {forbidden_words}.",
            "The word {forbidden_words} is forbidden.",
        ),
        {"forbidden_words": (["and"], ["can"], ["is"], ["with"], ["you"], ["also"], ["that"])},
    ),
    "repeated": Kind(
        "keywords:frequency",
        KEYWORDS,
        (
            "Use the word {keyword} at least {frequency} times.",
            "The word {keyword} should appear {frequency} times or more.",
            "Repeat the word {keyword} at least {frequency} times.",
        ),
        {"keyword": ("good", "way", "important", "best", "help"), "frequency": (2, 3)},
        {"relation": "at least"},
    ),
    "fewer_words": Kind(
        "length_constraints:number_words",
        LENGTH,
        (
            "Answer in fewer than {num_words} words.",
            "Stay below {num_words} words.",
            "Your answer must have less than {num_words} words.",
        ),
        {"num_words": (30, 40, 50, 60)},
        {"relation": "less than"},
    ),
    "more_words": Kind(
        "length_constraints:number_words",
        LENGTH,
        (
            "Answer in at least {num_words} words.",
            "Write {num_words} words or more.",
            "Your answer must have no less than {num_words} words.",
        ),
        {"num_words": (20, 30, 40, 50)},
        {"relation": "at least"},
    ),
    "bullets": Kind(
        "detectable_format:number_bullet_lists",
        LENGTH,
        (
            "Answer with exactly {num_bullets} bullet points that start with *.",
            "Use exactly {num_bullets} bullets, each on a line that begins with *.",
            "Give {num_bullets} bullet points, marked with *.",
        ),
        {"num_bullets": (2, 3, 4)},
    ),
    "highlights": Kind(
        "detectable_format:number_highlighted_sections",
        "highlights",
        (
            "Highlight at least {num_highlights} words or phrases like this: *highlighted*.",
            "Put at least {num_highlights} important parts between asterisks, like *this*.",
            "Mark {num_highlights} or more key terms as *key term*.",
        ),
        {"num_highlights": (1, 2, 3)},
    ),
}


def draw(seed: int, prompt_id: str) -> list[str]:
    """One to MOST sentences for a prompt, decided by `(seed, prompt_id)`; no two constraints are of one group."""
    rng = random.Random(f"{seed}\x1f{prompt_id}\x1fconstraints")
    groups = sorted({kind.group for kind in KINDS.values()})
    sentences = []
    for group in rng.sample(groups, rng.randint(1, MOST)):
        kind = rng.choice([kind for kind in KINDS.values() if kind.group == group])
        shown = {name: _shown(rng.choice(values)) for name, values in kind.choices.items()}
        sentences.append(rng.choice(kind.phrasings).format(**shown))
    return sentences


def add(prompt: str, sentences: Collection[str]) -> str:
    """The prompt, and the sentences as its last paragraph."""
    return f"{prompt}\n\n{' '.join(sentences)}"


def read(prompt: str) -> list[Constraint]:
    """The constraints of a prompt; none where its last paragraph is anything else."""
    return _split(prompt)[1]


def without(prompt: str) -> str:
    """The prompt before constraints were added."""
    return _split(prompt)[0]


def _split(prompt: str) -> tuple[str, list[Constraint]]:
    text, behind, last = prompt.rpartition("\n\n")
    constraints: list[Constraint] = []
    at = 0
    while behind and at < len(last):
        sentence = SENTENCE.match(last, at)
        if not sentence or len(constraints) == MOST:
            return prompt, []
        constraints.append(_constraint(sentence))
        at = sentence.end()
    return (text, constraints) if constraints else (prompt, [])


def _shown(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def _patterns() -> str:
    """An alternation of every phrasing of every kind; what is drawn is a group `argument__kind__phrasing`."""
    patterns = []
    for name, kind in KINDS.items():
        for i, phrasing in enumerate(kind.phrasings):
            parts = re.split(r"\{(\w+)\}", phrasing)
            pattern = "".join(
                re.escape(part)
                if at % 2 == 0
                else f"(?P<{part}__{name}__{i}>{'|'.join(re.escape(_shown(v)) for v in kind.choices[part])})"
                for at, part in enumerate(parts)
            )
            patterns.append(f"(?P<is__{name}__{i}>{pattern})")
    return "|".join(patterns)


SENTENCE = re.compile(rf"(?:{_patterns()})(?: (?!\Z)|\Z)")


def _constraint(sentence: re.Match[str]) -> Constraint:
    groups = {group: text for group, text in sentence.groupdict().items() if text is not None}
    name = next(group for group in groups if group.startswith("is__")).split("__")[1]
    kind, arguments = KINDS[name], {}
    for group, text in groups.items():
        argument = group.split("__")[0]
        if argument in kind.choices:
            arguments[argument] = next(value for value in kind.choices[argument] if _shown(value) == text)
    return Constraint(name, {**arguments, **kind.fixed})
