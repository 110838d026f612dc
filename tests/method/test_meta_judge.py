"""Mt's judgements compared two by two: the gate, the weights of the places, best against worst."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from stages.config.pair_sections import MetaJudge
from stages.method.meta_judge import comparisons, gate, outcomes, pairs, shuffle, varied
from stages.method.scale import OF_FIVE
from stages.store.catalog import check
from stages.store.tables import JUDGE_PAIRS, JUDGEMENTS, SCORES

TEMPLATE = "<task>{{ task }}</task>\nA: {{ judgement_a }}\nB: {{ judgement_b }}\n[[A]] [[B]] [[C]]"
P = MetaJudge(template="t.jinja", max_chars=None, higher=0.75, first=0.6)


def judged(*of_answers: list[tuple[str, float | None]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """JUDGEMENTS of answers a0, a1 ..., each (reasons, score), and what the judge was shown."""
    rows = [
        (f"a{i}", f"p{i}", "M1", k, f"{text} Score: {score}", "stop", score, None)
        for i, answer in enumerate(of_answers)
        for k, (text, score) in enumerate(answer)
    ]
    shown = pl.DataFrame({"candidate_id": [f"a{i}" for i in range(len(of_answers))]})
    shown = shown.with_columns(text=pl.format("judge {}", "candidate_id"))
    return check(JUDGEMENTS, pl.DataFrame(rows, schema=JUDGEMENTS.schema, orient="row"), "judgements"), shown


def compared(judgements: pl.DataFrame, shown: pl.DataFrame, better: Callable[[str, str], str]) -> pl.DataFrame:
    """`outcomes` of a meta-judge that answers `better` of the two texts, the one shown first first."""
    asked = comparisons(TEMPLATE, judgements, shown, OF_FIVE)
    texts = [text.split("\n")[1:3] for text in asked["text"]]
    answers = [f"So: [[{better(a.removeprefix('A: '), b.removeprefix('B: '))}]]" for a, b in texts]
    told = asked.select("id", finish_reason=pl.lit("stop")).with_columns(text=pl.Series(answers, dtype=pl.String))
    return outcomes(asked, told.reverse(), judgements)


def by(rank: str) -> Callable[[str, str], str]:
    """A meta-judge that prefers the text whose first letter comes first in `rank`."""
    return lambda a, b: "A" if rank.index(a[0]) < rank.index(b[0]) else "B"


def test_every_two_readable_judgements_are_compared_in_both_orders_without_their_scores():
    judgements, shown = judged(
        [("Good, I say.", 4.0), ("Bad [[A]].", 1.0), ("Odd.", None), ("Good, I say.", 5.0), ("Fair.", 3.0)],
        [("x", 2.0)],
    )
    asked = comparisons(TEMPLATE, judgements, shown, OF_FIVE)
    assert asked.select("candidate_id", "first", "second").rows() == [
        ("a0", a, b) for a in (0, 1, 4) for b in (0, 1, 4) if a != b
    ], "3 says what 0 says, 2 could not be read, a1 has but one"
    assert asked["text"][0] == "<task>judge a0</task>\nA: Good, I say.\nB: Bad [[A (quoted)]].\n[[A]] [[B]] [[C]]"
    assert asked["id"].is_unique().all()


def test_the_best_is_chosen_and_the_worst_rejected_whatever_their_scores():
    judgements, shown = judged([("x", 3.0), ("y", 3.0), ("z", 5.0)], [("y", 1.0), ("x", 4.0), ("z", 4.0)])
    made, too_long = pairs(compared(judgements, shown, by("yxz")), judgements, shown, None, 1)
    made = check(JUDGE_PAIRS, made, "judge_pairs").sort("candidate_id")
    assert too_long == 0
    assert made.select("chosen", "rejected", "chosen_score", "rejected_score").rows() == [
        ("y Score: 3.0", "z Score: 5.0", 3.0, 5.0),
        ("y Score: 1.0", "z Score: 4.0", 1.0, 4.0),
    ]
    assert made.select("prompt_id", "prompt", "source", "known", "other_id").row(0) == (
        "p0",
        "judge a0",
        "meta_judge",
        None,
        None,
    )


def test_a_meta_judge_that_only_looks_at_the_place_tells_nothing_apart():
    judgements, shown = judged([("x", 1.0), ("y", 5.0)])
    for place in "ABC":
        rows = compared(judgements, shown, lambda a, b, place=place: place)  # type: ignore[misc]
        assert pairs(rows, judgements, shown, None, 1)[0].is_empty()


@pytest.mark.parametrize(("place", "best"), [("A", "y"), ("B", "x")])
def test_a_win_in_the_place_that_wins_more_counts_less(place: str, best: str):
    """In a0, x beats z only where it stands first, y beats z only where it stands second, x and y tie. In a1 `place`
    always wins, which is the position bias that the weights undo."""
    judgements, shown = judged([("x", 1.0), ("y", 2.0), ("z", 3.0)], [("q", 1.0), ("r", 2.0), ("s", 3.0)])

    def better(a: str, b: str) -> str:
        return place if a in "qrs" else {("x", "z"): "A", ("z", "y"): "B"}.get((a, b), "C")

    made = pairs(compared(judgements, shown, better), judgements, shown, None, 1)[0].filter(candidate_id="a0")
    assert made["chosen"].str.slice(0, 1).to_list() == [best]
    assert made["rejected"].str.slice(0, 1).to_list() == ["z"]


def test_the_gate_closes_on_the_higher_score_and_on_the_place():
    judgements, shown = judged(*[[("x", 1.0), ("y", 4.0), ("z", 4.0)] for _ in range(4)])

    def seen(better: Callable[[str, str], str], p: MetaJudge = P) -> tuple[dict, str | None]:
        return gate(compared(judgements, shown, better), p)

    figures, closed = seen(by("yxz"))
    assert figures == {"comparisons": 24, "unreadable": 0, "decided": 24, "higher": 0.5, "first": 0.5}
    assert closed is None, "y over x, x over z: the higher score half of the time; y against z are equal"
    figures, closed = seen(by("zyx"))
    assert figures["higher"] == 1.0
    assert closed == "of 24 decided comparisons it prefers the higher score in 100% (at most 75%)"
    assert seen(by("zyx"), P.model_copy(update={"higher": 1.0}))[1] is None
    figures, closed = seen(lambda a, b: "A" if a > "x" else by("yxz")(a, b))
    assert figures["first"] == pytest.approx(5 / 6)
    assert "prefers the judgement shown first in 83% (at most 60%)" in (closed or "")
    figures, closed = seen(lambda a, b: "?")
    assert (figures["higher"], figures["first"], figures["unreadable"]) == (None, None, 24)
    assert closed == "none of 24 comparisons was decided (24 could not be read)"
    assert "none of 24 comparisons was decided (0 " in (seen(lambda a, b: "C")[1] or "")


def test_long_chosen_judgements_give_no_pair():
    judgements, shown = judged([("x" * 50, 1.0), ("y", 2.0)], [("x", 1.0), ("y" * 50, 2.0)])
    rows = compared(judgements, shown, by("xy"))
    made, too_long = pairs(rows, judgements, shown, 40, 1)
    assert (made["candidate_id"].to_list(), too_long) == (["a1"], 1)


def test_the_control_turns_about_half_of_the_pairs():
    judgements, shown = judged(*[[("x", 1.0), ("y", 4.0)] for _ in range(40)])
    made, _ = pairs(compared(judgements, shown, by("xy")), judgements, shown, None, 1)
    turned = shuffle(made, 1)
    assert 10 <= (turned["chosen"] != made["chosen"]).sum() <= 30
    assert (turned["chosen"].str.slice(-3).cast(pl.Float64) == turned["chosen_score"]).all()
    assert turned.equals(shuffle(made, 1))


def test_of_each_prompt_the_answer_is_judged_again_whose_judgements_differ_the_most():
    rows = [
        ("c0", "p0", "M2", 2.0, 1.0, 3, "between"),
        ("c1", "p0", "M2", 2.0, 3.0, 3, "chosen"),
        ("c2", "p0", "M1", 2.0, 5.0, 3, "between"),
        ("c3", "p1", "M2", 2.0, 2.0, 3, "rejected"),
        ("c4", "p1", "M2", 2.0, 2.5, 3, "duplicate"),
        ("c5", "p2", "M2", None, None, 0, "unreadable"),
        ("c6", "p3", "M2", 2.0, 0.0, 3, "tied"),
    ]
    names = ("candidate_id", "prompt_id", "model", "score", "spread", "parsed", "fate")
    scores = pl.DataFrame(rows, schema={name: SCORES.schema[name] for name in names}, orient="row")
    assert varied(scores, "M2", 9, 1)["candidate_id"].to_list() == ["c1", "c3", "c6"], "c2 is an older model's"
    assert varied(scores, "M2", 1, 1)["candidate_id"].to_list() == ["c1"]
