"""What git knows of the project: asked of the program `git`, in words where it cannot tell."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from stages.console.errors import RevisionError

LOCK = "dvc.lock"
FORMAT = "%(refname:strip=2)%00%(*objectname)%00%(objectname)%00%(creatordate:iso-strict)%00%(contents:subject)"
"""Of a tag. An annotated one is an object of its own, which names the commit."""


class Tag(NamedTuple):
    """A tag of git. `commit` is what it names, in full; `made`: when the tag was made, or else the commit."""

    name: str
    commit: str
    made: datetime
    message: str


def git(root: Path, *words: str, given: str | None = None) -> str:
    """The output of `git WORDS` in `root`. Raises RevisionError with git's own words where it fails."""
    done = _run(root, words, given)
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise RevisionError(f"git {words[0]} failed in {root.resolve()}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def knows(root: Path, *words: str) -> bool:
    """Whether `git WORDS`, which asks something, says yes."""
    return _run(root, words).returncode == 0


def _run(root: Path, words: Sequence[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-c", "core.quotePath=false", *words],
            cwd=root,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as e:
        raise RevisionError(f"git cannot be run ({e.strerror}). Install it: a version of the store is a tag") from None


def tags(root: Path) -> list[Tag]:
    """The tags whose commits hold a dvc.lock in this folder: versions of the store, the newest first."""
    lines = git(
        root, "for-each-ref", "--sort=-version:refname", "--sort=-creatordate", f"--format={FORMAT}", "refs/tags"
    )
    found = []
    for line in lines.splitlines():
        name, commit, of_itself, made, message = line.split("\0", 4)
        found.append(Tag(name, commit or of_itself, datetime.fromisoformat(made), message))
    holds = git(root, "cat-file", "--batch-check", given="".join(f"{tag.commit}:./{LOCK}\n" for tag in found))
    return [tag for tag, line in zip(found, holds.splitlines(), strict=True) if " blob " in line]
