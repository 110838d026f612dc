"""Every canned question, on rows made by hand with answers worked out by hand. A file in stages/sql without a test here
fails the last test."""

import random
from itertools import combinations
from math import sqrt

import polars as pl
import pytest
from scipy.stats import ttest_rel

from stages.store import catalog
from stages.store.database import connect
from stages.store.files import write_json
from stages.store.questions import questions
from stages.store.tables import (
    ANSWERS,
    BANK,
    BANK_SCORES,
    CANDIDATES,
    IFT_TRAIN,
    JUDGED,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    SCORES,
    TEST_JUDGEMENTS,
    TEST_PROMPTS,
    TOURNAMENT,
    VERDICTS,
)

ASKED = set()


def put(root, table, rows, model=None):
    rows = [(*row, *[None] * (len(table.schema) - len(row))) for row in rows]  # no model thought
    catalog.write(table, pl.DataFrame(rows, schema=table.schema, orient="row"), root, model)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """M1: p1 gave a pair, p2 tied, p3 was not readable, p4 cut off, p5 got no answers, two prompts were dropped. M2
    asks p1 again, in other words.

    M10 stands for a model whose name sorts before M2 as text.
    """
    root = tmp_path_factory.mktemp("store")
    (root / "params.yaml").write_text("""
        aift: {M1: {}, M2: {}, M10: {}}
        models: {M2: {prev: M1}, M10: {prev: M2}, M3: {prev: M1}}
        evaluated: [SFT, M1, M3]
        head_to_head: {M3-M1: {model: M3, other: M1}}
    """)
    put(root, IFT_TRAIN, [("i1", "Name a fruit.", "fig", "people", "row-7")])
    put(
        root,
        PROMPTS,
        [
            ("p1", "M1", "Say  Cat", "M0", ["i1"], None),
            ("p2", "M1", "two", "M0", ["i1", "p1"], None),
            ("p3", "M1", "three", "M0", [], None),
            ("p4", "M1", "four", "M0", [], None),
            ("p5", "M1", "five", "M0", [], None),
            ("p6", "M1", "six", "M0", [], "too_short"),
            ("p7", "M1", "seven", "M0", [], "too_short"),
        ],
        "M1",
    )
    put(root, PROMPTS, [("q1", "M2", "\nsay\tcat ", "M0", ["i1"], None), ("q2", "M2", "new", "M0", [], None)], "M2")
    put(root, PROMPTS, [("r1", "M10", "newer", "M0", [], None)], "M10")
    m1 = [
        ("c1", "p1", "M1", 0, "meow", "stop", 10),
        ("c2", "p1", "M1", 1, "woof", "stop", 4),
        ("c3", "p1", "M1", 2, "moo", "stop", 7),
        ("c4", "p1", "M1", 3, "meow", "stop", 10),
        ("c5", "p2", "M1", 0, "a", "stop", 2),
        ("c6", "p2", "M1", 1, "b", "stop", 2),
        ("c7", "p3", "M1", 0, "c", "stop", 3),
        ("c8", "p4", "M1", 0, "d", "length", 48),
    ]
    put(root, CANDIDATES, m1, "M1")
    put(root, CANDIDATES, [("d1", "q1", "M2", 0, "meow", "stop", 20), ("d2", "q1", "M2", 1, "purr", "stop", 30)], "M2")
    put(root, CANDIDATES, [("e1", "r1", "M10", 0, "x", "stop", 50)], "M10")
    said = {
        "c1": (5, 5, 4),
        "c2": (1, 4, None),
        "c3": (3, 3, 3),
        "c5": (4, 4, 4),
        "c6": (4, 4, 4),
        "c7": (None, None, None),
    }
    put(
        root,
        JUDGEMENTS,
        [(c, "p1", "M1", k, f"{c} {k}", "stop", s, None) for c, scores in said.items() for k, s in enumerate(scores)],
        "M1",
    )
    put(
        root,
        JUDGEMENTS,
        [("d1", "q1", "M2", 0, "good", "stop", 5.0, None), ("d2", "q1", "M2", 0, "poor", "stop", 3.0, None)],
        "M2",
    )
    put(
        root,
        SCORES,
        [
            ("c1", "p1", "M1", 14 / 3, 1.0, 3, "chosen"),
            ("c2", "p1", "M1", 2.5, 3.0, 2, "rejected"),
            ("c3", "p1", "M1", 3.0, 0.0, 3, "between"),
            ("c4", "p1", "M1", None, None, 0, "duplicate"),
            ("c5", "p2", "M1", 4.0, 0.0, 3, "tied"),
            ("c6", "p2", "M1", 4.0, 0.0, 3, "tied"),
            ("c7", "p3", "M1", None, None, 0, "unreadable"),
            ("c8", "p4", "M1", None, None, 0, "cut_off"),
        ],
        "M1",
    )
    put(root, SCORES, [("d1", "q1", "M2", 5.0, 0.0, 1, "chosen"), ("d2", "q1", "M2", 3.0, 0.0, 1, "rejected")], "M2")
    put(root, PAIRS, [("p1", "M1", "Say  Cat", "meow", "woof", "c1", "c2", 14 / 3, 2.5)], "M1")
    put(root, PAIRS, [("q1", "M2", "say cat ", "meow", "purr", "d1", "d2", 5.0, 3.0)], "M2")
    put(root, TEST_PROMPTS, [(f"t{i}", f"test {i}", "people", f"row-{i}") for i in range(4)])
    for model, points in (("SFT", (0, 0, 0, 0)), ("M1", (1, 2, 5, None)), ("M3", (4, 2, 1, None))):
        rows = [(f"t{i}", model, "greedy", f"{model} says {i}", "stop", 3, p, None) for i, p in enumerate(points)]
        put(root, ANSWERS, [*rows, ("t0", model, "sampled", "other", "stop", 3, 5.0, None)], model)
    put(
        root,
        VERDICTS,
        [
            ("t3", "M3", "M1", "greedy", "M0", "win", "win", "win"),
            ("t2", "M3", "M1", "greedy", "M0", "win", "win", "win"),
        ],
        "M3-M1",
    )
    write_json(
        root / "data/metrics/EVAL/M1.json",
        {"judge": {"pairwise_accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}}, "note": "x"},
    )
    write_json(root / "data/metrics/AIFT/M1.json", {"pairs": 1, "mean_score": None})
    with connect(root) as found:
        yield found


def ask(store, name, **values):
    ASKED.add(name)
    question = questions()[name]
    return store.rows(question.sql, dict.fromkeys(question.values) | values, question.may_lack)


def of(rows, *columns):
    return [tuple(row[c] for c in columns) for row in rows]


def test_score_distribution(store):
    rows = ask(store, "score_distribution")
    assert of(rows, "model", "score", "judgements") == [
        ("M1", 1.0, 1),
        ("M1", 3.0, 3),
        ("M1", 4.0, 8),
        ("M1", 5.0, 2),
        ("M1", None, 4),
        ("M2", 3.0, 1),
        ("M2", 5.0, 1),
    ]
    assert [row["share"] for row in rows[:5]] == pytest.approx([1 / 18, 3 / 18, 8 / 18, 2 / 18, 4 / 18])


def test_fates(store):
    rows = [row for row in ask(store, "fates") if row["model"] == "M1"]
    bins = {row["fate"]: row["candidates"] for row in rows}
    assert bins == {
        "between": 1,
        "chosen": 1,
        "cut_off": 1,
        "duplicate": 1,
        "rejected": 1,
        "tied": 2,
        "unreadable": 1,
        "all": 8,
    }
    assert rows[-1]["fate"] == "all"
    assert sum(row["share"] for row in rows[:-1]) == rows[-1]["share"] == 1
    assert {row["fate"]: row["mean_score"] for row in rows}["unreadable"] is None


def test_pair_quality(store):
    rows = ask(store, "pair_quality")
    assert of(rows, "model", "prompts", "pairs", "yield") == [("M1", 5, 1, 0.2), ("M2", 2, 1, 0.5), ("M10", 1, 0, 0.0)]
    assert of(rows, "mean_margin", "median_margin") == [(pytest.approx(14 / 3 - 2.5),) * 2, (2.0, 2.0), (None, None)]
    assert of(rows, "chosen_tokens", "rejected_tokens", "chosen_is_longer") == [
        (10, 4, 1.0),
        (20, 30, 0.0),
        (None, None, None),
    ]


def test_lost_prompts(store):
    rows = ask(store, "lost_prompts")
    assert of(rows, "model", "reason", "prompts")[:7] == [
        ("M1", "dropped: too_short", 2),
        ("M1", "kept: every answer cut off", 1),
        ("M1", "kept: gave a pair", 1),
        ("M1", "kept: no answers", 1),
        ("M1", "kept: no readable score", 1),
        ("M1", "kept: scores too close", 1),
        ("M1", "all", 7),
    ]
    assert [row["model"] for row in rows if row["reason"] == "all"] == ["M1", "M2", "M10"]


def test_judge_noise(store):
    rows = [row for row in ask(store, "judge_noise") if row["model"] == "M1"]
    assert of(rows, "spread_of_k", "candidates") == [(0.0, 3), (1.0, 1), (3.0, 1), (None, 1)], (
        "of c4, an equal text, and c8, cut off, nobody asked"
    )
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_judge_saturation(store):
    rows = ask(store, "judge_saturation")
    assert of(rows, "model", "judgements", "commonest", "distinct_scores") == [("M1", 18, 4.0, 4), ("M2", 2, 5.0, 2)], (
        "of equals the higher"
    )
    assert of(rows, "commonest_share", "full_marks", "unreadable") == [
        pytest.approx((8 / 14, 2 / 14, 4 / 18)),
        (0.5, 0.5, 0.0),
    ]


def test_full_marks_are_of_the_judges_scale(tmp_path):
    (tmp_path / "params.yaml").write_text("aift: {M1: {}}\njudge: {scale: {min: 1, max: 8, letters: null}}")
    scores = enumerate((5.0, 8.0, 8.0, None))
    put(tmp_path, JUDGEMENTS, [("c", "p", "M1", k, "", "stop", score, None) for k, score in scores], "M1")
    with connect(tmp_path) as store:
        assert of(ask(store, "judge_saturation"), "full_marks") == [pytest.approx((2 / 3,))]


def test_length_drift(store):
    rows = ask(store, "length_drift")
    assert of(rows, "model", "candidates", "tokens", "chosen", "rejected") == [
        ("M1", 8, 86 / 8, 10, 4),
        ("M2", 2, 25, 20, 30),
        ("M10", 1, 50, None, None),
    ]
    assert of(rows, "growth") == [(None,), (pytest.approx(200 / 86 - 1),), (1.0,)]
    assert rows[1]["with_score"] == pytest.approx(-1)


def test_repeats(store):
    rows = ask(store, "repeats")
    assert of(rows, "model", "prompts", "asked_before") == [("M1", 5, 0), ("M2", 2, 1), ("M10", 1, 0)]
    assert of(rows, "answers", "same_for_a_prompt", "said_before") == [(8, 1, 0), (2, 0, 1), (1, 0, 0)]


def test_score_gap(store):
    rows = ask(store, "score_gap")
    assert of(rows, "model", "pairs", "gap", "change") == [
        ("M1", 1, pytest.approx(13 / 6), None),
        ("M2", 1, 2.0, pytest.approx(2 - 13 / 6)),
    ]


def test_most_improved_and_most_worsened(store):
    better, worse = ask(store, "most_improved"), ask(store, "most_worsened")
    assert of(better, "model", "other", "change", "prompt", "before", "after") == [
        ("M3", "M1", 3.0, "test 0", "M1 says 0", "M3 says 0"),
        ("M3", "M1", 1.0, "test 3", "M1 says 3", "M3 says 3"),
    ], "the checker's score where there is one, else the verdict"
    assert of(worse, "change", "prompt") == [(-4.0, "test 2")]
    assert of(ask(store, "most_improved", model="M1", other="SFT"), "change") == [(5.0,), (2.0,), (1.0,)]


BRANCHES = """
    aift: {start: {}, big: {}, a: {}}
    models: {big: {prev: start}, a: {prev: start}, next: {prev: big}}
    evaluated: [start, zz, a]
    head_to_head: {a-zz: {model: a, other: zz}}
"""


def test_the_iteration_before_is_the_one_in_params(tmp_path):
    """`big` and `a` both come of `start`, whatever their names and lengths: neither is before the other."""
    (tmp_path / "params.yaml").write_text(BRANCHES)
    for model, tokens, low in (("a", 30, 1.0), ("big", 20, 2.0), ("start", 10, 4.0)):
        put(tmp_path, PROMPTS, [(f"p{model}", model, "same" if model != "start" else "first", "M0", [], None)], model)
        text = "first" if model == "start" else "same"
        ids = (f"c{model}", f"d{model}")
        rows = [(c, f"p{model}", model, i, text + c * i, "stop", tokens) for i, c in enumerate(ids)]
        put(tmp_path, CANDIDATES, rows, model)
        scored = zip(ids, (5.0, low), ("chosen", "rejected"), strict=True)
        put(tmp_path, SCORES, [(c, f"p{model}", model, score, 0.0, 1, fate) for c, score, fate in scored], model)
        put(tmp_path, PAIRS, [(f"p{model}", model, "x", "y", "z", *ids, 5.0, low)], model)
    with connect(tmp_path) as store:
        assert of(ask(store, "score_gap"), "model", "change") == [("a", 3.0), ("big", 2.0), ("start", None)]
        assert of(ask(store, "length_drift"), "model", "growth") == [("a", 2.0), ("big", 1.0), ("start", None)]
        columns = ("model", "asked_before", "said_before")
        assert of(ask(store, "repeats"), *columns) == [("a", 0, 0), ("big", 0, 0), ("start", 0, 0)]


@pytest.mark.parametrize("matched", [True, False])
def test_models_are_compared_in_the_order_of_evaluated(tmp_path, matched):
    """The last against the first it has a match against, as the report; without any match, against the first."""
    (tmp_path / "params.yaml").write_text(BRANCHES)
    put(tmp_path, TEST_PROMPTS, [("t", "test", "people", "row")])
    for model, points in (("start", 1.0), ("zz", 2.0), ("a", 4.0)):
        put(tmp_path, ANSWERS, [("t", model, "greedy", "x", "stop", 3, points, None)], model)
    if matched:
        put(tmp_path, VERDICTS, [("t", "a", "zz", "greedy", "oracle", "win", None, None)], "a-zz")
    with connect(tmp_path) as store:
        expected = [("a", "zz", 2.0)] if matched else [("a", "start", 3.0)]
        assert of(ask(store, "most_improved"), "model", "other", "change") == expected
        assert ask(store, "most_worsened") == []
        assert {row["other"] for row in ask(store, "gains")} == {"start"}


def test_doubtful_pairs(store):
    assert of(ask(store, "doubtful_pairs"), "model", "chosen_spread", "rejected_spread") == [
        ("M1", 1.0, 3.0),
        ("M2", 0.0, 0.0),
    ]
    assert of(ask(store, "doubtful_pairs", model="M2"), "margin", "prompt_id") == [(2.0, "q1")]


def test_pair_lineage(store):
    rows = ask(store, "pair_lineage")
    assert of(rows, "what", "id", "text") == [
        ("chosen", "c1", "meow"),
        ("rejected", "c2", "woof"),
        *[("judgement of chosen, by M1", "c1", f"c1 {k}") for k in range(3)],
        *[("judgement of rejected, by M1", "c2", f"c2 {k}") for k in range(3)],
        ("prompt, written by M0", "p1", "Say  Cat"),
        ("shown to the writer: seed row people row-7", "i1", "Name a fruit."),
    ]
    assert rows[-3]["score"] is None, "the judgement that could not be read"
    assert ask(store, "pair_lineage", prompt_id="q1")[0]["id"] == "d1"
    assert ask(store, "pair_lineage", prompt_id="q1", model="M1") == []
    assert ask(store, "pair_lineage", model="M2")[0]["id"] == "d1", "the first pair of that model"


def test_a_judge_that_is_another_model_is_the_judge_of_that_aift(tmp_path):
    """AIFT(M2) is judged by `large`, AIFT(M1) by M1: neither loses its judgements, nor are they merged."""
    for model, judge, scores in (("M1", "M1", (5.0, 1.0)), ("M2", "large", (4.0, 2.0))):
        put(tmp_path, PROMPTS, [("p", model, "say cat", "M0", [], None)], model)
        put(tmp_path, CANDIDATES, [(f"c{n}", "p", model, n, f"{model} {n}", "stop", 3) for n in (0, 1)], model)
        said = [(f"c{n}", "p", judge, 0, f"{judge} judges {n}", "stop", scores[n], None) for n in (0, 1)]
        put(tmp_path, JUDGEMENTS, said, model)
        fates = [(f"c{n}", "p", model, scores[n], 0.0, 1, fate) for n, fate in enumerate(("chosen", "rejected"))]
        put(tmp_path, SCORES, fates, model)
        put(tmp_path, PAIRS, [("p", model, "say cat", f"{model} 0", f"{model} 1", "c0", "c1", *scores)], model)
    put(tmp_path, IFT_TRAIN, [("i1", "Name a fruit.", "fig", "people", "row-7")])
    with connect(tmp_path) as store:
        lineage = ask(store, "pair_lineage", model="M2")
        assert of(lineage, "what", "text")[2:4] == [
            ("judgement of chosen, by large", "large judges 0"),
            ("judgement of rejected, by large", "large judges 1"),
        ]
        assert of(ask(store, "score_distribution"), "model", "score") == [("M1", 1), ("M1", 5), ("M2", 2), ("M2", 4)]
        assert of(ask(store, "judge_saturation"), "model", "judge") == [("M1", "M1"), ("M2", "large")]
        assert of(ask(store, "doubtful_pairs"), "model", "margin") == [("M2", 2.0), ("M1", 4.0)]
        assert of(ask(store, "length_drift"), "model", "candidates", "with_score") == [("M1", 2, None), ("M2", 2, None)]


def test_improvement(store):
    assert of(ask(store, "improvement"), "model", "metric", "value", "low", "high", "n") == [
        ("M1", "judge.pairwise_accuracy", 0.9, 0.8, 0.95, 40)
    ]


def test_loop(store):
    assert of(ask(store, "loop"), "model", "prompts", "candidates", "judgements", "judge", "pairs") == [
        ("M1", 5, 8, 18, "M1", 1),
        ("M2", 2, 2, 2, "M2", 1),
        ("M10", 1, 1, None, None, None),
    ]


def test_head_to_head(store):
    [row] = ask(store, "head_to_head")
    assert of([row], "model", "other", "decoding", "judge", "verdicts", "n", "win", "tie", "lose", "lead") == [
        ("M3", "M1", "greedy", "M0", 2, 2, 1.0, 0.0, 0.0, 1.0)
    ]
    assert row["low"] == pytest.approx(2 / (1 + 1.959964**2 / 2) - 1), "Wilson's of 2 of 2, as wins minus losses"
    assert row["high"] == pytest.approx(1.0)


def test_head_to_head_of_unreadable_and_tied_verdicts(tmp_path):
    rows = [
        (f"t{i}", "M1", "SFT", decoding, "large", *outcome)
        for decoding, outcome in (("greedy", (None, None, None)), ("sampled", ("win", "lose", "tie")))
        for i in range(3)
    ]
    put(tmp_path, VERDICTS, rows, "M1-SFT")
    with connect(tmp_path) as store:
        greedy, sampled = ask(store, "head_to_head")
    assert of([greedy], "verdicts", "n", "readable", "win", "lead", "low") == [(3, 0, 0, None, None, None)]
    assert of([sampled], "verdicts", "n", "win", "tie", "lead", "low", "high") == [(3, 3, 0.0, 1.0, 0.0, None, None)]


def test_tournament(tmp_path):
    """Three matches and the constant answer, by two judges; without strengths the points are there."""
    by_gpt = [
        ("t1", "M2", "M1", "greedy", "gpt", "win", "win", "win"),
        ("t2", "M2", "M1", "greedy", "gpt", "win", "lose", "tie"),
        ("t3", "M2", "M1", "greedy", "gpt", "win", None, None),
        ("t1", "constant", "M1", "greedy", "gpt", "win", "win", "win"),
        ("t2", "constant", "M1", "greedy", "gpt", "tie", "tie", "tie"),
        ("t1", "constant", "M2", "greedy", "gpt", "lose", "lose", "lose"),
    ]
    put(tmp_path, TOURNAMENT, by_gpt, "gpt")
    put(tmp_path, TOURNAMENT, [("t1", "M2", "M1", "greedy", "oracle", "lose", "lose", "lose")], "oracle")
    elo = {
        "M2": {"value": 1100, "low": 1050, "high": 1150, "n": 2},
        "M1": {"value": 900, "low": 850, "high": 950, "n": 2},
    }
    write_json(tmp_path / "data/metrics/tournament/gpt.json", {"judge": "gpt", "greedy": {"elo": elo}})
    with connect(tmp_path) as store:
        rows = ask(store, "tournament")
    columns = ("judge", "model", "elo", "points", "n", "wins", "ties", "losses", "unreadable", "constant")
    assert of(rows, *columns) == [
        ("gpt", "M2", 1100, 0.75, 2, 1, 1, 0, 1, 1.0),
        ("gpt", "M1", 900, 0.25, 2, 0, 1, 1, 1, 0.25),
        ("oracle", "M1", None, 1.0, 1, 1, 0, 0, 0, None),
        ("oracle", "M2", None, 0.0, 1, 0, 0, 1, 0, None),
    ]


def test_calibration(tmp_path):
    judged = [("c1", "p", "M1", 0, 4.5, 2), ("c2", "p", "M1", 2, 5.0, 2), ("c3", "p", "M1", 1, 1.4, 1)]
    put(tmp_path, JUDGED, [*judged, ("c4", "p", "M1", 3, None, 0)], "M1")
    tries = (("c1", 0, 4.0), ("c1", 1, 5.0), ("c2", 0, 5.0), ("c2", 1, 5.0), ("c3", 0, 1.5), ("c3", 1, None))
    put(tmp_path, TEST_JUDGEMENTS, [(c, "p", "M1", k, "", "stop", score, None) for c, k, score in tries], "M1")
    with connect(tmp_path) as store:
        rows = ask(store, "calibration")
    columns = ("model", "score", "answers", "mean_rank", "best", "tries_apart")
    assert of(rows, *columns) == [("M1", 1, 1, 1.0, 0.0, None), ("M1", 5, 2, 1.0, 0.5, 0.5)]


def test_bank(tmp_path):
    rows = [
        ("c1", "p", "say", "a", ["people"], "ranked", 0, None),
        ("c2", "q", "ask", "b", ["M1", "M2"], "candidates", 0, 5.0),
        ("c3", "q", "ask", "c", ["M1"], "candidates", 1, 1.0),
    ]
    put(tmp_path, BANK, rows)
    scores = [("c1", "p", "M2", 0, 4.0, 1), ("c2", "q", "M2", 0, 4.5, 1), ("c3", "q", "M2", 1, None, 0)]
    put(tmp_path, BANK_SCORES, scores, "M2")
    with connect(tmp_path) as store:
        asked = ask(store, "bank")
    assert of(asked, "judge", "author", "answers", "score", "checker", "over", "unreadable") == [
        ("M2", "people", 1, 4.0, None, None, 0),
        ("M2", "M1", 2, 4.5, 3.0, -0.5, 1),
        ("M2", "M2", 1, 4.5, 5.0, -0.5, 0),
    ]


def test_pairs_in_full(store):
    rows = ask(store, "pairs_in_full")
    assert [row["prompt"] for row in rows] == ["Say  Cat", "say cat "]
    assert rows[0]["chosen"]["text"] == "meow"
    assert [j["score"] for j in rows[0]["rejected"]["judgements"]] == [1, 4, None]
    assert [row["model"] for row in ask(store, "pairs_in_full", most=1)] == ["M1"]


def test_gains_are_paired_by_prompt(tmp_path):
    dice = random.Random(1)
    points = {m: [float(dice.randint(0, 5)) for _ in range(40)] for m in ("SFT", "M1")}
    ranks = {m: [[dice.choice((None, *range(6))) for _ in range(4)] for _ in range(40)] for m in ("SFT", "M1")}
    for model in points:
        rows = [(f"t{i}", model, "greedy", "x", "stop", 3, p, None) for i, p in enumerate(points[model])]
        put(tmp_path, ANSWERS, rows, model)
        judged = [
            (f"c{i}-{rank}", f"p{i}", model, rank, score, int(score is not None))
            for i, scores in enumerate(ranks[model])
            for rank, score in enumerate(scores)
        ]
        put(tmp_path, JUDGED, judged, model)
    with connect(tmp_path) as store:
        rows = {row["measure"]: row for row in ask(store, "gains")}
        assert ask(store, "gains", other="M1")[0]["gain"] == pytest.approx(-rows["agreement"]["gain"])

    checked = ttest_rel(points["M1"], points["SFT"]).confidence_interval()
    assert (rows["oracle_score"]["low"], rows["oracle_score"]["high"]) == pytest.approx(tuple(checked), abs=2e-3)
    assert rows["tokens"]["gain"] == 0.0
    assert rows["tokens"]["low"] is None, "no prompt differs: nothing is known of the spread"

    def agreement(model, without=None):
        pairs = [
            (a > b) + (a == b) / 2
            for i, scores in enumerate(ranks[model])
            for a, b in combinations(scores, 2)
            if i != without and None not in (a, b)
        ]
        return sum(pairs) / len(pairs)

    gain = agreement("M1") - agreement("SFT")
    jackknife = [agreement("M1", i) - agreement("SFT", i) for i in range(40)]
    error = sqrt(39 / 40 * sum((value - sum(jackknife) / 40) ** 2 for value in jackknife))
    assert rows["agreement"]["gain"] == pytest.approx(gain)
    assert rows["agreement"]["high"] - gain == pytest.approx(2.0227 * error, rel=0.05)


def test_gains_below_20_prompts_have_no_interval(tmp_path):
    for model, points in (("SFT", 1.0), ("M1", 4.0)):
        rows = [(f"t{i}", model, "greedy", "x", "stop", i, points + i % 2, None) for i in range(19)]
        put(tmp_path, ANSWERS, rows, model)
    with connect(tmp_path) as store:
        row = ask(store, "gains")[0]
    assert of([row], "measure", "gain", "prompts", "low", "high") == [("oracle_score", 3.0, 19, None, None)]


def test_every_question_was_asked():
    assert set(questions()) == ASKED


@pytest.mark.parametrize("question", questions().values(), ids=lambda q: q.name)
def test_a_question_opens_with_a_question(question):
    assert "?" in question.text
    assert not question.text.startswith("--")
