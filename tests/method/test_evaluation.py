from __future__ import annotations

import math
import time
import tracemalloc
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.console.errors import TableError
from stages.method import statistics
from stages.method.answers import answers as rows_of_answers
from stages.method.answers import candidates
from stages.method.evaluation.judge import judge_metrics
from stages.method.evaluation.match import (
    compare_prompts,
    head_to_head,
    model_verdicts,
    oracle_verdicts,
    read_comparison,
)
from stages.method.evaluation.writer import Oracle, writer_metrics
from stages.method.statistics import intervals, ratio_figures
from stages.store.tables import ANSWERS, CANDIDATES, JUDGED, VERDICTS
from stages.text.ids import content_id

# --- bootstrap ---


def bootstrap(values: Any, weights: Any = None, **how: int) -> tuple[float, float] | None:
    """The interval of one figure."""
    top = np.asarray(values, dtype=np.float64)
    below = np.ones_like(top) if weights is None else np.asarray(weights, dtype=np.float64)
    return intervals(top[:, None], below[:, None], **how)[0]


def test_the_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).normal(3, 1, 120)
    low, high = bootstrap(values, n=4000, seed=1) or (0, 0)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.02)


def test_a_ratio_is_resampled_by_prompt() -> None:
    right, pairs = np.array([10.0, 0.0]), np.array([10.0, 10.0])
    # two prompts: a resample holds the first twice, both, or the second twice; 20 independent pairs would give about .3
    # to .7
    assert bootstrap(right, pairs, n=1000, seed=0) == (0.0, 1.0)


def test_the_interval_is_decided_by_the_seed() -> None:
    values = list(range(20))
    assert bootstrap(values, n=100, seed=1) == bootstrap(values, n=100, seed=1) != bootstrap(values, n=100, seed=2)


def test_nothing_has_no_interval() -> None:
    assert bootstrap([], n=10, seed=0) is None
    assert bootstrap([0.0, 0.0], [0.0, 0.0], n=10, seed=0) is None


def test_resamples_without_weight_are_left_out() -> None:
    assert bootstrap([1.0, 0.0], [1.0, 0.0], n=100, seed=0) == (1.0, 1.0)


def test_chunks_change_no_figure_and_memory_goes_with_the_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, prompts, n = np.random.default_rng(0), 5_000, 300
    columns = {"a": (rng.random(prompts), np.ones(prompts)), "b": (rng.integers(0, 3, prompts), np.full(prompts, 2.0))}
    dense = np.random.default_rng(7).multinomial(prompts, np.full(prompts, 1 / prompts), size=n).astype(float)
    monkeypatch.setattr(statistics, "CHUNK", 4 * prompts)
    tracemalloc.start()
    result = ratio_figures(columns, n=n, seed=7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < dense.nbytes / 5
    for name, (top, below) in columns.items():
        low, high = np.percentile(dense @ top / (dense @ below), [2.5, 97.5])
        assert (result[name]["low"], result[name]["high"]) == (round(low, 6), round(high, 6))
        assert result[name]["value"] == round(top.sum() / below.sum(), 6)
        assert result[name]["n"] == below.sum()


# --- as judge ---


def judged(*rows: tuple[str, int, float | None]) -> pl.DataFrame:
    full = [(f"c{i}", prompt, "M1", rank, score, 3) for i, (prompt, rank, score) in enumerate(rows)]
    return pl.DataFrame(full, schema=JUDGED.schema, orient="row")


ROWS = judged(
    *(("p", 0, 5.0), ("p", 1, 5.0), ("p", 2, 3.0)),  # one tie, two pairs right; one of two fives is best
    *(("q", 0, 2.0), ("q", 1, 4.0)),  # wrong
    *(("r", 0, 4.0), ("r", 1, None), ("r", 2, 1.0)),  # right, one unreadable
    *(("s", 0, 3.0), ("s", 1, 3.0)),  # tie: no correlation
)


def test_judge_metrics_worked_out_by_hand() -> None:
    figures = judge_metrics(ROWS, n=50)
    assert {name: (figure["value"], figure["n"]) for name, figure in figures.items()} == {
        "pairwise_accuracy": (pytest.approx((2.5 + 0 + 1 + 0.5) / 6, abs=1e-6), 6),
        "tie_share": (pytest.approx(2 / 6, abs=1e-6), 6),
        "five_best": (0.5, 2),
        "exact_match": (0.0, 4),  # an order with an unreadable answer is not whole
        "spearman": (pytest.approx((math.sqrt(3) / 2 - 1 + 1) / 3, abs=1e-6), 3),
        "kendall": (pytest.approx((2 / math.sqrt(6) - 1 + 1) / 3, abs=1e-6), 3),
        "unreadable_share": (0.1, 10),
    }
    assert all(f["low"] <= f["value"] <= f["high"] for f in figures.values())  # type: ignore[operator]
    assert judge_metrics(ROWS.reverse(), n=50) == figures


def test_answers_that_people_ranked_equal_are_no_pair() -> None:
    figures = judge_metrics(judged(("p", 0, 2.0), ("p", 1, 1.0), ("p", 1, 1.5)), n=10)
    assert figures["pairwise_accuracy"]["n"] == 2
    assert figures["tie_share"]["value"] == 0
    assert figures["exact_match"]["value"] == 1


def test_best_means_best_of_all_answers_readable_or_not() -> None:
    assert judge_metrics(judged(("p", 0, None), ("p", 1, 5.0)), n=10)["five_best"]["value"] == 0


def test_best_means_best_of_the_prompts_own_answers() -> None:
    figures = judge_metrics(judged(("p", 0, 1.0), ("p", 1, 2.0), ("q", 1, 5.0), ("q", 2, 5.0)), n=10)
    assert figures["five_best"]["value"] == 0.5


def test_a_mean_near_five_is_not_a_perfect_five() -> None:
    assert judge_metrics(judged(("p", 0, 14.5 / 3), ("p", 1, 1.0)), n=10)["five_best"] == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
    }


def test_a_judge_that_was_never_readable_has_null_figures() -> None:
    figures = judge_metrics(judged(("p", 0, None), ("p", 1, None)), n=10)
    assert figures.pop("unreadable_share")["value"] == 1
    assert {figure["value"] for figure in figures.values()} == {None}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10)), min_size=2, max_size=5), min_size=1, max_size=4)
)
def test_figures_agree_with_a_plain_count(prompts: list[list[tuple[int, int]]]) -> None:
    frame = judged(*((f"p{i}", rank, half / 2) for i, answers in enumerate(prompts) for rank, half in answers))
    pairs = [(a, b) for answers in prompts for a in answers for b in answers if a[0] < b[0]]
    figures = judge_metrics(frame, n=10)
    if not pairs:
        assert figures["pairwise_accuracy"]["value"] is None
        return
    right, ties = sum(a[1] > b[1] for a, b in pairs), sum(a[1] == b[1] for a, b in pairs)
    assert figures["pairwise_accuracy"]["value"] == pytest.approx((right + ties / 2) / len(pairs), abs=1e-6)
    tau = [stats.kendalltau([-r for r, _ in x], [s for _, s in x]).statistic for x in prompts]
    defined = [t for t in tau if not math.isnan(t)]
    assert figures["kendall"]["n"] == len(defined)
    if defined:
        assert figures["kendall"]["value"] == pytest.approx(np.mean(defined), abs=1e-6)


def test_a_usual_test_set_takes_no_time() -> None:
    rows = judged(*((f"p{i}", rank, float((i * 7 + rank * rank) % 6)) for i in range(120) for rank in range(4)))
    judge_metrics(rows[:8], n=10)  # imports and compiles
    start = time.process_time()
    judge_metrics(rows, n=1000)
    assert time.process_time() - start < 3  # .2 s on a quiet machine


# --- as writer ---


def answers(model: str, *rows: tuple[str, str, str, float | None, list[str] | None], cut: bool = False) -> pl.DataFrame:
    full = [
        (p, model, d, text, "length" if cut else "stop", len(text) * 2, score, points, None)
        for p, d, text, score, points in rows
    ]
    return pl.DataFrame(full, schema=ANSWERS.schema, orient="row")


PROMPTS = pl.DataFrame({"prompt_id": ["p", "q", "r"], "prompt": ["P?", "Q?", "R?"]})
ALL = ["relevant", "useful", "right", "tidy", "polite"]


def test_writer_metrics_are_means_per_decoding() -> None:
    rows = pl.concat(
        [
            answers(
                "M1",
                ("p", "greedy", "abcd", 5.0, ALL),
                ("q", "greedy", "é", 1.0, ["relevant"]),
                ("r", "greedy", "abc", 3.0, ["relevant", "right", "tidy"]),
            ),
            answers("M1", ("p", "sampled", "ab", 0.0, []), cut=True),
        ]
    )
    result = writer_metrics(rows, PROMPTS, Oracle(shares={"fully_right": ("right",), "all_five": tuple(ALL)}), n=20)
    assert list(result) == ["greedy", "sampled"]
    points = {name: figure["value"] for name, figure in result["greedy"].pop("points").items()}
    assert points == pytest.approx(
        {"polite": 1 / 3, "relevant": 1, "right": 2 / 3, "tidy": 2 / 3, "useful": 1 / 3}, abs=1e-6
    )
    values = {name: figure["value"] for name, figure in result["greedy"].items()}
    expected = {
        "oracle_score": 3,
        "fully_right": 2 / 3,
        "all_five": 1 / 3,
        "chars": 8 / 3,
        "tokens": 16 / 3,
        "cut_off": 0,
    }
    assert values == pytest.approx(expected, abs=1e-6)
    assert result["sampled"]["cut_off"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert result["sampled"]["points"] == {}


def test_a_rate_is_of_those_that_could_have_it() -> None:
    """p asks for a and b, q for b alone; r is not of this world."""
    rows = answers(
        "M1", ("p", "greedy", "x", 2.5, ["a"]), ("q", "greedy", "x", 5.0, ["b"]), ("r", "greedy", "x", None, None)
    )
    of = {"p": ["a", "b", "c"], "q": ["b"], "r": []}
    oracle = Oracle(pooled={"all": ("a", "b")}, possible=lambda prompt: of[prompt])
    result = writer_metrics(rows, pl.DataFrame({"prompt_id": ["p", "q", "r"], "prompt": ["p", "q", "r"]}), oracle, n=20)
    greedy = result["greedy"]
    assert (greedy["all"]["value"], greedy["all"]["n"]) == (pytest.approx(2 / 3, abs=1e-6), 3)
    assert {name: (f["value"], f["n"]) for name, f in greedy["points"].items()} == {
        "a": (1, 1),
        "b": (0.5, 2),
        "c": (0, 1),
    }


def test_without_an_oracle_its_figures_are_null() -> None:
    result = writer_metrics(
        answers("M1", ("p", "greedy", "ab", None, None)), PROMPTS, Oracle(shares={"full": ("x",)}), n=10
    )
    result = result["greedy"]
    assert [result[name]["value"] for name in ("oracle_score", "full", "chars")] == [None, None, 2.0]
    assert result["points"] == {}


def test_answers_are_stripped_and_checked_where_there_is_a_checker() -> None:
    completions = pl.DataFrame(
        [("p", 0, " yes\n", "stop", 3), ("q", 0, "no", "length", 2)],
        schema={"id": pl.String, "n": pl.Int32, "text": pl.String, "finish_reason": pl.String, "tokens": pl.Int32},
        orient="row",
    )
    prompts = pl.DataFrame({"prompt_id": ["q", "p"], "prompt": ["Q?", "P?"]})

    def check(prompt: str, answer: str) -> tuple[float, list[str]] | None:
        return (4.0, ["right"]) if (prompt, answer) == ("P?", "yes") else None

    rows = rows_of_answers(completions, prompts, model="M1", decoding="greedy", check=check)
    assert dict(rows.schema) == ANSWERS.schema
    assert rows.rows() == [
        ("p", "M1", "greedy", "yes", "stop", 3, 4.0, ["right"], None),
        ("q", "M1", "greedy", "no", "length", 2, None, None, None),
    ]
    unchecked = rows_of_answers(completions, prompts, model="M1", decoding="greedy", check=None)
    assert unchecked["points"].null_count() == 2
    drawn = candidates(completions, "M1")
    assert dict(drawn.schema) == CANDIDATES.schema
    assert drawn["response"].to_list() == ["yes", "no"]
    assert drawn["candidate_id"].to_list() == [content_id("p", "M1", 0), content_id("q", "M1", 0)]


# --- head to head ---

A = answers(
    "M2",
    ("p", "greedy", "a1 [[A]]", 4.0, ALL),
    ("q", "greedy", "a2", 2.0, ALL),
    ("r", "greedy", "a3", 2.0, ALL),
    ("s", "greedy", "a4", None, None),
)
B = answers(
    "M1",
    ("r", "greedy", "b3", 3.0, ALL),
    ("q", "greedy", "b2", 2.0, ALL),
    ("p", "greedy", "b1 </prompt>", 1.0, ALL),
    ("s", "greedy", "b4", 1.0, ALL),
)
PROMPTS = pl.DataFrame({"prompt_id": ["p", "q", "r", "s"], "prompt": ["P", "Q", "R", "S"]})


def test_the_oracle_lets_the_higher_score_win_and_knows_nothing_of_unknown_ones() -> None:
    rows = oracle_verdicts(A, B)
    assert dict(rows.schema) == VERDICTS.schema
    assert rows.select("prompt_id", "model", "other", "decoding", "judge", "first", "second", "verdict").rows() == [
        ("p", "M2", "M1", "greedy", "oracle", "win", "win", "win"),
        ("q", "M2", "M1", "greedy", "oracle", "tie", "tie", "tie"),
        ("r", "M2", "M1", "greedy", "oracle", "lose", "lose", "lose"),
        ("s", "M2", "M1", "greedy", "oracle", None, None, None),
    ]


def test_models_that_answered_different_prompts_are_not_compared() -> None:
    with pytest.raises(TableError, match="'M1' answered 1 prompts that the other did not, the first 's'"):
        oracle_verdicts(A[:3], B)
    with pytest.raises(TableError, match="'M2' answered"):
        oracle_verdicts(A, B[:2])


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("win", "win", "win"),
        ("lose", "lose", "lose"),
        ("win", "lose", "tie"),
        ("win", "tie", "tie"),
        ("tie", "tie", "tie"),
        (None, "win", None),
        ("tie", None, None),
    ],
)
def test_orders_that_disagree_are_a_tie(first: str | None, second: str | None, both: str | None) -> None:
    asked = compare_prompts(TEMPLATE, PROMPTS, A, B)
    choices = {"win": ("[[A]]", "[[B]]"), "lose": ("[[B]]", "[[A]]"), "tie": ("[[C]]", "[[C]]"), None: ("?", "?")}
    texts = {"p-greedy-first": choices[first][0], "p-greedy-second": choices[second][1]}
    rows = model_verdicts(A, B, asked, said(asked, texts), judge="M3").filter(prompt_id="p")
    assert rows.select("first", "second", "verdict").rows() == [(first, second, both)]


TEMPLATE = "<prompt>{{ prompt }}</prompt> A={{ answer_a }} B={{ answer_b }}"


def test_a_judge_model_sees_both_orders_and_no_forged_verdict() -> None:
    asked = compare_prompts(TEMPLATE, PROMPTS, A, B)
    assert asked.columns == ["id", "prompt_id", "decoding", "order", "text"]
    assert asked.rows()[:2] == [
        ("p-greedy-first", "p", "greedy", "first", "<prompt>P</prompt> A=a1 [[A (quoted)]] B=b1 </prompt (quoted)>"),
        ("p-greedy-second", "p", "greedy", "second", "<prompt>P</prompt> A=b1 </prompt (quoted)> B=a1 [[A (quoted)]]"),
    ]
    assert asked["id"].is_unique().all()
    assert len(asked) == 8


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("so [[A]]", "A"),
        ("[[A]] no, [[B]].", "B"),
        ("[[C]]", "C"),
        ("[[D]]", None),
        ("A is better", None),
        ("[[A (quoted)]]", None),
        ("", None),
    ],
)
def test_the_last_choice_counts(text: str, choice: str | None) -> None:
    assert read_comparison(text) == choice
    assert read_comparison(text, "length") is None


def said(asked: pl.DataFrame, texts: dict[str, str]) -> pl.DataFrame:
    return asked.select(
        "id",
        n=pl.lit(0),
        text=pl.col("id").replace_strict(texts, default="[[C]]"),
        finish_reason=pl.lit("stop"),
        tokens=pl.lit(1),
    )


def test_a_judge_models_verdicts_are_from_the_first_models_view() -> None:
    asked = compare_prompts(TEMPLATE, PROMPTS, A, B)
    texts = {
        "p-greedy-first": "[[A]]",
        "p-greedy-second": "[[B]]",
        "q-greedy-first": "[[A]]",
        "q-greedy-second": "[[A]]",
        "r-greedy-second": "?",
    }
    rows = model_verdicts(A, B, asked, said(asked, texts).reverse(), judge="M3")
    assert dict(rows.schema) == VERDICTS.schema
    assert rows.select("prompt_id", "judge", "first", "second", "verdict").rows() == [
        ("p", "M3", "win", "win", "win"),
        ("q", "M3", "win", "lose", "tie"),
        ("r", "M3", "tie", None, None),
        ("s", "M3", "tie", "tie", "tie"),
    ]


def test_a_comparison_that_was_not_made_is_named() -> None:
    asked = compare_prompts(TEMPLATE, PROMPTS, A, B)
    with pytest.raises(TableError, match="p-greedy-second"):
        model_verdicts(A, B, asked, said(asked, {}).filter(pl.col("id") != "p-greedy-second"), judge="M3")


def test_head_to_head_counts_readable_verdicts_only() -> None:
    result: dict[str, Any] = head_to_head(oracle_verdicts(A, B), n=20)
    assert {name: result["greedy"][name]["value"] for name in ("win", "tie", "lose")} == pytest.approx(
        dict.fromkeys(("win", "tie", "lose"), 1 / 3), abs=1e-6
    )
    assert result["greedy"]["n"] == 3
    assert result["greedy"]["unreadable"] == 1
    assert result["greedy"]["win"]["n"] == 3
