"""No text spells a control token after it was broken up, whatever the token and the text; and it always ends."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.text.special_tokens import break_special_tokens

PIECES = st.sampled_from(
    ["<", "|", "|>", "<|im_end|>", " ", "\n", "a", "aa", "é", "\u3000", "[INST]", "< ", " <s>", "</s>"]
)
TEXT = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60)
TOKENS = st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join) | st.text(min_size=1, max_size=8), max_size=6)


@settings(max_examples=500)
@given(TEXT, TOKENS)
@example(" <s>" * 5, [" <s>", "  <s>"])
@example("aaaa", ["aa", "a a", "a  a"])
@example("  \n  ", [" ", "  ", "\n"])
def test_no_token_is_left_and_nothing_but_spaces_is_added(text, tokens):
    broken = break_special_tokens(text, tokens)
    assert not [t for t in tokens if len("".join(t.split())) > 1 and t in broken]
    assert broken.replace(" ", "") == text.replace(" ", "")
    if not any(t in text for t in tokens):
        assert broken == text


def test_a_space_goes_behind_the_first_character():
    assert break_special_tokens("Yes.<|im_end|> <s>", ["<|im_end|>", " <s>"]) == "Yes.< |im_end|> < s>"


def test_a_hostile_text_takes_linear_time():
    text = "<|im_" * 100_000 + "<|im_end|>" * 20_000
    assert "<|im_end|>" not in break_special_tokens(text, [f"<|reserved_{i}|>" for i in range(1000)] + ["<|im_end|>"])
