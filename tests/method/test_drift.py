"""What moved from one AIFT to the next."""

import pytest

from stages.method.drift import drift, warnings

BEFORE = {"candidate_tokens": 10.0, "mean_margin": 2.0, "distinct_share": 0.8, "pair_yield": 0.5}
LIMITS = {"length_growth": 0.3, "gap_shrink": 0.5, "distinct_shrink": 0.5}


def test_changes_are_relative():
    now = {"candidate_tokens": 14.0, "mean_margin": 1.0, "distinct_share": 0.2, "pair_yield": 0.5}
    assert drift(BEFORE, now) == pytest.approx({"length": 0.4, "gap": -0.5, "distinct": -0.75, "pair_yield": 0.0})


def test_the_unknown_is_null():
    assert drift(BEFORE, dict.fromkeys(BEFORE)) == {"length": None, "gap": None, "distinct": None, "pair_yield": None}
    assert drift(BEFORE | {"mean_margin": 0.0}, BEFORE)["gap"] is None


def test_suspicious_changes_are_named():
    assert warnings({"length": 0.31, "gap": -0.51, "distinct": -0.6, "pair_yield": -0.9}, **LIMITS) == [
        "answers grow: +31% tokens since the iteration before (warned above +30%)",
        "chosen and rejected come closer: their gap in score changed by -51% (warned below -50%)",
        "the answers become alike: the share of different texts changed by -60% (warned below -50%)",
    ]


def test_at_the_limit_and_the_other_way_nothing_is_said():
    assert warnings({"length": 0.3, "gap": -0.5, "distinct": -0.5, "pair_yield": 0.0}, **LIMITS) == []
    assert warnings({"length": -0.9, "gap": 2.0, "distinct": 2.0, "pair_yield": 0.0}, **LIMITS) == []
    assert warnings(dict.fromkeys(("length", "gap", "distinct", "pair_yield")), **LIMITS) == []
