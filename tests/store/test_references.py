"""A pair can be followed to the rows that it was made from, and whatever leads astray is counted."""

import polars as pl
import pytest

from stages.store import catalog, references
from stages.store.references import Followed, Reference, follow
from stages.store.tables import (
    CANDIDATES,
    EFT,
    IFT_TRAIN,
    JUDGED,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    RANKED,
    SCORES,
    SEED_JUDGEMENTS,
)

USUAL = {"finish_reason": "stop", "fate": "cut_off"}
NOTHING = {pl.String(): "", pl.Int32(): 0, pl.Float64(): 0.0, pl.List(pl.String()): []}
PAIR = {
    "prompt_id": "p",
    "prompt": "Say cat.",
    "chosen": "Cat.",
    "rejected": "Dog.",
    "chosen_id": "c1",
    "rejected_id": "c2",
}
STORE = {
    IFT_TRAIN: [{"ift_id": "i1"}, {"ift_id": "i2"}],
    RANKED: [{"candidate_id": "r1", "human_rank": 0}, {"candidate_id": "r2", "human_rank": 3}],
    SEED_JUDGEMENTS: [{"candidate_id": "r1", "k": 0}, {"candidate_id": "r1", "k": 1}, {"candidate_id": "r2", "k": 0}],
    EFT: [{"eft_id": "e", "candidate_id": "r2", "human_rank": 3}],
    PROMPTS: [
        {"prompt_id": "o", "prompt": "Say dog.", "shots": []},
        {"prompt_id": "p", "prompt": "Say cat.", "shots": ["i1", "i2", "o"]},
        {"prompt_id": "d", "prompt": "", "shots": ["i2"], "dropped": "empty"},
    ],
    CANDIDATES: [
        {"candidate_id": "c1", "prompt_id": "p", "response": "Cat."},
        {"candidate_id": "c2", "prompt_id": "p", "response": "Dog."},
        {"candidate_id": "c3", "prompt_id": "o", "response": "Dog."},
    ],
    JUDGEMENTS: [
        {"candidate_id": c, "prompt_id": p, "k": k} for c, p in (("c1", "p"), ("c2", "p"), ("c3", "o")) for k in (0, 1)
    ],
    SCORES: [
        {"candidate_id": "c1", "prompt_id": "p", "score": 4.5},
        {"candidate_id": "c2", "prompt_id": "p", "score": 1 / 3},
        {"candidate_id": "c3", "prompt_id": "o", "score": None},
    ],
    PAIRS: [PAIR | {"chosen_score": 4.5, "rejected_score": 1 / 3}],
}


def store(root, changed=None, models=("M1",)):
    """The store with other rows in the tables `changed`; those that are None are not there."""
    for table, rows in (STORE | (changed or {})).items():
        for model in models if "{model}" in table.path else [None]:
            if rows is not None:
                whole = [
                    {c.name: None if c.nullable else USUAL.get(c.name, NOTHING[c.dtype]) for c in table.columns} | row
                    for row in rows
                ]
                catalog.write(table, pl.DataFrame(whole, schema=table.schema), root, model)
    return root


def wrong(root, models=("M1",)):
    return {found.what: (found.wrong, found.first) for found in follow(root, list(models)) if found.wrong}


def test_in_a_whole_store_all_lead_to_what_they_name(tmp_path):
    found = list(follow(store(tmp_path), ["M1"]))
    assert [(f.what.split(" ")[0], f.rows) for f in found] == [
        ("seed_judgements.candidate_id", 3),
        ("eft.candidate_id", 1),
        ("prompts@M1.shots", 4),
        ("candidates@M1.prompt_id", 3),
        ("judgements@M1.candidate_id", 6),
        ("scores@M1.candidate_id", 3),
        *(
            (f"pairs@M1.{column}", 1)
            for column in ("prompt_id", "chosen_id", "rejected_id", "chosen_id", "rejected_id")
        ),
    ]
    assert {(f.wrong, f.first) for f in found} == {(0, "")}
    assert found[2].what == "prompts@M1.shots -> ift.ift_id or prompts.prompt_id"
    assert found[7].what == "pairs@M1.chosen_id -> candidates.candidate_id, prompt_id, chosen, chosen_thought as there"


def test_each_aift_is_followed_into_its_own_tables(tmp_path):
    store(tmp_path, models=("M1", "M2"))
    assert len(list(follow(tmp_path, ["M1", "M2"]))) == 2 + 2 * 9
    store(
        tmp_path,
        {CANDIDATES: [row | {"candidate_id": f"other {row['candidate_id']}"} for row in STORE[CANDIDATES]]},
        ("M2",),
    )
    assert {what.split(" ")[0] for what in wrong(tmp_path, ["M1", "M2"])} == {
        "judgements@M2.candidate_id",
        "scores@M2.candidate_id",
        "pairs@M2.chosen_id",
        "pairs@M2.rejected_id",
    }


CHOSEN, REJECTED = (
    f"pairs@M1.{side}_id -> candidates.candidate_id, prompt_id, {side}, {side}_thought as there"
    for side in ("chosen", "rejected")
)
CHOSEN_SCORE, REJECTED_SCORE = (
    f"pairs@M1.{side}_id -> scores.candidate_id, {side}_score as there" for side in ("chosen", "rejected")
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"chosen": "cat."}, {CHOSEN: (1, "c1")}),
        ({"rejected": ""}, {REJECTED: (1, "c2")}),
        ({"chosen_thought": "<think>"}, {CHOSEN: (1, "c1")}),
        ({"chosen_id": "c9"}, {CHOSEN: (1, "c9"), CHOSEN_SCORE: (1, "c9")}),
        ({"rejected_id": "c3"}, {REJECTED: (1, "c3"), REJECTED_SCORE: (1, "c3")}),  # the same text, of another prompt
        ({"chosen_score": 4.5 + 1e-12}, {CHOSEN_SCORE: (1, "c1")}),
        ({"rejected_score": 0.0}, {REJECTED_SCORE: (1, "c2")}),
        ({"prompt": "Say cat. "}, {"pairs@M1.prompt_id -> prompts.prompt_id, prompt as there": (1, "p")}),
    ],
)
def test_a_pair_that_is_not_what_it_was_made_from_is_counted(tmp_path, changes, expected):
    assert wrong(store(tmp_path, {PAIRS: [STORE[PAIRS][0] | changes]})) == expected


@pytest.mark.parametrize(
    ("table", "rows", "expected"),
    [
        (
            PROMPTS,
            [STORE[PROMPTS][0], STORE[PROMPTS][1] | {"shots": ["i1", "lost", "o", "i9"]}],
            ("prompts@M1.shots", 2, "lost"),
        ),
        (EFT, [STORE[EFT][0] | {"human_rank": 0}], ("eft.candidate_id", 1, "r2")),
        (
            SEED_JUDGEMENTS,
            [{"candidate_id": "r1", "k": 0}, {"candidate_id": "r3", "k": 0}, {"candidate_id": "r3", "k": 1}],
            ("seed_judgements", 2, "r3"),
        ),
        (JUDGEMENTS, [{"candidate_id": "c3", "prompt_id": "p", "k": 0}], ("judgements@M1.candidate_id", 1, "c3")),
        (
            CANDIDATES,
            [*STORE[CANDIDATES], {"candidate_id": "c4", "prompt_id": "q"}],
            ("candidates@M1.prompt_id", 1, "q"),
        ),
    ],
)
def test_rows_that_lead_astray_are_counted_and_the_first_is_named(tmp_path, table, rows, expected):
    ((what, (count, first)),) = wrong(store(tmp_path, {table: rows})).items()
    assert (what.startswith(expected[0]), count, first) == (True, *expected[1:])


def test_a_score_that_nobody_gave_is_no_score(tmp_path):
    scores = [STORE[SCORES][0] | {"score": None}, *STORE[SCORES][1:]]
    assert wrong(store(tmp_path, {SCORES: scores})) == {CHOSEN_SCORE: (1, "c1")}


def test_unknown_equals_unknown_and_nothing_else(tmp_path, monkeypatch):
    """No copy that may be null is declared today; one that will be must not count as wrong."""
    monkeypatch.setattr(
        references,
        "REFERENCES",
        (Reference(SCORES, "candidate_id", ((JUDGED, "candidate_id"),), (("score", "score"),)),),
    )
    rows = [
        {"candidate_id": c, "score": score, "parsed": int(score is not None)}
        for c, score in (("c1", None), ("c2", 1 / 3), ("c3", None))
    ]
    store(tmp_path, {JUDGED: rows})
    assert list(follow(tmp_path, ["M1"])) == [
        Followed("scores@M1.candidate_id -> judged.candidate_id, score as there", 3, 1, "c1")
    ]


def test_tables_that_are_not_there_are_not_followed(tmp_path):
    assert list(follow(tmp_path, ["M1"])) == []
    store(tmp_path, dict.fromkeys((EFT, SCORES, PAIRS)), ("M1",))
    found = [f.what.split(" ")[0] for f in follow(tmp_path, ["M1", "M2"])]
    assert found == [
        "seed_judgements.candidate_id",
        "prompts@M1.shots",
        "candidates@M1.prompt_id",
        "judgements@M1.candidate_id",
    ]


def test_a_table_that_is_named_but_not_there_is_wrong_and_the_others_are_followed(tmp_path):
    store(tmp_path, {CANDIDATES: None})
    found = list(follow(tmp_path, ["M1"]))
    wrong = [f for f in found if f.wrong]
    assert {f.wrong for f in wrong} == {1}
    assert all("dvc repro sample_candidates@M1" in f.first for f in wrong)
    assert {f.what.split(".")[0] for f in wrong} == {"judgements@M1", "scores@M1", "pairs@M1"}
    assert len(found) > len(wrong)
