"""Files that are to be published, and how they differ from those that a repository has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

IN_GIT = 10 * 2**20
"""Bytes: the Hub keeps greater files in LFS, whatever they are."""


class Local(NamedTuple):
    """A file to be published: `file` on this disk, `path` in the repository."""

    path: str
    file: Path
    sha256: str

    @classmethod
    def of(cls, path: str, file: Path) -> Local:
        return cls(path, file, sha256(file))

    def has(self, content_hash: str) -> bool:
        """Whether this is its content, as LFS (sha256) or, for small files, git (sha1 of a blob) name it."""
        return content_hash in self.hashes().values()

    def hashes(self) -> dict[str, str]:
        """`sha256`, and `blob` of a file that is small enough for git."""
        if self.file.stat().st_size > IN_GIT:
            return {"sha256": self.sha256}
        content = self.file.read_bytes()
        return {
            "sha256": self.sha256,
            "blob": hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest(),
        }


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Change(NamedTuple):
    path: str
    what: Literal["new", "changed", "unchanged", "gone"]
    size: int


def changes(files: list[Local], gone: list[str], there: Mapping[str, str]) -> list[Change]:
    """What a commit of these would do, by path. `there`: path -> hash of the files that the repository has."""
    made = []
    for file in files:
        known = there.get(file.path)
        made.append(
            Change(
                file.path,
                "new" if known is None else "unchanged" if file.has(known) else "changed",
                file.file.stat().st_size,
            )
        )
    return sorted([*made, *(Change(path, "gone", 0) for path in gone if path in there)])
