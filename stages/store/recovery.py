"""What kill -9 or a power cut leaves behind, put away before the next run: DVC's read-write lock, half a dvc.lock,
half-written files. Nothing is touched while a DVC or a stage is running here."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil

from stages.console.errors import SrlmError
from stages.console.processes import is_dvc, is_stage
from stages.console.terminal import warn
from stages.store.files import PARTIAL, remove

LOCK = "dvc.lock"
HASHES = ("md5", "etag", "checksum", "files")
"""One of which dvc.lock holds of each file; the others of what lies on S3 or a web server."""


def recover(root: Path) -> None:
    """Raises SrlmError when another DVC, or a stage that outlived its own, is still running in `root`."""
    from dvc.lock import LockError, make_lock

    check_none_runs(root)
    folder = root / ".dvc/tmp"
    lock = make_lock(str(folder / "lock"), tmp_dir=str(folder)) if folder.is_dir() else nullcontext()
    try:
        with lock:  # DVC writes both of its locks under this one, which it lets go of while a stage runs
            check_none_runs(root)
            (folder / "rwlock").unlink(missing_ok=True)  # cut off, or of a process number that another has got since
            quarantine_truncated_lock(root / LOCK)
            for partial in (root / "data").rglob(f"*{PARTIAL}"):
                remove(partial)
    except LockError:
        raise SrlmError("Another DVC process is running here. Wait for it to finish, or stop it") from None


def check_none_runs(root: Path) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended meanwhile, or is another user's
            words = process.cmdline()
            what = "Another DVC process" if is_dvc(words) else "A stage" if is_stage(words) else None
            alive = what and process.status() != psutil.STATUS_ZOMBIE
            if alive and Path(process.cwd()) == root.resolve():
                raise SrlmError(
                    f"{what} is running here (process {process.pid}: {' '.join(words)}). Wait for it to finish, or "
                    f"stop it: kill {process.pid}"
                )


def quarantine_truncated_lock(lock: Path) -> None:
    """Half a dvc.lock ends DVC; without any it gets what stages made from its cache of runs."""
    if not lock.is_file() or is_complete_lock(lock) or b"<<<<<<<" in lock.read_bytes():
        return  # the last is a merge that people have to end: DVC says so
    aside = lock.with_name(f"{LOCK}.damaged-{time.time_ns()}")
    lock.rename(aside)
    warn(f"{LOCK} is damaged and was set aside as {aside.name}; DVC restores the stages' results from its cache")


def is_complete_lock(lock: Path) -> bool:
    """Whether DVC can read it, and no hash is cut off, at which DVC would stumble later."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils import strictyaml

    try:
        content, text = strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return False
    stages = content.get("stages", {}).values()
    files = [file for stage in stages for kind in ("deps", "outs") for file in stage.get(kind, ())]
    hashes = [next((file[kind] for kind in HASHES if file.get(kind)), "") for file in files]
    whole = [re.fullmatch(r"[0-9a-f]{32}(\.dir)?", file.get("md5", "0" * 32)) for file in files]
    return text.endswith("\n") and all(hashes) and all(whole)
