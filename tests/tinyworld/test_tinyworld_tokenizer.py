from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.tinyworld.corpus import documents, judge_template
from stages.tinyworld.oracle import POLITE, RUBRIC, RUDE
from stages.tinyworld.tasks import CATEGORIES, LARGEST, NOUNS, OPPOSITE
from stages.tinyworld.tokenizer import VOCABULARY, build_tokenizer

TOKENIZER = build_tokenizer(documents(seed=1, n=8000, split_seed=7))
USER = {"role": "user", "content": "Say cat 3 times."}


def test_every_word_of_the_world_is_one_token():
    words = [*NOUNS, *(word.upper() for word in NOUNS), *OPPOSITE, *CATEGORIES, *map(str, range(LARGEST + 1)), *RUBRIC]
    words += [
        w.strip("!,:.")
        for text in (*POLITE, *RUDE, judge_template().render(), "Wanted Check Right Points Score yes no none")
        for w in text.split()
    ]
    assert not [word for word in words if len(TOKENIZER.tokenize(f" {word}")) > 1]
    assert len(TOKENIZER) <= VOCABULARY


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_survives(text):
    if "<end>" not in text and "<pad>" not in text:
        assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_end_begins_and_ends_and_padding_is_another_token():
    assert TOKENIZER.bos_token_id == TOKENIZER.eos_token_id != TOKENIZER.pad_token_id
    assert (
        TOKENIZER("cat")["input_ids"] == TOKENIZER("cat", add_special_tokens=False)["input_ids"]
    )  # no hidden begin token


def test_chat_format():
    asked = TOKENIZER.apply_chat_template([USER], tokenize=False, add_generation_prompt=True)
    assert asked == "<end> Question: Say cat 3 times. Answer:"
    turns = [
        USER,
        {"role": "assistant", "content": "Sure! cat cat cat."},
        {"role": "user", "content": "Say dog 2 times."},
    ]
    assert (
        TOKENIZER.apply_chat_template(turns, tokenize=False)
        == f"{asked} Sure! cat cat cat.<end> Question: Say dog 2 times. Answer:"
    )
    with pytest.raises(Exception, match="seen role system"):
        TOKENIZER.apply_chat_template([{"role": "system", "content": "Be kind."}, USER], tokenize=False)


def test_a_prompt_that_ends_with_a_colon_says_itself_what_follows():
    judged = {"role": "user", "content": judge_template().render(prompt="Say cat 2 times.", response="cat cat.")}
    asked = TOKENIZER.apply_chat_template([judged], tokenize=False, add_generation_prompt=True)
    assert (
        asked == "<end> Rubric: relevant useful right tidy polite. Question: Say cat 2 times. Answer: cat cat. Remark:"
    )
    turns = [judged, {"role": "assistant", "content": "Wanted 2: cat cat."}]
    assert TOKENIZER.apply_chat_template(turns, tokenize=False) == f"{asked} Wanted 2: cat cat.<end>"


@pytest.mark.slow
@given(st.text(max_size=40) | st.text(max_size=40).map("{}:".format), st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_prompt_is_a_token_prefix_of_prompt_and_answer(prompt, response):
    """TRL encodes both and takes what follows the first for the completion."""
    user, assistant = {"role": "user", "content": prompt}, {"role": "assistant", "content": response}
    asked = TOKENIZER.apply_chat_template([user], add_generation_prompt=True)["input_ids"]
    both = TOKENIZER.apply_chat_template([user, assistant])["input_ids"]
    assert both[: len(asked)] == asked
    assert both[-1] == TOKENIZER.eos_token_id


def test_the_same_texts_make_the_same_tokenizer():
    texts = documents(1, 500, 7)
    assert build_tokenizer(texts).backend_tokenizer.to_str() == build_tokenizer(texts).backend_tokenizer.to_str()
