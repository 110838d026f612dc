"""The records of files that other tools write, each with where it stands, for errors."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from stages.console.errors import TableError
from stages.store.rows import GZIP, read_file

Record = tuple[str, Any]
"""File and place, and what stands there."""


def read_records(path: Path) -> list[Record]:
    """The objects of JSON or JSON lines, or the rows of CSV, also gzipped. Raises SeedDataError, or TableError where a
    text is none."""
    return [_whole(f"{path}, {place}", row) for place, row in read_file(path, what="file", fix="Name another")]


def read_texts(path: Path) -> list[Record]:
    """A JSON list of texts; empty where the file is another."""
    try:
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if data.startswith(GZIP) else data)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return []
    if not isinstance(content, list) or not all(isinstance(each, str) for each in content):
        return []
    return [_whole(f"{path}, text {i}", text) for i, text in enumerate(content, 1)]


def field(record: Any, name: str, where: str) -> str:
    """A text of a record. Raises TableError."""
    value = record.get(name)
    if not isinstance(value, str):
        raise TableError(f"{where}: {name}: expected a text, saw {str(value)[:60]!r}")
    return value


def _whole(where: str, row: Any) -> Record:
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as e:
        raise TableError(f"{where} holds half of a character, {e.object[e.start]!r}, which is no text") from None
    return where, row
