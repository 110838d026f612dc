"""The store as DuckDB sees it: a view per table over the parquet files where they lie, and the metrics as one long
table. Read-only.

Nothing is loaded when the views are made; a query reads only the columns and rows that it needs. Once they stand,
DuckDB may open the store's own files and no other, and the lock on that cannot be taken off by a query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stages.console.errors import QueryError, SrlmError, TableError
from stages.store import metrics
from stages.store.catalog import check
from stages.store.files import atomic_write, result_file
from stages.store.names import Names, folder_of
from stages.store.tables import TABLES, Table


class Store:
    """A locked connection, the `files` it may open, and which tables are `missing`: no stage has made them yet."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: list[Path], missing: dict[str, Table]) -> None:
        self.connection = connection
        self.files = files
        self.missing = missing

    def select(
        self, sql: str, values: dict[str, Any] | None = None, may_lack: Iterable[str] = ()
    ) -> duckdb.DuckDBPyRelation:
        """The result of one SELECT, computed as it is read, which must be before the next. `values` are bound to
        `$name`.

        Raises QueryError (exit code 2) for anything but one SELECT and for what DuckDB cannot run; TableError when a
        table that no stage has made yet is asked for, unless the query `may_lack` it: then it is empty.
        """
        try:
            statements = self.connection.extract_statements(sql)
        except duckdb.Error as e:
            raise QueryError(f"DuckDB cannot read the query: {e}\n{sql}") from None
        kinds = [statement.type.name for statement in statements]
        if kinds != ["SELECT"]:  # not EXPLAIN either: with ANALYZE it runs whatever follows
            raise QueryError(
                f"one SELECT is wanted, seen {' and '.join(kinds) or 'nothing'}: a query only reads the store\n{sql}"
            )
        lacked = set(may_lack)
        for (
            name,
            table,
        ) in (
            self.missing.items()
        ):  # a relation is computed when it is read, so an empty view stands until the next query
            self.connection.execute(
                f"CREATE OR REPLACE VIEW {name} AS {_nothing(table)}"
                if name in lacked
                else f"DROP VIEW IF EXISTS {name}"
            )
        try:
            return self.connection.sql(statements[0].query, params=values or {})
        except duckdb.Error as e:
            unknown = re.match(r"Catalog Error: Table with name (\w+) does not exist", str(e))
            if unknown and (absent := self.missing.get(unknown[1].lower())):
                raise TableError(
                    f"table {absent.name} is not there yet: stage {absent.made_by} makes it. Run: dvc repro"
                ) from None
            raise QueryError(f"{e}\n{sql}") from None

    def rows(
        self, sql: str, values: dict[str, Any] | None = None, may_lack: Iterable[str] = ()
    ) -> list[dict[str, Any]]:
        """The whole result, column to value; for answers that are small. Raises as `select` does, and TableError for a
        file that cannot be read."""
        relation = self.select(sql, values, may_lack)
        try:
            return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
        except duckdb.Error as e:
            raise self.failure(e, sql) from None

    def failure(self, error: Exception, sql: str) -> SrlmError:
        """What `error`, raised while the rows of `sql` were read, comes from: a damaged file is named, the rest is the
        query's own."""
        return damaged(self.files) or QueryError(f"{error}\n{sql}")


@contextmanager
def connect(root: Path, **others: Path) -> Iterator[Store]:
    """The store under `root`: every table is a view with a `model` column: the model in its path, null where the path
    has none.

    `others` are stores beside it, each in a schema of its name, absent tables empty. Raises TableError for a file that
    breaks its contract.
    """
    with TemporaryDirectory(prefix="srlm-") as spill, duckdb.connect() as connection:
        files = _build(connection, root, "VIEW")
        allowed = [path for paths in files.values() for path in paths]
        for schema, folder in others.items():
            connection.execute(f"CREATE SCHEMA {schema}")
            connection.execute(f"SET schema = {_literal(schema)}")
            found = _build(connection, folder, "VIEW")
            allowed += [path for paths in found.values() for path in paths]
            for table in TABLES:
                if not found[table.name]:
                    connection.execute(f"CREATE VIEW {table.name} AS {_nothing(table)}")
        connection.execute("SET schema = 'main'")
        _lock(connection, allowed, Path(spill))
        yield Store(connection, allowed, {table.name: table for table in TABLES if not files[table.name]})


def save(root: Path, out: Path) -> None:
    """Write every table into a new DuckDB database `out`, for DuckDB's shell and other tools. Raises QueryError if it
    exists, TableError, SrlmError."""
    if result_file(out, root).exists():
        raise QueryError(f"{out} exists already: name another file, or delete it")
    with atomic_write(out) as partial:
        try:
            with duckdb.connect(str(partial)) as connection:
                _build(connection, root, "TABLE")
        except duckdb.Error as e:
            files = [path for table in TABLES for path in table_files(table, root).values()]
            raise damaged(files) or SrlmError(f"{out} cannot be written: {e}") from None


def damaged(files: Iterable[Path]) -> TableError | None:
    """The first of `files` that cannot be read to its end, in words; None when all can. For after an error: it reads
    everything."""
    for path in files:
        try:
            for _ in pq.ParquetFile(path).iter_batches():
                pass
        except (pa.ArrowException, OSError) as e:
            return TableError(f"{path} is damaged: {e}. Delete it and run: dvc checkout, or dvc repro")
    return None


def _build(connection: duckdb.DuckDBPyConnection, root: Path, kind: Literal["VIEW", "TABLE"]) -> dict[str, list[Path]]:
    """One view or table each for the tables that exist, with the contract's meanings as comments; returns the files of
    each."""
    files: dict[str, list[Path]] = {}
    names = Names(root)
    for table in TABLES:
        paths = _named(table, root, names)
        files[table.name] = list(paths.values())
        if paths:
            connection.execute(f"CREATE {kind} {table.name} AS {_select(table, paths)}")
            connection.execute(f"COMMENT ON {kind} {table.name} IS {_literal(table.meaning)}")
    connection.execute(f"CREATE TABLE metrics ({metrics.COLUMNS})")
    if rows := list(metrics.rows(root)):
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return files


def table_files(table: Table, root: Path) -> dict[str | None, Path]:
    """Model (None for a table that has none) to the file of the table, for those that exist, M2 before M10."""
    if "{model}" not in table.path:
        path = root / table.path
        return {None: path.resolve()} if path.is_file() else {}
    folder, name = table.path.split("{model}")
    found = {
        path.relative_to(root / folder).as_posix().removesuffix(name): path.resolve()
        for path in (root / folder).glob(f"*{name}")
    }
    return {model: found[model] for model in sorted(found, key=lambda model: (len(model), model))}


def left_out(root: Path) -> dict[str, list[Path]]:
    """Files of models and matches that params.yaml does not name, by view: no view shows them."""
    names = Names(root)
    files = {
        table.name: sorted({*table_files(table, root).values()} - {*_named(table, root, names).values()})
        for table in TABLES
    }
    return {view: paths for view, paths in {**files, "metrics": metrics.left_out(root)}.items() if paths}


def _named(table: Table, root: Path, names: Names) -> dict[str | None, Path]:
    """`table_files` of what params.yaml names."""
    files = table_files(table, root)
    return {model: path for model, path in files.items() if model is None or names.has(folder_of(table), model)}


def _select(table: Table, paths: dict[str | None, Path]) -> str:
    for model, path in paths.items():
        _check_contract(table, path, model)
    columns = {column.name for column in table.columns}
    if "model" in columns:
        return f"SELECT * FROM {_parquet(list(paths.values()))}"
    return " UNION ALL ".join(
        f"SELECT {_literal(model)}::VARCHAR AS model, * FROM {_parquet([path])}" for model, path in paths.items()
    )


def _nothing(table: Table) -> str:
    """A SELECT of no rows with the table's columns."""
    types = {"String": "VARCHAR", "Int32": "INTEGER", "Float64": "DOUBLE", "List(String)": "VARCHAR[]"}
    columns = {"model": "VARCHAR"} | {column.name: types[str(column.dtype)] for column in table.columns}
    return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in columns.items())} WHERE false"


def _check_contract(table: Table, path: Path, model: str | None) -> None:
    """Columns and types, and whose rows these are, from the file's footer alone."""
    try:
        schema = pl.read_parquet_schema(path)
        footer = pq.read_metadata(path)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as e:
        raise TableError(f"{path} cannot be read as parquet: {e}. Delete it and run: dvc repro") from e
    check(table, pl.DataFrame(schema=schema), str(path))
    if "{model}/" in table.path and "model" in table.schema:  # a head to head is named after two models
        at = list(schema).index("model")
        for group in range(footer.num_row_groups):
            seen = footer.row_group(group).column(at).statistics
            if seen and seen.has_min_max and (wrong := {seen.min, seen.max} - {model}):
                raise TableError(
                    f"{path} holds rows of {', '.join(sorted(wrong))}, not of {model}. Delete it and run: dvc repro"
                )


def _parquet(paths: list[Path]) -> str:
    return f"read_parquet([{', '.join(map(_literal, map(str, paths)))}])"


def _literal(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def _lock(connection: duckdb.DuckDBPyConnection, files: list[Path], spill: Path) -> None:
    """From here on: these files may be read, `spill` used by sorts that outgrow memory, and nothing else opened."""
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"SET temp_directory = {_literal(str(spill))}")
    connection.execute(f"SET allowed_paths = [{', '.join(_literal(str(file)) for file in files)}]")
    connection.execute(f"SET allowed_directories = [{_literal(str(spill))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
