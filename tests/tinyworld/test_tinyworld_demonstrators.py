from __future__ import annotations

from itertools import combinations
from random import Random
from statistics import mean

import polars as pl
import pytest

from stages.config.sections import SplitSeed
from stages.console.errors import SeedDataError
from stages.store.tables import IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS
from stages.text.ids import content_id
from stages.tinyworld.demonstrators import IFT_WRITER, Writer, answer, seed_tables
from stages.tinyworld.oracle import score, score_task
from stages.tinyworld.tasks import in_test, parse, sample_task

SIZES = {"ift": 60, "ift_valid": 10, "eft_prompts": 20, "test_prompts": 50, "test_ranked": 15}
PERFECT = Writer(right=1, polite=1, tidy=1, lazy=0)


def params(**sizes: int) -> SplitSeed:
    shape = {
        "config": None,
        "split": None,
        "format": "auto",
        "columns": None,
        "near_duplicates": 1.0,
        "eft_constraints": 0,
    }
    return SplitSeed(source="tinyworld", path="", repo=None, revision=None, lang="en", **{**shape, **SIZES, **sizes})


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return seed_tables(params(), split_seed=7, seed=1)


def prompts(tables: dict[str, pl.DataFrame]) -> dict[str, set[str]]:
    return {
        name: set(frame["instruction" if "instruction" in frame.columns else "prompt"])
        for name, frame in tables.items()
    }


def test_a_perfect_writer_gets_all_points():
    rng = Random(0)
    tasks = [sample_task(rng, "train", 1) for _ in range(500)]
    assert {score_task(task, answer(task, PERFECT, rng)).total for task in tasks} == {5}


def test_every_fault_is_survived_and_costs_points():
    rng = Random(0)
    worst = Writer(right=0, polite=0, tidy=0, lazy=1)
    points = [
        score_task(task, answer(task, worst, rng)) for task in (sample_task(rng, "train", 1) for _ in range(2000))
    ]
    assert not any(p.tidy or p.polite for p in points)
    assert mean(p.right for p in points) < 0.12  # faults can undo each other


def test_demonstrations_have_the_faults_that_leave_room_to_learn():
    rng = Random(0)
    points = [
        score_task(task, answer(task, IFT_WRITER, rng)) for task in (sample_task(rng, "train", 1) for _ in range(4000))
    ]
    assert mean(p.total for p in points) == pytest.approx(3.3, abs=0.1)
    assert mean(p.right for p in points) == pytest.approx(0.36, abs=0.03)
    assert mean(any(c.item is None for c in p.checks) for p in points) == pytest.approx(0.26, abs=0.03)
    assert mean(any(c.reference is None for c in p.checks) for p in points) == pytest.approx(0.25, abs=0.03)


def test_tables_keep_their_contracts(tables):
    for table in (IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS):
        frame = tables[table.name]
        assert dict(frame.schema) == table.schema
        assert frame.null_count().sum_horizontal().item() == 0
        assert not frame.select(table.key).is_duplicated().any()
    assert {name: frame.height for name, frame in tables.items()} == {
        "ift": 60,
        "ift_valid": 10,
        "ranked": 80,
        "ranked_valid": 60,
        "test_prompts": 50,
    }
    assert tables["test_prompts"]["prompt_id"][0] == content_id(tables["test_prompts"]["prompt"][0])


def test_no_prompt_stands_in_two_tables_and_only_held_out_ones_in_test(tables):
    by_table = prompts(tables)
    assert {name: len(texts) for name, texts in by_table.items()} == {
        "ift": 60,
        "ift_valid": 10,
        "ranked": 20,
        "ranked_valid": 15,
        "test_prompts": 50,
    }
    assert all(not a & b for a, b in combinations(by_table.values(), 2))
    assert all(parse(prompt) for texts in by_table.values() for prompt in texts)
    for name, texts in by_table.items():
        assert all(in_test(prompt, 7) == (name in ("test_prompts", "ranked_valid")) for prompt in texts)


def test_people_rank_by_points_with_dense_ranks_and_some_order_in_every_set(tables):
    for (_,), group in tables["ranked"].group_by("prompt_id"):
        totals = [
            score(prompt, response).total for prompt, response in zip(group["prompt"], group["response"], strict=True)
        ]
        best_first = sorted(set(totals), reverse=True)
        assert group["human_rank"].to_list() == [best_first.index(total) for total in totals]
        assert group.height == group["response"].n_unique() == 4
        assert len(best_first) > 1


def test_test_data_moves_with_the_split_seed_alone_and_training_data_with_both(tables):
    other_seed, other_split = seed_tables(params(), 7, 2), seed_tables(params(), 8, 1)
    assert seed_tables(params(), 7, 1)["ranked"].equals(tables["ranked"])
    assert other_seed["test_prompts"].equals(tables["test_prompts"])
    assert other_seed["ranked_valid"].equals(tables["ranked_valid"])
    assert not other_seed["ift"].equals(tables["ift"])
    assert not other_split["test_prompts"].equals(tables["test_prompts"])
    assert not other_split["ift"].equals(tables["ift"])


def test_held_out_sizes_do_not_touch_training_data(tables):
    assert seed_tables(params(test_prompts=5, ift_valid=1), 7, 1)["ift"].equals(tables["ift"])


def test_a_world_that_is_used_up_says_so(monkeypatch):
    monkeypatch.setattr("stages.tinyworld.demonstrators._MAX_DRAWS", 100)
    with pytest.raises(SeedDataError, match=r"100 asked for|few prompts: 200"):
        seed_tables(params(test_prompts=200), 7, 1)
