"""Faults that pydantic found in params.yaml, in words: the dotted key, what is expected, what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args, get_origin

from pydantic import ValidationError

from stages.config.finding import Finding, nearest
from stages.config.shared import Section

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping of names ({{}} where there is none)",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt:,}",
    "greater_than_equal": "a number of at least {ge:,}",
    "int_type": "a whole number",
    "less_than": "a number below {lt:,}",
    "less_than_equal": "a number of at most {le:,}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a section: key: value",
    "string_pattern_mismatch": "a text like {pattern}",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_short": "a list that is not empty",
}
"""By the type of pydantic's error, filled with its context."""


def explain(error: ValidationError, model: type[Section]) -> Iterator[Finding]:
    """One finding per fault."""
    for e in error.errors():
        kind, loc = e["type"], tuple(map(str, e["loc"]))
        loc = loc[:-2] if loc[-1:] == ("[key]",) else loc
        if kind == "missing":
            seen = "missing"
        elif kind == "extra_forbidden":
            seen = "unknown key" + (f"; did you mean {near}?" if (near := _meant(loc, model)) else "")
        elif kind == "value_error":
            seen = str(e["ctx"]["error"])
        else:
            wanted = EXPECTED[kind].format(**e.get("ctx", {})) if kind in EXPECTED else e["msg"]
            seen = f"expected {wanted}, seen {json.dumps(e['input'], ensure_ascii=False, default=str)[:80]}"
        yield Finding(".".join(loc) or "params.yaml", seen)


def known_keys(section: type[Section], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All keys of a section and of the sections in it; `*` stands for a name in a mapping."""
    for name, field in section.model_fields.items():
        yield (*at, name)
        names = ("*",) if get_origin(field.annotation) is dict else ()
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from known_keys(kind, (*at, name, *names))


def _meant(loc: tuple[str, ...], model: type[Section]) -> str | None:
    """The key that was probably meant: one beside it, or any that is spelled almost like it."""
    *parents, last = loc
    keys = list(known_keys(model))
    beside = [key[-1] for key in keys if len(key) == len(loc) and all(map(_is_at, parents, key))]
    if near := nearest(last, beside):
        return ".".join((*parents, near))
    anywhere = {key[-1]: key for key in reversed(keys)}
    near = nearest(last, anywhere, cutoff=85)
    return ".".join(anywhere[near]) if near else None


def _is_at(part: str, known: str) -> bool:
    return known in (part, "*")
