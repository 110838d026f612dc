"""What moved from one AIFT to the next: lengths, the gap between chosen and rejected, how varied the answers are.

A loop that rewards itself can feed on length, or run out of differences to learn from; each is seen only when two
iterations are put side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any


def drift(before: dict[str, Any], now: dict[str, Any]) -> dict[str, float | None]:
    """Relative change of figures of `pairing.counts` from `before` to `now`, 0.25 = a quarter more; null where either
    is unknown or `before` is 0."""
    figures = {"length": "candidate_tokens", "gap": "mean_margin", "distinct": "distinct_share"}
    return {
        name: None if not before[figure] or now[figure] is None else now[figure] / before[figure] - 1
        for name, figure in {**figures, "pair_yield": "pair_yield"}.items()
    }


def warnings(
    moved: dict[str, float | None], *, length_growth: float, gap_shrink: float, distinct_shrink: float
) -> list[str]:
    """What is suspicious in `moved`, a sentence each. Limits are relative changes, all positive."""
    rules = (
        ("length", length_growth, "answers grow: {} tokens since the iteration before (warned above {})"),
        ("gap", -gap_shrink, "chosen and rejected come closer: their gap in score changed by {} (warned below {})"),
        (
            "distinct",
            -distinct_shrink,
            "the answers become alike: the share of different texts changed by {} (warned below {})",
        ),
    )
    return [
        sentence.format(f"{change:+.0%}", f"{limit:+.0%}")
        for name, limit, sentence in rules
        if (change := moved[name]) is not None and (change > limit if name == "length" else change < limit)
    ]


CHECKER_POINTS = 5
Scores = list[tuple[str, float | None, float | None]]


def both_scores(metrics: Mapping[tuple[str, str | None], Mapping[str, Any]], models: Iterable[str]) -> Scores:
    """By iteration, of those of `models` whose AIFT is there: the mean score that the loop's own judge gives to AIFT's
    answers (null for one that compares), and the one that the checker gives to the same model's sampled answers to
    held-out prompts, null where nobody knows."""
    rows: Scores = []
    for model in models:
        if aift := metrics.get(("AIFT", model)):
            writer = metrics.get(("EVAL", model), {}).get("writer", {})
            checked = (writer.get("sampled") or writer.get("greedy") or {}).get("oracle_score", {}).get("value")
            rows.append((model, aift.get("mean_score"), checked))
    return rows


def parted(scores: Scores, least: float, points: float = CHECKER_POINTS) -> list[str]:
    """A sentence for each step from one iteration to the next in which the judge's mean score rises by more than
    `least` points while the checker's falls by more: the loop rewards what only its judge likes. `least` is of the
    checker's five points; the judge's are as many as its scale has between its ends (`Params.score_points`)."""
    risen = least * points / CHECKER_POINTS
    sentences = []
    for (before, own, checked), (now, own_now, checked_now) in pairwise(scores):
        if own is None or checked is None or own_now is None or checked_now is None:
            continue
        if own_now - own > risen and checked - checked_now > least:
            sentences.append(
                f"the judge's mean score rises from {own:.2f} ({before}) to {own_now:.2f} ({now}) while the checker's "
                f"falls from {checked:.2f} to {checked_now:.2f}: what it rewards is no longer better (warned above "
                f"{least:g})"
            )
    return sentences
