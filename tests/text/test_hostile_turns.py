"""No hostile answer ends its own turn, in ten families' layouts."""

from __future__ import annotations

import pytest

from stages.method.scale import SCORE
from stages.method.template import mask_verdicts
from stages.text.chat import Chat
from stages.text.special_tokens import breakable
from stages.text.thoughts import MARKS
from tests.families import FAMILIES, _tokenizer, template_of
from tests.method.hostile import SHORT, TEMPLATES, TURNS

JUDGE = TEMPLATES["stages/tinyworld/judge.jinja"]


@pytest.mark.parametrize("name", TURNS)
def test_no_answer_ends_its_turn_or_speaks_as_its_judge(name: str) -> None:
    """As every engine and the trainings write it: in a prompt's messages, as a text, as an answer that is learnt."""
    family = next(family for family in FAMILIES if family.name == name)
    template = template_of(family)
    tokenizer = _tokenizer(family, template, [("Say a fruit.", "Fig.")])
    tokenizer.chat_template = template
    chat = Chat(tokenizer)
    tokens = tokenizer.added_tokens_decoder.items()
    special = {i for i, token in tokens if token.special}
    thought = {i for i, token in tokens if token.content in MARKS}  # an answer may begin with one
    spelt = [token for token in chat.control if breakable(token)]
    assert any(token in TURNS[name] for token in spelt), "its turn is in the suite"
    ((asked, answered),) = chat.encode(["word"], ["word"])
    prompts = [f"Judge: {mask_verdicts(text, JUDGE, SCORE)}" for text in SHORT]
    for text, prompt, (question, answer) in zip(SHORT, prompts, chat.encode(prompts, SHORT), strict=True):
        assert [i for i in question if i in special] == [i for i in asked if i in special], text
        assert [i for i in answer if i in special - thought] == [i for i in answered if i in special - thought], text
        unmarked = chat.unmarked(prompt)
        assert not any(token in unmarked for token in spelt), text
