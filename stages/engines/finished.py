"""Finished completions in SQLite, so that a killed stage goes on where it was. No DVC out: DVC deletes a stage's outs when it starts.

A row is found by a hash of everything that decides its text, so a changed model, prompt, template, sampling or seed never meets an old row. Each
row carries a digest of itself. A database that is damaged is set aside and begun anew: what it held is generated again.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Self

from stages.console.errors import EngineError
from stages.console.progress import err
from stages.engines.base import Completion

SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key BLOB PRIMARY KEY,         -- hash of all that decides the text
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    digest BLOB NOT NULL,         -- of key, text, finish_reason and tokens
    model TEXT NOT NULL,          -- model, stage, made: for people, to see and to prune by
    stage TEXT NOT NULL,
    made INTEGER NOT NULL         -- seconds since 1970
)"""
AT_ONCE = 500
"""Keys asked for in one statement."""
WAIT_S = 60.0
"""How long to wait for another process that is writing."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Row = tuple[str, Literal["stop", "length"], int]
"""text, finish_reason, tokens."""


class Size(NamedTuple):
    """What one stage keeps of one model. `bytes`: of the texts; `oldest` and `newest` in seconds since 1970."""

    model: str
    stage: str
    completions: int
    bytes: int
    oldest: int
    newest: int


class Finished:
    """The database in `path`, made if need be. Several processes may have it open. Close it, or use it as a context.

    Raises EngineError when it cannot be opened or written (no permission, a full disk, locked for a minute); nothing written before is lost by that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Row]:
        """Rows of those `keys` that are finished."""
        found: dict[bytes, Row] = {}
        with self._explained():
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                sql = f"SELECT key, text, finish_reason, tokens, digest FROM completions WHERE key IN ({marks})"  # noqa: S608  # marks only
                for key, text, reason, tokens, digest in self.connection.execute(sql, some):
                    if digest != _digest(key, text, reason, tokens):
                        self._set_aside("a row does not fit its digest")
                        return {}
                    found[key] = (text, reason, tokens)
            return found
        return {}  # it was damaged

    def keep(self, rows: Iterable[tuple[bytes, Completion]], *, model: str, stage: str) -> None:
        """Write finished completions, all or none; on return they survive kill -9 and a power cut."""
        now = int(time.time())
        full = [(key, c.text, c.finish_reason, c.tokens, _digest(key, c.text, c.finish_reason, c.tokens), model, stage, now) for key, c in rows]
        for _ in range(2):  # again, should the database be found damaged
            with self._explained():
                with self.connection:
                    self.connection.execute("BEGIN IMMEDIATE")
                    self.connection.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", full)
                return

    def sizes(self) -> list[Size]:
        """What is kept, by model and stage."""
        sql = (
            "SELECT model, stage, count(*), sum(length(CAST(text AS BLOB))), min(made), max(made) FROM completions GROUP BY model, stage ORDER BY model, stage"
        )
        with self._explained():
            return [Size(*row) for row in self.connection.execute(sql)]
        return []

    def prune(self, *, model: str | None = None, before: float | None = None) -> int:
        """Forget completions of `model` made before `before` (seconds since 1970); None: of any model, of any age. Returns how many."""
        with self._explained():
            with self.connection:
                self.connection.execute("BEGIN IMMEDIATE")
                sql = "DELETE FROM completions WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR made < ?2)"
                gone = self.connection.execute(sql, (model, before)).rowcount
            self.connection.execute("VACUUM")
            return gone
        return 0

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite in words; a damaged database is set aside, and the block left as if nothing had been finished."""
        try:
            yield
        except sqlite3.Error as e:
            code = getattr(e, "sqlite_errorcode", 0) & 0xFF
            if code in DAMAGED:
                self._set_aside(str(e))
            elif code == sqlite3.SQLITE_FULL:
                raise EngineError(f"no space left for finished texts in {self.path}. Those before are kept; make room and run the same command again") from None
            else:
                raise EngineError(f"finished texts cannot be kept in {self.path}: {e}. Check its owner, its mode and who else has it open") from None
        except OSError as e:
            raise EngineError(f"finished texts cannot be kept in {self.path}: {e.strerror}. Check the owner and mode of {self.path.parent}") from None

    def _set_aside(self, why: str) -> None:
        """Rename the damaged database and begin an empty one."""
        if hasattr(self, "connection"):
            self.connection.close()
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        err.print(f"warning: {self.path} is damaged ({why}): set aside as {aside.name}; what it held is generated again", style="yellow", markup=False)
        self.connection = self._open()


def _digest(key: bytes, text: str, reason: str, tokens: int) -> bytes:
    return hashlib.blake2b(f"{text}\x1f{reason}\x1f{tokens}".encode(), key=key, digest_size=8).digest()
