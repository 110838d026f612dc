"""The first sentence says what the figures say, and no more."""

import pytest

from stages.page.answer import BETTER, UNCLEAR, WORSE, answer


def match(win, lose, low, high, n=100, **row):
    row = {
        "model": "M3",
        "other": "SFT",
        "decoding": "greedy",
        "judge": "oracle",
        "verdicts": n,
        "readable": 2 * n,
    } | row
    shares = dict(zip(("win", "tie", "lose"), (win, 1 - win - lose, lose), strict=True)) if n else {}
    return row | shares | {"n": n, "lead": win - lose, "low": low, "high": high}


def accuracy(model, value, n=512):
    row = {"model": model, "metric": "judge.pairwise_accuracy", "value": value, "n": n}
    return row | {"low": value - 0.05, "high": value + 0.05}


def gain(value, other, low, high, measure="agreement"):
    row = {"model": "M3", "other": "SFT", "measure": measure, "value": value, "value_other": other, "n": 512}
    return row | {"prompts": 100, "gain": value - other, "low": low, "high": high}


FIGURES = [accuracy("SFT", 0.651), accuracy("M3", 0.817)]
BETTER_JUDGE = gain(0.817, 0.651, 0.1, 0.23)


def sentence(matches=(), gains=(), figures=FIGURES, models=("SFT", "M3"), warnings=()):
    return answer(models, matches, gains, figures, warnings).sentence


def test_better_as_writer_and_judge():
    assert sentence([match(0.625, 0.098, 0.4, 0.6, n=256)], [BETTER_JUDGE]) == (
        "M3 beats SFT: it wins 62.5% of 256 held-out prompts, ties 27.7% and loses 9.8%, judged by the checker: wins "
        "minus losses +52.7 points (95 %: +40.0 to +60.0); as a judge it agrees with people on 81.7% of 512 pairs, SFT "
        "on 65.1%: +16.6 points (95 %: +10.0 to +23.0), better."
    )


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [
        (0.01, 0.3, "M3 beats SFT"),
        (-0.3, -0.01, "M3 loses to SFT"),
        (-0.1, 0.3, "No improvement of M3 over SFT can be told apart from noise"),
        (None, None, "No improvement of M3 over SFT can be told apart from noise"),
    ],
)
def test_the_claim_follows_the_interval(low, high, claim):
    assert sentence([match(0.3, 0.2, low, high)]).startswith(f"{claim}: it wins 30.0% of 100 held-out prompts")


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [(0.01, 0.3, BETTER), (-0.3, -0.01, WORSE), (-0.1, 0.3, UNCLEAR), (0.0, 0.3, UNCLEAR), (None, None, UNCLEAR)],
)
def test_the_table_follows_the_interval(low, high, claim):
    result = answer(("SFT", "M3"), [], [gain(0.8, 0.7, low, high)], FIGURES, [])
    assert dict(result.rows)["M3"][0].direction == claim


def test_the_match_against_the_first_model_and_of_greedy_answers_is_taken():
    matches = [
        match(0.1, 0.2, -0.2, -0.1, other="M2"),
        match(0.6, 0.2, 0.1, 0.2),
        match(0.3, 0.2, 0.1, 0.2, decoding="sampled"),
        match(0.2, 0.2, 0.1, 0.2, other="M1", decoding="sampled"),
    ]
    for order in (matches, matches[::-1]):
        assert "M3 beats SFT: it wins 60.0%" in sentence(order)


@pytest.mark.parametrize(
    ("readable", "judge", "why"),
    [
        (0, "large", "the comparing model large never wrote [[A]], [[B]] or [[C]]"),
        (9, "large", "the comparing model large did not write [[A]], [[B]] or [[C]] in both orders"),
        (0, "oracle", "the checker does not know these tasks"),
    ],
)
def test_unreadable_verdicts_are_no_improvement_and_no_tie(readable, judge, why):
    row = match(0, 0, None, None, n=0, verdicts=16, readable=readable, judge=judge)
    result = answer(("SFT", "M3"), [row], [], FIGURES, [])
    reason = f"16 of 16 unreadable: {why}"
    assert result.sentence.startswith(f"Whether M3 answers better than SFT is not known ({reason});")
    assert dict(result.rows)["M3"][0] == ("unreadable", ("16 of 16 verdicts",), "")


def test_what_is_not_measured_is_said():
    assert answer((), [], [], [], ["w"]) == (
        "Nothing is measured yet: no model is evaluated. Run: srlm repro",
        ("w",),
        (),
        (),
        (),
    )
    assert "no head to head names it; as a judge it agrees" in sentence()
    assert "how well it judges is not known" in sentence(figures=[FIGURES[0]])
    assert sentence(models=("SFT",)).startswith("Only SFT is evaluated, so there is no improvement to tell; as a judge")


def test_doubts():
    longer = gain(150.0, 100.0, 40.0, 60.0, measure="tokens")
    row = match(0.6, 0.2, 0.1, 0.2, judge="M3", n=90, verdicts=100)
    assert answer(("SFT", "M3"), [row], [longer], FIGURES, ["AIFT(M1): saturated"]).doubts == (
        "M3 against SFT: 10 of 100 unreadable: the comparing model M3 did not write [[A]], [[B]] or [[C]] in both orders",
        "M3 compared its own answers with those of the other model",
        "M3's answers are 50% longer than SFT's; models that compare tend to prefer longer ones",
        "AIFT(M1): saturated",
    )


def test_a_column_that_nothing_measured_is_left_out():
    result = answer(("SFT", "M3"), [match(0.3, 0.2, None, None)], [], FIGURES, [])
    assert result.columns == ("Wins, ties, losses against SFT", "Agrees with people, pairs")


def test_three_numbers_with_their_intervals_and_directions():
    score = gain(2.5, 1.25, -0.5, 3.0, measure="oracle_score")
    tokens = gain(30.0, 20.0, 5.0, 15.0, measure="tokens")
    rows = answer(("SFT", "M3"), [match(0.6, 0.1, 0.4, 0.6)], [BETTER_JUDGE, score, tokens], FIGURES, []).numbers
    assert [(n.title, n.value, n.interval, n.direction) for n in rows] == [
        ("M3 against SFT: wins − losses", "+50.0", "+40.0 to +60.0", BETTER),
        ("M3 − SFT: checker's score of 5", "+1.25", "−0.50 to +3.00", UNCLEAR),
        ("M3 − SFT: agrees with people", "+16.6", "+10.0 to +23.0", BETTER),
    ]
    [longer] = answer(("SFT", "M3"), [], [tokens], FIGURES, []).numbers
    assert (longer.value, longer.direction) == ("+10.00", ""), "longer is neither better nor worse"
    assert answer(("SFT",), [], [], FIGURES, []).numbers == ()
