"""Completions in SQLite, so that a killed stage goes on where it was. No DVC out: DVC deletes a stage's outs when it
starts.

A completion is found by its number and a hash of everything else that decides its text, so a changed model, prompt,
template, sampling or seed never meets an old row. Each row carries a digest of itself: a damaged file is an error,
never a wrong text.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from stages.console.errors import EngineError
from stages.engines.request import Completion

SCHEMA = """
CREATE TABLE IF NOT EXISTS left_out (
    how BLOB NOT NULL,            -- hash of the model, the engine and the sampling
    field TEXT NOT NULL,          -- that a server does not take, so that texts were written without it
    PRIMARY KEY (how, field)
);
CREATE TABLE IF NOT EXISTS texts (
    key BLOB NOT NULL,            -- hash of all that decides a request's texts
    n INTEGER NOT NULL,           -- number of the completion
    json BLOB NOT NULL,           -- UTF-8: [text, finish_reason, tokens, probabilities]
    digest BLOB NOT NULL,         -- of key, n and json
    model TEXT NOT NULL,          -- model, stage, created: for people, to see and to prune by
    stage TEXT NOT NULL,
    created INTEGER NOT NULL,     -- seconds since 1970
    PRIMARY KEY (key, n)
)"""
GET = "SELECT key, n, json, digest FROM texts WHERE key IN ({})"
SIZES = """
SELECT model, stage, count(*), sum(length(json)), min(created), max(created) FROM texts
GROUP BY model, stage ORDER BY model, stage"""
LENGTHS = """
SELECT substr(stage, 1, instr(stage || '@', '@') - 1), avg(json_extract(CAST(json AS TEXT), '$[2]')) AS tokens
FROM texts GROUP BY 1 HAVING tokens IS NOT NULL"""
PRUNE = "DELETE FROM texts WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR created < ?2)"
SETTINGS = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 20000", "cache_size = -65536")
KEYS_PER_QUERY = 1_000
WAIT_S = 60.0
"""How long to wait for another process that is writing."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DamagedRow(sqlite3.DatabaseError):
    """A row does not fit its digest."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Size(NamedTuple):
    """What is cached of one model for one stage. `bytes`: of their JSON; `oldest` and `newest` in seconds since
    1970."""

    model: str
    stage: str
    completions: int
    bytes: int
    oldest: int
    newest: int


class CompletionCache:
    """The database in `path`, created if need be; a context. Several processes may have it open.

    Every method raises EngineError for a database that is damaged, or cannot be opened or written (no permission, a
    full disk, locked for a minute); nothing written before is lost by that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
            for setting in SETTINGS:
                self.connection.execute(f"PRAGMA {setting}")
            self.connection.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()

    def get(self, keys: Mapping[str, bytes], numbers: Container[int]) -> list[Completion]:
        """Those of the completions with `numbers` of some requests (id -> key, each its own) that are cached."""
        ids = {key: i for i, key in keys.items()}
        wanted, cached = list(ids), []
        with self._explained():
            for start in range(0, len(wanted), KEYS_PER_QUERY):
                some = wanted[start : start + KEYS_PER_QUERY]
                sql = GET.format(",".join("?" * len(some)))
                for key, n, text, digest in self.connection.execute(sql, some):
                    if not isinstance(text, bytes) or digest != _digest(key, n, text):
                        raise DamagedRow("a row does not fit its digest")
                    if n in numbers:
                        cached.append(Completion(ids[key], n, *json.loads(text)))
        return cached

    def put(self, batch: Iterable[tuple[bytes, Completion]], *, model: str, stage: str) -> None:
        """Write completions with their requests' keys, all or none; on return they survive kill -9 and a power cut.
        What another process wrote meanwhile stays."""
        now, rows = int(time.time()), []
        for key, completion in batch:
            text = json.dumps(completion[2:], ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
            rows.append((key, completion.n, text, _digest(key, completion.n, text), model, stage, now))
        with self._transaction():
            self.connection.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def left_out(self, how: bytes, fields: Iterable[str]) -> set[str]:
        """Adds `fields` to those that texts of a kind were written without; returns all of them."""
        if rows := [(how, field) for field in fields]:
            with self._transaction():
                self.connection.executemany("INSERT OR IGNORE INTO left_out VALUES (?, ?)", rows)
        with self._explained():
            return {field for (field,) in self.connection.execute("SELECT field FROM left_out WHERE how = ?", (how,))}

    def sizes(self) -> list[Size]:
        """What is cached, by model and stage."""
        with self._explained():
            return [Size(*row) for row in self.connection.execute(SIZES)]

    def lengths(self) -> dict[str, float]:
        """Mean tokens of the cached completions of each verb, where they were counted."""
        with self._explained():
            return dict(self.connection.execute(LENGTHS))

    def prune(self, *, model: str | None = None, before: float | None = None) -> int:
        """Delete completions of `model` created before `before` (seconds since 1970); None: of any model, of any age.
        Returns how many."""
        with self._transaction():
            count = self.connection.execute(PRUNE, (model, before)).rowcount
        with suppress(sqlite3.OperationalError):  # the file shrinks another time: in use, or no room on the disk
            self.connection.execute("VACUUM")
        return count

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained(), self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of the database into sentences."""
        try:
            yield
        except (sqlite3.Error, OSError) as e:
            if getattr(e, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
                raise EngineError(
                    f"{self.path} is damaged ({e}). Type: srlm cache --prune, which deletes it; what it held is "
                    f"generated again"
                ) from None
            raise EngineError(
                f"completions cannot be cached in {self.path}: {e}. Check the room on its disk, its owner and mode, "
                f"and who else has it open. What was cached before is safe: the same command goes on from there"
            ) from None


def _digest(key: bytes, n: int, text: bytes) -> bytes:
    return hashlib.blake2b(b"%d " % n + text, key=key, digest_size=8).digest()
