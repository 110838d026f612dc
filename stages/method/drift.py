"""What moved from one AIFT to the next: lengths, the gap between chosen and rejected, how varied the answers are.

A loop that rewards itself can feed on length, or run out of differences to learn from; each is seen only when two
iterations are put side by side.
"""

from __future__ import annotations

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
