"""Faults in params.yaml, in words: the dotted key, what is expected there, what was seen, and the nearest valid key.

What is expected is read from the types of `params.py`, so that no sentence here can disagree with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.config.finding import Finding, nearest

TYPES = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text"}
LIMITS = (
    ("minimum", "of at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "of at most"),
    ("exclusiveMaximum", "below"),
)


def explain(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """One finding per fault."""
    schema = model.model_json_schema()
    missing = [e["loc"] for e in error.errors() if e["type"] == "missing"]
    found = []
    for e in error.errors():
        loc = tuple(str(part) for part in e["loc"])
        where = ".".join(loc) or "params.yaml"
        if e["type"] == "missing":
            found.append(Finding(where, f"missing; expected {expected(schema, loc)}"))
        elif e["type"] == "extra_forbidden":
            near = _meant(loc, [tuple(map(str, other)) for other in missing], schema)
            found.append(Finding(where, "unknown key" + (f"; did you mean {near}?" if near else "")))
        elif e["type"] == "value_error":
            found.append(Finding(where, str(e["ctx"]["error"])))
        elif loc[-1] == "[key]":
            mapping = _at(schema, loc[:-2])
            kind, pattern = mapping["propertyNames"]["description"], next(iter(mapping["patternProperties"]))
            seen = f"expected {kind}, seen {_shown(loc[-2])}"
            found.append(Finding(".".join(loc[:-2]), seen, _usable(loc[-2], pattern)))
        else:
            fix = _usable(e["input"], _at(schema, loc)["pattern"]) if e["type"] == "string_pattern_mismatch" else ""
            found.append(Finding(where, f"expected {expected(schema, loc)}, seen {_shown(e['input'])}", fix))
    return found


def expected(schema: dict[str, Any], loc: tuple[str, ...] = ()) -> str:
    """What may stand at `loc`, in words: "a whole number of at least 1"."""
    return _words(schema, _at(schema, loc))


def known_keys(schema: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All keys of a section and the sections in it; not the names in mappings."""
    for name in _section(schema, _at(schema, at)).get("properties", {}):
        yield (*at, name)
        yield from known_keys(schema, (*at, name))


def _at(schema: dict[str, Any], loc: tuple[str, ...]) -> dict[str, Any]:
    """The part of a JSON schema that describes `loc`."""
    node: dict[str, Any] = schema
    for part in loc:
        node = _section(schema, node)
        named = [*node.get("patternProperties", {}).values(), node.get("additionalProperties"), node.get("items")]
        below = node.get("properties", {}).get(part) or next((one for one in named if isinstance(one, dict)), {})
        node = _resolve(schema, below)
    return node


def _section(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Of a section that may be null the section."""
    return _resolve(schema, node["anyOf"][0]) if "anyOf" in node else node


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _words(schema: dict[str, Any], node: dict[str, Any]) -> str:
    node = _resolve(schema, node)
    if choice := node.get("anyOf"):
        return ", or ".join("null" if one.get("type") == "null" else _words(schema, one) for one in choice)
    if values := node.get("enum") or ([node["const"]] if "const" in node else None):
        return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
    if keys := node.get("properties"):
        return f"a section with the keys {', '.join(keys)}"
    kind = node.get("type")
    if kind == "object":
        return "a mapping of names ({} where there is none)"
    if kind == "array":
        one = _words(schema, node["items"]).removeprefix("a ").split(" of letters")[0]
        return f"a list, {'not empty, ' if node.get('minItems') else ''}each entry a {one}"
    if kind == "string" and "description" in node and ("pattern" in node or "minLength" in node):
        return str(node["description"])
    limits = " and ".join(f"{words} {node[name]:,}" for name, words in LIMITS if name in node)
    return f"{TYPES.get(str(kind), 'a value')} {limits}".rstrip()


def _meant(loc: tuple[str, ...], missing: list[tuple[str, ...]], schema: dict[str, Any]) -> str | None:
    """The key that was probably meant: one that is missing beside it, else any that is spelled much like it."""
    *parents, last = loc
    beside = {other[-1]: other for other in missing if list(other[:-1]) == parents}
    if near := nearest(last, beside, cutoff=60):
        return ".".join(beside[near])
    at = _section(schema, _at(schema, tuple(parents)))
    if near := nearest(last, at.get("properties", {})):
        return ".".join((*parents, near))
    anywhere = {key[-1]: key for key in reversed(list(known_keys(schema)))}
    near = nearest(last, anywhere, cutoff=85)
    return ".".join(anywhere[near]) if near else None


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _usable(name: object, pattern: str) -> str:
    """A sentence with the nearest name that can be used; empty where there is none."""
    near = re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).lstrip("0123456789_-")[:64].rstrip("_")
    fits = [one for one in (near, near.upper().replace("-", "_")) if re.search(pattern, one)]
    return f"Use {fits[0]}" if fits else ""
