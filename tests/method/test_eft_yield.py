"""What became of the ranked prompts, and what is said where EFT comes out thin."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.method import eft
from stages.method.eft_yield import Setting, advice, counts, lost, unread, warnings

NO_LINE, CUT, OTHER = "A fine answer.", "cut", "Score: 7/10"
STRICT = Setting("strict", "first")


def tables(prompts: list[list[list[Any]]], judge: str = "SFT") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ranked answers and judgements, from each prompt's tries of each answer, best-ranked first: a score, or a text."""
    people, rows = [], []
    for i, answers in enumerate(prompts):
        for rank, tries in enumerate(answers):
            people.append((f"p{i}", f"p{i}-{rank}", rank))
            for k, seen in enumerate(tries):
                score = None if isinstance(seen, str) else float(seen)
                text, why = seen if score is None else f"Score: {seen}", "length" if seen == CUT else "stop"
                rows.append((f"p{i}", f"p{i}-{rank}", judge, k, text, why, score))
    ids = {"prompt_id": pl.String, "candidate_id": pl.String}
    told = {"judge": pl.String, "k": pl.Int32, "text": pl.String, "finish_reason": pl.String, "score": pl.Float64}
    return (
        pl.DataFrame(people, ids | {"human_rank": pl.Int32}, orient="row"),
        pl.DataFrame(rows, ids | told, orient="row"),
    )


def figures(prompts: list[list[list[Any]]], now: Setting = STRICT, judge: str = "SFT") -> dict[str, Any]:
    ranked, judgements = tables(prompts, judge)
    agree = eft.agreeing(ranked, judgements, now.agreement, now.tries)
    by_chance = eft.chance(ranked, judgements, now.agreement, now.tries)
    return counts(
        ranked, judgements, agree, by_chance, lost(ranked, judgements, agree, now.tries, 0), agree.head(2), now
    )


def told(prompts: list[list[list[Any]]], now: Setting = STRICT, tau: float = 0.3) -> list[str]:
    return advice(*tables(prompts), now, tau, figures(prompts, now), 0)


def test_counts_show_the_yield_beside_chance_and_who_judged() -> None:
    shown = figures([[[3, NO_LINE], [2, 1], [1, 1]]])
    expected = {"ranked_prompts": 1, "agreeing_prompts": 1, "agreeing_share": 1.0, "chance_share": 0.166667}
    expected |= {"ranked_answers": 3, "answers_judged": 3, "judgements": 6, "unparsed": 1, "agreeing": 3}
    expected |= {"thinned": 1, "eft": 2, "chance_is": "exact", "source": "model", "judge": "SFT"}
    expected |= {"unread": {"cut_off": 0, "no_score_line": 1, "other_score": 0}, "score_histogram": {"2": 1, "3": 1}}
    expected |= {
        "lost_prompts": dict.fromkeys(["other_order", "one_score", "cut_off", "no_score_line", "other_score"], 0)
    }
    assert shown == expected
    assert [figures([[[3], [1]]], judge=judge)["source"] for judge in ("big", "ranks", "people")] == [
        "judge",
        "ranks",
        "written",
    ]
    eight = [[[i] for i in (5, 4.5, 4, 3, 2.5, 2, 1, 0)]]
    assert figures(eight)["chance_is"] == "exact"
    assert figures(eight, Setting(0.5, "first"))["chance_is"] == "drawn"


def test_a_judgement_without_a_score_has_its_reason() -> None:
    _, judgements = tables([[[4, NO_LINE, CUT, OTHER, "Score: 4 or 5"]]])
    assert unread(judgements).to_list() == [None, "no_score_line", "cut_off", "other_score", "other_score"]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([[3, 3], [2, 4]], None),  # the first try agrees
        ([[1], [3]], "other_order"),
        ([[3, 1], [3, 2]], "other_order"),
        ([[3, 4], [3, 4]], "one_score"),
        ([[3, CUT], [3, 4]], "one_score"),
        ([[NO_LINE, CUT], [CUT, 4]], "cut_off"),
        ([[NO_LINE], [4]], "no_score_line"),
        ([[OTHER], [4]], "other_score"),
    ],
)
def test_each_prompt_that_gives_no_eft_is_lost_for_one_reason(answers: list[list[Any]], why: str | None) -> None:
    assert {reason for reason, n in figures([answers])["lost_prompts"].items() if n} == ({why} if why else set())


seen = st.sampled_from([0, 1, 2, 3, NO_LINE, CUT, OTHER])
answers = st.lists(st.lists(seen, min_size=2, max_size=2), min_size=2, max_size=4)


@given(st.lists(answers, min_size=1, max_size=4), st.sampled_from(["strict", "weak", 0.3]), st.sampled_from(eft.TRIES))
@settings(max_examples=40, deadline=None)
def test_lost_and_agreeing_prompts_add_up(prompts: Any, agreement: Any, tries: Any) -> None:
    shown = figures(prompts, Setting(agreement, tries))
    assert sum(shown["lost_prompts"].values()) + shown["agreeing_prompts"] == shown["ranked_prompts"] == len(prompts)
    assert sum(shown["unread"].values()) == shown["unparsed"]
    lines = told(prompts, Setting(agreement, tries))
    assert len(lines) == sum(n > 0 for n in shown["lost_prompts"].values())


def test_another_rule_is_advised_with_what_it_would_give() -> None:
    ties, inverted = [[[4], [4], [1]]] * 60, [[[4], [5], [3], [1]]] * 30
    (line,) = told(ties + inverted)
    assert line.startswith("90 prompts: the order of the scores is not people's. Of all 90, these would agree: ")
    # tau .82 and .67; weak takes the ties alone; of three drawn some are in order
    assert " 90 with build_eft.agreement: tau, tau: 0.3 (" in line
    assert " 60 with build_eft.agreement: weak (21." in line
    assert line.index("tau: 0.3") < line.index("weak")
    assert "tries" not in line, "there is one try"
    assert "judge_seed.answers_per_prompt: 2" in line


def test_a_rule_that_gives_no_more_than_chance_is_not_advised() -> None:
    (line,) = told([[[1], [2], [4]]] * 4)
    assert "no other rule finds clearly more prompts than chance would. Set judge_seed.source to judge" in line


def test_means_are_advised_where_they_agree() -> None:
    (line,) = told([[[4, 4, 3], [4, 3, 3], [2, 3, 1]]] * 9)  # each try has a tie, the means have none
    assert " 9 with build_eft.tries: mean (1.5 by chance)" in line


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([[NO_LINE], [NO_LINE]], ["have no score line", "or ranks (people's)", "judge.template"]),
        ([[CUT], [3]], ["1 of 2 judgements were cut off. Raise judge_seed.max_tokens"]),
        ([[OTHER], [3]], ["give no single number from 0 to 5", "judge.template"]),
        (
            [[4], [4]],
            ["all answers have one score (2 of 2 scores are 4)", "Set judge_seed.source to judge (another model)"],
        ),
    ],
)
def test_what_helps_follows_from_the_counts(answers: list[list[Any]], words: list[str]) -> None:
    (line,) = told([answers])
    assert line.startswith("1 prompt: ")
    assert all(word in line for word in words)
    others = {"max_tokens", "score line", "single number", "one score"} - {w for w in words for w in w.split(".")}
    assert not [other for other in others if other in line and not any(other in word for word in words)]


def test_the_largest_loss_comes_first() -> None:
    lines = told([[[CUT], [3]]] * 2 + [[[NO_LINE], [3]]] * 3 + [[[4], [4]]])
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert "no score line" in lines[0]


def test_thin_is_warned_of_with_chance_beside() -> None:
    thin = {"agreeing_prompts": 3, "ranked_prompts": 48, "agreeing_share": 0.0625, "chance_share": 0.05}
    assert warnings(thin, 0.2) == [
        "only 3 of 48 ranked prompts agree with people (2.4 would by chance; warned below 20%)"
    ]
    assert warnings(thin, 0.06) == []
    (line,) = warnings(thin | {"chance_share": 0.0625}, 0.06)
    assert "no more than by chance (3.0)" in line
