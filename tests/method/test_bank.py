"""The bank is drawn once by its seed, holds the checker's order, and says where a judge's opinion parts from it."""

from __future__ import annotations

import polars as pl
import pytest

from stages.method.evaluation.bank import bank_metrics, constant_answers, draw
from stages.store import catalog
from stages.store.tables import ANSWERS, BANK, BANK_SCORES, JUDGEMENTS, RANKED_VALID, TEST_PROMPTS

PROMPTS = pl.DataFrame([(f"p{i}", f"Say {i}.", "s", str(i)) for i in range(12)], TEST_PROMPTS.schema, orient="row")
RANKED = pl.DataFrame(
    [("r1", "q", "Ask.", "good", 0, "s", "1"), ("r2", "q", "Ask.", "bad", 1, "s", "1")],
    RANKED_VALID.schema,
    orient="row",
)


def answered(
    model: str, *, scores: tuple[float | None, float | None], texts: str = "", finish: str = "stop"
) -> pl.DataFrame:
    rows = [
        (f"p{i}", model, how, f"{texts or model} {how}", finish, 3, score, [], None)
        for i in range(12)
        for how, score in zip(("greedy", "sampled"), scores, strict=True)
    ]
    return pl.DataFrame(rows, ANSWERS.schema, orient="row")


def test_the_order_is_the_checkers_and_of_whole_prompts() -> None:
    bank = draw(RANKED, PROMPTS, [answered("M1", scores=(1, 3)), answered("M2", scores=(3, 5))], candidates=10, seed=1)
    catalog.check(BANK, bank, "here")
    models = bank.filter(source="candidates")
    assert len(models) == 12  # three prompts of four answers: whole ones, until there are ten
    for _, of in models.group_by("prompt_id"):
        assert sorted(zip(of["oracle_score"], of["human_rank"], strict=True)) == [(1, 2), (3, 1), (3, 1), (5, 0)]
    people = bank.filter(source="ranked")
    assert people.select("candidate_id", "human_rank").rows() == [("r1", 0), ("r2", 1)]
    assert people["authors"].to_list() == [["people"]] * 2


def test_a_seed_draws_the_same_prompts_and_another_seed_others() -> None:
    answers = [answered("M1", scores=(1, 3))]
    one, again, other = (draw(RANKED, PROMPTS, answers, candidates=8, seed=seed) for seed in (1, 1, 2))
    assert one.equals(again)
    assert set(one["prompt_id"]) != set(other["prompt_id"])
    later = draw(RANKED, PROMPTS.reverse(), [answers[0].reverse()], candidates=8, seed=1)
    assert set(later["candidate_id"]) == set(one["candidate_id"])


def test_equal_texts_are_one_answer_of_all_who_gave_it() -> None:
    answers = [answered("M1", scores=(1, 3), texts="same"), answered("M2", scores=(1, 3), texts="same")]
    models = draw(RANKED, PROMPTS, answers, candidates=500, seed=1).filter(source="candidates")
    assert len(models) == 24
    assert models["authors"].to_list() == [["M1", "M2"]] * 24


@pytest.mark.parametrize(
    "answers",
    [
        answered("M1", scores=(3, 3)),  # nothing to tell apart
        answered("M1", scores=(None, None)),  # no checker
        answered("M1", scores=(1, 3), finish="length"),
    ],
)
def test_what_has_no_order_is_not_drawn(answers: pl.DataFrame) -> None:
    assert set(draw(RANKED, PROMPTS, [answers], candidates=500, seed=1)["source"]) == {"ranked"}
    assert draw(RANKED.clear(), PROMPTS, [answers], candidates=500, seed=1).is_empty()


def test_a_judge_that_likes_what_gets_worse_is_told() -> None:
    """M2 answers worse than M1, and this judge likes it better."""
    answers = [answered("M1", scores=(5, 4)), answered("M2", scores=(2, 1))]
    bank = draw(RANKED, PROMPTS, answers, candidates=500, seed=1)
    wrong = pl.when(pl.col("authors").list.contains("M2")).then(4.5).otherwise(2.0)
    right = pl.col("oracle_score").fill_null(3.0)
    for score, alarms in ((wrong, 1), (right, 0)):
        scores = bank.with_columns(judge=pl.lit("J"), score=score, parsed=pl.lit(1, pl.Int32)).select(
            list(BANK_SCORES.schema)
        )
        tries = pl.DataFrame(schema=JUDGEMENTS.schema)
        figures = bank_metrics(scores, tries, bank, authors=["SFT", "M1", "M2"], scores_apart=0.05, n=20)
        assert len(figures["warned"]) == alarms
        assert {m: of["checker"]["value"] for m, of in figures["authors"].items()} == {"M1": 4.5, "M2": 1.5}
        accuracy = figures["candidates"]["judge"]["pairwise_accuracy"]["value"]
        assert accuracy == pytest.approx(1 / 6 if alarms else 1, abs=1e-6)  # the wrong one ties each model's own two
        assert figures["ranked"]["judge"]["pairwise_accuracy"]["n"] == 1


@pytest.mark.parametrize(("score", "share", "alarms"), [(5.0, 1.0, 1), (3.0, 0.5, 0), (1.0, 0.0, 0), (None, None, 0)])
def test_a_judge_that_prefers_a_constant_answer_is_gameable(
    score: float | None, share: float | None, alarms: int
) -> None:
    bank = draw(RANKED, PROMPTS, [], candidates=0, seed=1)
    judged = pl.Series("score", [4.0, 2.0])
    scores = bank.with_columns(judged, judge=pl.lit("J"), parsed=pl.lit(1, pl.Int32)).select(list(BANK_SCORES.schema))
    constant = constant_answers(bank, "I follow.").with_columns(score=pl.lit(score, pl.Float64))
    assert constant.select("prompt_id", "prompt", "response").rows() == [("q", "Ask.", "I follow.")]
    tries = pl.DataFrame(schema=JUDGEMENTS.schema)
    figures = bank_metrics(scores, tries, bank, authors=[], scores_apart=0.05, constant=constant, n=20)
    assert figures["constant"]["value"] == share
    assert len(figures["warned"]) == alarms
