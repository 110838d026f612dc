"""Constraints in the real dvc.yaml, with the scripted engine: where they stand, where they do not, what is measured."""

import json

import polars as pl
import pytest

from stages.constraints.sentences import read, without
from stages.store.catalog import read as read_table
from stages.store.references import follow
from stages.store.tables import ANSWERS, IFT_TRAIN, PROMPTS, RANKED, RANKED_VALID, TEST_PROMPTS
from stages.text.ids import content_id
from tests.workspace import Workspace

pytest.importorskip("lm_eval", reason="needs the extra eval")


@pytest.mark.slow
def test_test_prompts_and_a_share_of_the_new_ones_carry_constraints(tmp_path):
    space = Workspace(tmp_path, **{"evaluate.oracle": "constraints", "write_prompts.constraints": 0.5})
    space.repro("evaluate@SFT", "write_prompts@M1")
    tests, new = read_table(TEST_PROMPTS, tmp_path), read_table(PROMPTS, tmp_path, "M1")
    assert all(read(prompt) for prompt in tests["prompt"])
    assert tests["prompt_id"].to_list() == sorted(content_id(prompt) for prompt in tests["prompt"])
    people = [
        read_table(IFT_TRAIN, tmp_path)["instruction"],
        *(read_table(t, tmp_path)["prompt"] for t in (RANKED, RANKED_VALID)),
    ]
    assert not any(read(prompt) for prompts in people for prompt in prompts), "in training data there are none"
    accepted = new.filter(new["dropped"].is_null())
    carrying = [prompt for prompt in accepted["prompt"] if read(prompt)]
    assert 0.2 < len(carrying) / len(accepted) < 0.8
    assert not {without(p) for p in accepted["prompt"]} & {without(p) for p in tests["prompt"]}, "held out"
    assert not [followed for followed in follow(tmp_path, ["M1"]) if followed.wrong], (
        "shots are followed to their new ids"
    )
    writer = json.loads((tmp_path / "data/metrics/EVAL/SFT.json").read_text())["writer"]["greedy"]
    assert writer["oracle_score"]["n"] == writer["prompt_strict"]["n"] == len(tests)
    assert writer["instruction_loose"]["n"] == sum(len(read(prompt)) for prompt in tests["prompt"])
    assert writer["prompt_strict"]["value"] <= writer["prompt_loose"]["value"]
    rows = read_table(ANSWERS, tmp_path, "SFT")
    assert rows["oracle_score"].null_count() == 0


@pytest.mark.slow
def test_efts_part_holds_answers_that_keep_constraints_and_some_that_do_not(tmp_path):
    space = Workspace(tmp_path, **{"split_seed.eft_constraints": 4})
    space.repro("split_seed")
    ranked = read_table(RANKED, tmp_path)
    new = ranked.filter(source="constraints")
    assert all(read(prompt) for prompt in new["prompt"])
    assert {without(prompt) for prompt in new["prompt"]} <= set(
        ranked.filter(pl.col("source") != "constraints")["prompt"]
    )
    seed = json.loads((tmp_path / "data/metrics/seed.json").read_text())
    assert seed["eft_constraints"] == {"prompts": new["prompt_id"].n_unique(), "answers": len(new)}
    assert seed["eft_constraints"]["prompts"] > 0
