"""Messages in Open Assistant's schema, from a file or from the Hub at a pinned revision, each with the place it stands
at. Reads; decides nothing."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from stages.console.errors import SeedDataError

Message = tuple[str, Mapping[str, Any]]
"""Where it stands (file and line), and the message or tree."""
FORMS = ".jsonl, .json (both also .gz) or .parquet"
GZIP = b"\x1f\x8b"


def read_file(path: Path) -> list[Message]:
    """Messages (or whole trees) of a file: one JSON object a line, a JSON list, or parquet; gzip by its content.

    Raises SeedDataError with file and line.
    """
    name = path.name.removesuffix(".gz")
    if not path.exists():
        raise SeedDataError(f"seed file {path} does not exist. Fix split_seed.path in params.yaml")
    if not path.is_file():  # a pipe or a device would never end
        raise SeedDataError(f"seed file {path} is not a regular file. Fix split_seed.path in params.yaml")
    if not name.endswith((".jsonl", ".json", ".parquet")):
        raise SeedDataError(f"seed file {path}: expected {FORMS}. Convert it, or name it by what it is")
    try:
        if name.endswith(".parquet"):
            rows = pl.read_parquet(path, glob=False).to_dicts()
            messages: list[Message] = [(f"{path}, row {n}", row) for n, row in enumerate(rows, 1)]
        else:
            data = path.read_bytes()
            messages = list(_json(gzip.decompress(data) if data.startswith(GZIP) else data, path))
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        raise SeedDataError(f"seed file {path} cannot be read as {FORMS}: {e}") from e
    if not messages:
        raise SeedDataError(f"seed file {path} is empty. Expected Open Assistant's messages, one JSON object a line")
    return messages


def _json(data: bytes, path: Path) -> Iterator[Message]:
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        number, byte = data.count(b"\n", 0, e.start) + 1, e.start - data.rfind(b"\n", 0, e.start)
        raise SeedDataError(
            f"{path}, line {number}, byte {byte}: not UTF-8 ({e.reason}). Save the file as UTF-8"
        ) from None
    if path.name.removesuffix(".gz").endswith(".json") and text.lstrip().startswith("["):
        for n, message in enumerate(_parsed(text, str(path), many_lines=True), 1):
            yield _object(message, f"{path}, message {n}")
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _object(_parsed(line.rstrip(), f"{path}, line {number}"), f"{path}, line {number}")


def _parsed(text: str, where: str, many_lines: bool = False) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as e:
        line = f", line {e.lineno}" if many_lines else ""
        seen = text.split("\n")[e.lineno - 1].strip()[:60]
        raise SeedDataError(f"{where}{line}: not JSON ({e.msg} at column {e.colno}): {seen!r}") from None
    except RecursionError:
        raise SeedDataError(f"{where}: objects nested too deeply to be messages") from None
    except ValueError as e:  # NaN, or a number of thousands of digits
        raise SeedDataError(f"{where}: {str(e).partition(';')[0]}") from None


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON. Write null where a value is unknown")


def _object(data: Any, where: str) -> Message:
    if not isinstance(data, dict):
        raise SeedDataError(f"{where}: expected a message object, seen {type(data).__name__}")
    return where, data


def read_hub(repo: str, revision: str) -> list[Message]:
    """Messages of a dataset on the Hub (or of a local folder in its layout), all splits.

    Raises SeedDataError naming repository and revision.
    """
    from datasets import load_dataset

    local = Path(repo).is_dir()
    try:
        splits = load_dataset(repo, revision=None if local else revision)
    except Exception as e:  # the libraries below raise dozens of types: network, authentication, layout
        raise SeedDataError(
            f"dataset {repo} at revision {revision} cannot be loaded: {type(e).__name__}: {e}. Check the name, the "
            f"revision and your network"
        ) from e
    return [
        (f"{repo}, split {name}, row {n}", message)
        for name in sorted(splits)
        for n, message in enumerate(splits[name].to_list(), 1)
    ]
