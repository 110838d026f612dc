"""Text of a CSV file, where numbers, lists and truth values are text too."""

from __future__ import annotations

import json
from typing import Any


class Cell(str):
    """Read as text or as JSON, as whoever asks for it needs."""

    __slots__ = ()


def parsed(value: Any) -> Any:
    """A cell's JSON value, where it has one; anything else as it is."""
    if not isinstance(value, Cell):
        return value
    try:
        return json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except (ValueError, RecursionError):
        return value
