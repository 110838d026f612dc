"""Files that are whole or absent, and their hashes as DVC computes them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.console.errors import SrlmError, TableError
from stages.console.terminal import warn

PARTIAL = ".partial"
"""Suffix of work in progress; DVC and git ignore it."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, of a file or folder; on success it replaces `path` in one rename, on
    failure nothing is left. Raises SrlmError for a full disk or a place that cannot be written."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(partial)
        yield partial
        if path.is_dir():  # a folder cannot be renamed onto a full one
            remove(path)
        partial.replace(path)
    except BaseException as e:
        remove(partial)
        raise _explained(e, path) if isinstance(e, Exception) else e from e


def _explained(e: Exception, path: Path) -> Exception:
    """The error in words where the disk is at fault, else the error itself. Rust libraries (polars, safetensors) tell
    the number in their text only."""
    if isinstance(e, SrlmError):  # in words already, and perhaps of another place
        return e
    in_text = re.search(r"\(os error (\d+)\)", str(e))
    number = e.errno if isinstance(e, OSError) else int(in_text[1]) if in_text else None
    nearest = next((folder for folder in path.parents if folder.exists()), path.parent)
    if number in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(nearest).free
        return SrlmError(
            f"no space left while writing {path} ({free / 1e6:.0f} MB free). Nothing was half-written; make room and "
            f"run the same command again"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SrlmError(f"No permission to write {path} ({os.strerror(number)}). Check owner and mode of {nearest}")
    if path.is_dir() and number in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
        return SrlmError(f"{path} is a folder. Name a file")
    if number in (errno.ENOTDIR, errno.EEXIST) or (number == errno.ENOENT and not path.parent.is_dir()):
        return SrlmError(
            f"cannot write {path}: {nearest} is {'no such folder' if nearest.is_dir() else 'a file, not a folder'}"
        )
    return e


def result_file(path: Path, root: Path) -> Path:
    """`path`, which a person named for a result. Raises SrlmError where that is no file, a part of the store under
    `root`, or in no folder."""
    if not path.name or (path.exists() and not path.is_file()):
        raise SrlmError(f"cannot write {str(path)!r}: it is a folder or a device. Name a file")
    if any(path.resolve().is_relative_to((root / part).resolve()) for part in ("data", ".dvc")):
        raise SrlmError(f"cannot write {path}: it lies in the store, which only stages write. Name a file elsewhere")
    if not path.parent.is_dir():
        raise SrlmError(f"cannot write {path}: no such folder: {path.parent}. Create it, or name a file elsewhere")
    return path


def remove(path: Path) -> None:
    """Delete a file or folder if it is there and may be deleted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def write_json(path: Path, data: Any) -> None:
    """Write `data` as sorted, indented JSON, so that equal data are equal bytes."""
    with atomic_write(path) as partial:
        partial.write_text(
            json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Raises TableError for a file that is not there, or no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise TableError(f"{path} cannot be read as JSON: {e}. Delete it and run: srlm repro") from None
    if not isinstance(content, dict):
        raise TableError(f"{path}: expected an object, saw {type(content).__name__}. Delete it and run: srlm repro")
    return content


def md5(path: Path, ignored: Callable[[Path], bool] = lambda file: "__pycache__" in file.parts) -> str:
    """The hash that `dvc.lock` holds for this file, or this folder without what is `ignored`."""
    if path.is_dir():
        inside = {f.relative_to(path).as_posix(): f for f in path.rglob("*") if f.is_file() and not ignored(f)}
        listing = [{"md5": md5(inside[name]), "relpath": name} for name in sorted(inside)]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
    with path.open("rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def ignored_by_dvc(root: Path) -> Callable[[Path], bool]:
    """Whether `.dvcignore` of the project in `root` names a file in it, so that DVC does not hash it."""
    from pathspec import GitIgnoreSpec

    file = root / ".dvcignore"
    spec = GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines() if file.is_file() else [])
    return lambda inside: spec.match_file(inside.relative_to(root))


def signature(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a file or folder: equal signatures spare a second hashing of a large model."""
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path] if path.exists() else []
    return [(f.relative_to(path).as_posix(), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]


def append_line(path: Path, data: dict[str, Any]) -> None:
    """Add one JSON line in a single write, so that two processes cannot mix theirs; a line that a full disk cut is
    ended first. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        file.seek(max(file.tell() - 1, 0))
        end = "" if file.read(1) in (b"", b"\n") else "\n"
        file.write(f"{end}{json.dumps(data, ensure_ascii=False)}\n".encode())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, if it is there; what is no object is counted in one warning."""
    bad = 0
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            yield entry
        else:
            bad += bool(line.strip())
    if bad:
        warn(f"{path}: {bad} damaged line(s) skipped")
