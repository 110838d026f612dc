"""What language the data name."""

from __future__ import annotations

import re


def is_english(lang: str | None) -> bool:
    return lang is not None and re.split("[-_]", lang.lower())[0] in ("en", "eng", "english")
