"""Anchored rejection: an older model's answers may be rejected, never chosen."""

from __future__ import annotations

import polars as pl
import pytest

from stages.method.judging import mean_scores, pool
from stages.method.pair_counts import counts
from stages.method.pairing import fates, pairs, perfect
from stages.store.catalog import check
from stages.store.tables import CANDIDATES, PAIRS, PROMPTS, SCORES


def tables(own: dict[str, list[float | None]], older: dict[str, list[float | None]], prompts: int = 1):
    """`own`, `older`: text -> its scores; the same answers to each of `prompts` prompts."""
    names = [f"p{i:02}" for i in range(prompts)]
    answers = [
        (f"{prompt}{text}{by}", prompt, by, n, text, "stop", 5, None)
        for prompt in names
        for n, (text, by) in enumerate([(t, "M2") for t in own] + [(t, "M1") for t in older])
    ]
    by_text = older | own
    judgements = [
        (candidate, prompt, k, score)
        for candidate, prompt, _, _, text, *_ in answers
        for k, score in enumerate(by_text[text])
    ]
    schema = {"candidate_id": pl.String, "prompt_id": pl.String, "k": pl.Int32, "score": pl.Float64}
    return (
        pl.DataFrame([(p, "M2", f"say {p}", "M0", [], None) for p in names], schema=PROMPTS.schema, orient="row"),
        pl.DataFrame(answers, schema=CANDIDATES.schema, orient="row"),
        pl.DataFrame(judgements, schema=schema, orient="row"),
    )


def run(own, older, *, rejected="worst", prompts=1, rho=None, seed=1, name="M1"):
    """(fate by candidate without the prompt's name, SCORES, PAIRS), under their contracts."""
    asked, candidates, judgements = tables(own, older, prompts)
    judged = mean_scores(pool(candidates, judgements))
    how = {"min_margin": 0.0, "rho": rho, "signal": "judge", "seed": seed}
    scores = check(SCORES, fates(candidates, judged, older=name, rejected=rejected, **how), "scores")
    made = check(PAIRS, pairs(asked, candidates, scores, older=name), "pairs")
    figures = counts(asked, candidates, judgements, judged, scores, made)
    assert sum(figures["fates"].values()) == len(candidates)
    assert figures["fates"]["chosen"] == figures["fates"]["rejected"] == len(made)
    return {c[3:]: fate for c, fate in scores.select("candidate_id", "fate").iter_rows()}, made, figures


def test_the_worst_of_both_is_rejected_and_the_best_of_mt_is_chosen():
    fate, made, figures = run({"a": [3.0], "b": [2.0]}, {"c": [5.0], "d": [1.0]})
    assert fate == {"aM2": "chosen", "bM2": "between", "cM1": "between", "dM1": "rejected"}
    assert made.select("model", "chosen", "rejected", "rejected_by").rows() == [("M2", "a", "d", "M1")]
    assert figures["rejected_by_older"] == 1
    fate, made, _ = run({"a": [3.0], "b": [0.0]}, {"c": [5.0], "d": [1.0]})
    assert (fate["bM2"], made["rejected_by"][0]) == ("rejected", None)


def test_older_rejects_its_worst_alone_and_a_prompt_where_mt_is_not_better_gives_no_pair():
    fate, made, _ = run({"a": [3.0], "b": [0.0]}, {"c": [5.0], "d": [1.0]}, rejected="older")
    assert fate == {"aM2": "chosen", "bM2": "between", "cM1": "between", "dM1": "rejected"}
    assert made["rejected_score"][0] == 1.0
    fate, made, _ = run({"a": [3.0], "b": [0.0]}, {"c": [5.0], "d": [4.0]}, rejected="older")
    assert {*fate.values()} == {"tied"}
    assert made.is_empty()


def test_a_text_that_both_wrote_is_one_text_that_both_may_lose():
    fate, made, _ = run({"a": [3.0], "b": [1.0]}, {"b": [1.0], "c": [5.0]}, rejected="older")
    assert fate == {"aM2": "chosen", "bM2": "rejected", "bM1": "duplicate", "cM1": "between"}
    assert made["rejected_id"][0] == "p00bM2"
    assert run({"a": [3.0], "b": [1.0]}, {"a": [3.0]}, rejected="older")[1].is_empty()  # no answer against itself


def test_half_takes_each_from_one_model_by_seed():
    own, older = {"a": [4.0], "b": [1.0]}, {"c": [2.0], "d": [5.0]}
    _, made, figures = run(own, older, rejected="half", prompts=40)
    assert len(made) == 40
    assert {*made["rejected"]} == {"b", "c"}  # each one's worst, though b is the worst of all
    assert 10 <= figures["rejected_by_older"] <= 30
    assert made.equals(run(own, older, rejected="half", prompts=40)[1])
    assert not made["rejected"].equals(run(own, older, rejected="half", prompts=40, seed=2)[1]["rejected"])


def test_unjudged_takes_any_answer_that_the_older_model_alone_wrote():
    own, older = {"a": [4.0], "b": [4.0]}, {"c": [], "d": [], "a": [4.0]}
    _, made, figures = run(own, older, rejected="unjudged", prompts=40)
    assert {*made["rejected"]} == {"c", "d"}
    assert made["chosen"].unique().to_list() == ["a"]
    assert made["rejected_score"].null_count() == 40
    assert figures["fates"]["unjudged"] == figures["fates"]["duplicate"] == 40
    assert figures["mean_margin"] is None
    assert run({"a": [None]}, older, rejected="unjudged")[0]["aM2"] == "unreadable"


@pytest.mark.parametrize("rejected", ["worst", "older", "half", "unjudged"])
def test_an_aift_that_no_older_model_answers_has_the_papers_pairs(rejected):
    _, made, _ = run({"a": [4.0], "b": [1.0]}, {}, rejected=rejected, prompts=20, name=None)
    assert made.select("chosen", "rejected").rows() == [("a", "b")] * 20


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_length_control_holds_beside_it(rho):
    fate, _, _ = run({"a": [3.0], "b": [2.0]}, {"c": [5.0], "d": [1.0]}, rho=rho)
    assert (fate["aM2"], fate["dM1"]) == ("chosen", "rejected")


def test_of_the_older_model_nothing_is_perfect_and_lengths_are_mts_own():
    asked, candidates, judgements = tables({"a": [5.0], "b": [2.0]}, {"c": [5.0], "a": [5.0]})
    candidates = candidates.with_columns(tokens=pl.Series([4, 6, 50, 50], dtype=pl.Int32))
    judged = mean_scores(pool(candidates, judgements))
    scores = fates(candidates, judged, min_margin=0.0, rho=None, signal="judge", seed=1, older="M1")
    assert perfect(asked, candidates, scores.filter(model="M2"))["response"].to_list() == ["a"]
    figures = counts(asked, candidates, judgements, judged, scores, pairs(asked, candidates, scores, older="M1"))
    assert (figures["candidate_tokens"], figures["distinct_share"]) == (5.0, 1.0)


def test_scores_are_mts_own_and_the_older_models_stand_apart():
    figures = run({"a": [3.0, 4.0], "b": [2.0, None]}, {"c": [5.0, 5.0]})[2]
    assert (figures["mean_score"], figures["older_mean_score"]) == (2.75, 5.0)
    seen, theirs = ({k: n for k, n in figures[h].items() if n} for h in ("score_histogram", "older_histogram"))
    assert (seen, theirs) == ({"2": 1, "3": 1, "4": 1}, {"5": 2})
    assert figures["commonest_score_share"] == pytest.approx(1 / 3)
    assert not {"older_mean_score", "older_histogram"} & {*run({"a": [3.0], "b": [2.0]}, {}, name=None)[2]}
