"""Which ranked answers are judged, and what people's ranks are as judgements."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import ParamsError
from stages.method.eft import agrees
from stages.method.scale import read_score
from stages.method.score_line import score_line
from stages.method.seed_judging import by_rank, draw, score_of
from stages.method.template_check import rank_faults

TEMPLATE = Path("stages/templates/judge_by_rank.jinja").read_text(encoding="utf-8")
prompts_of_ranks = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=4)


def ranked(prompts: list[list[int]]) -> pl.DataFrame:
    rows = [(f"p{i}", f"p{i}-{j}", rank) for i, ranks in enumerate(prompts) for j, rank in enumerate(ranks)]
    schema = {"prompt_id": pl.String, "candidate_id": pl.String, "human_rank": pl.Int32}
    return pl.DataFrame(rows, schema, orient="row")


@given(prompts_of_ranks, st.integers(2, 6), st.integers(0, 5))
@settings(deadline=None)
def test_drawn_answers_are_few_comparable_and_the_same_whatever_the_order(
    prompts: list[list[int]], n: int, seed: int
) -> None:
    answers = ranked(prompts)
    drawn = draw(answers, n, seed)
    assert set(draw(answers.reverse(), n, seed)["candidate_id"]) == set(drawn["candidate_id"])
    for i, ranks in enumerate(prompts):
        kept = drawn.filter(prompt_id=f"p{i}")["human_rank"].to_list()
        assert len(kept) == min(n, len(ranks))
        assert (len(set(kept)) > 1) == (len(set(ranks)) > 1)


def test_the_seed_draws_and_null_draws_nothing() -> None:
    answers = ranked([[0, 1, 2, 3, 4, 5, 6]])
    assert len({tuple(draw(answers, 3, seed)["candidate_id"]) for seed in range(40)}) > 10
    assert draw(answers, None, 0).equals(answers)
    alone = ranked([[1, 1, 1, 1, 1, 0]])  # the one of another rank is always among two
    assert all("p0-5" in set(draw(alone, 2, seed)["candidate_id"]) for seed in range(20))


@pytest.mark.parametrize(
    ("levels", "scores"),
    [
        (1, [3]),
        (2, [5, 1]),
        (3, [5, 3, 1]),
        (4, [5, 4, 2, 1]),
        (5, [5, 4, 3, 2, 1]),
        (6, [5, 4, 3, 2, 1, 0]),
        (7, [5, 4, 3.5, 2.5, 1.5, 1, 0]),
        (11, [5, 4.5, 4, 3.5, 3, 2.5, 2, 1.5, 1, 0.5, 0]),
    ],
)
def test_ranks_are_spread_over_the_scale(levels: int, scores: list[float]) -> None:
    assert [score_of(level, levels) for level in range(levels)] == scores
    whole = [score_of(level, levels, halves=False) for level in range(levels)]
    assert all(score.is_integer() and abs(score - half) <= 0.5 for score, half in zip(whole, scores, strict=True))
    assert whole == sorted(whole, reverse=True)


@given(prompts_of_ranks, st.integers(0, 3))
@settings(deadline=None)
def test_a_judgement_by_rank_is_read_as_its_score_and_agrees_with_people(prompts: list[list[int]], seed: int) -> None:
    answers = ranked(prompts)
    texts = by_rank(answers, TEMPLATE, "Score: <4>", seed)
    assert by_rank(answers.reverse(), TEMPLATE, "Score: <4>", seed) == texts[::-1]
    scores = dict(zip(answers["candidate_id"], map(read_score, texts), strict=True))
    for i, ranks in enumerate(prompts):
        given = [score for j in range(len(ranks)) if (score := scores[f"p{i}-{j}"]) is not None]
        assert agrees(ranks, given, "strict") == (len(set(ranks)) > 1)
        assert all((a == b) == (s == t) for a, s in zip(ranks, given, strict=True) for b, t in zip(ranks, given))  # noqa: B905


def test_the_reasons_say_what_ranks_say_in_several_wordings() -> None:
    answers = ranked([[0, 1, 1, 2]] * 12)
    texts = by_rank(answers, TEMPLATE, "Score: 4", 7)
    best, middle, worst = set(texts[::4]), {*texts[1::4], *texts[2::4]}, set(texts[3::4])
    assert all(len(wordings) >= 3 for wordings in (best, middle, worst))
    assert all(text.endswith("\n\nScore: 5") for text in best)
    assert all("One other was ranked as equally good.\n\nScore: 3" in text for text in middle)
    assert all("3" in text.splitlines()[0] and text.endswith("Score: 1") for text in worst)


@pytest.mark.parametrize(
    ("asked", "line"),
    [("Score: <n>", "Score: 5"), ("**Score: [0-5]**", "**Score: [5]**"), ("`Score: <n>/5`", "Score: 5/5")],
)
def test_the_score_stands_in_the_line_that_the_judges_template_asks_for(asked: str, line: str) -> None:
    shown, _ = score_line(f"{{{{ prompt }}}} {{{{ response }}}}\nEnd with {asked}")
    assert shown
    assert by_rank(ranked([[0, 1]]), "{{ score_line }}", shown, 0)[0].endswith(line)


def test_a_template_that_does_not_end_in_the_score_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"read as the score None, expected 5"):
        by_rank(ranked([[0, 1]]), "Better than {{ worse }}.", "Score: 4", 0)
    assert rank_faults("stages/templates/judge_by_rank.jinja", TEMPLATE) == []
    (finding,) = rank_faults("my.jinja", "Better than {{ wrose }}. {{ score_line }}")
    assert finding.key == "judge_seed.path"
    assert "wrose" in str(finding)
    assert rank_faults("my.jinja", "{{ score_line if pick < 11 else 'Score: 1' }}")
