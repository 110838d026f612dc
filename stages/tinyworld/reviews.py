"""Findings as judgement text: each item beside its reference, so that every step of the check is local; the points as
running totals.

Wanted 3: up left bad. Check: up up yes left left yes good bad no. Right 2 of 3. Points: 1 2 2 3 4. Score: 4
"""

from __future__ import annotations

from itertools import accumulate

from stages.console.errors import SeedDataError
from stages.tinyworld.oracle import Points, score
from stages.tinyworld.tasks import Task

NONE = "none"


def review(prompt: str, response: str) -> str:
    """The judgement that a careful person would write; its last words are `Score: <n>`.

    Raises SeedDataError when the prompt is no task of this world.
    """
    points = score(prompt, response)
    if points is None:
        raise SeedDataError(f"no one wrote a judgement for {prompt[:80]!r}: it is no task of the tiny world")
    return f"{check_text(points)} {points_text(points)} Score: {points.total}"


def check_text(points: Points) -> str:
    """`Wanted ...: ... Check: ... Right ... of ...`: the count is out of all items wanted or given, so that missing and
    surplus items both tell."""
    rows = " ".join(
        f"{check.item or NONE} {check.reference or NONE} {'yes' if check.right else 'no'}" for check in points.checks
    )
    return (
        f"Wanted {points.task.n}: {_wanted(points.task)}. Check: {rows}. Right {points.right_items} of "
        f"{len(points.checks)}."
    )


def points_text(points: Points) -> str:
    """`Points: ...`: running totals in the rubric's order."""
    return f"Points: {' '.join(map(str, accumulate(map(int, points.flags))))}."


def _wanted(task: Task) -> str:
    return " ".join(task.wanted) or (f"{task.category} sorted" if task.kind == "alpha" else task.category)
