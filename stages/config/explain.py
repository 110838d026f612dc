"""Faults in params.yaml, in words: the dotted key, what was seen, what is allowed, and the nearest valid key."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from rapidfuzz import process


def explain(error: ValidationError, file: Path, model: type[BaseModel]) -> str:
    """One line per fault, then what to do."""
    lines = []
    missing = sorted(".".join(map(str, e["loc"])) for e in error.errors() if e["type"] == "missing")
    for e in error.errors():
        where = ".".join(str(x) for x in e["loc"]) or "the file"
        if e["type"] == "missing":
            lines.append(f"{where}: missing")
        elif e["type"] == "extra_forbidden":
            near = process.extractOne(where, missing, score_cutoff=50) or process.extractOne(
                where, known_keys(model)
            )  # a typo leaves its right key missing
            lines.append(f"{where}: unknown key; did you mean {near[0]}?")
        else:
            seen = "" if e["type"] == "value_error" else f", seen {e['input']!r}"
            lines.append(f"{where}: {e['msg'].removeprefix('Value error, ')}{seen}")
    return (
        f"{file}: {len(lines)} fault(s)\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\nMend {file.name}, or start from a profile: srlm profile tiny"
    )


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section and the sections in it."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):  # a section, or one that may be null
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += known_keys(kind, f"{prefix}{name}.")
    return keys
