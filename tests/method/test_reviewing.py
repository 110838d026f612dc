"""What becomes of pairs that people reviewed."""

import polars as pl
import pytest

from stages.method import reviewing
from stages.store.tables import PAIRS, REVIEWS, SCORES


def pairs(*ids, turned=None):
    rows = [
        (i.partition(".")[0], "M1", i, f"c{i}", f"r{i}", f"{i}-c", f"{i}-r", 5.0, 1.0, None, None, None, turned)
        for i in ids
    ]
    return pl.DataFrame(rows, schema=PAIRS.schema, orient="row")


def scores(*prompts):
    rows = [
        (f"{p}-{end}", p, "M1", score, 0.0, 3, fate, None)
        for p in prompts
        for end, score, fate in (("c", 5.0, "chosen"), ("r", 1.0, "rejected"), ("b", 3.0, "between"))
    ]
    rows += [(f"{p}-x", p, "M1", None, None, 0, "cut_off", None) for p in prompts]
    return pl.DataFrame(rows, schema=SCORES.schema, orient="row")


def said(*words):
    """(pair, decision, who), in the order in which they were said."""
    rows = [
        (i.partition(".")[0], f"{i}-c", f"{i}-r", d, who, f"2026-01-{n:02}") for n, (i, d, who) in enumerate(words, 1)
    ]
    return pl.DataFrame(rows, schema=REVIEWS.schema, orient="row")


@pytest.mark.parametrize(
    ("words", "decision"),
    [
        ([("p", "swap", "ann")], "swap"),
        ([("p", "swap", "ann"), ("p", "agree", "ann")], "agree"),
        ([("p", "drop", "ann"), ("p", "drop", "bob")], "drop"),
        ([("p", "agree", "ann"), ("p", "swap", "bob")], "disputed"),
        ([("p", "agree", "ann"), ("p", "swap", "bob"), ("p", "swap", "ann")], "swap"),
    ],
)
def test_the_last_word_of_each_counts_and_they_must_be_of_one_mind(words, decision):
    [row] = reviewing.decided(said(*words)).rows(named=True)
    assert row["decision"] == decision
    assert reviewing.decided(said(*words)[::-1]).rows(named=True) == [row], "whatever their order in the file"


def test_agreed_swapped_dropped_and_disputed():
    words = [("a", "agree", "x"), ("b", "swap", "x"), ("c", "drop", "x"), ("d", "agree", "x"), ("d", "drop", "y")]
    kept, fates, counts = reviewing.apply(pairs(*"abcde"), scores(*"abcde"), said(*words))
    assert dict(kept.select("prompt_id", "reversed").iter_rows()) == {"a": None, "b": 1, "e": None}
    assert kept.schema == pl.Schema(PAIRS.schema)
    assert counts == {"agree": 1, "swap": 1, "drop": 1, "disputed": 1, "gone": 0}
    by = dict(fates.group_by("prompt_id").agg(pl.col("fate")).iter_rows())
    for prompt in "cd":
        assert by[prompt] == ["withdrawn"] * 3 + ["cut_off"]
    assert by["b"] == ["chosen", "rejected", "between", "cut_off"]
    assert fates.drop("fate").equals(scores(*"abcde").drop("fate")), "each candidate has its one fate"


def test_people_are_heard_above_the_draw_of_smooth():
    words = said(("a", "agree", "x"), ("b", "swap", "x"))
    kept, _, _ = reviewing.apply(pairs(*"abc", turned=1), scores(*"abc"), words)
    assert kept["reversed"].to_list() == [0, 1, 1]


def test_a_prompt_with_another_pair_keeps_its_fates():
    kept, fates, counts = reviewing.apply(pairs("a", "a.2"), scores("a"), said(("a", "drop", "x")))
    assert kept["chosen_id"].to_list() == ["a.2-c"]
    assert fates.equals(scores("a"))
    assert counts["drop"] == 1


def test_what_is_gone_does_nothing_and_is_told():
    kept, fates, counts = reviewing.apply(pairs("a"), scores("a"), said(("z", "drop", "x"), ("a.9", "swap", "x")))
    assert kept.equals(pairs("a"))
    assert fates.equals(scores("a"))
    assert (counts["gone"], counts["drop"], counts["swap"]) == (2, 0, 0)
    [told] = reviewing.warnings(counts)
    assert told.startswith("2 reviews are of pairs that are no longer there, first prompt_id=a chosen_id=a.9-c")


def test_nothing_said_is_nothing_done_and_nothing_told():
    kept, fates, counts = reviewing.apply(pairs("a"), scores("a"), pl.DataFrame(schema=REVIEWS.schema))
    assert kept.equals(pairs("a"))
    assert fates.equals(scores("a"))
    assert reviewing.warnings(counts) == []


def test_reviews_are_warned_of():
    counts = {"agree": 2, "swap": 1, "drop": 0, "disputed": 0, "gone": 0}
    assert reviewing.warnings(counts) == [
        "people reviewed 3 pairs (2 agree, 1 swap): they are not the model's judgement alone"
    ]
