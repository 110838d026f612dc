"""Answers that keep and break each constraint, worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.constraints.sentences import KINDS, add, draw

pytest.importorskip("lm_eval", reason="needs the extra eval")
from stages.constraints.oracle import POOLED, SHARES, check, possible

ENGLISH = "the sun was warm and the people were walking along the river in the morning"
PAIRS = {
    "Do not use any commas.": ("One and two.", "One, two."),
    "Write everything in lowercase letters.": (ENGLISH, ENGLISH.capitalize()),
    "Use capital letters only.": ("THIS IS A LETTER THAT YOU SHOULD WRITE TO THEM TODAY", ENGLISH),
    "Put the entire response inside double quotes.": ('"Yes."', '"Yes." he said.'),
    "Add a title wrapped in << and >>.": ("<<Rivers>>\nThey flow.", "<Rivers>\nThey flow."),
    "Finish with exactly this: That is all.": ("Here. That is all.", "That is all. Here."),
    "Close with a postscript beginning with P.S.": ("Yes.\nP.S. No.", "Yes. PS: no."),
    "Use the word people.": ("All People do.", "All persons do."),
    "Avoid the word and.": ("Sand is fine.", "This And that."),
    "Use the word good at least 2 times.": ("good, Good", "good"),
    "Stay below 30 words.": ("word " * 29, "word " * 30),
    "Answer in at least 20 words.": ("word " * 20, "word " * 19),
    "Give 2 bullet points, marked with *.": ("* a\n* b", "* a\n* b\n* c"),
    "Mark 2 or more key terms as *key term*.": ("*a* and *b c*", "*a* and **"),
}


@pytest.mark.parametrize(("sentence", "kept", "broken"), [(s, *pair) for s, pair in PAIRS.items()])
def test_a_constraint_is_kept_and_broken(sentence, kept, broken):
    prompt = add("What is new?", [sentence])
    assert check(prompt, kept)[0] == 5
    assert check(prompt, broken)[0] == 0
    assert check(prompt, " \n")[0] == 0, "nothing keeps nothing"
    assert {"strict", "loose", possible(prompt)[0], possible(prompt)[1]} == {*check(prompt, kept)[1]}


def test_every_kind_has_its_pair():
    assert {possible(add("", [sentence]))[0] for sentence in PAIRS} == {*KINDS}
    assert {*SHARES["prompt_strict"], *SHARES["prompt_loose"], *POOLED["instruction_strict"]} == {
        "strict", "loose", *KINDS
    }  # fmt: skip


def test_score_is_the_share_and_loose_forgives_a_first_line():
    """Three constraints. The first line has the only comma: strictly two are kept, loosely three."""
    prompt = add("Say hello.", ["No commas are allowed in your answer.", "Use the word time.", "Stay below 40 words."])
    score, points = check(prompt, "Of course, here it is:\nIt is time.")
    assert score == pytest.approx(10 / 3)
    assert points == ["keyword", "fewer_words", "no_comma_loose", "keyword_loose", "fewer_words_loose", "loose"]


@pytest.mark.parametrize("answer", ["**x**", "first\nx", "x\nlast", "a\nx\nb", "*a*\n*x*\nb"])
def test_the_eight_variants(answer):
    """Wrapped in quotation marks after the first or the last line, or the asterisks, are taken away."""
    quoted = answer.replace("x", '"x"')
    prompt = add("Say x.", ["Wrap your whole answer in double quotation marks."])
    assert check(prompt, quoted) == (0, ["quotation_loose", "loose"])


def test_prompts_without_constraints_are_not_known():
    assert check("Why?", "Because.") is None
    assert possible("Why?") == []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1000), st.text(alphabet=st.characters(), max_size=300))
def test_any_text_has_a_score(seed, response):
    """The same every time, within bounds, with points that are possible; surrogates and controls included."""
    prompt = add("Say something.", draw(seed, "p"))
    score, points = check(prompt, response)
    assert 0 <= score <= 5
    assert {*points} <= {*possible(prompt), "strict", "loose"}
    assert ("strict" in points) == (score == 5)
    assert {f"{name}_loose" for name in points if name in KINDS} <= {*points}, "what holds strictly holds loosely"
    assert check(prompt, response) == (score, points)
