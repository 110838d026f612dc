"""What kill -9 or a power cut leaves behind, put away before the next run: DVC's own lock, half a dvc.lock,
half-written folders. Nothing else is touched."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.console.errors import SrlmError
from stages.console.terminal import stderr
from stages.store.files import PARTIAL, remove

LOCK = "dvc.lock"


def recover(root: Path) -> None:
    """Raises SrlmError when a DVC, or a stage of one that was killed alone, is still at work here."""
    release_lock(root)
    check_no_stage_is_at_work(root)
    quarantine_truncated_lock(root)
    for partial in (root / "data").rglob(f"*{PARTIAL}"):
        remove(partial)


def release_lock(root: Path) -> None:
    """Remove DVC's read-write lock when every process named in it is dead. Raises SrlmError when a living DVC holds
    it."""
    import psutil

    lock = root / ".dvc" / "tmp" / "rwlock"
    try:
        written = lock.stat().st_mtime
        held = json.loads(lock.read_text())
        owners = [info for info in held.get("write", {}).values() if info] + [
            info for infos in held.get("read", {}).values() for info in infos
        ]
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):
        owners = []  # killed while it wrote the lock
    for owner in owners:
        with suppress(psutil.Error):  # gone
            process = psutil.Process(int(owner["pid"]))
            if (
                process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written + 1
            ):  # else its number is another's now
                raise SrlmError(
                    f"DVC is at work here already (process {owner['pid']}: {owner['cmd']}). Wait for it, or stop it"
                )
    lock.unlink(missing_ok=True)


def check_no_stage_is_at_work(root: Path) -> None:
    """A stage outlives a DVC that is killed alone: two of it would write into one folder. Raises SrlmError, with its
    process."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or another user's
            words = process.cmdline()
            stages = "-m" in words and any(
                word.startswith("stages.") and word != "stages.commands.cli" for word in words
            )
            if stages and Path(process.cwd()) == root.resolve():
                raise SrlmError(
                    f"a stage is still at work here (process {process.pid}: {' '.join(words)}). Wait for it, or stop "
                    f"it: kill {process.pid}"
                )


def quarantine_truncated_lock(root: Path) -> None:
    """DVC writes dvc.lock anew after each stage, and half of one ends it. Without any it finds in its cache of runs
    what stages made."""
    lock = root / LOCK
    if not lock.is_file() or is_complete_lock(lock) or b"<<<<<<<" in lock.read_bytes():
        return  # the last is a merge that people have to end: DVC says so
    aside = lock.with_name(f"{LOCK}.damaged-{time.time_ns()}")
    lock.rename(aside)
    stderr.print(
        f"warning: {LOCK} is damaged: set aside as {aside.name}; what stages made is found again by DVC",
        style="yellow",
    )


def is_complete_lock(lock: Path) -> bool:
    """Whether DVC reads it, and no hash is cut off, at which DVC stumbles later."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils import strictyaml

    try:
        held, text = strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return False
    files = [
        file for stage in held.get("stages", {}).values() for kind in ("deps", "outs") for file in stage.get(kind, ())
    ]
    return text.endswith("\n") and all(is_hashed(file) for file in files)


def is_hashed(file: Mapping[str, Any]) -> bool:
    """Whether an entry of dvc.lock holds a whole md5, or, of something that lies elsewhere (S3, a web server), the hash
    that is told there."""
    return bool(
        re.fullmatch(r"[0-9a-f]{32}(\.dir)?", file["md5"])
        if "md5" in file
        else file.get("etag") or file.get("checksum") or file.get("files")
    )
