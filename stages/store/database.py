"""The store as DuckDB sees it, read-only: a view per table over the parquet files where they lie, the metrics as one
long table, and the models of params.yaml. DuckDB may open the store's own files and no other, and no query can take
that lock off."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb

from stages.console.errors import MissingTableError, QueryError, SrlmError, TableError
from stages.store import metrics
from stages.store.catalog import check_schema, scale_of
from stages.store.damage import check_recorded, damaged
from stages.store.files import atomic_write, result_file
from stages.store.names import Names, folder_of
from stages.store.references import REFERENCES, follow_one
from stages.store.tables import TABLES, Table

Files = dict[str, dict[str | None, Path]]
"""View -> model -> file."""
TABLE = {table.name: table for table in TABLES}
MODELS = "model VARCHAR, prev VARCHAR, ancestors VARCHAR[], evaluated INTEGER"
"""Columns of the view `models`, which says what params.yaml does: `Names.models`."""
ASKABLE = (*TABLE, "metrics", "models")


class Store:
    """A locked connection; `files`, by view and model, that it may open; what `notes` a query calls for."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, roots: dict[Path, Files]) -> None:
        """`roots`: the store, then those beside it."""
        self.connection = connection
        self._root, self.files = next(iter(roots.items()))
        self.missing = {table.name: table for table in TABLES if not self.files[table.name]}
        self._roots = roots
        self._sound: set[str] = set()

    def select(
        self, sql: str, values: dict[str, Any] | None = None, may_lack: Iterable[str] = ()
    ) -> duckdb.DuckDBPyRelation:
        """The result of one SELECT, computed as it is read, which must be before the next. `values` are bound to
        `$name`; a table that it `may_lack` is empty where no stage has made it yet.

        Raises QueryError (exit code 2) for anything but one SELECT and for what DuckDB cannot run; TableError when a
        table is absent, damaged, or has rows that lead to none of another that is asked.
        """
        try:
            statements = self.connection.extract_statements(sql)
        except duckdb.Error as e:
            raise QueryError(f"DuckDB cannot read the query: {e}\n{sql}") from None
        kinds = [statement.type.name for statement in statements]
        if kinds != ["SELECT"]:  # not EXPLAIN either: with ANALYZE it runs whatever follows
            raise QueryError(
                f"expected one SELECT, saw {' and '.join(kinds) or 'nothing'}: a query only reads the store\n{sql}"
            )
        self._check(tables_in(sql))
        lacked = set(may_lack)
        for name, table in self.missing.items():  # an empty view stands until the next query: relations are lazy
            view = f"CREATE OR REPLACE VIEW {name} AS {_nothing(table)}"
            self.connection.execute(view if name in lacked else f"DROP VIEW IF EXISTS {name}")
        try:
            return self.connection.sql(statements[0].query, params=values or {})
        except duckdb.Error as e:
            unknown = re.match(r"Catalog Error: Table with name (\w+) does not exist", str(e))
            if unknown and (absent := self.missing.get(unknown[1].lower())):
                raise MissingTableError(
                    f"table {absent.name} is not there yet: {absent.maker} makes it"
                    + ("" if absent.maker == absent.made_by else ". Run: srlm repro")
                ) from None
            if unknown:
                raise QueryError(f"no table {unknown[1]}; {closest(unknown[1])}\n{sql}") from None
            raise QueryError(f"{e}\n{sql}") from None

    def _check(self, names: list[str]) -> None:
        """Raises TableError for a table that is not what its stage wrote, once for each group of tables."""
        if self._sound >= {*names}:
            return
        for root, files in self._roots.items():
            check_recorded(root, [path for name in names for path in files[name].values()])
        asked = {(name, model) for name in names for model in self.files[name]}
        for table, model in sorted(asked, key=str):
            for reference in (one for one in REFERENCES if one.table.name == table and len(one.to) == 1):
                target = reference.to[0][0]
                if (target.name, model if "{model}" in target.path else None) in asked:
                    followed = follow_one(reference._replace(copies=()), self._root, model)
                    if followed.wrong:
                        raise TableError(
                            f"{followed.wrong} of {followed.rows} rows of {followed.what} lead to no row there, first "
                            f"{followed.first}: one of the two is damaged or of another run. srlm verify checks every "
                            f"file; srlm repro makes what is not up to date"
                        )
        self._sound |= {*names}

    def notes(self, sql: str) -> list[str]:
        """What an answer to `sql` does not show: models that params.yaml does not name, and tables that only some of
        those it names have."""
        tables, stale = tables_in(sql), left_out(self._root)
        old = [path for name in [*tables, "metrics"] if name in words_in(sql) for path in stale.get(name, ())]
        absent = [
            f"{name}@{model}"
            for name in tables
            for beside in TABLES
            if self.files[name] and "{model}" in TABLE[name].path
            if folder_of(beside.path) == folder_of(TABLE[name].path)
            for model in self.files[beside.name]
            if model and model not in self.files[name]
        ]
        lines = []
        if old:
            lines.append(f"left out, since params.yaml does not name its model: {_first(map(str, old))}")
        if absent:
            lines.append(f"not there yet, so not in the answer: {_first(absent)}. Run: srlm repro")
        return lines

    def rows(
        self, sql: str, values: dict[str, Any] | None = None, may_lack: Iterable[str] = ()
    ) -> list[dict[str, Any]]:
        """The whole result, column to value; for answers that are small. Raises as `select` does."""
        relation = self.select(sql, values, may_lack)
        try:
            return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
        except duckdb.Error as e:
            raise self.failure(e, sql) from None

    def failure(self, error: Exception, sql: str) -> SrlmError:
        """For an `error` while the rows of `sql` were read: a damaged file is named, the rest is the query's own."""
        files = (path for files in self._roots.values() for models in files.values() for path in models.values())
        return damaged(files) or QueryError(f"{error}\n{sql}")


def tables_in(sql: str) -> list[str]:
    """The tables whose names stand in `sql`, where one that only a text in it names does no harm; all where DuckDB is
    given a name to read that an expression may make: query_table('pa' || 'irs'), a file."""
    words = words_in(sql)
    every = re.search(r"query|parquet|read_", sql.lower())
    return [table.name for table in TABLES if every or table.name in words]


def closest(name: str, names: Iterable[str] = ASKABLE) -> str:
    """The name (of a table, if not of others) that a typo means, else all there are."""
    near = get_close_matches(name.lower(), names := [*names], 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def words_in(sql: str) -> set[str]:
    return set(re.findall(r"\w+", sql.lower()))


def _first(names: Iterable[str]) -> str:
    first, *more = dict.fromkeys(names)
    return f"{first} and {len(more)} more" if more else first


@contextmanager
def connect(root: Path, **others: Path) -> Iterator[Store]:
    """The store under `root`: every table is a view with a `model` column, null where its path has none. `others` are
    stores beside it, each in a schema of its name, absent tables empty.

    Raises TableError for a file that breaks its contract.
    """
    with TemporaryDirectory(prefix="srlm-") as spill, duckdb.connect() as connection:
        roots = {root: _build(connection, root, "VIEW")}
        for schema, folder in others.items():
            connection.execute(f"CREATE SCHEMA {schema}")
            connection.execute(f"SET schema = {_literal(schema)}")
            roots[folder] = _build(connection, folder, "VIEW")
            for table in TABLES:
                if not roots[folder][table.name]:
                    connection.execute(f"CREATE VIEW {table.name} AS {_nothing(table)}")
        connection.execute("SET schema = 'main'")
        connection.execute(f"SET VARIABLE best_score = {scale_of(root, 'judgements')[1]}")
        files = [path for views in roots.values() for models in views.values() for path in models.values()]
        _lock(connection, files, Path(spill))
        yield Store(connection, roots)


def save(root: Path, out: Path) -> None:
    """Write every table into a new DuckDB database `out`, for DuckDB's shell and other tools. Raises QueryError if it
    exists, TableError, SrlmError."""
    if result_file(out, root).exists():
        raise QueryError(f"{out} exists already: name another file, or delete it")
    names = Names(root)
    files = [path for table in TABLES for path in names.files(table.path).values()]
    check_recorded(root, files)
    with atomic_write(out) as partial:
        try:
            with duckdb.connect(str(partial)) as connection:
                _build(connection, root, "TABLE")
        except duckdb.Error as e:
            raise damaged(files) or SrlmError(f"No permission or no room to write {out}: {e}") from None


def _build(connection: duckdb.DuckDBPyConnection, root: Path, kind: Literal["VIEW", "TABLE"]) -> Files:
    """One view or table for each that exists, with its meaning as a comment; returns the files of each."""
    files: Files = {}
    names = Names(root)
    for table in TABLES:
        paths = files[table.name] = names.files(table.path)
        if paths:
            for path in paths.values():
                check_schema(table, path)
            connection.execute(f"CREATE {kind} {table.name} AS {_select(table, paths)}")
            connection.execute(f"COMMENT ON {kind} {table.name} IS {_literal(table.meaning)}")
    connection.execute(f"CREATE TABLE metrics ({metrics.COLUMNS})")
    if rows := list(metrics.rows(root)):
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute(f"CREATE TABLE models ({MODELS})")
    if models := names.models():
        connection.executemany("INSERT INTO models VALUES (?, ?, ?, ?)", models)
    return files


def left_out(root: Path) -> dict[str, list[Path]]:
    """Files of models and matches that params.yaml does not name, by view: no view shows them."""
    names = Names(root)
    files = {table.name: names.left_out(table.path) for table in TABLES} | {"metrics": metrics.left_out(root)}
    return {view: paths for view, paths in files.items() if paths}


def _select(table: Table, paths: dict[str | None, Path]) -> str:
    """The rows of all files; the model is the one in the path."""
    model = "* REPLACE ({}::VARCHAR AS model)" if "model" in table.schema else "{}::VARCHAR AS model, *"
    if "other" in table.schema:  # the file is named after a match, or after who judged
        model = "*"
    return " UNION ALL ".join(
        f"SELECT {model.format(_literal(name))} FROM read_parquet({_literal(str(path))})"
        for name, path in paths.items()
    )


def _nothing(table: Table) -> str:
    """A SELECT of no rows with the table's columns."""
    types = {"String": "VARCHAR", "Int32": "INTEGER", "Float64": "DOUBLE", "List(String)": "VARCHAR[]"}
    columns = {"model": "VARCHAR"} | {column.name: types[str(column.dtype)] for column in table.columns}
    return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in columns.items())} WHERE false"


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
