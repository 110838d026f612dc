"""The checker: scores a reply by the world's additive rubric. It makes seed data, as people would, and scores held-out
tests; nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from stages.tinyworld.tasks import CATEGORIES, Task, parse

POLITE = ("Sure!", "Of course!", "Happy to help!", "Here you go:")
RUDE = ("Ugh,", "Whatever,", "Boring,")
RUBRIC = ("relevant", "useful", "right", "tidy", "polite")
SHARES = {"fully_right": ("right",), "all_five": RUBRIC}
"""What evaluation counts beside the score: the share of the replies that have all these points."""


class Check(NamedTuple):
    """One item beside its reference: the wanted item, or the category where any of it will do. None: nothing given, or
    nothing wanted."""

    item: str | None
    reference: str | None
    right: bool


@dataclass(frozen=True)
class Points:
    """The findings on one reply. `checks` has a row for every item wanted or given, so a missing or surplus item is a
    row that is not right."""

    task: Task
    checks: tuple[Check, ...]
    tidy: bool
    """Ends at its first full stop, and does not open rudely."""
    polite: bool

    @property
    def right_items(self) -> int:
        return sum(check.right for check in self.checks)

    @property
    def relevant(self) -> bool:
        """At least one right item."""
        return self.right_items >= 1

    @property
    def useful(self) -> bool:
        """At least half of the items wanted or given are right."""
        return 2 * self.right_items >= len(self.checks)

    @property
    def right(self) -> bool:
        """All wanted items, in order, and nothing else."""
        return self.right_items == len(self.checks)

    @property
    def flags(self) -> tuple[bool, ...]:
        """In the order of RUBRIC."""
        return (self.relevant, self.useful, self.right, self.tidy, self.polite)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the points given."""
        return tuple(name for name, flag in zip(RUBRIC, self.flags, strict=True) if flag)

    @property
    def total(self) -> int:
        """0 to 5."""
        return sum(self.flags)


def score(prompt: str, response: str) -> Points | None:
    """Score a reply to a prompt of this world; None when the prompt is none of its tasks, hence unknown."""
    task = parse(prompt)
    return None if task is None else score_task(task, response)


def check(prompt: str, response: str) -> tuple[float, list[str]] | None:
    """The score of a reply, 0 to 5, and the names of the points given; None when the prompt is none of this world."""
    points = score(prompt, response)
    return None if points is None else (float(points.total), list(points.given))


def score_task(task: Task, response: str) -> Points:
    """Score a reply to a task."""
    text = response.strip()
    opening = next((words for words in POLITE + RUDE if text.startswith(words)), "")
    body, stop, tail = text.removeprefix(opening).partition(".")
    tidy = bool(stop) and not tail.strip() and opening not in RUDE
    return Points(task, tuple(_checks(task, body.split())), tidy, opening in POLITE)


def _checks(task: Task, items: list[str]) -> list[Check]:
    checks = []
    for i in range(max(task.n, len(items))):
        item = items[i] if i < len(items) else None
        reference = None if i >= task.n else task.wanted[i] if task.wanted else task.category
        if item is None or reference is None:
            right = False
        elif task.wanted:
            right = item == reference
        else:
            right = (
                item in CATEGORIES[task.category]
                and item not in items[:i]
                and not (task.kind == "alpha" and i > 0 and item < items[i - 1])
            )
        checks.append(Check(item, reference, right))
    return checks
