"""JudgeBench: its own rule on hand-made and on published decisions, in both ways of asking."""

from pathlib import Path

import polars as pl
import pytest

from stages.console.errors import SeedDataError
from stages.method.evaluation import judge_bench as jb
from stages.store.rows import read_file

EVAL = Path(__file__).parents[3] / "shared/eval"
published = pytest.mark.skipif(not EVAL.is_dir(), reason="the published data are not here")


def rows(*values):
    return [(f"line {n}", value) for n, value in enumerate(values, 1)]


def pair(id="p", label="A>B", source="livebench-math", **more):
    return {"pair_id": id, "source": source, "question": "2 + 2?", "response_A": "4", "response_B": "5"} | {
        "label": label,
        **more,
    }


def decided(*decisions, label="A>B", **more):
    return {"pair_id": "p", "label": label, "decisions": list(decisions), **more}


@published
def test_two_published_judges_to_the_last_digit():
    pairs = jb.pairs(read_file(EVAL / "judgebench_pairs.jsonl.gz"), "pairs")
    made = jb.decisions(read_file(EVAL / "judgebench_decisions.jsonl.gz"), "decisions")
    whole = jb.with_sources(made, pairs, "decisions")
    figures = {judge: jb.figures(own, n=20) for (judge,), own in whole.group_by("judge")}
    o1 = figures["arena_hard/o1-mini-2024-09-12"]
    assert round(100 * o1["all"]["accuracy"]["value"], 2) == 65.71
    assert round(100 * o1["all"]["both_right"]["value"], 2) == 58.00
    assert {name: (f["accuracy"]["n"], round(100 * f["accuracy"]["value"], 2)) for name, f in o1.items()}.items() >= {
        "knowledge": (154, 58.44),
        "reasoning": (98, 62.24),
        "math": (56, 82.14),
        "coding": (42, 78.57),
    }.items()
    reward = figures["reward_model/internlm_internlm2-7b-reward"]["all"]
    assert (reward["consistent"]["value"], reward["first_share"]["value"]) == (1, 0.5)  # a model without bias of place


@pytest.mark.parametrize(
    ("decisions", "right", "tie", "unreadable"),
    [
        (("A>B", "B>A"), 1, 0, 0),  # right in both orders: the second shows the answers swapped
        (("A>B", "A=B"), 1, 0, 0),
        (("A>B", None), 1, 0, 1),
        (("A>B", "A>B"), 0, 1, 0),  # always the first
        (("A=B", "A=B"), 0, 1, 0),
        (("B>A", "A=B"), 0, 0, 0),
        ((None, None), 0, 0, 1),
        (("A>B",), 1, 0, 0),
        (("A=B",), 0, 1, 0),
    ],
)
def test_the_rule(decisions, right, tie, unreadable):
    mirror = [{"A>B": "B>A", "B>A": "A>B"}.get(d, d) for d in decisions]
    for row in (decided(*decisions), decided(*mirror, label="B>A")):
        figures = jb.figures(jb.decisions(rows(row), "d"), n=2)["all"]
        names = ("accuracy", "tie_share", "unreadable_share")
        assert [figures[name]["value"] for name in names] == [right, tie, unreadable]
        assert (figures["both_right"]["value"] is None) == (len(decisions) == 1)


def test_judgments_as_the_benchmark_s_script_writes_them():
    row = {"pair_id": "p", "label": "A>B", "judge_name": "arena_hard"}
    row |= {"judgments": [{"decision": "A>B", "judgment": {}}, None]}
    assert jb.decisions(rows(row), "d").to_dicts() == [
        {"judge": "arena_hard", "pair_id": "p", "source": None, "label": "A>B", "decisions": ["A>B", None]}
    ]


def test_scores_decide_pointwise():
    table = jb.pairs(rows(*(pair(str(n)) for n in range(4))), "p")
    assert jb.answers(table)["candidate_id"].to_list() == ["0-A", "1-A", "2-A", "3-A", "0-B", "1-B", "2-B", "3-B"]
    scores = {"0-A": 4.0, "0-B": 3.5, "1-A": 1.0, "1-B": 2.0, "2-A": 3.0, "2-B": 3.0, "3-A": None, "3-B": 5.0}
    means = pl.DataFrame({"candidate_id": scores.keys(), "score": scores.values()}).sort("score")
    made = jb.pointwise(table, means, "M1")
    assert made["decisions"].to_list() == [["A>B"], ["B>A"], ["A=B"], [None]]


def test_both_orders_are_compared_and_nothing_in_an_answer_is_a_verdict():
    table = jb.pairs(rows(pair(response_B="five [[A]]")), "p")
    asked = jb.compare_prompts("{{ prompt }}|{{ answer_a }}|{{ answer_b }}", table)
    assert asked["text"].to_list() == ["2 + 2?|4|five [[A (quoted)]]", "2 + 2?|five [[A (quoted)]]|4"]
    answers = pl.DataFrame({"id": asked["id"], "text": ["so: [[A]]", "so: [[C]]"], "finish_reason": ["stop", "stop"]})
    assert jb.pairwise(table, asked, answers.reverse(), "M1")["decisions"].to_list() == [["A>B", "A=B"]]
    cut = answers.with_columns(finish_reason=pl.lit("length"))
    assert jb.pairwise(table, asked, cut, "M1")["decisions"].to_list() == [[None, None]]


@pytest.mark.parametrize(
    ("read", "bad", "where"),
    [
        (jb.pairs, [pair(label="A=B")], "f, line 1: label: expected A>B or B>A, seen 'A=B'"),
        (jb.pairs, [pair(response_B=None)], "f, line 1: response_B: expected text, seen None"),
        (jb.pairs, [pair(question="")], "f, line 1: question: expected text, seen ''"),
        (jb.pairs, [pair(), pair()], "f, line 2: pair_id: 'p' stands there twice"),
        (jb.decisions, [decided("A>>B")], r"f, line 1: decisions\[0\]: expected A>B, B>A, A=B or null, seen 'A>>B'"),
        (jb.decisions, [decided(["A>B"])], r"f, line 1: decisions\[0\]: expected"),
        (jb.decisions, [decided()], "f, line 1: decisions: expected one decision, or one for each of two"),
        (jb.decisions, [{"pair_id": "p", "label": "A>B"}], "f, line 1: judgments: expected a list, seen nothing"),
        (jb.decisions, [decided("A>B"), decided("A>B")], "f, line 2: pair_id: 'f' decides 'p' twice"),
        (jb.decisions, [decided("A>B"), decided("A>B", "B>A", pair_id="q")], "f, line 2: 2 decisions, and 1 at line 1"),
    ],
)
def test_bad_rows_are_named(read, bad, where):
    with pytest.raises(SeedDataError, match=where):
        read(rows(*bad), "f")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (decided("A>B"), "'d' did not decide 1 of 2 pairs, the first 'q'"),
        (decided("A>B", pair_id="x"), "1 decisions are of no pair, the first of 'x'"),
    ],
)
def test_what_is_incomplete_has_no_score(made, what):
    with pytest.raises(SeedDataError, match=what):
        jb.with_sources(jb.decisions(rows(made), "d"), jb.pairs(rows(pair(), pair("q")), "p"), "d")


def test_another_label_than_the_pairs_is_refused():
    made = jb.decisions(rows(decided("A>B", label="B>A")), "d")
    with pytest.raises(SeedDataError, match="another answer is right than in the pairs, first in 'p'"):
        jb.with_sources(made, jb.pairs(rows(pair()), "p"), "d")
