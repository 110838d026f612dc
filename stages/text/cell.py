"""Values as files hold them: of CSV, where numbers, lists and truth values are text too; and decimals."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*")
"""As spreadsheets write it; JSON knows no `.5`, `4.`, `+4` and `04`."""


class Cell(str):
    """Read as text or as JSON, as whoever asks for it needs."""

    __slots__ = ()


def parsed(value: Any) -> Any:
    """A cell's JSON value or number, where it has one; a decimal as a number; anything else as it is."""
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if not isinstance(value, Cell):
        return value
    try:
        return json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except (ValueError, RecursionError):
        return float(value) if NUMBER.fullmatch(value) else value
