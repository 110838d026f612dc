"""Strengths of many models from matches of two: against scipy, on cases with known answers, and what must not change
them; the constant answer."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from stages.method.evaluation.tournament import CONSTANT, bradley_terry, constant_answers, tournament
from stages.store import catalog
from stages.store.tables import ANSWERS, TOURNAMENT


def rows(*matches: tuple[str, str, str], decoding: str = "greedy") -> pl.DataFrame:
    """A letter per prompt: w, t, l of the first model, `-` unreadable; `A`, `B` won by who stood first, second."""
    both = {"w": ("win", "win"), "t": ("tie", "tie"), "l": ("lose", "lose"), "-": ("win", None)}
    both |= {"A": ("win", "lose"), "B": ("lose", "win")}
    out = []
    for model, other, letters in matches:
        for i, letter in enumerate(letters):
            first, second = both[letter]
            verdict = None if second is None else first if first == second else "tie"
            out.append((f"p{i}", model, other, decoding, "J", first, second, verdict))
    return pl.DataFrame(out, schema=TOURNAMENT.schema, orient="row")


def likeliest(won: np.ndarray) -> np.ndarray:
    models = len(won)
    won = won + 0.5 * (1 - np.eye(models))
    loss = lambda x: (won * np.logaddexp(0, x[None, :] - x[:, None])).sum()
    found = minimize(loss, np.zeros(models), method="BFGS", options={"gtol": 1e-8}).x
    return found - found.mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_strengths_are_those_of_greatest_likelihood_by_scipy(models: int, seed: int, games: int) -> None:
    won = np.random.default_rng(seed).integers(0, games + 1, (models, models)) / 2 * (1 - np.eye(models))
    assert bradley_terry(won[None])[0] == pytest.approx(likeliest(won), abs=2e-4)


def test_two_models_are_as_far_apart_as_their_odds() -> None:
    figures = tournament(rows(("M2", "M1", "w" * 90 + "l" * 9)), n=50)["greedy"]
    gap = figures["elo"]["M2"]["value"] - figures["elo"]["M1"]["value"]
    assert gap == pytest.approx(400 * np.log10(90.5 / 9.5), abs=1e-4)  # one tie more: half a win for each
    assert figures["share"]["M2"]["value"] == pytest.approx(0.905, abs=1e-6)
    assert figures["elo"]["M2"]["value"] + figures["elo"]["M1"]["value"] == pytest.approx(2000)
    assert figures["points"] == {
        "M1": {"M2": {"value": 0.090909, "low": pytest.approx(0.04, abs=0.03), "high": pytest.approx(0.15, abs=0.03), "n": 99}},
        "M2": {"M1": {"value": 0.909091, "low": pytest.approx(0.85, abs=0.03), "high": pytest.approx(0.96, abs=0.03), "n": 99}},
    }  # fmt: skip


def test_one_that_never_lost_has_a_finite_strength_and_order_is_kept() -> None:
    figures = tournament(rows(("M3", "M2", "w" * 40), ("M3", "M1", "w" * 40), ("M2", "M1", "w" * 40)), n=50)["greedy"]
    elo = [figures["elo"][model]["value"] for model in ("M1", "M2", "M3")]
    assert np.isfinite(elo).all()
    assert elo == sorted(elo)


def test_the_interval_covers_what_is_true() -> None:
    true, hits, tries = np.array([0.0, 0.4, 1.0]), 0, 30
    for seed in range(tries):
        rng, matches = np.random.default_rng(seed), []
        for a, b in combinations(range(3), 2):
            wins = rng.random(80) < 1 / (1 + np.exp(true[b] - true[a]))
            matches.append((f"M{a}", f"M{b}", "".join("w" if won else "l" for won in wins)))
        figure = tournament(rows(*matches), n=200, seed=seed)["greedy"]["elo"]["M2"]
        hits += figure["low"] <= 1000 + 400 / np.log(10) * (true[2] - true.mean()) <= figure["high"]
    assert hits / tries > 0.85


def test_sides_rows_and_models_may_stand_in_any_order() -> None:
    one = rows(("M2", "M1", "wwtl" * 6), ("M3", "M1", "wwwl" * 6), ("M3", "M2", "wttl" * 6))
    turned = rows(("M1", "M2", "lltw" * 6), ("M1", "M3", "lllw" * 6), ("M3", "M2", "wttl" * 6))
    assert tournament(one, n=30) == tournament(turned.reverse(), n=30)


def test_unreadable_comparisons_count_nowhere_and_are_counted() -> None:
    figures = tournament(rows(("M2", "M1", "w-w-"), ("M3", "M1", "----")), n=10)["greedy"]
    assert figures["elo"].keys() == {"M1", "M2"}
    assert figures["elo"]["M2"]["n"] == figures["points"]["M2"]["M1"]["n"] == 2
    assert figures["points"]["M3"]["M1"]["value"] is None
    assert (figures["comparisons"], figures["unreadable"]) == (8, 6)


def test_many_unreadable_comparisons_are_warned_of() -> None:
    warned = "2 of 4 comparisons could not be read (greedy; warned above 25%)"
    assert tournament(rows(("M2", "M1", "w-w-")), n=10, unreadable=0.25)["warned"] == [warned]
    assert tournament(rows(("M2", "M1", "w-ww")), n=10, unreadable=0.25)["warned"] == []


def test_a_judge_of_places_is_seen() -> None:
    assert tournament(rows(("M2", "M1", "A" * 30)), n=10)["greedy"]["first"]["value"] == 1
    assert tournament(rows(("M2", "M1", "B" * 30)), n=10)["greedy"]["first"]["value"] == 0
    assert tournament(rows(("M2", "M1", "wl" * 15)), n=10)["greedy"]["first"]["value"] == 0.5
    assert tournament(rows(("M2", "M1", "t" * 30)), n=10)["greedy"]["first"]["value"] is None


def test_a_judge_that_prefers_the_constant_answer_is_gameable() -> None:
    with_constant = rows((CONSTANT, "M1", "wwl" * 8), (CONSTANT, "M2", "wll" * 8), ("M2", "M1", "w" * 24))
    figures = tournament(with_constant, n=20)
    assert figures["warned"] == [
        "the judge is gameable: it gives a constant answer 67% of the points against M1 (greedy, n 24)"
    ]
    assert {m: f["value"] for m, f in figures["greedy"]["constant"].items()} == {"M1": 0.666667, "M2": 0.333333}
    assert figures["greedy"]["elo"] == tournament(rows(("M2", "M1", "w" * 24)), n=20)["greedy"]["elo"]  # no model
    assert CONSTANT not in figures["greedy"]["points"]["M1"]
    assert tournament(rows((CONSTANT, "M1", "t" * 24)), n=20)["warned"] == []


def test_only_constant_answers_can_be_read() -> None:
    figures = tournament(rows((CONSTANT, "M1", "w"), ("M2", "M1", "-")), n=10)["greedy"]
    assert figures["elo"] == {}
    assert figures["constant"]["M1"]["value"] == 1


def test_the_constant_answers_every_prompt_alike() -> None:
    answers = pl.DataFrame(
        [("p1", "M1", "greedy", "a", "length", 3, 4.0, ["right"], "hm"), ("p2", "M1", "greedy", "b", "stop", 1, None, None, None)],
        schema=ANSWERS.schema,
        orient="row",
    )  # fmt: skip
    constant = catalog.check(ANSWERS, constant_answers(answers, "I follow."), "here")
    assert constant["response"].to_list() == ["I follow."] * 2
    assert set(constant["model"]) == {CONSTANT}
    assert constant["oracle_score"].null_count() == constant["thought"].null_count() == 2
