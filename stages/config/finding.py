"""One fault that was seen before anything ran: where, what, and what to set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rapidfuzz import fuzz, process


class Finding(NamedTuple):
    key: str
    """Dotted key of params.yaml, or a file."""
    seen: str
    fix: str = ""
    """What to set or to type, a sentence; empty where `seen` says it."""

    def __str__(self) -> str:
        return f"{self.key}: {self.seen}" + (f". {self.fix}" if self.fix else "")


def listing(findings: Sequence[Finding], file: object) -> str:
    """All findings, one a line."""
    count = "1 fault" if len(findings) == 1 else f"{len(findings)} faults"
    return "\n".join([f"{file}: {count}", *(f"  {finding}" for finding in findings)])


def nearest(name: str, among: Iterable[str], cutoff: float = 70) -> str | None:
    """What `name` was probably meant to be; None when nothing is near."""
    best = process.extractOne(name, sorted(among), scorer=fuzz.ratio, processor=str.casefold, score_cutoff=cutoff)
    return best[0] if best else None
