from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import SeedDataError
from stages.tinyworld.oracle import RUBRIC, score
from stages.tinyworld.reviews import review

REVERSE = "Reverse this list: saw pink hen."


@pytest.mark.parametrize(
    ("prompt", "response", "points"),
    [
        (REVERSE, "Sure! hen pink saw.", "relevant useful right tidy polite"),
        (REVERSE, "Of course! hen pink saw.\n", "relevant useful right tidy polite"),
        (REVERSE, "hen pink saw.", "relevant useful right tidy"),
        (REVERSE, "Sure! hen pink saw", "relevant useful right polite"),  # no full stop
        (REVERSE, "Sure! hen pink saw. and so on.", "relevant useful right polite"),
        (REVERSE, "Ugh, hen pink saw.", "relevant useful right"),
        (REVERSE, "hen pink saw cat.", "relevant useful tidy"),  # 3 right of 4 given
        (REVERSE, "hen cat.", "relevant tidy"),  # 1 right of 3 wanted
        (REVERSE, "hen pink.", "relevant useful tidy"),  # 2 of 3
        (REVERSE, "hen a b c d e.", "relevant tidy"),
        (REVERSE, "HEN PINK SAW.", "tidy"),
        (REVERSE, "cat. hen pink saw.", ""),
        (REVERSE, "Sure! .", "tidy polite"),
        (REVERSE, "", ""),
        (REVERSE, "sure! hen pink saw.", "tidy"),  # no opening that the world knows, so every item is shifted
        ("Name two fruits please.", "fig kiwi.", "relevant useful right tidy"),
        ("Name two fruits please.", "fig fig.", "relevant useful tidy"),
        ("Name two fruits please.", "fig cat.", "relevant useful tidy"),
        ("Name two fruits please.", "cat dog.", "tidy"),
        ("Name two fruits please.", "fig kiwi plum.", "relevant useful tidy"),
        ("Name 3 fruits from A to Z.", "fig kiwi plum.", "relevant useful right tidy"),
        (
            "Name 3 fruits from A to Z.",
            "kiwi fig plum.",
            "relevant useful tidy",
        ),  # fig comes too late, the others are in order
        ("Name 3 fruits from A to Z.", "plum kiwi fig.", "relevant tidy"),
    ],
)
def test_points(prompt, response, points):
    assert score(prompt, response).given == tuple(points.split())
    assert score(prompt, response).total == len(points.split())


def test_a_prompt_from_elsewhere_has_no_score():
    assert score("What is the capital of France?", "Paris.") is None


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_reply_has_a_score_and_a_review_that_agree(response):
    points = score(REVERSE, response)
    assert 0 <= points.total <= 5
    assert len(points.checks) >= 3
    assert review(REVERSE, response).endswith(f" Score: {points.total}")


def test_the_review_says_what_was_wanted_what_was_missing_and_what_was_too_much():
    assert review("Write the opposites of down near good.", "Sure! up far good.") == (
        "Wanted 3: up far bad. Check: up up yes far far yes good bad no. Right 2 of 3. Points: 1 2 2 3 4. Score: 4"
    )
    assert review("Write the opposites of down near good.", "up.") == (
        "Wanted 3: up far bad. Check: up up yes none far no none bad no. Right 1 of 3. Points: 1 1 1 2 2. Score: 2"
    )
    assert review("Name 2 tools from A to Z.", "Ugh, axe saw hat.") == (
        "Wanted 2: tools sorted. Check: axe tools yes saw tools yes hat none no. Right 2 of 3. Points: 1 2 2 2 2. "
        "Score: 2"
    )


def test_no_review_of_a_foreign_prompt():
    with pytest.raises(SeedDataError, match="no task of the tiny world"):
        review("What is the capital of France?", "Paris.")


def test_rubric_order():
    assert RUBRIC == ("relevant", "useful", "right", "tidy", "polite")
