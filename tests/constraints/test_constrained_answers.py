"""Seed answers to prompts with constraints: the best keeps all of them, the others do not, and nothing else differs."""

import polars as pl
import pytest

pytest.importorskip("lm_eval", reason="needs the extra eval")

from stages.constraints.answers import EDITED, _edit, checked_answers
from stages.constraints.oracle import check
from stages.constraints.sentences import KINDS, Constraint, add, read, without
from stages.store.tables import RANKED
from stages.text.ids import content_id

TEXT = (
    "Bread is baked, and it smells good. You can also eat it with butter. Flour and water are all that a baker needs "
    "for it, says my aunt."
)


def ranked(texts: dict[str, list[str]]) -> pl.DataFrame:
    rows = [
        {
            "candidate_id": content_id(prompt, text),
            "prompt_id": content_id(prompt),
            "prompt": prompt,
            "response": text,
            "human_rank": rank,
            "source": "people",
            "source_id": f"{prompt}{rank}",
        }
        for prompt, answers in texts.items()
        for rank, text in enumerate(answers)
    ]
    return pl.DataFrame(rows, RANKED.schema)


PEOPLE = ranked({f"What is bread {n}?": [TEXT, f"{TEXT} Number {n}."] for n in range(12)})


def test_the_best_keeps_all_and_the_others_fewer():
    rows = checked_answers(PEOPLE, 10, seed=1)
    assert rows.schema == pl.Schema(RANKED.schema)
    assert rows["prompt_id"].n_unique() == 10
    assert set(rows["source"]) == {"constraints"}
    for _, answers in rows.group_by("prompt_id"):
        scores = [check(prompt, text)[0] for prompt, text in answers.select("prompt", "response").iter_rows()]
        assert max(scores) == 5 > min(scores)
        by_rank = sorted(zip(answers["human_rank"], scores, strict=True))
        assert [rank for rank, score in by_rank if score == 5] == [0], "one keeps all"
        assert [-score for _, score in by_rank] == sorted(-score for _, score in by_rank), "ranks follow the checker"
        assert set(answers["prompt_id"]) == {content_id(answers["prompt"][0])}
        assert without(answers["prompt"][0]) in set(PEOPLE["prompt"])
        assert read(answers["prompt"][0])


def test_decided_by_the_seed_and_the_prompt_alone():
    rows = checked_answers(PEOPLE, 12, seed=1)
    assert rows.equals(checked_answers(PEOPLE.reverse(), 12, seed=1))
    assert not rows.equals(checked_answers(PEOPLE, 12, seed=2))
    asked = [frozenset(checked_answers(PEOPLE, 12, seed=seed)["prompt"]) for seed in (1, 2, 3)]
    assert not asked[0] & asked[1] | asked[1] & asked[2], "neighbouring seeds share no draws"
    some = checked_answers(PEOPLE, 3, seed=1)
    assert rows.filter(pl.col("prompt_id").is_in(some["prompt_id"])).equals(some)


def test_more_new_prompts_than_ranked_ones_have_other_constraints_each():
    rows = checked_answers(PEOPLE, 40, seed=1)
    assert rows["prompt_id"].n_unique() == 40
    few = checked_answers(PEOPLE, 12, seed=1)
    assert rows.head(len(few)).equals(few), "the first draw of every prompt comes first"
    by_base = {without(prompt) for prompt in rows["prompt"]}
    assert by_base == {without(prompt) for prompt in few["prompt"]}


def test_what_cannot_be_edited_is_passed_over():
    assert checked_answers(ranked({"What?": ["?"]}), 400, seed=1)["prompt_id"].n_unique() < 400
    assert checked_answers(PEOPLE.clear(), 5, seed=1).schema == pl.Schema(RANKED.schema)


@pytest.mark.parametrize("name", EDITED)
def test_an_edit_keeps_its_constraint(name):
    kind = KINDS[name]
    for choice in range(max(map(len, kind.choices.values()), default=1)):
        arguments = {key: values[choice % len(values)] for key, values in kind.choices.items()} | dict(kind.fixed)
        asked = kind.phrasings[0].format(**{k: v[0] if isinstance(v, list) else v for k, v in arguments.items()})
        (constraint,) = read(prompt := add("What is bread?", [asked]))
        assert constraint.name == name
        edited = _edit(f"{TEXT} Ask him. Or her.", Constraint(name, constraint.arguments))
        assert check(prompt, edited)[0] == 5, (prompt, edited)
