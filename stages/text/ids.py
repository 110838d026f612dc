"""Ids of rows: hashes of what the row is about, so that the same content has the same id everywhere."""

from __future__ import annotations

import hashlib
import json
from unicodedata import normalize


def content_id(*parts: str | int) -> str:
    """16 hex digits of the SHA-256 of `parts`: stable across runs, machines and versions."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def text_key(text: str) -> str:
    """What makes two prompts the same: their words, whatever the case, the white space and how Unicode spells é."""
    return normalize("NFC", " ".join(text.split()).casefold())
