"""What moved from one AIFT to the next: lengths, the gap between chosen and rejected, how varied the answers are.

A loop that rewards itself can feed on length, or run out of differences to learn from; each is seen only when two
iterations are put side by side.
"""

from __future__ import annotations

from typing import Any


def drift(before: dict[str, Any], now: dict[str, Any]) -> dict[str, float | None]:
    """Relative change of figures of `pairing.counts` from `before` to `now`, 0.25 = a quarter more; null where either
    is unknown or `before` is 0."""

    def change(figure: str) -> float | None:
        old, new = before[figure], now[figure]
        return None if not old or new is None else new / old - 1

    return {
        "length": change("candidate_tokens"),
        "gap": change("mean_margin"),
        "distinct": change("distinct_share"),
        "pair_yield": change("pair_yield"),
    }


def warnings(
    moved: dict[str, float | None], *, length_growth: float, gap_shrink: float, distinct_shrink: float
) -> list[str]:
    """What is suspicious in `moved`, a sentence each. Limits are relative changes, all positive."""
    sentences = []
    if (length := moved["length"]) is not None and length > length_growth:
        sentences.append(
            f"answers grow: {length:+.0%} tokens since the iteration before (warned above {length_growth:+.0%})"
        )
    if (gap := moved["gap"]) is not None and gap < -gap_shrink:
        sentences.append(
            f"chosen and rejected come closer: their gap in score changed by {gap:+.0%} (warned below "
            f"{-gap_shrink:+.0%})"
        )
    if (distinct := moved["distinct"]) is not None and distinct < -distinct_shrink:
        sentences.append(
            f"the answers become alike: the share of different texts changed by {distinct:+.0%} (warned below "
            f"{-distinct_shrink:+.0%})"
        )
    return sentences
