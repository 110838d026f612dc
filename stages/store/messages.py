"""Messages in Open Assistant's schema, from a file or from the Hub at a pinned revision. Reads; decides nothing."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import polars as pl

from stages.console.errors import SeedDataError

Message = Mapping[str, Any]
FORMS = ".jsonl, .jsonl.gz, .json or .parquet"


def read_file(path: Path) -> list[Message]:
    """Messages (or whole trees) of a file: one JSON object a line, a JSON list, or parquet; gzip by name.

    Raises SeedDataError with file and line.
    """
    name = path.name.removesuffix(".gz")
    messages: list[Message]
    try:
        if name.endswith(".parquet"):
            messages = list(pl.read_parquet(path, glob=False).to_dicts())
        else:
            with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
                messages = _json_list(f, path) if name.endswith(".json") else list(_json_lines(f, path))
    except FileNotFoundError:
        raise SeedDataError(f"seed file {path} is not there. Its name stands in params.yaml, split_seed.path") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pl.exceptions.PolarsError) as e:
        raise SeedDataError(f"seed file {path} cannot be read as {FORMS}: {e}") from e
    if not messages:
        raise SeedDataError(f"seed file {path} is empty. Open Assistant's messages are wanted, one JSON object a line")
    return messages


def _json_lines(f: IO[str], path: Path) -> Iterator[Message]:
    for number, line in enumerate(f, 1):
        if line.strip():
            yield _object(line, f"{path}, line {number}")


def _json_list(f: IO[str], path: Path) -> list[Message]:
    try:
        data = json.load(f)
    except json.JSONDecodeError as e:
        raise SeedDataError(f"{path}, line {e.lineno}: not JSON ({e.msg})") from None
    if not isinstance(data, list) or not all(isinstance(m, dict) for m in data):
        raise SeedDataError(f"{path}: a list of message objects is wanted")
    return data


def _object(line: str, where: str) -> Message:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as e:
        raise SeedDataError(f"{where}: not JSON ({e.msg} at column {e.colno}): {line.strip()[:60]!r}") from None
    if not isinstance(data, dict):
        raise SeedDataError(f"{where}: a message object is wanted, seen {type(data).__name__}")
    return data


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
    return [message for name in sorted(splits) for message in splits[name].to_list()]
