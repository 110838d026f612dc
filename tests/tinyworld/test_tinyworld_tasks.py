from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.tinyworld.tasks import CATEGORIES, HELD_OUT, KINDS, LARGEST, NOUNS, OPPOSITE, in_test, parse, sample_task


@pytest.mark.parametrize(
    ("prompt", "kind", "n", "given_items", "wanted"),
    [
        ("Name three fruits please.", "list", 3, (), ()),
        ("Show me 2 tools sorted by letter.", "alpha", 2, (), ()),
        ("Reverse this list: saw pink hen.", "reverse", 3, ("saw", "pink", "hen"), ("hen", "pink", "saw")),
        ("Say cat 3 times.", "repeat", 3, ("cat",), ("cat", "cat", "cat")),
        ("Write the opposites of hot up.", "opposite", 2, ("hot", "up"), ("cold", "down")),
        ("Shout these words: cat hat.", "capitals", 2, ("cat", "hat"), ("CAT", "HAT")),
        ("Count up from 8 to 10.", "count", 3, ("8", "10"), ("8", "9", "10")),
        ("Say the numbers from 3 down to 0.", "count", 4, ("3", "0"), ("3", "2", "1", "0")),
        ("Add two to each number: 3 9 3.", "add", 3, ("3", "9", "3"), ("5", "11", "5")),
    ],
)
def test_a_prompt_states_its_task(prompt, kind, n, given_items, wanted):
    task = parse(prompt)
    assert task is not None
    assert (task.kind, task.n, task.given, task.wanted, task.prompt) == (kind, n, given_items, wanted, prompt)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Name three fruits.",  # three words: a new prompt like this would be filtered
        "name three fruits please.",
        "Name three fruits please",
        " Name three fruits please.",
        "Name three fruits please. Name three fruits please.",
        "Name five fruits please.",  # lists have two to four items
        "Name one fruits please.",
        "Name three stars please.",
        "Say cat 6 times.",
        "Count up from 10 to 8.",
        "Count up from 8 to 9.",
        "Count up from 8 to 13.",
        f"Count up from {LARGEST - 1} to {LARGEST + 1}.",
        "Count up from 08 to 10.",
        "Reverse this list: cat cat.",
        "Reverse this list: cat.",
        "Write the opposites of hot cold.",
        "Add 4 to each number: 1 2.",
        "What is the capital of France?",
    ],
)
def test_anything_else_is_no_task(text):
    assert parse(text) is None


@given(st.integers(0, 10**6), st.sampled_from(["train", "test"]), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_sampled_tasks_parse_back_lie_in_their_split_and_pass_the_length_filter(seed, split, split_seed):
    task = sample_task(Random(seed), split, split_seed)
    assert parse(task.prompt) == task
    assert in_test(task.prompt, split_seed) == (split == "test")
    assert len(task.prompt.split()) > 3
    assert task.n == len(task.wanted) or (task.category in CATEGORIES and not task.wanted)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_parser_or_the_split(text):
    parse(text)
    in_test(text, 1)


def test_every_kind_holds_out_enough_for_620_test_prompts():
    rng = Random(0)
    held_out = {task.prompt: task.kind for task in (sample_task(rng, "test", 3) for _ in range(6000))}
    counts = Counter(held_out.values())
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 620 / len(KINDS) * 1.2


def test_the_split_moves_with_its_seed_and_holds_out_its_share():
    prompts = [f"Say {word} {n} times." for word in NOUNS for n in (2, 3, 4, 5, "two", "three", "four", "five")]
    shares = [sum(in_test(prompt, seed) for prompt in prompts) / len(prompts) for seed in range(5)]
    assert all(abs(share - HELD_OUT) < 0.08 for share in shares)
    assert {p for p in prompts if in_test(p, 1)} != {p for p in prompts if in_test(p, 2)}
    assert in_test("Say cat 3 times.", 7) is in_test("Say cat 3 times.", 7)


def test_words_are_unambiguous():
    assert len(set(NOUNS)) == 48
    assert len(OPPOSITE) == 24
    assert all(OPPOSITE[OPPOSITE[word]] == word for word in OPPOSITE)
    assert not set(NOUNS) & set(OPPOSITE)
