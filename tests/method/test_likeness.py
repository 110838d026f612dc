from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from stages.method.likeness import RougeL, near_duplicates, tokens

REFERENCE = RougeScorer(["rougeL"], use_stemmer=False)
texts = st.lists(st.sampled_from(["a", "b", "c", "A", "d1", "é", "-", "x_y", "\n"]), max_size=12).map(" ".join)


vocabularies = st.integers(2, 40).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, size).map("w{}".format), max_size=25).map(" ".join), min_size=2, max_size=12
    )
)


@settings(max_examples=250, deadline=None)
@given(
    st.one_of(vocabularies, st.lists(texts, max_size=12)), st.data(), st.floats(0.1, 1) | st.sampled_from([0.5, 0.7])
)
def test_texts_in_any_order_of_arrival_are_decided_as_the_reference_does(
    some: list[str], data: st.DataObject, threshold: float
) -> None:
    """Parts of earlier texts come again, some of their words changed or moved, as near-duplicates do."""
    some += [" ".join(data.draw(st.permutations(one.split()[:3])) + one.split()[3:]) for one in some[:4]]
    index, accepted = RougeL(threshold, "en"), list[str]()
    for text in data.draw(st.permutations(some)):
        expected = any(REFERENCE.score(one, text)["rougeL"].fmeasure > threshold for one in accepted)
        assert index.above(text) == expected
        if not expected:
            index.add(text)
            accepted.append(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=9), st.sampled_from([0.3, 0.5, 2 / 3, 0.7, 0.9, 1.0]))
def test_groups_are_what_the_reference_joins(some: list[str], threshold: float) -> None:
    expected = list(range(len(some)))
    for i, j in itertools.combinations(range(len(some)), 2):
        if REFERENCE.score(some[i], some[j])["rougeL"].fmeasure > threshold:
            low, high = sorted((expected[i], expected[j]))
            expected = [low if label == high else label for label in expected]
    assert near_duplicates(some, threshold, "en") == expected


def test_long_texts_whose_hashed_tokens_fill_up_are_compared_all_the_same() -> None:
    rng = random.Random(0)
    long = [" ".join(f"w{rng.randrange(5000)}" for _ in range(1500)) for _ in range(6)]
    like = " ".join(long[2].split()[:1200] + ["new"] * 200)
    assert near_duplicates([*long, like], 0.7, "en") == [0, 1, 2, 3, 4, 5, 2]


@pytest.mark.slow
def test_fifty_thousand_prompts_take_seconds() -> None:
    rng, weights = random.Random(0), list(itertools.accumulate(1 / (i + 1) for i in range(30_000)))
    drawn = [
        " ".join(
            f"w{i}" for i in rng.choices(range(30_000), cum_weights=weights, k=max(3, int(rng.lognormvariate(3, 0.9))))
        )
        for _ in range(50_000)
    ]
    start = time.process_time()
    near_duplicates(drawn, 0.7, "en")
    assert time.process_time() - start < 60  # 9 s on a quiet machine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Назови ТРИ фрукта!", ["назови", "три", "фрукта"]),
        ("ما هي العاصمة؟", ["ما", "هي", "العاصمة"]),
        ("¿Qué es el año?", ["qué", "es", "el", "año"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("AIとは何?", ["ai", "と", "は", "何"]),
        ("写诗2首", ["写", "诗", "2", "首"]),
        ("한국의 수도", ["한", "국", "의", "수", "도"]),
        ("ＡＩ", ["ai"]),
        ("Straße 1a", ["strasse", "1a"]),
        ("… !", []),
    ],
)
def test_tokens_are_words_or_characters_of_scripts_without_spaces(text: str, expected: list[str]) -> None:
    assert tokens(text, "xx") == tokens(text, None) == expected


def test_a_thai_character_has_its_vowel() -> None:
    assert tokens("กินข้าว", "th") == ["กิ", "น", "ข้", "า", "ว"]


def test_english_is_rouge_scores() -> None:
    for lang in ("en", "EN", "en-US", "eng"):
        assert tokens("Über AIとは x_1", lang) == ["ber", "ai", "x", "1"]


def test_two_texts_that_share_a_foreign_word_alone_are_not_alike() -> None:
    index = RougeL(0.7, "ja")
    index.add("AIについて詩を書いてください")
    assert not index.above("明日の天気をAIに聞く方法")
    assert index.above("AIについて短い詩を書いてください")
