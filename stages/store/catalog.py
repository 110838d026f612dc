"""Read and write tables under their contracts: columns, types, key, nulls. Nothing that breaks one gets in or out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from stages.config.load import PARAMS, read_mapping
from stages.config.shared import MODEL_NAME
from stages.console.errors import ModelError, ParamsError, TableError
from stages.store.files import atomic_write
from stages.store.tables import Rule, Table

PACKAGES, LEFT_OUT = "self-rewarding-lm packages", "self-rewarding-lm left out"
REVIEWED = "self-rewarding-lm reviews"
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises at a damaged file; a panic is no Exception."""
SHOWN = 3
"""How many offending rows an error names."""


def table_path(table: Table, root: Path, model: str | None = None) -> Path:
    """Where the table lies. Raises ValueError when a model is named for a table that has none, or the reverse, and
    ParamsError when it is no name."""
    if ("{model}" in table.path) != (model is not None):
        raise ValueError(f"table {table.name} lies at {table.path}, asked for model {model}")
    return root / (table.path if model is None else table.path.format(model=checked_name(model)))


def checked_name(name: str) -> str:
    """`name`, which is to be part of a path. Raises ParamsError when it is none that params.yaml could hold, as
    `../x`."""
    if not re.fullmatch(MODEL_NAME, name):
        raise ParamsError(
            f"{name!r} is no name of a model or match. Expected letters, digits, _ and -, as in params.yaml"
        )
    return name


def model_dir(root: Path, model: str) -> Path:
    """Where a model lies. Raises ParamsError when `model` is no name."""
    checked_name(model)
    return root / "data" / "models" / model


def there(root: Path, model: str) -> Path:
    """The folder of a model; one that a server has holds server.json alone. Raises ModelError when it is not there."""
    path = model_dir(root, model)
    if not any((path / name).is_file() for name in ("config.json", "server.json")):
        raise ModelError(f"{path} holds no model (no config.json). Run: dvc repro")
    return path


def read(table: Table, root: Path, model: str | None = None, columns: tuple[str, ...] | None = None) -> pl.DataFrame:
    """The table, checked, or some `columns` of it beside its key, so that texts nobody needs stay on disk.

    Raises TableError when it is missing, unreadable or breaks its contract; of columns that are not read, only name and
    type are checked.
    """
    path = table_path(table, root, model)
    if not path.is_file():
        raise TableError(f"{path} is not there: {table.remedy(model)}")
    check_schema(table, path)
    table = on_scale(table, root)
    if columns is not None:
        some = tuple(c for c in table.columns if c.name in {*table.key, *columns})
        names = {c.name for c in some}
        rules = tuple(rule for rule in table.rules if names >= set(rule.holds.meta.root_names()))
        table = replace(table, columns=some, rules=rules)
    try:
        return check(table, pl.read_parquet(path, glob=False, columns=list(table.schema)), str(path))
    except UNREADABLE as e:
        raise _unreadable(path, e) from e


def check_schema(table: Table, path: Path) -> None:
    """Columns and types, from the file's footer alone. Raises TableError."""
    if not path.is_file():
        raise TableError(f"{path} is a folder, expected a parquet file. Delete it and run: srlm repro")
    try:
        check(table, pl.DataFrame(schema=pl.read_parquet_schema(path)), str(path))
    except UNREADABLE as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path, error: BaseException) -> TableError:
    return TableError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}. Delete it and run: srlm repro")


def write(
    table: Table,
    frame: pl.DataFrame,
    root: Path,
    model: str | None = None,
    packages: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
    reviewed: Mapping[str, Any] | None = None,
) -> None:
    """Check, then write in one rename, with the versions of the `packages` that made its texts, the fields that a
    server would not take, and the counts of people's reviews in the file's metadata. Raises TableError on a broken
    contract or an empty frame that may not be so."""
    path, table = table_path(table, root, model), on_scale(table, root)
    frame = check(table, frame, str(path))
    if frame.is_empty() and not table.may_be_empty:
        raise TableError(f"{path} would be empty: {table.maker} made no row")
    with atomic_write(path) as partial:
        metadata = {PACKAGES: json.dumps(packages, sort_keys=True)} if packages else {}
        if left_out:
            metadata[LEFT_OUT] = json.dumps(left_out)
        if reviewed:
            metadata[REVIEWED] = json.dumps(reviewed, sort_keys=True)
        frame.write_parquet(partial, compression="zstd", statistics=True, metadata=metadata or None)


def on_scale(table: Table, root: Path) -> Table:
    """Its contract where the judge of the store under `root` has another scale than 0 to 5 (`judge.scale`)."""
    if not any(rule.on for rule in table.rules):
        return table
    return table.on_scale(*scale_of(root, table.name))


def scale_of(root: Path, table: str) -> tuple[int, int]:
    """The ends of the scale of a table's judgements, as params.yaml has them: of `judge.scale`, 0 to 5 where it has
    none; 0 to 1 of AIFT's where the judge compares (`judge_candidates.kind`)."""
    params = read_mapping(root / PARAMS) or {}
    how, judge = params.get("judge_candidates"), params.get("judge")
    if table == "judgements" and isinstance(how, dict) and how.get("kind") == "pairwise":
        return (0, 1)
    scale = judge.get("scale") if isinstance(judge, dict) else None
    least, most = (scale.get("min"), scale.get("max")) if isinstance(scale, dict) else (0, 5)
    return (least, most) if isinstance(least, int) and isinstance(most, int) else (0, 5)


def packages(path: Path) -> dict[str, str]:
    """Versions of the packages that made the texts of a table; empty where an engine made none, or it is no table."""
    content = _noted(path, PACKAGES)
    return {str(name): str(version) for name, version in content.items()} if isinstance(content, dict) else {}


def left_out(path: Path) -> list[str]:
    """Fields of the requests for the texts of a table that a server would not take."""
    content = _noted(path, LEFT_OUT)
    return [str(field) for field in content] if isinstance(content, list) else []


def reviewed(path: Path) -> dict[str, Any]:
    """Counts of people's reviews in pairs; empty where they are the judge's alone."""
    content = _noted(path, REVIEWED)
    return content if isinstance(content, dict) else {}


def _noted(path: Path, key: str) -> Any:
    try:
        return json.loads(pl.read_parquet_metadata(path).get(key, "null"))
    except (*UNREADABLE, ValueError):
        return None


def check(table: Table, frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """`frame` with its columns in the contract's order. Raises TableError naming the column or rule and the keys of the
    first rows that break the contract."""
    missing = [c.name for c in table.columns if c.name not in frame.columns]
    extra = [c for c in frame.columns if c not in table.schema]
    if missing or extra:
        raise TableError(
            f"{where}: contract of table {table.name} broken: missing columns {missing or 'none'}, unknown columns "
            f"{extra or 'none'}"
        )
    for column in table.columns:
        seen = frame.schema[column.name]
        if seen != column.dtype:
            raise TableError(
                f"{where}: column {column.name} is {seen}, the contract of table {table.name} says {column.dtype}"
            )
    not_null = (Rule(f"{c.name} is not null", pl.col(c.name).is_not_null()) for c in table.columns if not c.nullable)
    finite = (
        Rule(f"{c.name} is a finite number", pl.col(c.name).is_finite())
        for c in table.columns
        if c.dtype == pl.Float64()
    )
    rules = (*not_null, *finite, *table.rules)
    if not all(frame.select(rule.holds.all().alias(str(i)) for i, rule in enumerate(rules)).row(0)):
        rule, rows = next(
            (rule, rows) for rule in rules if not (rows := frame.with_row_index("row").filter(~rule.holds)).is_empty()
        )
        raise TableError(
            f"{where}: table {table.name} breaks its contract that {rule.meaning}, in {len(rows)} row(s), first at "
            f"{_named(rows, ('row', *table.key, *rule.holds.meta.root_names()))}. Written by {table.maker}"
        )
    # a third of the memory and time of comparing the keys themselves
    hashes = frame.select(pl.struct(table.key).hash().n_unique()).item()
    if hashes < len(frame) and not (twice := frame.filter(pl.struct(table.key).is_duplicated())).is_empty():
        raise TableError(
            f"{where}: key {', '.join(table.key)} of table {table.name} stands more than once, first at "
            f"{_named(twice, table.key)}"
        )
    return frame.select(list(table.schema))


def _named(rows: pl.DataFrame, columns: tuple[str, ...]) -> str:
    return "; ".join(
        " ".join(f"{k}={str(v)[:60]}" for k, v in row.items())
        for row in rows.select(list(dict.fromkeys(columns))).head(SHOWN).iter_rows(named=True)
    )
