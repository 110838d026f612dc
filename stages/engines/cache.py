"""Completions in SQLite, so that a killed stage goes on where it was. No DVC out: DVC deletes a stage's outs when it
starts.

The completions of a request are found by a hash of everything that decides their texts, so a changed model, prompt,
template, sampling or seed never meets an old row. Each row carries a digest of itself. A database that is damaged is
set aside and begun anew: what it held is generated again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from stages.console.errors import EngineError
from stages.console.terminal import stderr
from stages.engines.request import Completion

SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key BLOB NOT NULL,            -- hash of all that decides a request's texts
    first INTEGER NOT NULL,       -- number of the first completion in this row
    texts INTEGER NOT NULL,       -- how many completions are in this row
    json BLOB NOT NULL,           -- UTF-8: a list of [n, text, finish_reason, tokens, probabilities]
    digest BLOB NOT NULL,         -- of key and json
    model TEXT NOT NULL,          -- model, stage, created: for people, to see and to prune by
    stage TEXT NOT NULL,
    created INTEGER NOT NULL,     -- seconds since 1970
    PRIMARY KEY (key, first)
)"""
GET = "SELECT key, json, digest FROM completions"
PUT = """
INSERT INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, first) DO UPDATE SET
texts = excluded.texts, json = excluded.json, digest = excluded.digest,
model = excluded.model, stage = excluded.stage, created = excluded.created
WHERE excluded.texts > completions.texts"""
"""Where another process wrote a request's texts meanwhile, more of them count."""
KEYS_PER_QUERY = 1_000
WAIT_S, GLANCE_S = 60.0, 0.2
"""How long to wait for another process that is writing, and how long in SQLite at a time: there Ctrl-C is not heard."""
SETTINGS = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 20000", "cache_size = -65536")
NO_ROOM = 2**20
"""Bytes: on a disk with less, an error of reading or writing is for want of room."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
Result = TypeVar("Result")


class DamagedRow(sqlite3.DatabaseError):
    """A row does not fit its digest."""


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
    """The database in `path`, created if need be. Several processes may have it open. Close it, or use it as a context.

    Every method waits for other writers, at most a minute, and sets a damaged database aside. Raises EngineError when
    it cannot be opened or written (no permission, a full disk, locked for a minute); nothing written before is lost by
    that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self._do(lambda connection: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def get(self, keys: Mapping[str, bytes], numbers: Container[int]) -> list[Completion]:
        """Those of the completions with `numbers` of some requests (id -> key, each its own) that are cached, each
        once, in any order. Of a number that two processes wrote it is always the same text."""
        ids = {key: i for i, key in keys.items()}
        wanted = list(ids)

        def work(connection: sqlite3.Connection) -> list[Completion]:
            cached: dict[tuple[str, int], Completion] = {}
            for start in range(0, len(wanted), KEYS_PER_QUERY):
                some = wanted[start : start + KEYS_PER_QUERY]
                sql = f"{GET} WHERE key IN ({','.join('?' * len(some))}) ORDER BY first DESC"
                for key, text, digest in connection.execute(sql, some):
                    if digest != _digest(key, text):
                        raise DamagedRow("a row does not fit its digest")
                    for n, *rest in json.loads(text):
                        if n in numbers:
                            cached[ids[key], n] = Completion(ids[key], n, *rest)
            return list(cached.values())

        return self._do(work)

    def put(self, batch: Iterable[tuple[bytes, Sequence[Completion]]], *, model: str, stage: str) -> None:
        """Write the completions of some requests, all or none; on return they survive kill -9 and a power cut."""
        now, rows = int(time.time()), []
        for key, completions in batch:
            text = ENCODER.encode([c[1:] for c in completions]).encode(errors="surrogatepass")
            rows.append((key, completions[0].n, len(completions), text, _digest(key, text), model, stage, now))

        def work(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(PUT, rows)

        self._do(work)

    def sizes(self) -> list[Size]:
        """What is cached, by model and stage."""
        sql = (
            "SELECT model, stage, sum(texts), sum(length(json)), min(created), max(created) FROM completions GROUP BY "
            "model, stage ORDER BY model, stage"
        )

        def work(connection: sqlite3.Connection) -> list[Size]:
            return [Size(_readable(model), _readable(stage), *rest) for model, stage, *rest in connection.execute(sql)]

        return self._do(work)

    def prune(self, *, model: str | None = None, before: float | None = None) -> int:
        """Delete completions of `model` created before `before` (seconds since 1970); None: of any model, of any age.
        Returns how many."""

        def work(connection: sqlite3.Connection) -> int:
            sql = "DELETE FROM completions WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR created < ?2)"
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                count = sum(texts for (texts,) in connection.execute(f"{sql} RETURNING texts", (model, before)))
            with suppress(sqlite3.OperationalError):  # the file shrinks another time: in use, or no room on the disk
                connection.execute("VACUUM")
            return count

        return self._do(work)

    def _do(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` on the database: again when another process was writing, or when the database was damaged and has
        been begun anew."""
        try:
            return self._tried(work)
        except OSError as e:
            raise EngineError(
                f"completions cannot be cached in {self.path}: {e.strerror}. Check the owner and mode of "
                f"{self.path.parent}"
            ) from None

    def _tried(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        until, set_aside = time.monotonic() + WAIT_S, 0
        while True:
            try:
                return work(self._connected())
            except sqlite3.Error as e:
                code = getattr(e, "sqlite_errorcode", 0) & 0xFF
                if code in BUSY and time.monotonic() < until:
                    time.sleep(GLANCE_S / 4)
                elif (code in DAMAGED or isinstance(e, DamagedRow) or "no such" in str(e)) and set_aside < 3:
                    set_aside += 1
                    self._set_aside(str(e))
                elif code == sqlite3.SQLITE_FULL or (
                    code == sqlite3.SQLITE_IOERR and shutil.disk_usage(self.path.parent).free < NO_ROOM
                ):
                    raise EngineError(
                        f"no space left for completions in {self.path}. Those before are cached; make room, then the "
                        f"same command goes on"
                    ) from None
                else:
                    raise EngineError(
                        f"completions cannot be cached in {self.path}: {e}. Check its owner, its mode, your quota and "
                        f"who else has it open"
                    ) from None

    def _connected(self) -> sqlite3.Connection:
        """The connection to what `path` is now: another process may have set the old file aside."""
        if self.connection and self.file == _identity(self.path):
            return self.connection
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=GLANCE_S, isolation_level=None)
        try:
            connection.text_factory = bytes  # one bad byte must be seen as damage, not as an error of decoding
            self.file = _identity(self.path)  # before anything can find it damaged
            for setting in SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            connection.execute(SCHEMA)
            self.file = _identity(self.path)  # SQLite makes a new file with the first statement
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return connection

    def _set_aside(self, why: str) -> None:
        """Rename the damaged database, unless another process has done so; a new one is begun with the next
        connection."""
        self.close()
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.file != _identity(self.path):
                return
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.replace(aside)
        stderr.print(
            f"warning: {self.path} is damaged ({why}): set aside as {aside.name}; what it held is generated again",
            style="yellow",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name; None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _digest(key: bytes, text: bytes) -> bytes:
    """Of a row as it is read; in a damaged one the values may have other types."""
    try:
        return hashlib.blake2b(text, key=key, digest_size=8).digest()
    except TypeError:
        return b""


def _readable(text: Any) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
