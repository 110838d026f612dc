"""A judge that compares: who plays whom, and what an answer's share of wins is."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import TableError
from stages.method import judging, pairwise
from stages.store.catalog import check
from stages.store.tables import JUDGEMENTS
from tests.workspace import ROOT

TEMPLATE = (ROOT / "stages/templates/compare.jinja").read_text()


def answers(*sizes: int) -> pl.DataFrame:
    rows = [(f"c{p}{i}", f"p{p}", f"Ask {p}.", f"answer {i}") for p, size in enumerate(sizes) for i in range(size)]
    return pl.DataFrame(rows, schema=["candidate_id", "prompt_id", "prompt", "response"], orient="row")


def couples(table: pl.DataFrame, most: int | None = None) -> list[tuple[str, str]]:
    return list(zip(*(side["model"] for side in pairwise.sides(table, most)), strict=True))


@settings(deadline=None)
@given(st.integers(1, 9), st.none() | st.integers(1, 40))
def test_each_two_are_compared_once_and_none_much_more_often_than_another(size: int, most: int | None) -> None:
    table = answers(size, 2)
    own = [couple for couple in couples(table, most) if couple[0].startswith("c0")]
    every = set(combinations(table.filter(prompt_id="p0")["candidate_id"], 2))
    assert len(own) == len(set(own)) == min(len(every), most or len(every))
    assert set(own) <= every
    played = Counter(side for couple in own for side in couple)
    assert max(played.values(), default=0) - min((played[c] for c in table["candidate_id"][:size]), default=0) <= 2


def judged(table: pl.DataFrame, better: dict[str, str | None]) -> pl.DataFrame:
    """By a judge that prefers the text of A or B as `better` says of "first text second text"."""
    both = pairwise.sides(table, None)
    asked = pairwise.prompts(TEMPLATE, both)
    texts = []
    for text in asked["text"]:
        a, b = (text.split(f"<answer_{side}>\n")[1].split("\n")[0].removeprefix("answer ") for side in "ab")
        texts.append(better[f"{a}{b}"] or "no idea")
    completions = asked.select("id", text=pl.Series(texts), finish_reason=pl.lit("stop"))
    return pairwise.judgements(table, both, asked, completions.reverse(), "gpt")


def test_a_score_is_the_share_of_comparisons_that_were_won() -> None:
    # 0 beats 1 in both orders; 0 and 2: each time the first, a tie; 1 against 2: one order cannot be read
    verdicts = {"01": "[[A]]", "10": "[[B]]", "02": "[[A]]", "20": "[[A]]", "12": "[[B]]", "21": None}
    rows = judged(answers(3), verdicts)
    check(JUDGEMENTS.on_scale(0, 1), rows, "rows")
    assert rows.select("candidate_id", "k", "score").rows() == [
        ("c00", 0, 1.0), ("c00", 1, 0.5), ("c01", 0, 0.0), ("c01", 1, None), ("c02", 0, 0.5), ("c02", 1, None)
    ]  # fmt: skip
    means = judging.mean_scores(rows)
    assert means.select("candidate_id", "score", "parsed").rows() == [
        ("c00", 0.75, 2),
        ("c01", 0.0, 1),
        ("c02", 0.5, 1),
    ]
    texts = dict(rows.filter(k=0).select("candidate_id", "text").iter_rows())
    assert texts["c01"] == "This answer as A, c00 as B:\n[[B]]\n\nThis answer as B, c00 as A:\n[[A]]"


def test_an_answer_that_stands_alone_is_not_judged() -> None:
    assert judged(answers(1), {}).is_empty()


def test_a_comparison_that_was_cut_off_has_no_score() -> None:
    table, both = answers(2), pairwise.sides(answers(2), None)
    asked = pairwise.prompts(TEMPLATE, both)
    completions = asked.select("id", text=pl.lit("[[C]]"), finish_reason=pl.Series(["stop", "length"]))
    rows = pairwise.judgements(table, both, asked, completions, "gpt")
    assert rows.select("finish_reason", "score").rows() == [("length", None)] * 2
    with pytest.raises(TableError, match="1 comparisons were not made"):
        pairwise.judgements(table, both, asked, completions.head(1), "gpt")
