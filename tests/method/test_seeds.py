from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import SeedDataError
from stages.method.formats import recognize
from stages.method.seeds import (
    Counts,
    answered_prompts,
    groups,
    left_out_text,
    near_counts,
    parts,
    small_parts,
    split,
    warnings,
)
from stages.store.tables import IFT_TRAIN, RANKED, TEST_PROMPTS
from stages.text.ids import content_id, text_key

REAL = Path(__file__).parents[3] / "shared" / "real" / "ranked_messages.jsonl.gz"


def prompt(message_id: str, text: str, **more: Any) -> dict[str, Any]:
    fields = {"message_id": message_id, "parent_id": None, "role": "prompter", "text": text, "lang": "en", "rank": None}
    return fields | {"deleted": False, "review_result": True, "tree_state": "ready_for_export"} | more


def answer(message_id: str, parent: str, rank: int | None, text: str | None = None, **more: Any) -> dict[str, Any]:
    return prompt(message_id, text or f"text of {message_id}", parent_id=parent, role="assistant", rank=rank) | more


def read(messages: Iterable[dict[str, Any]], lang: str = "en", source: str = "f.jsonl") -> tuple[pl.DataFrame, Counts]:
    """Every message is counted once."""
    placed = [(f"line {n}", m) for n, m in enumerate(messages, 1)]
    frame, counts = answered_prompts(recognize(placed, source).messages(placed), lang=lang, source=source)
    assert counts.prompts + counts.answers + sum(counts.left_out.values()) == counts.messages
    assert (counts.prompts, counts.answers) == (frame["prompt_id"].n_unique(), len(frame))
    return frame, counts


def taken(*messages: dict[str, Any]) -> list[tuple[str, int]]:
    frame, _ = read(messages)
    return sorted(frame.select("source_id", "human_rank").iter_rows(), key=lambda row: (row[1], row[0]))


TREE = (prompt("p", "Hello there?"), answer("a", "p", 1), answer("b", "p", 0))


def test_ranked_answers_follow_the_contract() -> None:
    frame, counts = read(TREE, source="oasst")
    assert counts == Counts(3, 1, 2, {}, "en")
    assert dict(frame.schema) == RANKED.schema
    ids = (content_id("Hello there?", "text of b"), content_id("Hello there?"))
    assert frame.row(0) == (*ids, "Hello there?", "text of b", 0, "oasst", "b")
    assert frame["human_rank"].to_list() == [0, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"lang": "de"},
        {"lang": "en-US"},  # exactly the language asked for
        {"deleted": True},
        {"review_result": False},
        {"tree_state": "growing"},
        {"role": "assistant"},
        {"parent_id": "x"},
        {"text": " \n"},
    ],
)
def test_prompts_that_are_no_good_first_turns_are_left_out(change: dict[str, Any]) -> None:
    other = (prompt("q", "Other?"), answer("c", "q", 0))
    assert taken(*other, TREE[0] | change, *TREE[1:]) == [("c", 0)]


@pytest.mark.parametrize(
    "change", [{"deleted": True}, {"review_result": False}, {"rank": None}, {"role": "prompter"}, {"text": ""}]
)
def test_ranks_close_up_over_answers_that_are_left_out(change: dict[str, Any]) -> None:
    gone = [m if m["message_id"] != "b" else m | change for m in (*TREE, answer("c", "p", 2))]
    assert taken(*gone) == [("a", 0), ("c", 1)]


def test_absent_review_and_state_are_no_objection() -> None:
    bare = [{k: v for k, v in m.items() if k not in ("deleted", "review_result", "tree_state")} for m in TREE]
    assert taken(*bare) == taken(*TREE)
    assert taken(*(m | {"review_result": None, "tree_state": None} for m in TREE)) == taken(*TREE)


def test_equal_ranks_stay_equal() -> None:
    assert taken(*TREE, answer("c", "p", 1), answer("d", "p", 5)) == [("b", 0), ("a", 1), ("c", 1), ("d", 2)]


def test_later_turns_are_left_out() -> None:
    later = (prompt("p2", "And then?", parent_id="a"), answer("c", "p2", 0))
    assert taken(*TREE, *later) == taken(*TREE)


def test_nested_trees_give_the_same_rows_as_flat_messages() -> None:
    def nested(m: dict[str, Any], *replies: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in m.items() if k not in ("parent_id", "tree_state")} | {"replies": list(replies)}

    tree = {
        "message_tree_id": "p",
        "tree_state": "ready_for_export",
        "prompt": nested(TREE[0], nested(TREE[1], nested(prompt("x", "More?"))), nested(TREE[2])),
    }
    frame, counts = read([tree])
    assert frame.equals(read(TREE)[0])
    assert counts.left_out == {"later turn": 1}
    with pytest.raises(SeedDataError, match=r"no ranked answers.* 4 tree not ready"):
        read([tree | {"tree_state": "growing"}])


def test_of_answers_with_one_text_the_best_ranked_stays() -> None:
    assert taken(*TREE, answer("c", "p", 2, "text of b"), answer("d", "p", 3)) == [("b", 0), ("a", 1), ("d", 2)]


def test_of_two_trees_with_one_prompt_the_one_with_more_answers_stays() -> None:
    again = (prompt("o", "Hello there?"), answer("c", "o", 0), answer("d", "o", 1), answer("e", "o", 2))
    assert taken(*TREE, *again) == [("c", 0), ("d", 1), ("e", 2)]
    assert taken(*TREE, *again[:3]) == [("c", 0), ("d", 1)]  # as many: the lower tree id


def test_the_order_of_the_messages_does_not_matter() -> None:
    messages = [*TREE, prompt("q", "Hello there?"), answer("c", "q", 0), answer("d", "q", 1), answer("e", "p", 1)]
    frame, counts = read(messages)
    for seed in range(5):
        random.Random(seed).shuffle(messages)
        again, also = read(messages)
        assert again.equals(frame)
        assert also == counts


def test_nothing_left_says_what_was_seen() -> None:
    with pytest.raises(
        SeedDataError,
        match=r"f\.jsonl: no ranked answers in 3 messages, 0 first turns in 'de'. 3 left out: 3 other language 'en'",
    ):
        read(TREE, lang="de", source="f.jsonl")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("text", "half \ud800", "text without halves of surrogate pairs"),
        ("message_id", 7, "text, seen"),
        ("role", None, "text, seen"),
        ("parent_id", 7, "text, seen"),
        ("lang", ["en"], "text, seen"),
        ("rank", "first", "a whole number of at least 0, or null, seen"),
        ("rank", 0.5, "a whole number of at least 0, or null, seen"),
        ("rank", -1, "a whole number of at least 0, or null, seen"),
        ("rank", 10**400, "a whole number"),
        ("rank", True, "a whole number of at least 0, or null, seen"),
        ("rank", float("nan"), "a whole number of at least 0, or null, seen"),
        ("rank", float("inf"), "a whole number of at least 0, or null, seen"),
        ("deleted", "false", "true, false or null, seen"),
        ("deleted", 0, "true, false or null, seen"),
        ("review_result", "false", "true, false or null, seen"),
        ("message_id", "p", "'p' is also of the message of line 1"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_line(field: str, value: Any, expected: str) -> None:
    with pytest.raises(SeedDataError, match=rf"^f\.jsonl, line 2: {field}:? .*{expected}"):
        read([TREE[0], TREE[1] | {field: value}, TREE[2]])


def test_large_ranks_and_whole_floats_are_read() -> None:
    assert taken(TREE[0], answer("a", "p", 10**18), answer("b", "p", 2.0), answer("c", "p", 10**12)) == [
        ("b", 0),
        ("c", 1),
        ("a", 2),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"role": "gpt"}, "unknown role 'gpt'"),
        ({"deleted": True}, "deleted"),
        ({"review_result": False}, "refused by review"),
        ({"tree_state": "growing"}, "tree not ready"),
        ({"text": " "}, "empty text"),
        ({"parent_id": None}, "no parent"),
        ({"parent_id": "nobody"}, "no parent"),
        ({"parent_id": "b"}, "later turn"),
        ({"parent_id": "x"}, "prompt left out"),
        ({"parent_id": "d"}, "other language 'de'"),
        ({"rank": None}, "no rank"),
        ({"text": "text of b"}, "duplicate answer"),
        ({"role": "prompter"}, "later turn"),
        ({"role": "prompter", "parent_id": None, "lang": "EN"}, "other language 'EN'"),
        ({"role": "prompter", "parent_id": None}, "prompt without ranked answers"),
    ],
)
def test_what_is_left_out_is_counted_by_its_reason(change: dict[str, Any], reason: str) -> None:
    others = (prompt("d", "Hallo?", lang="de"), prompt("x", "Gone?", deleted=True))
    before = read([*TREE, *others])[1]
    after = read([*TREE, *others, answer("c", "p", 5) | change])[1]
    assert (after.messages, after.prompts, after.answers) == (6, 1, 2)
    assert Counter(after.left_out) - Counter(before.left_out) == {reason: 1}


def test_repeated_messages_and_trees_are_counted() -> None:
    again = (prompt("o", "Hello there?"), answer("c", "o", 0))
    assert read([*TREE, *TREE, *again])[1].left_out == {
        "duplicate message": 3,
        "duplicate prompt": 2,
    }


def test_the_summary_names_languages_and_roles() -> None:
    more = [prompt(f"d{i}", "Hallo?", lang=lang) for i, lang in enumerate(("de", "EN", "EN"))]
    counts = read([*TREE, *more, answer("g", "p", 2, role="gpt")])[1]
    assert left_out_text(counts) == "4 left out: 2 other language 'EN', 1 other language 'de', 1 unknown role 'gpt'"


def test_a_share_left_out_and_a_part_too_small_are_warned_of() -> None:
    counts = Counts(100, 10, 20, {"deleted": 20, "later turn": 40, "other language 'de'": 10}, "en")
    sizes = {"ift": {"requested": 600, "prompts": 106}, "ranked": {"requested": 10, "prompts": 8}}
    assert warnings(counts, 0.2) == ["40% of 50 messages of first turns are left out"]
    assert small_parts(sizes, 0.2) == ["ift has 106 prompts, requested were 600"]
    assert warnings(counts, 0.4) == []


# --- split ---


def people(prompts: int, answers: int = 2, tag: str = "prompt") -> pl.DataFrame:
    rows = [
        (f"{tag}{i}-{r}", f"{tag}{i}", f"{tag} {i}", f"answer {r}", r, "s", f"{tag}{i}-{r}")
        for i in range(prompts)
        for r in range(answers)
    ]
    return pl.DataFrame(rows, schema=RANKED.schema, orient="row")


SIZES = {"ift": 10, "ift_valid": 2, "ranked": 6, "ranked_valid": 3, "test_prompts": 4}


def keys(tables: dict[str, pl.DataFrame]) -> dict[str, set[str]]:
    column = {"ift": "instruction", "ift_valid": "instruction"}
    return {name: {text_key(p) for p in frame[column.get(name, "prompt")]} for name, frame in tables.items()}


def test_the_parts_are_as_large_as_asked_and_share_no_prompt() -> None:
    tables = split(people(30), SIZES, seed=1)
    parts = keys(tables)
    assert {name: len(part) for name, part in parts.items()} == SIZES
    assert len(set().union(*parts.values())) == 25
    assert dict(tables["ift"].schema) == dict(tables["ift_valid"].schema) == IFT_TRAIN.schema
    assert dict(tables["ranked"].schema) == dict(tables["ranked_valid"].schema) == RANKED.schema
    assert dict(tables["test_prompts"].schema) == TEST_PROMPTS.schema


def test_the_sizes_requested_and_got() -> None:
    got = parts(split(people(13), SIZES, seed=1), SIZES)
    assert got["ift"] == {"requested": 10, "prompts": 5}
    assert got["ranked_valid"] == {"requested": 3, "prompts": 1}


def test_ift_is_the_answer_that_people_ranked_best() -> None:
    ift = split(people(30), SIZES, seed=1)["ift"]
    assert set(ift["response"]) == {"answer 0"}
    assert ift["ift_id"].to_list() == [content_id(*row) for row in ift.select("instruction", "response").iter_rows()]
    assert all(source_id.endswith("-0") for source_id in ift["source_id"])


def test_a_prompt_asked_twice_goes_to_one_side_and_once_into_ift() -> None:
    loud = people(30).with_columns(
        pl.col("prompt").str.to_uppercase() + " ",
        prompt_id=pl.col("prompt_id") + "x",
        candidate_id=pl.col("candidate_id") + "x",
    )
    tables = split(pl.concat([people(30), loud]), SIZES, seed=1)
    assert [len(part) for part in keys(tables).values()] == [10, 2, 6, 3, 4]
    assert len(set().union(*keys(tables).values())) == 25
    assert len(tables["ift"]) == 10
    assert len(tables["test_prompts"]) == 4
    assert len(tables["ranked"]) == 6 * 4


def test_ranked_parts_take_only_prompts_with_two_ranks() -> None:
    tables = split(pl.concat([people(10), people(40, 1, "single")]), SIZES, seed=1)
    assert all(p.startswith("prompt") for name in ("ranked", "ranked_valid") for p in tables[name]["prompt"])
    equal = people(9).with_columns(
        human_rank=pl.lit(0, pl.Int32), candidate_id=pl.col("candidate_id") + "e", prompt="equal " + pl.col("prompt")
    )
    equal = equal.with_columns(prompt_id=pl.col("prompt"))
    tables = split(pl.concat([people(16), equal]), SIZES, seed=1)
    assert not any(p.startswith("equal") for name in ("ranked", "ranked_valid") for p in tables[name]["prompt"])


def sizes_of(ranked: pl.DataFrame, **changes: int) -> dict[str, int]:
    return {name: len(part) for name, part in keys(split(ranked, SIZES | changes, seed=1)).items()}


def test_fewer_prompts_shrink_every_part_in_proportion_but_never_to_nothing() -> None:
    assert sizes_of(people(25)) == {"ift": 10, "ift_valid": 2, "ranked": 6, "ranked_valid": 3, "test_prompts": 4}
    assert sizes_of(people(13)) == {"ift": 5, "ift_valid": 1, "ranked": 3, "ranked_valid": 1, "test_prompts": 2}
    assert sizes_of(people(5)) == {"ift": 1, "ift_valid": 1, "ranked": 1, "ranked_valid": 1, "test_prompts": 1}
    assert sizes_of(people(4), ift_valid=0) == {
        "ift": 1,
        "ift_valid": 0,
        "ranked": 1,
        "ranked_valid": 1,
        "test_prompts": 1,
    }


def test_few_prompts_with_two_ranks_shrink_only_the_ranked_parts() -> None:
    assert sizes_of(pl.concat([people(3), people(40, 1, "single")])) == {
        "ift": 10,
        "ift_valid": 2,
        "ranked": 2,
        "ranked_valid": 1,
        "test_prompts": 4,
    }


@pytest.mark.parametrize(
    ("ranked", "found"),
    [
        (people(1), "found 1 prompts, 1 of"),
        (people(4), "found 4 prompts.*5 are needed"),
        (pl.concat([people(1), people(40, 1, "single")]), "found 41 prompts, 1 of.*2 are needed"),
        (people(0), "found 0 prompts"),
    ],
)
def test_too_few_prompts_for_one_each_say_what_was_found(ranked: pl.DataFrame, found: str) -> None:
    with pytest.raises(SeedDataError, match=found):
        split(ranked, SIZES, seed=1)


def test_the_split_is_decided_by_seed_and_texts_not_by_row_order() -> None:
    once = split(people(30), SIZES, seed=1)
    again = split(people(30).sample(fraction=1, shuffle=True, seed=5), SIZES, seed=1)
    assert all(once[name].equals(again[name]) for name in once)
    assert keys(once) != keys(split(people(30), SIZES, seed=2))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.fixed_dictionaries({name: st.integers(1, 8) for name in SIZES}))
def test_sizes_always_fit_what_there_is(paired: int, single: int, sizes: dict[str, int]) -> None:
    ranked = pl.concat([people(paired), people(single, 1, "single")])
    if paired < 2 or paired + single < 5:
        with pytest.raises(SeedDataError):
            split(ranked, sizes, seed=0)
        return
    parts = keys(split(ranked, sizes, seed=0))
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) <= paired + single
    assert all(1 <= len(parts[name]) <= size for name, size in sizes.items())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=60), st.integers(0, 3))
def test_near_duplicates_are_in_one_part_only(kinds: list[int], seed: int) -> None:
    """Prompts of a kind differ in one word of ten."""
    texts = [" ".join(f"{word}{kind}" for word in "abcdefghi") + f" x{n}" for n, kind in enumerate(kinds)]
    rows = [(f"{n}-{r}", f"{n}", text, f"{r}", r, "s", "") for n, text in enumerate(texts) for r in range(2)]
    ranked = pl.DataFrame(rows, schema=RANKED.schema, orient="row")
    group_of = groups(ranked, 0.7, "en")
    assert len({*group_of.values()}) == len({*kinds})
    if len({*kinds}) < 5:
        with pytest.raises(SeedDataError, match=f"found {len({*kinds})} prompts"):
            split(ranked, SIZES, seed=seed, group_of=group_of)
        return
    tables = split(ranked, SIZES, seed=seed, group_of=group_of)
    parts = keys(tables)
    where = {group_of[key]: set[str]() for key in group_of}
    for name, part in parts.items():
        assert 1 <= len(part) <= SIZES[name]
        for key in part:
            where[group_of[key]].add(name)
    assert max(map(len, where.values())) == 1
    used = set().union(*parts.values())
    near = near_counts(tables, group_of)
    assert near["left_out"] == sum(bool(where[group]) and key not in used for key, group in group_of.items())
    assert near["groups"] == sum(n > 1 for n in Counter(kinds).values())


def test_a_part_that_is_short_gets_the_others_of_its_groups() -> None:
    ranked = people(40, tag="write me a poem about all the many colours of a red house with number")
    group_of = groups(ranked, 0.7, "en")
    assert len({*group_of.values()}) == 1
    several = dict(zip(sorted(group_of), [f"{n % 5}" for n in range(40)], strict=True))
    assert {name: len(part) for name, part in keys(split(ranked, SIZES, seed=1, group_of=several)).items()} == {
        "ranked": 6,
        "ranked_valid": 3,
        "ift": 8,
        "ift_valid": 2,
        "test_prompts": 4,
    }


def test_without_near_duplicates_the_split_is_the_same() -> None:
    plain = split(people(30), SIZES, seed=1)
    grouped = split(people(30), SIZES, seed=1, group_of=groups(people(30), 1, "en"))
    assert all(plain[name].equals(grouped[name]) for name in plain)


def test_data_without_ranks_make_ift_and_test_prompts_alone() -> None:
    unranked = people(30, 1).with_columns(human_rank=pl.lit(None, pl.Int32))
    got = split(unranked, SIZES, seed=1)
    assert {name: len(part) for name, part in keys(got).items()} == SIZES | {"ranked": 0, "ranked_valid": 0}
    assert dict(got["ranked"].schema) == RANKED.schema


@pytest.mark.skipif(not REAL.exists(), reason="the file of real ranked messages is not here")
def test_real_messages_split_into_all_parts() -> None:
    with gzip.open(REAL, "rt", encoding="utf-8") as f:
        messages = [json.loads(line) for line in f]
    ranked, counts = read(messages, source=REAL.name)
    assert counts == Counts(2000, 250, 1720, {"duplicate answer": 30}, "en")
    assert ranked["prompt_id"].n_unique() == 250
    assert ranked["candidate_id"].is_unique().all()
    assert (
        ranked.group_by("prompt_id").agg((pl.col("human_rank").max() + 1 - pl.len()).alias("gap"))["gap"].to_list()
        == [0] * 250
    )
    parts = keys(
        split(
            ranked,
            {"ift": 3200, "ift_valid": 64, "ranked": 775, "test_prompts": 256, "ranked_valid": 190},
            seed=0,
        )
    )
    assert 240 <= sum(map(len, parts.values())) <= 250
    assert len(set().union(*parts.values())) == sum(map(len, parts.values()))
