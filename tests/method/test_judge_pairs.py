from __future__ import annotations

import polars as pl
import pytest

from stages.method.judge_pairs import (
    answers_of,
    cap,
    changed_prompt_couples,
    figures,
    judge_pairs,
    ranked_couples,
    score_lines,
    shuffle,
)
from stages.method.scale import OF_FIVE
from stages.store.catalog import check
from stages.store.tables import CANDIDATES, JUDGE_PAIRS, RANKED


def ranked(*answers: tuple[str, str, int]) -> pl.DataFrame:
    """(prompt_id, response, rank)."""
    rows = [(f"{prompt}-{text}", prompt, f"say {prompt}", text, rank, "x", "y") for prompt, text, rank in answers]
    return pl.DataFrame(rows, schema=RANKED.schema, orient="row")


def pairs_of(couples: pl.DataFrame, scores: dict[str, list[float | None]], seed: int = 1):
    """JUDGE_PAIRS of judgements with these scores by the answer's text, and the judgements."""
    answers = answers_of(couples)
    rows = [
        (candidate, prompt, k, f"{text} {k}", score)
        for candidate, prompt, text in answers.select("candidate_id", "prompt_id", "response").iter_rows()
        for k, score in enumerate(scores[text])
    ]
    schema = {"candidate_id": pl.String, "prompt_id": pl.String, "k": pl.Int32, "text": pl.String, "score": pl.Float64}
    judgements = pl.DataFrame(rows, schema=schema, orient="row")
    prompts = answers.select("candidate_id", text=pl.format("judge {}", "response"))
    made = judge_pairs(couples, judgements, prompts, "eft", seed)
    return check(JUDGE_PAIRS, made, "judge_pairs"), judgements


def test_couples_are_answers_of_one_prompt_that_people_ranked_apart():
    rows = ranked(("p", "a", 0), ("p", "b", 1), ("p", "c", 1), ("q", "d", 0))
    assert ranked_couples(rows).select("better", "worse").rows() == [("a", "b"), ("a", "c")]


def test_right_judgements_are_chosen_and_wrong_ones_rejected():
    couples = ranked_couples(ranked(("p", "long a", 0), ("p", "bee", 1), ("q", "c", 0), ("q", "dee", 1)))
    scores = {"long a": [5, 3, 1], "bee": [3, 3, None], "c": [4, 2, 3], "dee": [2, 4, 3]}
    made, judgements = pairs_of(couples, scores)
    seen = {row["candidate_id"]: row for row in made.iter_rows(named=True)}
    assert {*seen} == {"p-long a", "q-c", "q-dee"} or {*seen} == {"p-long a", "q-c"} or {*seen} == {"p-long a", "q-dee"}
    a = seen["p-long a"]
    assert (a["known"], a["chosen"], a["rejected"]) == ("better", "long a 0", "long a 2")
    assert (a["chosen_score"], a["other_score"], a["rejected_score"]) == (5, 3, 1)
    assert (a["prompt"], a["other_id"], a["source"]) == ("judge long a", "p-bee", "eft")
    if "q-dee" in seen:
        assert (seen["q-dee"]["known"], seen["q-dee"]["chosen_score"], seen["q-dee"]["rejected_score"]) == (
            "worse",
            2,
            4,
        )
    assert figures(couples, judgements) == {"couples": 2, "right": 0.5, "judgements": 12, "unparsed": 1}


def test_as_many_where_the_better_answer_is_the_longer_one():
    rows = [(f"p{i}", text, rank) for i in range(12) for text, rank in ((f"long {i}", 0), (f"s{i}", 1))]
    rows += [(f"q{i}", text, rank) for i in range(3) for text, rank in ((f"t{i}", 0), (f"wordy {i}", 1))]
    couples = ranked_couples(ranked(*rows))
    scores = {text: [5, 4, 1, 0] for _, text, _ in rows}
    made, _ = pairs_of(couples, scores)
    by = made["prompt_id"].str.slice(0, 1).value_counts()
    assert dict(by.iter_rows()) == {"p": 6, "q": 6}
    assert made.equals(pairs_of(couples.reverse(), scores)[0])
    assert not made.equals(pairs_of(couples, scores, seed=2)[0])


def test_ties_and_unreadable_judgements_are_neither_right_nor_wrong():
    couples = ranked_couples(ranked(("p", "aa", 0), ("p", "bb", 1)))
    assert pairs_of(couples, {"aa": [3, 3], "bb": [3, 3]})[0].is_empty()
    assert pairs_of(couples, {"aa": [5, 1], "bb": [None, None]})[0].is_empty()
    assert pairs_of(couples, {"aa": [5, None], "bb": [3, 3]})[0].is_empty()


def test_an_answer_stands_in_one_pair_however_many_others_there_are():
    couples = ranked_couples(ranked(("p", "aa", 0), ("p", "bb", 1), ("p", "cc", 2)))
    made, _ = pairs_of(couples, {"aa": [5, 1], "bb": [5, 1], "cc": [5, 1]})
    assert made["candidate_id"].is_unique().all()
    assert len(made) == 3


def test_the_control_turns_about_half_of_the_couples():
    couples = ranked_couples(ranked(*[(f"p{i:02}", t, r) for i in range(60) for t, r in ((f"a{i}", 0), (f"b{i}", 1))]))
    turned = shuffle(couples, 1)
    changed = (turned["better_id"] != couples["better_id"]).sum()
    assert 15 <= changed <= 45
    assert (turned["better_id"].str.slice(4) == turned["better"]).all()
    assert turned.columns == couples.columns
    assert not turned.equals(shuffle(couples, 2))


@pytest.mark.parametrize(
    ("scores", "most", "share", "left"),
    [
        ([5] * 6 + [4] * 2 + [1] * 2, 99, 0.4, {5: 2, 4: 2, 1: 2}),
        ([5] * 6 + [4] * 4 + [1] * 2, 99, 0.4, {5: 4, 4: 4, 1: 2}),
        ([5] * 6 + [4] * 2, 99, 0.4, {5: 2, 4: 2}),  # two scores cannot each have 40 %
        ([5] * 6 + [4] * 2, 99, 1.0, {5: 6, 4: 2}),
        ([5] * 6, 4, 1.0, {5: 4}),
        ([5] * 4 + [4] * 3 + [1] * 3, 5, 0.4, {5: 2, 4: 2, 1: 1}),  # of the 5 that are left, too
        ([5] * 4 + [4] * 3 + [1] * 3, 2, 0.4, {5: 1, 4: 1}),
        ([], 4, 0.4, {}),
    ],
)
def test_caps(scores, most, share, left):
    rows = pl.DataFrame({"chosen_score": pl.Series(scores, dtype=pl.Float64)})
    assert dict(cap(rows, most, share)["chosen_score"].value_counts().iter_rows()) == left


def test_the_changed_prompt_is_the_likest_one_and_its_answer_is_no_answer_to_this_one():
    texts = {"p": "name two red fruits", "q": "name three red fruits", "r": "why is the sky blue"}
    prompts = pl.DataFrame({"prompt_id": [*texts], "prompt": [*texts.values()]})
    rows = [("c1", "p", "fig"), ("c2", "p", "plum"), ("c3", "q", "fig"), ("c4", "q", "kiwi"), ("c5", "r", "air")]
    rows = [(c, p, "M1", n, text, "stop", 3, None) for n, (c, p, text) in enumerate(rows)]
    rows.append(("c6", "r", "M1", 9, "cut", "length", 3, None))
    candidates = pl.DataFrame(rows, schema=CANDIDATES.schema, orient="row")
    couples = changed_prompt_couples(prompts, candidates, 9, "en", 1)
    by_prompt = {row["prompt_id"]: row for row in couples.iter_rows(named=True)}
    assert by_prompt["p"]["worse_id"] == "c4"
    assert by_prompt["p"]["better_id"] in ("c1", "c2")
    assert by_prompt["q"]["worse_id"] == "c2"
    assert by_prompt["r"]["better_id"] == "c5"
    assert len(changed_prompt_couples(prompts, candidates, 1, "en", 1)) == 1
    answers = answers_of(couples)
    assert answers["candidate_id"].is_unique().all()


def test_a_share_of_the_pairs_is_cut_to_the_score_line_by_seed():
    couples = ranked_couples(ranked(*[(f"p{i}", t, r) for i in range(9) for t, r in ((f"aa{i}", 0), (f"bb{i}", 1))]))
    made, _ = pairs_of(couples, {text: [5, 1] for text in (*couples["better"], *couples["worse"])})
    made = check(JUDGE_PAIRS, made.with_columns(chosen=pl.format("So. Score: {}", "chosen_score")), "judge_pairs")
    made = made.with_columns(rejected=pl.format("No. Score: {}", "rejected_score"))
    assert score_lines(made, 0.0, OF_FIVE, 1)[0].equals(made)
    cut, lines = score_lines(made, 0.5, OF_FIVE, 1)
    assert lines == round(len(made) / 2)
    for side, reason in (("chosen", "So. "), ("rejected", "No. ")):
        short = cut[side] != made[side]
        assert short.sum() == lines
        assert (reason + cut[side].filter(short) == made[side].filter(short)).all()
    assert not score_lines(made, 0.5, OF_FIVE, 2)[0].equals(cut)
    assert score_lines(made, 1.0, OF_FIVE, 1)[0]["chosen"].str.starts_with("Score: ").all()
