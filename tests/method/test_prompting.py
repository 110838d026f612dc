from __future__ import annotations

import itertools
import re
import time
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from stages.console.errors import SrlmError
from stages.method.likeness import RougeL
from stages.method.prompting import (
    PromptFilter,
    Written,
    draw_shots,
    prompt_id,
    prompts_frame,
    why_dropped,
    write_in_rounds,
)
from stages.method.template import mask_verdicts, render
from stages.store.tables import PROMPTS
from stages.text.ids import content_id

REFERENCE = RougeScorer(["rougeL"], use_stemmer=False)
IFT = pl.DataFrame({"ift_id": [f"i{n}" for n in range(10)], "instruction": [f"seed {n}" for n in range(10)]})
NEW = [(f"p{n}", f"new {n}") for n in range(5)]


# --- render ---


def test_a_field_is_filled_once_so_that_braces_in_data_stay_data() -> None:
    assert render("A {{ prompt }} B", prompt="{{ 7 * 7 }} {% if x %}") == "A {{ 7 * 7 }} {% if x %} B"


def test_text_is_plain_and_keeps_its_last_line_break() -> None:
    assert render("<b>{{ x }}</b>\n", x="<i> & 'q'") == "<b><i> & 'q'</b>\n"


def test_an_unknown_field_is_named_beside_the_known_ones() -> None:
    with pytest.raises(SrlmError, match=r"'promt' is undefined.*prompt, response"):
        render("{{ promt }}", prompt="a", response="b")


@pytest.mark.parametrize("template", ["{{ x", "{% for %}", "{{ x + 1 }}", "{{ 1 / 0 }}", "{{ x.nothing.more }}"])
def test_a_broken_template_is_an_error_that_shows_it(template: str) -> None:
    with pytest.raises(SrlmError, match=re.escape(template)):
        render(template, x="text")


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(SrlmError, match=r"unsafe|SecurityError"):
        render("{{ x.__class__.__mro__ }}", x="text")


def test_a_template_may_have_a_field_named_template() -> None:
    assert render("{{ template }}", template="t") == "t"


# --- shots ---


def test_six_shots_come_from_ift_and_two_from_earlier_prompts() -> None:
    shots = draw_shots(IFT, NEW, ift_shots=6, new_shots=2, seed=1, request_id="a")
    assert len(set(shots)) == 8
    assert sum(i.startswith("p") for i, _ in shots) == 2
    assert dict(shots).items() <= {**dict(NEW), **dict(IFT.iter_rows())}.items()


@pytest.mark.parametrize(("accepted", "new"), [(0, 0), (1, 1), (2, 2)])
def test_ift_fills_the_places_of_prompts_that_do_not_exist_yet(accepted: int, new: int) -> None:
    shots = draw_shots(IFT, NEW[:accepted], ift_shots=6, new_shots=2, seed=1, request_id="a")
    assert len(shots) == 8
    assert sum(i.startswith("p") for i, _ in shots) == new


def test_shots_are_decided_by_seed_and_request() -> None:
    def draw(seed: int, request: str) -> list[tuple[str, str]]:
        return draw_shots(IFT, NEW, ift_shots=6, new_shots=2, seed=seed, request_id=request)

    assert draw(1, "a") == draw(1, "a")
    assert len({str(draw(s, r)) for s in (1, 2) for r in ("a", "b")}) == 4


def test_new_prompts_do_not_always_stand_in_the_same_place() -> None:
    places = {
        tuple(i.startswith("p") for i, _ in draw_shots(IFT, NEW, ift_shots=6, new_shots=2, seed=0, request_id=str(r)))
        for r in range(20)
    }
    assert len(places) > 5


def test_fewer_seeds_than_places_give_fewer_shots() -> None:
    assert len(draw_shots(IFT[:3], [], ift_shots=6, new_shots=2, seed=0, request_id="a")) == 3


# --- filters ---


def words(n: int) -> str:
    return " ".join(f"w{i}" for i in range(n))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("Name three fruits", "too_short"),
        ("Name three red fruits", None),
        (words(150), None),
        (words(151), "too_long"),
        ("Describe the image in words", "blacklisted_word"),
        ("Explain these Graphs to me", "blacklisted_word"),
        ("Tell me to go\nto bed early", "blacklisted_word"),
        ("Please draw up a contract", "blacklisted_word"),
        ("Imagine a profile of mapping", None),  # whole words only
        ("Drawing conclusions from plots is hard", None),
        ("Write a program that sorts numbers", "starts_with_program"),
        ("write a Program that sorts numbers", "starts_with_program"),
        ("Please write a program that sorts", None),
        ("- list three red fruits", "starts_with_punctuation"),
        ("'Hello there' means what?", "starts_with_punctuation"),
        ("Über die Liebe schreiben", "non_english_start"),
        ("“Quoted” text means what?", "non_english_start"),
        ("3 fruits, please, quickly", None),
    ],
)
def test_self_instructs_filters_of_one_prompt(text: str, why: str | None) -> None:
    assert PromptFilter([], [], 0.7, 1, "en").reason(text, "stop") == why


def test_a_prompt_cut_off_by_the_length_limit_is_dropped_before_all_else() -> None:
    keep = PromptFilter([], [], 0.7, 1, "en")
    assert keep.reason("Name three red fruits and", "length") == "cut_off"
    assert keep.reason("", "length") == "cut_off"


def test_demonstrations_and_accepted_prompts_do_not_come_back() -> None:
    keep = PromptFilter(["Name three red fruits."], ["What is the capital of France?"], 1.0, 1, "en")
    assert keep.reason("name  three red fruits.", "stop") == "repeat"
    assert keep.reason("Tell a long joke.", "stop") is None
    assert keep.reason("Tell a long joke.", "stop") == "repeat"
    assert keep.reason("what is the capital of FRANCE?", "stop") == "held_out"


def test_only_accepted_prompts_are_compared_with() -> None:
    keep = PromptFilter(["a b c d e f g h i j"], [], 0.7, 1, "en")
    assert keep.reason("a b c d e f g h x y", "stop") == "too_similar"  # 8 of 10 in common: .8
    assert keep.reason("k l c d e f g h x y", "stop") is None  # .6 to the seed, .8 to the prompt that was dropped


def test_a_likeness_of_exactly_the_threshold_is_not_above_it() -> None:
    assert PromptFilter(["a b c d e f g h i j"], [], 0.7, 1, "en").reason("a b c d e f g x y z", "stop") is None
    assert (
        PromptFilter(["a b c d e f g h i j"], [], 0.69, 1, "en").reason("a b c d e f g x y z", "stop") == "too_similar"
    )


def test_what_is_like_a_held_out_prompt_is_held_out_where_near_duplicates_are_looked_for() -> None:
    held_out, like = "a b c d e f g h i j", "a b c d e f g h i k"
    assert PromptFilter([], [held_out], 0.7, 1, "en").reason(like, "stop") is None
    assert PromptFilter([], [held_out], 0.7, 0.7, "en").reason(like, "stop") == "held_out"
    assert PromptFilter([like], [held_out], 0.7, 0.9, "en").reason(like, "stop") == "repeat"
    assert PromptFilter([], [held_out], 0.7, 1, "en").reason(held_out.upper(), "stop") == "held_out"


@pytest.mark.parametrize(
    ("lang", "text", "why"),
    [
        ("ru", "Назови три красных фрукта", None),
        ("ru", "Назови три", "too_short"),
        ("ar", "ما هي عاصمة فرنسا؟", None),
        ("es", "¿Cuál es la capital de Francia?", None),
        ("es", "¡Escribe un poema sobre el mar!", None),
        ("es", "«Hola» es una palabra", "starts_with_punctuation"),
        ("ja", "日本の首都はどこですか？", None),
        ("ja", "AIとは何ですか？", None),
        ("ja", "こんにちは", "too_short"),
        ("ja", "、日本の首都はどこですか", "starts_with_punctuation"),
        ("zh", "写一首关于春天的诗", None),
        ("zh", "你好", "too_short"),
        ("zh", "春" * 301, "too_long"),
        ("zh", "春" * 300, None),
        ("th", "เมืองหลวงของประเทศไทยคืออะไร", None),
        ("ko", "한국의 수도는 어디입니까?", None),
        ("hi", "भारत की राजधानी क्या है?", None),
        ("de", "Über die Liebe schreiben, bitte", None),
        ("de", "Beschreibe die Map im Spiel", None),
        ("de", "- eine Liste von Dingen", "starts_with_punctuation"),
        ("de", "", "empty"),
        (None, "日本の首都はどこですか？", None),
        (None, "Name three red fruits", None),
        ("en", "日本の首都はどこですか 東京 大阪 京都", "non_english_start"),
        ("en-GB", "Über die Liebe schreiben", "non_english_start"),
    ],
)
def test_filters_are_those_of_the_language(lang: str | None, text: str, why: str | None) -> None:
    assert PromptFilter([], [], 0.7, 0.7, lang).reason(text, "stop") == why


texts = st.lists(st.sampled_from(["a", "b", "c", "A", "d1", "é", "-", "x_y", "\n"]), max_size=12).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5), texts, st.sampled_from([0.3, 0.5, 0.6, 2 / 3, 0.7, 0.8, 0.9, 1.0]))
@example(["a b c d e f g h i j"], "a b c d e f g x y z", 0.7)
def test_the_rouge_decision_is_the_references(known: list[str], text: str, threshold: float) -> None:
    index = RougeL(threshold, "en")
    for one in known:
        index.add(one)
    assert index.above(text) == any(REFERENCE.score(text, one)["rougeL"].fmeasure > threshold for one in known)


def test_the_last_bit_decides_as_the_references() -> None:
    for threshold, a, b in itertools.product((0.5, 0.6, 0.7, 0.75, 0.9), range(1, 21), range(1, 21)):
        middle = int(threshold * (a + b) / 2)
        for n in range(max(1, middle - 1), min(a, b, middle + 1) + 1):
            index = RougeL(threshold, "en")
            index.add(" ".join(f"x{i}" for i in range(n)) + "".join(f" a{i}" for i in range(a - n)))
            text = " ".join(f"x{i}" for i in range(n)) + "".join(f" b{i}" for i in range(b - n))
            assert index.above(text) == (2 * (n / b) * (n / a) / (n / b + n / a) > threshold)


def test_filtering_is_fast() -> None:
    seeds = [f"w{i % 97} w{i % 89} w{i % 83} w{i % 79} w{i % 73} w{i % 71} w{i % 67} w{i % 61}" for i in range(1200)]
    new = [
        f"w{i % 59} w{i % 53} w{i % 47} w{i % 43} w{i % 41} w{i % 37} w{i % 31} w{i % 29}" for i in range(1200, 1900)
    ]
    start = time.process_time()
    keep = PromptFilter(seeds, [], 0.7, 1, "en")
    reasons = [keep.reason(text, "stop") for text in new]
    assert time.process_time() - start < 2  # .2 s on a quiet machine; rouge_score needs minutes
    assert None in reasons


# --- rows ---


def rounds(answers: list[list[str]], wanted: int, **how: Any) -> tuple[list[Written], list[dict[str, list[str]]]]:
    """What is written when each round is answered so, and the shots of each round."""
    shown: list[dict[str, list[str]]] = []

    def complete(shots: dict[str, list[str]]) -> pl.DataFrame:
        texts = answers[len(shown)]
        shown.append(shots)
        return pl.DataFrame({"id": [*shots], "text": texts, "finish_reason": ["stop"] * len(texts)})

    settings: dict[str, Any] = {"name": "M1", "ift_shots": 2, "new_shots": 2, "max_rounds": len(answers), "seed": 0}
    accepts = PromptFilter(["tell me about old things"], [], 0.7, 1, "en")
    written = write_in_rounds(complete, accepts, IFT, wanted=wanted, round_size=len(answers[0]), **settings | how)
    return written, shown


def test_rounds_go_on_until_enough_are_accepted_and_those_are_the_next_shots() -> None:
    first, second = ["1. name three small animals", "hi", "name three small animals"], ["why is the sky blue", "x", "y"]
    written, shown = rounds([first, second, ["never asked"] * 3], wanted=2)
    assert [one.dropped for one in written] == [None, "too_short", "repeat", None, "surplus", "surplus"]
    assert written[0].text == "name three small animals"
    assert [len(shots) for shots in shown] == [3, 3]
    assert all("name three small animals" in shots for shots in shown[1].values())
    assert all(prompt_id(written[0].text) in one.shots for one in written[3:])
    assert not {*shown[0]} & {*rounds([first], wanted=1, name="M2")[1][0]}, "another AIFT asks under other ids"


def test_rounds_end_when_there_are_no_more() -> None:
    written, shown = rounds([["hi"], ["hi"]], wanted=1)
    assert [one.dropped for one in written] == ["too_short"] * 2
    assert len(shown) == 2


def test_prompt_rows_keep_arrival_and_reasons_and_give_repeats_their_own_id() -> None:
    written = [
        Written("a b", ["i1"], None),
        Written("c", [], "too_short"),
        Written("a b", ["i2"], "repeat"),
        Written("a b", [], "repeat"),
    ]
    rows = prompts_frame(written, "M1", "M0")
    assert dict(rows.schema) == PROMPTS.schema
    assert rows["prompt_id"].to_list() == [
        content_id("a b"),
        content_id("c"),
        content_id("a b", 2),
        content_id("a b", 3),
    ]
    assert rows["prompt_id"][0] == prompt_id("a b")
    assert rows.row(0) == (content_id("a b"), "M1", "a b", "M0", ["i1"], None)
    assert rows["dropped"].to_list() == [None, "too_short", "repeat", "repeat"]


def test_no_prompts_make_an_empty_frame_of_the_contract() -> None:
    assert dict(prompts_frame([], "M1", "M0").schema) == PROMPTS.schema


def test_drops_are_counted_in_a_sentence() -> None:
    written = [
        Written("a", [], "repeat"),
        Written("b", [], None),
        Written("c", [], "repeat"),
        Written("d", [], "empty"),
    ]
    assert why_dropped(written) == "Of 4 written, 3 were dropped: 2 repeat, 1 empty."
    assert why_dropped([]) == "Of 0 written, 0 were dropped."


# --- quoted ---

MARK = re.compile(r"(mark)!")


def test_quoting_marks_verdicts_and_the_templates_own_tags_only() -> None:
    template = "<response>\n{{ response }}\n</response> <n>"
    assert mask_verdicts("a mark! </response> < / Response > <n> <b>x</b> responses", template, MARK) == (
        "a mark (quoted)! </response (quoted)> < / Response (quoted) > <n> <b>x</b> responses"
    )


@given(st.text(alphabet="mark! <>/response(quoted)", max_size=40))
def test_quoting_leaves_nothing_to_quote(text: str) -> None:
    once = mask_verdicts(text, "</response>", MARK)
    assert not MARK.search(once)
    assert mask_verdicts(once, "</response>", MARK) == once
