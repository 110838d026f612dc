"""Data of the pair browser, as JSON that is safe inside a script element."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def fitting(pairs: Iterable[dict[str, Any]], budget: int) -> tuple[str, int]:
    """A JSON array of as many of `pairs`, from the first, as fit into `budget` bytes, and how many."""
    parts: list[str] = []
    used = 2
    for pair in pairs:
        text = embedded(pair)
        used += len(text) + 1
        if used > budget:
            break
        parts.append(text)
    return f"[{','.join(parts)}]", len(parts)


def embedded(data: Any) -> str:
    """JSON in ASCII without `<`, `>` and `&`: nothing in it can end the script element or begin another, in any
    encoding."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
