from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from test_older_answers import tables

from stages.config.pair_sections import BuildPairs
from stages.method.consistency import consistency, smooth, taus
from stages.method.judging import mean_scores
from stages.method.pair_choice import beyond, leave_out
from stages.method.pairing import fates, pairs
from stages.store.catalog import check
from stages.store.tables import PAIRS, SCORES
from stages.train_dpo import as_written

OFF = BuildPairs(
    signal="judge",
    min_margin=0.0,
    rejected_from=None,
    rejected="worst",
    consistency="none",
    tau="prompt",
    min_tau=0.0,
    pairs_per_prompt=1,
    prompts_per_cluster=None,
    cluster=0.7,
    reviews=False,
)


def of(scores: list[float | None], prompt: str = "p") -> pl.DataFrame:
    rows = [(f"{prompt}{i}", prompt, score) for i, score in enumerate(scores)]
    return pl.DataFrame(rows, {"candidate_id": pl.String, "prompt_id": pl.String, "score": pl.Float64}, orient="row")


def tau(first: list[float | None], second: list[float | None]) -> float | None:
    return dict(taus(of(first), of(second)).iter_rows()).get("p")


def test_tau_of_rows_by_hand():
    assert tau([5, 3, 1], [4, 2, 0]) == 1.0
    assert tau([5, 3, 1], [0, 2, 4]) == -1.0
    assert tau([5, 3, 1], [4, 0, 2]) == pytest.approx(1 / 3)
    assert tau([5, 3, 3], [4, 2, 1]) == pytest.approx(2 / (2 * 3) ** 0.5)
    assert tau([5, 3, None, 1], [4, None, 0, 2]) == 1.0  # of what both could read
    assert tau([3, 3], [4, 2]) is None
    assert tau([3], [4]) is None
    assert tau([7 / 3, 1], [6.5 / 3 + 0.5 / 3, 2]) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.5, 4.0, 5.0])] * 2), min_size=2, max_size=9))
def test_tau_is_scipys(rows):
    first, second = zip(*rows, strict=True)
    wanted = float(kendalltau(first, second).statistic)
    seen = tau([*first], [*second])
    assert (seen is None) if wanted != wanted else (seen == pytest.approx(wanted))


def scored(of_prompts: list[float | None]) -> pl.DataFrame:
    """SCORES of prompts p0, p1 ... with two answers each, 4 and 1, and these taus; the last one is tied besides."""
    asked, candidates, judgements = tables({"a": [4.0], "b": [1.0]}, {}, prompts=len(of_prompts))
    scores = fates(candidates, mean_scores(judgements), min_margin=0.0, rho=None, signal="judge", seed=1)
    known = pl.DataFrame({"prompt_id": asked["prompt_id"], "tau": pl.Series(of_prompts, dtype=pl.Float64)})
    return scores.drop("tau").join(known, on="prompt_id", how="left", maintain_order="left").select(*SCORES.schema)


def some_pairs(scores: pl.DataFrame, per_prompt: int = 1) -> pl.DataFrame:
    asked, candidates, _ = tables({"a": [4.0], "b": [1.0]}, {}, prompts=scores["prompt_id"].n_unique())
    return check(PAIRS, pairs(asked, candidates, scores, per_prompt=per_prompt), "pairs")


def test_filter_drops_prompts_below_the_threshold_and_counts_them():
    scores = scored([1.0, -0.2, None, 0.5, 0.5])
    asked = tables({"a": []}, {}, prompts=5)[0]
    kept = {}
    for least in (-1.0, 0.0, 0.1, 0.5, 1.0):
        p = OFF.model_copy(update={"consistency": "filter", "min_tau": least})
        left = check(SCORES, leave_out(scores, asked, p, "en", 1), "scores")
        kept[least] = left.filter(fate="chosen")["prompt_id"].to_list()
        assert len(left.filter(fate="inconsistent")) == 2 * (5 - len(kept[least]))
    every = [f"p{i:02}" for i in range(5)]
    assert kept[-1.0] == every
    assert kept[0.0] == ["p00", "p02", "p03", "p04"]  # unknown counts as 0
    assert kept[0.1] == kept[0.5] == ["p00", "p03", "p04"]
    assert kept[1.0] == ["p00"]
    unknown = scored([None] * 5)
    left = [leave_out(unknown, asked, p.model_copy(update={"min_tau": least}), "en", 1) for least in (0.0, 0.1)]
    assert [len(rows.filter(fate="chosen")) for rows in left] == [5, 0], "0, though none is known"


def test_controls_deal_out_or_level_tau():
    of_prompts = [round(i / 20 - 1, 2) for i in range(41)]
    scores = scored(of_prompts)
    own, mean, dealt = (consistency(scores, how, 3)["tau"].to_list() for how in ("prompt", "mean", "shuffled"))
    assert own == of_prompts
    assert mean == [pytest.approx(sum(of_prompts) / 41)] * 41
    assert sorted(dealt) == of_prompts
    assert sum(a == b for a, b in zip(own, dealt, strict=True)) < 8
    assert dealt != consistency(scores, "shuffled", 4)["tau"].to_list()


def test_smooth_reverses_by_the_prompts_own_consistency():
    scores = scored([1.0] * 100 + [0.0] * 200 + [-1.0] * 100)
    made = smooth(some_pairs(scores), scores, "prompt", 1)
    check(PAIRS, made, "pairs")

    def turned(rows: pl.DataFrame) -> dict[float, int]:
        known = rows.join(scores.filter(fate="chosen").select("prompt_id", "tau"), on="prompt_id")
        return dict(known.group_by("tau").agg(pl.col("reversed").sum()).iter_rows())

    own, level = turned(made), turned(smooth(some_pairs(scores), scores, "mean", 1))
    assert (own[1.0], own[-1.0]) == (0, 100)
    assert 70 <= own[0.0] <= 130
    assert all(30 < n < 130 for n in level.values())  # half of all, though their own tau is 1 or -1
    assert smooth(some_pairs(scores), scores, "prompt", 1).equals(made)
    assert not smooth(some_pairs(scores), scores, "prompt", 2)["reversed"].equals(made["reversed"])
    unknown = scored([None] * 100)
    assert 30 <= smooth(some_pairs(unknown), unknown, "prompt", 1)["reversed"].sum() <= 70


def test_what_is_reversed_is_trained_the_other_way_round():
    made = some_pairs(scored([1.0, 1.0])).with_columns(
        reversed=pl.Series([None, 1], dtype=pl.Int32), chosen_thought=pl.lit("<t>hm</t>")
    )
    assert as_written(made).select("chosen", "rejected").rows() == [("<t>hm</t>a", "b"), ("b", "<t>hm</t>a")]


def test_pairs_of_all_distinct_scores_the_widest_first():
    asked, candidates, judgements = tables({"a": [4.0], "b": [1.0], "c": [2.0], "d": [2.0]}, {})
    scores = fates(candidates, mean_scores(judgements), min_margin=0.5, rho=None, signal="judge", seed=1)

    def made(per_prompt: int, min_margin: float = 0.5) -> list[str]:
        rows = check(PAIRS, pairs(asked, candidates, scores, per_prompt=per_prompt, min_margin=min_margin), "pairs")
        return [chosen + rejected for chosen, rejected in rows.select("chosen", "rejected").iter_rows()]

    assert made(1) == ["ab"]
    assert made(3) == ["ab", "ac", "ad"]
    assert made(99) == ["ab", "ac", "ad", "cb", "db"]  # never c against d
    assert made(99, 1.0) == ["ab", "ac", "ad"]


def test_the_older_model_wins_in_no_further_pair():
    asked, candidates, judgements = tables({"a": [3.0], "b": [2.0]}, {"c": [5.0], "d": [1.0]})
    scores = fates(candidates, mean_scores(judgements), min_margin=0.0, rho=None, signal="judge", seed=1, older="M1")
    rows = check(PAIRS, pairs(asked, candidates, scores, per_prompt=9, older="M1"), "pairs")
    seen = rows.select("chosen", "rejected", "rejected_by").rows()
    assert seen == [("a", "d", "M1"), ("a", "b", None), ("b", "d", "M1")]


def test_at_most_so_many_prompts_of_a_cluster_give_pairs():
    texts = [f"name {word} fruits that are red" for word in ("two", "three", "four", "five")] + ["why is the sky blue"]
    prompts = pl.DataFrame({"prompt_id": [*"abcde"], "prompt": texts})
    gone = beyond(prompts, 2, 0.7, "en", 1)
    assert len(gone) == 2
    assert "e" not in gone
    assert beyond(prompts.reverse(), 2, 0.7, "en", 1).equals(gone)
    assert {*map(tuple, (beyond(prompts, 2, 0.7, "en", seed) for seed in range(9)))} != {tuple(gone)}
    assert beyond(prompts, 1, 1.0, "en", 1).is_empty()
    scores = scored([1.0] * 3)
    asked = tables({"a": []}, {}, prompts=3)[0].with_columns(prompt=pl.lit("say it"))
    p = OFF.model_copy(update={"prompts_per_cluster": 2, "cluster": 0.5})
    left = check(SCORES, leave_out(scores, asked, p, "en", 1), "scores")
    assert (len(left.filter(fate="capped")), len(left.filter(fate="chosen"))) == (2, 2)
