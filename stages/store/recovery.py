"""What kill -9 or a power cut leaves behind, put away before the next run: DVC's read-write lock, half a dvc.lock,
half-written folders. Nothing else is touched, and nothing at all while a DVC or a stage is running here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stages.console.errors import SrlmError
from stages.console.processes import is_dvc, stages_among
from stages.console.terminal import warn
from stages.store.files import PARTIAL, remove
from stages.store.lock import LOCK, is_complete_lock


def recover(root: Path) -> None:
    """Raises SrlmError when another DVC, or a stage of one that was killed alone, is still running here."""
    check_no_stage_runs(root)
    with dvc_locked(root):
        check_no_stage_runs(root)
        release_rwlock(root)
        quarantine_truncated_lock(root)
        for partial in (root / "data").rglob(f"*{PARTIAL}"):
            remove(partial)


@contextmanager
def dvc_locked(root: Path) -> Iterator[None]:
    """Holds the lock under which DVC writes dvc.lock and its read-write lock, so that none is seen half-written.

    Raises SrlmError when another DVC still holds it after three seconds; DVC itself lets go of it while a stage runs.
    """
    from dvc.lock import LockError, make_lock

    folder = root / ".dvc" / "tmp"
    if not folder.is_dir():
        yield
        return
    lock = make_lock(str(folder / "lock"), tmp_dir=str(folder))
    try:
        lock.lock()
    except LockError:
        raise SrlmError("Another DVC process is running here. Wait for it to finish, or stop it") from None
    try:
        yield
    finally:
        lock.unlock()


def check_no_stage_runs(root: Path) -> None:
    """A stage outlives a DVC that is killed alone: two of them would write into one folder."""
    for process in stages_among(psutil.process_iter()):
        with suppress(psutil.Error):  # it ended meanwhile
            if Path(process.cwd()) == root.resolve():
                raise SrlmError(
                    f"a stage is still running here (process {process.pid}: {' '.join(process.cmdline())}). Wait for "
                    f"it to finish, or stop it: kill {process.pid}"
                )


def release_rwlock(root: Path) -> None:
    """Remove DVC's read-write lock, on which it stumbles when it is cut off or another process has got the number of
    its dead owner. Raises SrlmError when an owner lives."""
    lock = root / ".dvc" / "tmp" / "rwlock"
    try:
        written = lock.stat().st_mtime
        content = json.loads(lock.read_text())
        readers = [reader for readers in content.get("read", {}).values() for reader in readers]
        owners = [*content.get("write", {}).values(), *readers]
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):
        owners = []  # it was killed while it wrote the lock
    for owner in filter(None, owners):
        if lives(int(owner["pid"]), written):
            raise SrlmError(
                f"Another DVC process is running here (process {owner['pid']}: {owner['cmd']}). Wait for it to finish, "
                f"or stop it: kill {owner['pid']}"
            )
    lock.unlink(missing_ok=True)


def lives(pid: int, written: float) -> bool:
    """Whether the process that wrote a lock at the time `written` still runs. One that is no DVC by its command line
    may be a program that uses DVC, or another that got the number since, which then started later."""
    with suppress(psutil.Error):  # it is gone
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and (
            is_dvc(process.cmdline()) or process.create_time() <= written + 1
        )
    return False


def quarantine_truncated_lock(root: Path) -> None:
    """Half a dvc.lock ends DVC. Without any it gets what stages made from its cache of runs."""
    lock = root / LOCK
    if not lock.is_file() or is_complete_lock(lock) or b"<<<<<<<" in lock.read_bytes():
        return  # the last is a merge that people have to end: DVC says so
    aside = lock.with_name(f"{LOCK}.damaged-{time.time_ns()}")
    lock.rename(aside)
    warn(f"{LOCK} is damaged and was set aside as {aside.name}; DVC restores the stages' results from its cache")
