"""Constraints are read back from the text of the prompt alone, whatever stands before them."""

import random
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.constraints.prompts import constrain
from stages.constraints.sentences import KINDS, MOST, add, draw, read, without

FORMS = [(name, phrasing) for name, kind in KINDS.items() for phrasing in kind.phrasings]
SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize(("name", "phrasing"), FORMS)
def test_every_phrasing_is_read_as_its_kind_with_every_value(name, phrasing):
    kind = KINDS[name]
    for i in range(max(map(len, kind.choices.values()), default=1)):
        drawn = {argument: values[i % len(values)] for argument, values in kind.choices.items()}
        shown = {argument: value[0] if isinstance(value, list) else value for argument, value in drawn.items()}
        constraints = read(add("Why?", [phrasing.format(**shown)]))
        assert [tuple(c) for c in constraints] == [(name, {**drawn, **kind.fixed})]


@given(st.text(), SEEDS, st.text(max_size=8))
def test_what_was_added_is_read_back_whatever_the_prompt(prompt, seed, prompt_id):
    sentences = draw(seed, prompt_id)
    text = add(prompt, sentences)
    assert without(text) == prompt
    alone = [read(add("", [sentence]))[0] for sentence in sentences]
    assert read(text) == alone
    assert 1 <= len(alone) <= MOST
    assert len({KINDS[c.name].group for c in alone}) == len(alone)
    assert sentences == draw(seed, prompt_id)


@given(st.one_of(st.text(), SEEDS.map(lambda seed: " ".join(draw(seed, "p")))), st.text(max_size=20))
def test_other_last_paragraphs_ask_for_nothing(text, more):
    """Half of a sentence, a sentence with something behind it, or one that is the whole prompt."""
    for prompt in (text, f"Why?\n\n{text[:-1]}", f"Why?\n\n{text} {more}!", f"Why?\n\n{text} "):
        assert (read(prompt), without(prompt)) == ([], prompt)


def test_hostile_prompts_are_read_at_once():
    start = time.perf_counter()
    for text in ("\n" * 10**6, " " * 10**6, "Do not use any commas. " * 10**5, "a\n\n" + "Stay below " * 10**5):
        assert read(text) == []
        assert read("x\n\n" + text) == []
    assert time.perf_counter() - start < 2


def test_a_table_with_constraints():
    """Half of the accepted prompts, by seed and id; ids follow the text, also among the shots; dropped rows stay."""
    n = 200
    rows = pl.DataFrame(
        {
            "prompt_id": [f"{i:03}" for i in range(n)],
            "prompt": [f"Question {i}?" for i in range(n)],
            "shots": [[f"{i - 1:03}", "ift"] if i else ["ift"] for i in range(n)],
            "dropped": [None if i % 2 else "repeat" for i in range(n)],
        }
    )
    got = constrain(rows, seed=1, share=0.5)
    changed = (rows["prompt"] != got["prompt"]).to_list()
    assert not any(changed[::2])
    assert 35 < sum(changed) < 65
    assert [without(text) for text in got["prompt"]] == rows["prompt"].to_list()
    assert got["prompt_id"].n_unique() == n
    ids = dict(zip(rows["prompt_id"], got["prompt_id"], strict=True))
    assert got["shots"].to_list() == [[ids.get(s, s) for s in shots] for shots in rows["shots"]]
    assert [a != b for a, b in ids.items()] == changed
    shuffled = rows.sample(fraction=1, shuffle=True, seed=3)
    assert constrain(shuffled, seed=1, share=0.5).sort("prompt_id").equals(got.sort("prompt_id"))
    assert constrain(rows, seed=1, share=0.0).equals(rows)
    assert not constrain(rows, seed=2, share=0.5).equals(got)


def test_no_two_kinds_that_ifeval_says_conflict_are_drawn_together():
    registry = pytest.importorskip("lm_eval.tasks.ifeval.instructions_registry")
    conflicts = registry.conflict_make(registry.INSTRUCTION_CONFLICTS)
    for seed in range(3000):
        kinds = [KINDS[c.name] for c in read(add("", draw(seed, str(random.Random(seed).random()))))]
        for one in kinds:
            others = {kind.instruction for kind in kinds if kind is not one}
            assert not others & conflicts[one.instruction]
