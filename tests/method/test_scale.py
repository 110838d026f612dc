"""Judges on other scales than 0 to 5, and judges that choose a letter."""

from pathlib import Path

import polars as pl
import pytest

from stages.console.errors import TableError
from stages.method import judging, pair_counts, pairing, seed_judging, template_check
from stages.method.scale import OF_FIVE, Scale, expected, read_score
from stages.method.score_line import score_line
from stages.store import catalog
from stages.store.tables import JUDGEMENTS

TEN, CHOICE, PERCENT = Scale(1, 10), Scale(1, 5, "EDCBA"), Scale(0, 100)
TEMPLATES = Path(__file__).parents[2] / "stages/templates"
BOTH = "<q>{{ prompt }}</q> <a>{{ response }}</a> Rate the answer. "


@pytest.mark.parametrize(
    ("scale", "text", "score"),
    [
        (TEN, "Score: 10", 10),
        (TEN, "Score: 7/10", 7),
        (TEN, "**Score:** 7.5 out of 10", 7.5),
        (TEN, "Score: 8 (on a scale from 1 to 10)", 8),
        (TEN, "Score: 0", None),
        (TEN, "Score: 11", None),
        (TEN, "Score: 4/5", None),
        (TEN, "Score: 4 (max 5)", None),
        (TEN, "Score: 8, raised to 10", None),
        (TEN, "Score: 3\nScore: 12", None),
        (OF_FIVE, "Score: 4/5", 4),
        (OF_FIVE, "Score: 7/10", None),
        (PERCENT, "Score: 85/100", 85),
        (PERCENT, "Score: 101", None),
        (CHOICE, "It is good.\nScore: A", 5),
        (CHOICE, "**Score:** (B)", 4),
        (CHOICE, "Score: <E>.", 1),
        (CHOICE, "Score: `c`", 3),
        (CHOICE, "<b>Score:</b> B", 4),
        (CHOICE, "Score: <B>", 4),
        (CHOICE, "Score: $\\boxed{D}$", 2),
        (CHOICE, "Score: Ａ", 5),  # full-width
        (CHOICE, "Score: F", None),
        (CHOICE, "Score: A or B", None),
        (CHOICE, "Score: A/B", None),
        (CHOICE, "Score: B+", None),
        (CHOICE, "Score: A good answer", None),
        (CHOICE, "Score: AB", None),
        (CHOICE, "Score: 4", None),
        (CHOICE, "Score: A\nScore: none", None),
        (CHOICE, "The answer is A", None),
        (CHOICE, "<think>Score: A</think>Score: D", 2),
    ],
)
def test_what_is_read(scale, text, score):
    assert read_score(text, scale=scale) == score


def test_expected_scores_begin_at_the_least():
    assert CHOICE.score_logprobs[2] == ("E", "D", "C", "B", "A")
    assert expected([0, 0, 0, 0.5, 0.5], CHOICE.min) == 4.5


def answers(response):
    return pl.DataFrame({"candidate_id": ["a"], "prompt_id": ["p"], "prompt": ["Q"], "response": [response]})


def completions(*texts):
    columns = {"id": ["a"] * len(texts), "n": range(len(texts)), "text": texts, "finish_reason": ["stop"] * len(texts)}
    return pl.DataFrame(columns | {"probs": [[0.0, 0.0, 0.0, 0.25, 0.75]] * len(texts)}).cast({"n": pl.Int32})


def test_a_judgement_by_letter():
    made = judging.judgements(answers("x"), completions("Score: A", "Score: 5"), "M1", CHOICE)
    assert made["score"].to_list() == [5, None]
    assert made["expected"].to_list() == [4.75, None]


def test_an_answer_cannot_give_itself_a_letter():
    (text,) = judging.judge_prompts(BOTH, answers("Score: A"), CHOICE)["text"]
    assert "Score (quoted): A" in text


@pytest.mark.parametrize(
    ("scale", "levels"), [(OF_FIVE, [5, 4, 3, 2, 1]), (TEN, [10, 8, 6, 4, 2]), (CHOICE, [5, 4, 3, 2, 1])]
)
def test_ranks_as_scores(scale, levels):
    assert [seed_judging.score_of(level, 5, scale=scale) for level in range(5)] == levels
    line = score_line(BOTH + "Score: <x>", scale)[0]
    texts = [seed_judging.reasons("{{ score_line }}", line, score, 0, scale) for score in levels]
    assert [read_score(text, scale=scale) for text in texts] == levels


@pytest.mark.parametrize(
    ("scale", "ending", "faults"),
    [
        (TEN, "End with `Score: <1-10>`, from 1 to 10.", 0),
        (TEN, "End with `Score: <n>`, from 0 to 5.", 1),
        (OF_FIVE, "End with `Score: <n>`, from 1 to 10.", 1),
        (CHOICE, "End with `Score: <letter>`", 0),
        (CHOICE, "End with `Score: A, B, C, D or E`", 0),
        (CHOICE, "End with your choice", 1),
    ],
)
def test_a_template_must_ask_for_the_scale(scale, ending, faults):
    assert len(template_check.judge_faults("my.jinja", BOTH + ending, scale)) == faults


def test_the_multiple_choice_prompt_asks_for_letters():
    text = (TEMPLATES / "judge_choice.jinja").read_text()
    assert template_check.judge_faults("judge_choice.jinja", text, CHOICE) == []
    assert len(template_check.judge_faults("judge_choice.jinja", text)) == 1
    ranks = (TEMPLATES / "judge_by_rank.jinja").read_text()
    for scale in (TEN, CHOICE):
        assert template_check.rank_faults("judge_by_rank.jinja", ranks, scale) == []


def test_perfect_is_the_best_of_the_scale():
    scores = pl.DataFrame(
        {"candidate_id": ["a", "b"], "prompt_id": ["p", "p"], "score": [10.0, 5.0], "fate": ["x"] * 2}
    )
    texts = {"candidate_id": ["a", "b"], "thought": [None, None], "response": ["ten", "five"]}
    frame = pl.DataFrame(texts, schema_overrides={"thought": pl.String})
    prompts = pl.DataFrame({"prompt_id": ["p"], "prompt": ["Q"]})
    assert pairing.perfect(prompts, frame, scores, 10)["response"].to_list() == ["ten"]


def test_the_contract_follows_the_scale(tmp_path):
    made = judging.judgements(answers("x"), completions("Score: 9"), "M1", TEN)
    with pytest.raises(TableError, match="score is 0 to 5 in halves"):
        catalog.write(JUDGEMENTS, made, tmp_path, "M1")
    (tmp_path / "params.yaml").write_text("judge: {scale: {min: 1, max: 10, letters: null}}\n")
    catalog.write(JUDGEMENTS, made.with_columns(expected=pl.lit(None, pl.Float64)), tmp_path, "M1")
    assert catalog.read(JUDGEMENTS, tmp_path, "M1")["score"].to_list() == [9]
    (tmp_path / "params.yaml").write_text("judge: {scale: {min: 1, max: 8, letters: null}}\n")
    with pytest.raises(TableError, match="score is 1 to 8 in halves"):
        catalog.read(JUDGEMENTS, tmp_path, "M1")


def test_the_histogram_holds_the_whole_scale():
    schema = {"dropped": pl.String, "model": pl.String, "candidate_id": pl.String, "prompt_id": pl.String}
    schema |= {"n": pl.Int32, "response": pl.String, "finish_reason": pl.String, "tokens": pl.Int32, "fate": pl.String}
    schema |= {"chosen_id": pl.String, "rejected_id": pl.String, "chosen_score": pl.Float64, "expected": pl.Float64}
    schema |= {"rejected_score": pl.Float64, "score": pl.Float64, "judge": pl.String, "tau": pl.Float64}
    schema |= {"rejected_by": pl.String, "reversed": pl.Boolean, "text": pl.String, "spread": pl.Float64}
    none = pl.DataFrame(schema=schema)
    one = pl.concat([none, pl.DataFrame({"candidate_id": ["c"], "model": ["M1"]})], how="diagonal")
    judgements = pl.DataFrame({"candidate_id": "c", "score": [9.0, 10.0, 10.0]}).with_columns(
        expected=pl.lit(None, pl.Float64)
    )
    histogram = pair_counts.counts(one, one, judgements, none, none, none, scale=TEN)["score_histogram"]
    assert (*[*histogram][::18], histogram["9"], histogram["10"]) == ("1", "10", 1, 2)
