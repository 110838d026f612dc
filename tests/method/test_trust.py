"""What a judge's agreement with people may hide, on hand-made judges."""

from __future__ import annotations

import polars as pl
import pytest

from stages.method.evaluation.judge import judge_metrics
from stages.method.evaluation.trust import calibration, trust_metrics
from stages.store.tables import JUDGED, JUDGEMENTS

Row = tuple[str, int, float | None, str]


def tables(*rows: Row) -> tuple[pl.DataFrame, pl.DataFrame]:
    """JUDGED rows of (prompt, rank, score, response), and the responses; the answers are c0, c1, ..."""
    full = [(f"c{i}", prompt, "J", rank, score, 3) for i, (prompt, rank, score, _) in enumerate(rows)]
    texts = [(f"c{i}", text) for i, (*_, text) in enumerate(rows)]
    schema = {"candidate_id": pl.String, "response": pl.String}
    return pl.DataFrame(full, JUDGED.schema, orient="row"), pl.DataFrame(texts, schema, orient="row")


def figures(*rows: Row, tries: dict[str, list[float | None]] | None = None) -> dict[str, tuple[float | None, int]]:
    judged, responses = tables(*rows)
    scores = [
        (answer, "p", "J", k, "", "stop", score, None)
        for answer, each in (tries or {}).items()
        for k, score in enumerate(each)
    ]
    judgements = pl.DataFrame(scores, schema=JUDGEMENTS.schema, orient="row")
    result = trust_metrics(judged, judgements, responses, n=20)
    assert trust_metrics(judged.reverse(), judgements.reverse(), responses.reverse(), n=20) == result
    return {name: (figure["value"], figure["n"]) for name, figure in result.items()}  # type: ignore[misc]


def test_a_judge_that_reads_half_is_not_flattered() -> None:
    """Of three answers it scores two, rightly: all readable pairs are right, and of all pairs two are guesses."""
    rows: list[Row] = [("p", 0, 5.0, "a"), ("p", 1, None, "b"), ("p", 2, 1.0, "c")]
    assert judge_metrics(tables(*rows)[0], n=10)["pairwise_accuracy"]["value"] == 1
    seen = figures(*rows)
    assert seen["accuracy"] == (pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-6), 3)
    assert seen["exact_match"] == (0, 1)
    assert seen["spearman"][0] == pytest.approx(1)  # the mean of the others stands between them


def test_prompts_without_any_order_count() -> None:
    rows: list[Row] = [("p", 0, 5.0, "a"), ("p", 1, 4.0, "b"), ("q", 0, 3.0, "a"), ("q", 1, 3.0, "b")]
    rows += [("r", 0, None, "a"), ("r", 1, None, "b"), ("s", 0, 1.0, "a"), ("s", 0, 2.0, "b")]  # people say none of s
    plain = judge_metrics(tables(*rows)[0], n=10)
    assert (plain["spearman"]["value"], plain["spearman"]["n"]) == (1, 1)
    seen = figures(*rows)
    third = pytest.approx(1 / 3, abs=1e-6)
    assert (seen["spearman"], seen["kendall"], seen["exact_match"]) == ((third, 3), (third, 3), (third, 3))
    assert seen["accuracy"] == (pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-6), 3)


def test_a_judge_of_length_alone_is_seen() -> None:
    long = "long" * 9
    rows: list[Row] = [("p", 0, 4.0, long), ("p", 1, 1.0, "x"), ("q", 0, 1.0, "x"), ("q", 1, 4.0, long)]
    seen = figures(*rows, ("r", 0, 4.0, long), ("r", 0, 1.0, "x"))
    assert seen["accuracy"] == (0.5, 2)
    assert (seen["longer_better"], seen["shorter_better"], seen["longer_wins"]) == ((1, 1), (0, 1), (1, 1))
    assert seen["length_matched"] == (None, 0)


def test_lengths_within_a_quarter_are_alike() -> None:
    rows: list[Row] = [("p", 0, 2.0, "x" * 5), ("p", 1, 1.0, "x" * 4), ("q", 0, 1.0, "x" * 6), ("q", 1, 2.0, "x" * 4)]
    assert figures(*rows)["length_matched"] == (1, 1)
    assert figures(*rows)["longer_better"] == (0.5, 2)


def test_equal_lengths_are_on_neither_side() -> None:
    seen = figures(("p", 0, 2.0, "ab"), ("p", 1, 1.0, "cd"), ("q", 0, 2.0, "ab"), ("q", 0, 1.0, "cd"))
    assert seen["longer_better"][1] == seen["shorter_better"][1] == seen["longer_wins"][1] == 0
    assert seen["length_matched"] == (1, 1)


def test_how_the_tries_agree() -> None:
    tries: dict[str, list[float | None]] = {"c0": [4.0, 4.0, 2.0], "c1": [1.0, None, 1.0], "c2": [3.0, None, None]}
    seen = figures(("p", 0, 3.3, "a"), ("p", 1, 1.0, "b"), ("p", 2, 3.0, "c"), tries=tries)
    assert seen["tries_agree"] == (0.5, 4)  # 4-4, 4-2, 4-2, 1-1
    assert seen["tries_apart"] == (1.0, 4)
    assert figures(("p", 0, 1.0, "a"))["tries_agree"] == (None, 0)


def test_calibration_is_the_mean_rank_of_each_score() -> None:
    rows: list[Row] = [("p", 0, 5.0, "a"), ("p", 1, 4.5, "b"), ("q", 3, 1.4, "a"), ("q", 2, None, "b")]
    seen = calibration(tables(*rows, ("q", 1, 5.0, "c"))[0], n=10)
    assert {score: (figure["value"], figure["n"]) for score, figure in seen.items()} == {
        "1": (3, 1),
        "5": (pytest.approx(2 / 3, abs=1e-6), 3),  # 4.5 counts as 5
    }


def test_nothing_judged_is_nothing_known() -> None:
    assert {value for value, _ in figures().values()} == {None}
    assert calibration(tables()[0]) == {}
