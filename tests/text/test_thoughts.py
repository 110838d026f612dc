"""A thought and the answer behind it are told apart by their marks, whatever the text."""

from string import ascii_letters

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stages.text.thoughts import FRAMES, THOUGHTS, answer, between_marks, joined, split

PIECES = st.sampled_from([mark for pair in (*THOUGHTS, *FRAMES) for mark in pair]) | st.sampled_from(
    [" ", "\n", "Score: 5", "a", "<"]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


@given(TEXTS)
def test_nothing_is_lost_and_an_answer_holds_no_further_thought(text):
    thought, response = split(text)
    begins = (thought or "") + response
    assert text.startswith(begins)
    assert text[len(begins) :].strip() in {"", *(end for _, end in FRAMES)}
    assert split(response)[0] is None
    assert thought is None or thought.lstrip().startswith((*(opens for opens, _ in THOUGHTS), FRAMES[0][0]))
    assert (split(joined(thought, response))[0] or "").rstrip() == (thought or "").rstrip()


@given(st.sampled_from(THOUGHTS), st.text(ascii_letters + " \n"), st.text())
def test_what_was_joined_is_split_there(marks, inner, response):
    thought, response = f"{marks[0]}{inner}{marks[1]}\n\n", response.lstrip()
    assume(split(response)[0] is None)
    assert split(thought + response) == (thought, response)


@pytest.mark.parametrize(
    ("text", "thought", "response"),
    [
        ("Plain.", None, "Plain."),
        ("", None, ""),
        ("\n <think>a</think> b", "\n <think>a</think> ", "b"),
        ("<think>\n\n</think>\n\nb", "<think>\n\n</think>\n\n", "b"),
        ("<think>a</think>b</think>c", "<think>a</think>", "b</think>c"),  # the first closes, as for servers' parsers
        ("<think>a<think>b</think>c", "<think>a<think>b</think>", "c"),
        ("<think>a</think>\n[THINK]b[/THINK]c", "<think>a</think>\n[THINK]b[/THINK]", "c"),
        ("<think>a[/THINK]b", "<think>a[/THINK]b", ""),  # another's mark closes nothing: never closed
        ("<think>a", "<think>a", ""),
        ("<think>a</think>", "<think>a</think>", ""),
        ("a</think>b", None, "a</think>b"),  # no prompt of ours leaves a thought open, so it is text
        ("Use <think>a</think>.", None, "Use <think>a</think>."),
        ("</think>a", None, "</think>a"),
        ("<thinker>a</think>", None, "<thinker>a</think>"),
        ("Here are my reasoning steps:\n1\n[BEGIN FINAL RESPONSE]\n2", "Here are my reasoning steps:\n1\n[BEGIN FINAL RESPONSE]\n", "2"),
        ("Here are my reasoning steps:\n1. Sweet.\nScore: 4", None, "Here are my reasoning steps:\n1. Sweet.\nScore: 4"),
        ("Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]\n", "Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\n", "b"),
        ("[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]", "[BEGIN FINAL RESPONSE]\n", "b"),
        ("b\n[END FINAL RESPONSE]", None, "b"),  # behind a prompt that began it
        ("b [END FINAL RESPONSE] c", None, "b [END FINAL RESPONSE] c"),
        ("<think>\n\n</think>\n<answer>\nb\n</answer>", "<think>\n\n</think>\n<answer>\n", "b"),
        ("<think>a</think><response>b</response>", "<think>a</think><response>", "b"),
        ("<think>a</think><response>b</answer>", "<think>a</think><response>", "b</answer>"),
        ("<think>a</think><answer>b", "<think>a</think><answer>", "b"),  # cut off
        ("<think>a</think>b</answer>", "<think>a</think>", "b</answer>"),
        ("<answer>b</answer>", None, "<answer>b</answer>"),  # as a prompt may ask for it
    ],
)  # fmt: skip
def test_where_a_thought_ends(text, thought, response):
    assert split(text) == (thought, response)
    assert answer(text) == response


@pytest.mark.parametrize(
    "text",
    [
        "Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]",
        "<think>a</think>\n<answer>\nb\n</answer>",
        "<think>a</think><response>b</response>",
        "<think>a</think>\n<answer>b</answer> And more.",
        "<think>a</think><answer>b</answer>\n<answer>c</answer>",
        "[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]\nc",
        "<think>a</think>\n\nb",
        "b",
    ],
)
def test_what_was_split_is_trained_as_the_model_wrote_it(text):
    assert joined(*split(text)) == text


@given(TEXTS)
@example("<think>a</think> [THINK]b")
def test_all_but_the_marks_is_changed(text):
    """Whatever is between, as none of it may spell a control token."""
    assert between_marks(text, lambda part: part) == text
    seen = []
    between_marks(text, lambda part: seen.append(part) or "")
    assert len("".join(seen)) <= len(text)
    assert seen[-1] == answer(text)


def test_hostile_text_takes_linear_time():
    for piece in (
        "<think>",
        "<think></think>",
        " ",
        "Here are my reasoning steps:",
        "</think>",
        "<think> ",
        "<think></think><answer>",
        "[END FINAL RESPONSE]",
    ):
        split(piece * 100_000)
