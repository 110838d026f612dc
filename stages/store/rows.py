"""Rows of seed data, from a file or from the Hub at a pinned revision, each with its place. Reads; decides nothing."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from stages.console.errors import SeedDataError
from stages.text.cell import Cell

FORMS = ".jsonl, .json, .csv or .parquet, each also .gz"
GZIP = b"\x1f\x8b"

Row = tuple[str, Mapping[str, Any]]
"""Its place (`line 3`, `row 3`, `split train, row 3`), and its values by column."""


def read_file(
    path: Path, first: int | None = None, what: str = "seed file", fix: str = "Fix split_seed.path in params.yaml"
) -> list[Row]:
    """All rows of a file, or the `first` ones: a JSON object a line, a JSON list of objects, CSV with a header, or
    parquet; gzip by its content.

    Raises SeedDataError with file and line; it says `what` the file is, and what to `fix` where it is none.
    """
    ending = Path(path.name.removesuffix(".gz")).suffix
    if not path.exists():
        raise SeedDataError(f"{what} {path} does not exist. {fix}")
    if not path.is_file():  # a pipe or a device would never end
        raise SeedDataError(f"{what} {path} is not a regular file. {fix}")
    if ending not in READERS:
        raise SeedDataError(f"{what} {path}: expected {FORMS}. Convert it, or name it by what it is")
    try:
        return rows_of(path.read_bytes(), str(path), ending, first, what)
    except OSError as e:
        raise SeedDataError(f"{what} {path} cannot be read: {e}") from e


def rows_of(data: bytes, name: str, ending: str, first: int | None = None, what: str = "seed file") -> list[Row]:
    """Of the content of a file `name`."""
    try:
        data = gzip.decompress(data) if data.startswith(GZIP) else data
        rows = list(islice(READERS[ending](data, name), first))
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        raise SeedDataError(f"{what} {name} cannot be read as {ending} or {ending}.gz: {e}") from e
    if not rows:
        raise SeedDataError(f"{what} {name} is empty: expected at least one row")
    return rows


def _parquet(data: bytes, name: str) -> Iterator[Row]:
    for number, row in enumerate(pl.read_parquet(io.BytesIO(data)).iter_rows(named=True), 1):
        yield f"row {number}", row


def _csv(data: bytes, name: str) -> Iterator[Row]:
    """With the line that each row begins at. Separated by comma, semicolon or tab, whichever the header has most of."""
    csv.field_size_limit(2**31 - 1)
    text = _text(data, name)
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=text.partition("\n")[0].count), strict=True
    )
    header: list[str] = []
    while True:
        start = lines.line_num + 1
        try:
            fields = next(lines)
        except StopIteration:
            return
        except csv.Error as e:
            raise SeedDataError(f"{name}, line {start}: not CSV ({e})") from None
        if not fields:
            continue
        if not header:
            header = fields
            if twice := sorted({column for column in header if header.count(column) > 1}):
                raise SeedDataError(f"{name}, line {start}: the header names {twice[0]!r:.60} twice")
        elif len(fields) != len(header):
            raise SeedDataError(f"{name}, line {start}: {len(fields)} fields, and the header has {len(header)}")
        else:
            yield f"line {start}", {k: Cell(v) if v else None for k, v in zip(header, fields, strict=True)}


def _json(data: bytes, name: str) -> Iterator[Row]:
    text = _text(data, name)
    if text.lstrip().startswith("["):
        for n, row in enumerate(_parsed(text, name, many_lines=True), 1):
            yield _object(row, name, f"object {n}")
    else:
        yield from _lines(text, name)


def _jsonl(data: bytes, name: str) -> Iterator[Row]:
    return _lines(_text(data, name), name)


def _lines(text: str, name: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _object(_parsed(line.rstrip(), f"{name}, line {number}"), name, f"line {number}")


READERS = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}


def _text(data: bytes, name: str) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise SeedDataError(f"{name} is UTF-16 or UTF-32. Save the file as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        number, byte = data.count(b"\n", 0, e.start) + 1, e.start - data.rfind(b"\n", 0, e.start)
        raise SeedDataError(
            f"{name}, line {number}, byte {byte}: not UTF-8 ({e.reason}). Save the file as UTF-8"
        ) from None


def _parsed(text: str, where: str, many_lines: bool = False) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as e:
        line = f", line {e.lineno}" if many_lines else ""
        seen = text.split("\n")[e.lineno - 1].strip()[:60]
        raise SeedDataError(f"{where}{line}: not JSON ({e.msg} at column {e.colno}): {seen!r}") from None
    except RecursionError:
        raise SeedDataError(f"{where}: objects nested too deeply") from None
    except ValueError as e:  # NaN, or a number of thousands of digits
        raise SeedDataError(f"{where}: {str(e).partition(';')[0]}") from None


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON. Write null where a value is unknown")


def _object(row: Any, name: str, place: str) -> Row:
    if not isinstance(row, dict):
        raise SeedDataError(f"{name}, {place}: expected an object, seen {type(row).__name__}")
    return place, row


def read_hub(
    repo: str, revision: str, config: str | None = None, split: str | None = None, where: str = "split_seed."
) -> list[Row]:
    """Rows of a dataset on the Hub (or of a local folder in its layout): of its one or default `config`, of one `split`
    or all.

    Raises SeedDataError naming repository and revision; config and split are given `where`.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    local = Path(repo).is_dir()
    try:
        splits = load_dataset(repo, config, revision=None if local else revision)
    except Exception as e:  # the libraries below raise dozens of types: network, authentication, layout
        of = f", config {config}," if config else ""
        why = e.__cause__ if isinstance(e, DatasetGenerationError) and e.__cause__ else e  # its own words say nothing
        raise SeedDataError(
            f"dataset {repo}{of} at revision {revision} cannot be loaded: {type(why).__name__}: "
            f"{' '.join(str(why).split())}. Check the name, {where}config, the revision and your network"
        ) from e
    if split and split not in splits:
        raise SeedDataError(f"dataset {repo} has no split {split!r}; it has {', '.join(splits)}. Fix {where}split")
    return [
        (f"split {name}, row {n}", row)
        for name in ([split] if split else sorted(splits))
        for n, row in enumerate(splits[name].to_list(), 1)
    ]
