from __future__ import annotations

import polars as pl
import pytest
from score_forms import FORMS

from stages.console.errors import TableError
from stages.method.scale import OF_FIVE, Scale, read_score
from stages.method.verdicts import alone, shuffle_scores, with_score, without
from stages.store.catalog import check
from stages.store.tables import EFT

READABLE = [(text, score) for _, texts, score in FORMS if score is not None for text in texts]


def test_every_form_takes_another_score_and_keeps_its_reasons():
    for form, _ in READABLE:
        for score in (0.0, 2.0, 3.5, 5.0):
            changed = with_score(f"It names 4 of 5.\n{form}", score, OF_FIVE)
            assert read_score(changed) == score, form
            assert changed.startswith("It names 4 of 5.\n"), form


def test_nothing_but_the_number_changes():
    assert with_score("Points: 1 2 2. Score: 2", 5.0, OF_FIVE) == "Points: 1 2 2. Score: 5"
    assert with_score("<think>Score: 1</think>\n\nGood.\n**Score:** 4/5\n\nThanks!", 0.5, OF_FIVE) == (
        "<think>Score: 1</think>\n\nGood.\n**Score:** 0.5/5\n\nThanks!"
    )
    assert with_score("Ｓｃｏｒｅ：４。", 3.0, OF_FIVE) == "Ｓｃｏｒｅ：3。"
    assert with_score("Score: 4\nTotal: 4", 3.0, OF_FIVE) == "Score: 3", "another total would stand against it"
    assert with_score("Score: B, I think", 3.0, Scale(1, 3, "CBA")) == "Score: A"
    with pytest.raises(TableError, match="no score line"):
        with_score("good", 3.0, OF_FIVE)


def test_alone_is_what_is_read_without_the_reasons():
    for form, score in READABLE:
        line = alone(f"It names some of the facts.\n{form}\n\nI hope that helps!", OF_FIVE)
        assert read_score(line) == score, form
        assert "names" not in line, form
        assert "hope" not in line, form
    assert alone("Wanted 3: up left bad. Points: 1 2 2. Score: 2", OF_FIVE) == "Score: 2"
    assert alone("Good.\n**Score:** 4/5", OF_FIVE) == "**Score:** 4/5"
    assert alone("<think>Score: 1</think> Fine.\n| Score | 4 |", OF_FIVE) == "| Score | 4 |"


def test_without_holds_no_score():
    for form, _ in READABLE:
        left = without(f"It names some.\n{form}", OF_FIVE)
        assert left.startswith("It names some."), form
        assert read_score(left) is None, form
    assert without("<think>Score: 1</think> Score: 3?\nNo.\n**Score:** 4/5\n\nThanks!", OF_FIVE) == "No.\n\nThanks!"
    assert without("Wanted 3: up left bad. Points: 1 2 2. Score: 2", OF_FIVE) == "Wanted 3: up left bad. Points: 1 2 2."


def eft(rows: int) -> pl.DataFrame:
    columns = [(f"e{i}", f"c{i}", "judge it", f"Reason {i}. Score: {i % 6}", float(i % 6), i % 3) for i in range(rows)]
    return check(EFT, pl.DataFrame(columns, schema=EFT.schema, orient="row"), "EFT")


def test_the_control_of_replay_deals_scores_out_anew_and_leaves_the_reasons():
    rows = eft(60)
    dealt = check(EFT, shuffle_scores(rows, OF_FIVE, 1), "EFT")
    assert sorted(dealt["score"]) == sorted(rows["score"])
    assert [read_score(text) for text in dealt["response"]] == dealt["score"].to_list()
    assert (dealt["response"].str.split(" Score:").list[0] == rows["response"].str.split(" Score:").list[0]).all()
    assert dealt.drop("score", "response").equals(rows.drop("score", "response"))
    assert (dealt["score"] == rows["score"]).sum() < 25, "about a sixth keep theirs by chance"
    assert dealt.equals(shuffle_scores(rows, OF_FIVE, 1))
    assert not dealt["score"].equals(shuffle_scores(rows, OF_FIVE, 2)["score"])
