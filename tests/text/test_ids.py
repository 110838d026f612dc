from stages.text.ids import text_key


def test_prompts_are_the_same_by_their_words() -> None:
    assert text_key(" Say\tCafé ") == text_key("say cafe\u0301")
    assert text_key("say cafe") != text_key("say café")
