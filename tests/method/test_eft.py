from __future__ import annotations

import itertools
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from stages.console.errors import TableError
from stages.method.eft import agreeing, agrees, chance, eft_rows, permuted, taus, thin
from stages.store.tables import EFT
from stages.text.ids import content_id


def ranked(*ranks: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        ranks, schema={"prompt_id": pl.String, "candidate_id": pl.String, "human_rank": pl.Int32}, orient="row"
    )


def judged(tries: dict[str, list[float | None]], prompt: str = "p") -> pl.DataFrame:
    rows = [(prompt, c, k, s) for c, scores in tries.items() for k, s in enumerate(scores)]
    schema = {"prompt_id": pl.String, "candidate_id": pl.String, "k": pl.Int32, "score": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(text=pl.format("{}-{}", "candidate_id", "k"))


THREE = ranked(("p", "a", 0), ("p", "b", 1), ("p", "c", 2))


@pytest.mark.parametrize(
    ("scores", "strict", "weak"),
    [
        ([3, 2, 1], True, True),
        ([3, 3, 1], False, True),
        ([3, 1, 1], False, True),
        ([3, 3, 3], False, False),
        ([1, 2, 3], False, False),
        ([3, 1, 2], False, False),
        ([2, 3, 1], False, False),
        ([3, None, 1], False, False),
        ([None, None, None], False, False),
    ],
)
def test_a_try_is_kept_when_its_order_agrees_with_peoples(scores: list[float | None], strict: bool, weak: bool) -> None:
    judgements = judged({c: [s] for c, s in zip("abc", scores, strict=True)})
    modes: dict[Literal["strict", "weak"], bool] = {"strict": strict, "weak": weak}
    for mode, kept in modes.items():
        assert agreeing(THREE, judgements, mode)["candidate_id"].to_list() == (["a", "b", "c"] if kept else [])


def test_only_the_first_agreeing_try_of_a_prompt_is_kept() -> None:
    kept = agreeing(THREE, judged({"a": [1, 5, 4], "b": [2, 4, 3], "c": [3, 3, 2]}), "strict")
    assert kept["text"].to_list() == ["a-1", "b-1", "c-1"]


def test_the_mean_of_the_tries_must_agree_and_the_nearest_judgement_is_taken() -> None:
    tries: dict[str, list[float | None]] = {"a": [1, 5, 4, None], "b": [5, 1, 2, 3], "c": [2, 3, None, 1]}
    taken = agreeing(THREE, judged(tries), "strict", "mean")  # means 3.33, 2.75, 2
    assert taken["text"].to_list() == ["a-2", "b-3", "c-0"]
    assert agreeing(THREE, judged(tries | {"c": [5, 5, 4, 5]}), "strict", "mean").is_empty(), "c is best in the mean"
    one_lucky_try: dict[str, list[float | None]] = {"a": [3, 1, 1], "b": [2, 2, 2], "c": [1, 3, 3]}
    assert len(agreeing(THREE, judged(one_lucky_try), "strict", "first")) == 3
    assert agreeing(THREE, judged(one_lucky_try), "strict", "mean").is_empty()
    assert agreeing(THREE, judged({"a": [3], "b": [2], "c": [None]}), "strict", "mean").is_empty()


@pytest.mark.parametrize(
    ("tries", "mode"),
    [
        ({"a": [5, 2], "b": [3, 3], "c": [0, 0]}, "strict"),  # means 3.5, 3, 0; nearest 5 or 2, 3, 0
        ({"a": [5, 0], "b": [4, 0.5], "c": [0, 0]}, "weak"),
        ({"a": [5, 5], "b": [5, 3], "c": [3, 4]}, "weak"),
    ],
)
def test_what_is_taken_agrees_as_its_means_do(tries: dict[str, list[float | None]], mode: Any) -> None:
    orders = set()
    for seed in range(20):
        taken = agreeing(THREE, judged(tries), mode, "mean", seed)["score"].to_list()
        orders.add(tuple(taken))
        assert taken == sorted(taken, reverse=True)
        assert mode == "weak" or len(set(taken)) == len(taken)
        assert (chance(THREE, judged(tries), mode, "mean", seed) > 0) == bool(taken)
    assert () in orders
    assert len(orders) > 1


def test_a_mean_and_what_is_taken_agree_by_chance_together() -> None:
    tries: dict[str, list[float | None]] = {"a": [3, 3], "b": [2, 2], "c": [1, 1]}
    assert permuted((0, 1, 2), ((3.0, 3.0), (2.0, 2.0), (1.0, 1.0)), "strict") == pytest.approx(1 / 6)
    assert permuted((0, 1, 1), ((3.0, 3.0), (2.0, 1.0), (1.5, 2.0)), "strict") == pytest.approx(1 / 3)
    assert permuted((0, 1, 2), ((3.0, 3.0), (2.0, 1.0), (1.5, 2.0)), "weak") == 0
    assert permuted((0, 1, 2), ((2.0, 3.0), (2.0, 2.0), (1.0, 1.0)), "weak") == pytest.approx(1 / 6)
    assert chance(THREE, judged(tries), "strict", "mean") == pytest.approx(1 / 6)


def test_of_equally_near_judgements_the_seed_decides() -> None:
    judgements = judged({"a": [5, 4], "b": [2, 1], "c": [0, 0]})
    taken = {tuple(agreeing(THREE, judgements, "strict", "mean", seed)["text"]) for seed in range(60)}
    assert taken == {(f"a-{a}", f"b-{b}", c) for a in "01" for b in "01" for c in ("c-0", "c-1")}
    assert agreeing(THREE, judgements.reverse(), "strict", "mean", 3).equals(
        agreeing(THREE, judgements, "strict", "mean", 3)
    )


ranks_and_scores = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=5)


@pytest.mark.slow
@given(ranks_and_scores, st.sampled_from(["strict", "weak"]))
@settings(max_examples=60, deadline=None)
def test_chance_is_the_share_of_permutations_that_agree(rows: list[tuple[int, float]], mode: Any) -> None:
    ranks, scores = [rank for rank, _ in rows], [score for _, score in rows]
    names = "abcde"[: len(rows)]
    people = ranked(*(("p", name, rank) for name, rank in zip(names, ranks, strict=True)))
    dealt = list(itertools.permutations(scores))
    each = pl.concat(
        judged({c: [s] for c, s in zip(names, scores_of, strict=True)}).with_columns(
            prompt_id=pl.lit(f"p{i}"), candidate_id=pl.format("{}-{}", "candidate_id", pl.lit(i))
        )
        for i, scores_of in enumerate(dealt)
    )
    everyone = pl.concat(
        people.with_columns(prompt_id=pl.lit(f"p{i}"), candidate_id=pl.format("{}-{}", "candidate_id", pl.lit(i)))
        for i in range(len(dealt))
    )
    agree = agreeing(everyone, each, mode)["prompt_id"].n_unique()
    assert permuted(tuple(ranks), tuple((score,) for score in scores), mode) == pytest.approx(agree / len(dealt))


def test_more_tries_give_chance_more_chances_and_a_mean_gives_one() -> None:
    apart: dict[str, list[float | None]] = {"a": [3] * 4, "b": [2] * 4, "c": [1] * 4}
    assert chance(THREE, judged({c: s[:1] for c, s in apart.items()}), "strict") == pytest.approx(1 / 6)
    assert chance(THREE, judged(apart), "strict") == pytest.approx(1 - (5 / 6) ** 4)
    assert chance(THREE, judged(apart), "strict", "mean") == pytest.approx(1 / 6)
    assert chance(THREE, judged({"a": [3], "b": [None], "c": [1]}), "weak") == 0
    ties: dict[str, list[float | None]] = {"a": [3], "b": [3], "c": [1]}
    assert chance(THREE, judged(ties), "strict") == 0
    assert chance(THREE, judged(ties), "weak") == pytest.approx(1 / 3)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10)), min_size=2, max_size=9))
def test_tau_is_scipys(rows: list[tuple[int, int]]) -> None:
    ranks, scores = [rank for rank, _ in rows], [score / 2 for _, score in rows]
    tau = kendalltau([-rank for rank in ranks], scores).statistic
    assert taus(ranks, [scores, scores[::-1]])[0] == pytest.approx(tau, nan_ok=True)


@pytest.mark.parametrize(
    ("scores", "tau"),
    [([5, 4, 2, 1], 1), ([4, 5, 2, 1], 2 / 3), ([5, 2, 4, 1], 2 / 3), ([5, 1, 2, 4], 0), ([1, 2, 4, 5], -1)],
)
def test_a_prompt_agrees_from_its_own_tau_on(scores: list[float], tau: float) -> None:
    assert agrees([0, 1, 2, 3], scores, tau)
    assert agrees([0, 1, 2, 3], scores, round(tau, 3) - 0.001)
    assert not agrees([0, 1, 2, 3], scores, tau + 0.001)
    assert not agrees([0, 1, 2, 3], [3, 3, 3, 3], -1), "one score for all has no order"
    people = ranked(("p", "a", 0), ("p", "b", 1), ("p", "c", 2), ("p", "d", 3))
    assert len(agreeing(people, judged({c: [s] for c, s in zip("abcd", scores, strict=True)}), tau)) == 4


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=6), st.floats(-1, 1), st.floats(0, 1)
)
def test_strict_is_weak_and_more_agree_with_a_lower_tau(rows: list[tuple[int, int]], tau: float, more: float) -> None:
    ranks, scores = [rank for rank, _ in rows], [float(score) for _, score in rows]
    strict, weak = agrees(ranks, scores, "strict"), agrees(ranks, scores, "weak")
    assert weak or not strict
    assert not weak or agrees(ranks, scores, 0.0), "no pair is inverted"
    assert agrees(ranks, scores, tau) or not agrees(ranks, scores, min(1.0, tau + more))


def test_chance_of_a_tau_is_the_share_of_orders_that_reach_it() -> None:
    three, apart = (0, 1, 2), ((1.0,), (2.0,), (3.0,))  # taus of the six orders: 1, 1/3, 1/3, -1/3, -1/3, -1
    assert [permuted(three, apart, tau) for tau in (1.0, 1 / 3, 0.0, -1.0)] == pytest.approx([1 / 6, 1 / 2, 1 / 2, 1])
    assert permuted(three, ((1.0,), (1.0,), (3.0,)), 0.8) == pytest.approx(1 / 3)
    assert permuted(three, ((1.0,), (1.0,), (1.0,)), -1.0) == 0
    together = permuted(three, ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0)), 1 / 3)  # both the mean and what is taken
    orders = list(itertools.permutations([(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]))
    both = sum(all(agrees(three, numbers, 1 / 3) for numbers in zip(*order, strict=True)) for order in orders)
    assert together == pytest.approx(both / 6)
    judgements = judged({"a": [3] * 2, "b": [2] * 2, "c": [1] * 2})
    assert chance(THREE, judgements, 0.0) == pytest.approx(3 / 4), "two tries: 1 - (1 - 1/2)^2"
    assert chance(THREE, judgements, 0.0, "mean") == pytest.approx(1 / 2)


def test_of_many_answers_orders_are_drawn_by_seed() -> None:
    ranks, scores = tuple(range(9)), tuple((float(i),) for i in range(9))
    drawn = [permuted(ranks, scores, 0.0, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn == pytest.approx([0.54] * 3, abs=0.02)  # half, and half of those at exactly 0


def test_answers_of_equal_rank_put_no_constraint() -> None:
    people = ranked(("p", "a", 0), ("p", "b", 1), ("p", "c", 1))
    for b, c in ((1, 2), (2, 1), (2, 2)):
        assert len(agreeing(people, judged({"a": [3], "b": [b], "c": [c]}), "strict")) == 3
    assert agreeing(people, judged({"a": [3], "b": [1], "c": [3]}), "strict").is_empty()


def test_a_prompt_whose_answers_people_ranked_alike_shows_no_agreement() -> None:
    people = ranked(("p", "a", 0), ("p", "b", 0))
    assert agreeing(people, judged({"a": [3], "b": [1]}), "strict").is_empty()


def test_a_try_that_does_not_hold_every_answer_does_not_count() -> None:
    assert agreeing(THREE, judged({"a": [3], "b": [2]}), "strict").is_empty()


def test_prompts_are_decided_one_by_one_whatever_the_order_of_the_rows() -> None:
    people = pl.concat([THREE, ranked(("q", "d", 1), ("q", "e", 0))])
    judgements = pl.concat([judged({"a": [1, 3], "b": [2, 2], "c": [3, 1]}), judged({"d": [1, 1], "e": [2, 5]}, "q")])
    kept = agreeing(people, judgements, "strict")
    assert kept["text"].to_list() == ["a-1", "b-1", "c-1", "d-0", "e-0"]
    assert agreeing(people.reverse(), judgements.reverse(), "strict").equals(kept)


def test_a_judgement_of_no_ranked_answer_is_named() -> None:
    with pytest.raises(TableError, match="'z'"):
        agreeing(THREE, judged({"z": [1]}), "strict")


def flat(scores: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {"candidate_id": [f"c{i}" for i in range(len(scores))], "score": scores},
        schema={"candidate_id": pl.String, "score": pl.Float64},
    )


@pytest.mark.parametrize(
    ("fours", "others", "to", "left"),
    [(8, 2, 0.5, 2), (8, 4, 0.2, 1), (7, 3, 0.7, 7), (3, 4, 0.5, 3), (70, 70, 0.3, 30), (5, 2, 1.0, 5), (5, 1, 0.4, 0)],
)
def test_the_commonest_score_is_thinned_to_its_share(fours: int, others: int, to: float, left: int) -> None:
    rows = flat([4.0] * fours + [float(i % 2) if others > 1 else 1.0 for i in range(others)])
    kept = thin(rows, to, seed=0)
    assert (kept["score"] == 4).sum() == left
    assert (kept["score"] != 4).sum() == others


def test_thinning_is_decided_by_seed_and_id_not_by_order() -> None:
    rows = flat([4.0] * 20 + [1.0, 2.0, 3.0])
    kept = set(thin(rows, 0.5, 1)["candidate_id"])
    assert kept == set(thin(rows.reverse(), 0.5, 1)["candidate_id"])
    assert kept != set(thin(rows, 0.5, 2)["candidate_id"])


def test_one_score_for_all_cannot_be_thinned_into_a_spread() -> None:
    assert len(thin(flat([4.0] * 5), 0.3, 0)) == 5
    assert thin(flat([]), 0.3, 0).is_empty()


def test_eft_rows_pair_the_judge_prompt_with_the_judgement() -> None:
    prompts = pl.DataFrame({"candidate_id": ["b", "a"], "text": ["judge b", "judge a"]})
    rows = eft_rows(THREE, judged({"a": [3], "b": [2]}), prompts)
    assert dict(rows.schema) == EFT.schema
    assert sorted(rows.rows()) == sorted(
        [
            (content_id("judge a", "a-0"), "a", "judge a", "a-0", 3.0, 0),
            (content_id("judge b", "b-0"), "b", "judge b", "b-0", 2.0, 1),
        ]
    )
