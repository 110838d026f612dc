"""Differences of two runs: by prompt where the prompts are the same."""

import math

import polars as pl
import pytest

from stages.method.evaluation import paired
from stages.method.evaluation.judge import judge_metrics

N = 200


def counted(*values, below=1.0):
    rows = [(f"p{i}", value, below) for i, value in enumerate(values)]
    return pl.DataFrame(rows, schema=["prompt_id", "top", "below"], orient="row")


def test_a_constant_gain_is_sure_though_the_prompts_differ_widely():
    first = [float(i % 6) for i in range(60)]
    found = paired.of_ratios(counted(*first), counted(*(x + 0.5 for x in first)), n=N, seed=1)
    assert found == paired.Difference(0.5, 0.5, 0.5, 60, True)


def test_the_interval_is_of_the_prompts_differences():
    gains = [1.0, 0.0] * 50
    found = paired.of_ratios(counted(*[0.0] * 100), counted(*gains), n=2000, seed=1)
    assert found.value == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(100), abs=0.03)
    assert found == paired.of_ratios(counted(*[0.0] * 100), counted(*gains).reverse(), n=2000, seed=1), "by id"


@pytest.mark.parametrize("other", [counted(1.0, 2.0), counted(1.0, 1.0, 1.0, below=0.0)])
def test_other_prompts_or_a_ratio_of_nothing_are_not_paired(other):
    assert paired.of_ratios(counted(1.0, 1.0, 1.0), other, n=N, seed=1) is None


def test_without_pairs_two_intervals_are_added():
    first, second = {"value": 1.0, "low": 0.7, "high": 1.3}, {"value": 2.0, "low": 1.6, "high": 2.4}
    assert paired.of_figures(first, second) == paired.Difference(1.0, 0.5, 1.5)
    assert paired.of_figures(first, {**second, "low": None}) == paired.Difference(1.0)
    assert paired.of_figures(first, {"value": None}) == paired.Difference(None)


def test_a_judge_is_counted_as_its_metrics_count_it():
    rows = [("a", 0, 5.0), ("a", 1, 4.0), ("a", 2, 4.0), ("b", 0, 1.0), ("b", 1, 3.0), ("c", 0, None), ("c", 1, 2.0)]
    judged = pl.DataFrame(
        [(f"c{i}", *row) for i, row in enumerate(rows)],
        schema={"candidate_id": pl.String, "prompt_id": pl.String, "human_rank": pl.Int32, "score": pl.Float64},
        orient="row",
    )
    sums = paired.ordered(judged)
    whole = judge_metrics(judged, n=N)["pairwise_accuracy"]
    assert sums["top"].sum() / sums["below"].sum() == pytest.approx(whole["value"], abs=1e-6)
    assert sums["below"].sum() == whole["n"]
    assert set(sums["prompt_id"]) == {"a", "b", "c"}, "a prompt without a readable pair is a prompt"


def test_answers_and_verdicts_count_what_is_known():
    answers = pl.DataFrame(
        {
            "prompt_id": ["a", "b", "c", "a"],
            "decoding": ["greedy", "greedy", "greedy", "sampled"],
            "oracle_score": [5.0, 1.0, None, 0.0],
            "points": [["right", "tidy"], ["tidy"], None, []],
        }
    )
    assert paired.scored(answers).rows() == [("a", 5.0, True), ("b", 1.0, True), ("c", 0.0, False)]
    assert paired.scored(answers, ("right",)).rows() == [("a", 1.0, True), ("b", 0.0, True), ("c", 0.0, False)]
    verdicts = pl.DataFrame(
        {"prompt_id": ["a", "b", "c"], "decoding": ["greedy"] * 3, "verdict": ["win", "lose", None]}
    )
    assert paired.won(verdicts).rows() == [("a", True, True), ("b", False, True), ("c", False, False)]
