"""The place of a probe, and what the model thought there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_llama import build

from stages.engines.logprobs import read_score_logprobs
from stages.engines.request import Completion, ScoreLogprobs
from stages.engines.tokenization import ModelTokenizer

SCORE = ScoreLogprobs(r"Score: (\d)", 1, ("1", "2", "3"))


def read(
    *tokens: str, likely: dict[int, dict[str, float]], probe: ScoreLogprobs = SCORE, cut: int | None = None
) -> list[float] | None:
    starts = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    return read_score_logprobs(
        probe, "".join(tokens)[:cut], len(tokens), starts.__getitem__, lambda step: likely.get(step, {})
    )


def test_the_probabilities_are_those_of_the_place() -> None:
    likely = {2: {"1": 0.1, "2": 0.6, "3": 0.2, "x": 0.1}, 0: {"1": 1.0}}
    assert read("Score", ": ", "2", " yes", likely=likely) == [0.1, 0.6, 0.2]


def test_a_token_may_begin_before_the_place() -> None:
    """` 2` after `Score:`: the others are compared with the space in front."""
    likely = {1: {" 1": 0.25, " 2": 0.5, "3": 0.2}}
    assert read("Score:", " 2", likely=likely) == [0.25, 0.5, 0.0]


def test_the_last_match_counts() -> None:
    likely = {1: {"1": 1.0}, 3: {"1": 0.25, "3": 0.75}}
    assert read("Score: ", "1", "\nScore: ", "3", likely=likely) == [0.25, 0.0, 0.75]


@pytest.mark.parametrize("tokens", [("no ", "score"), ("Score: ", "x"), ()])
def test_no_match_no_probabilities(tokens: tuple[str, ...]) -> None:
    assert read(*tokens, likely={i: {"1": 1.0} for i in range(9)}) is None


def test_none_of_the_choices_could_stand_there() -> None:
    assert read("Score: ", "2", likely={1: {"two": 1.0}}) is None


def test_a_number_in_one_token_with_its_label_is_compared_with_the_label() -> None:
    assert read("Score: 2", likely={0: {"Score: 1": 0.4, "Score: 2": 0.6, "2": 1.0}}) == [0.4, 0.6, 0.0]


def test_tokens_that_spell_one_text_add_up(tmp_path: Path) -> None:
    """A digit and its byte, as SentencePiece models have both: whichever comes last must not hide the other."""
    prompts = ModelTokenizer(build(tmp_path))
    four = prompts.tokenizer.convert_tokens_to_ids("4")
    prompts._choice_tokens[("3", "4")] = {four: "4", 5: "4", 6: "3"}
    said = Completion("x", 0, "Score: 4", "stop", 2)
    ids = [prompts.tokenizer("Score: ", add_special_tokens=False).input_ids, [four]]
    likely = {four: 0.875, 5: 0.025, 6: 0.1}
    probe = ScoreLogprobs(r"Score: (\d)", 1, ("3", "4"))
    tokens = [*ids[0], four]
    assert prompts.probs(probe, said._replace(tokens=len(tokens)), tokens, lambda step: likely) == [
        0.1,
        pytest.approx(0.9),
    ]


def test_a_letter_of_several_tokens_before_the_place_moves_nothing(tmp_path: Path) -> None:
    prompts = ModelTokenizer(build(tmp_path))
    text = "Score：4"  # a full-width colon: three bytes, here three tokens
    ids = prompts.tokenizer(text, add_special_tokens=False).input_ids
    place = ids.index(prompts.tokenizer.convert_tokens_to_ids("4"))
    said = Completion("x", 0, text, "stop", len(ids))
    likely = dict.fromkeys(prompts.choice_tokens(("3", "4")), 0.01)
    seen: list[int] = []
    prompts.probs(ScoreLogprobs(r"Score：(\d)", 1, ("3", "4")), said, ids, lambda step: seen.append(step) or likely)  # type: ignore[func-returns-value]
    assert seen == [place]
