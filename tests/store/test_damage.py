"""What stages ran with, beside what params.yaml says now; damaged files are in test_database.py and test_metrics.py."""

import pytest

from stages.store.damage import other_params

LOCK = """stages:
  head_to_head@M3-M1:
    params: {params.yaml: {head_to_head.M3-M1: {model: M3, other: M1}, seed: 1}}
  judge_candidates@M2:
    params: {params.yaml: {aift.M2.judge: M2, judge: {template: a.jinja}, seed: 1}}
  judge_candidates@M9:
    params: {params.yaml: {aift.M9.judge: M9, seed: 1}}
  build_pairs@M2:
    cmd: none
"""
PARAMS = "{seed: 1, judge: {template: a.jinja}, head_to_head: {M3-M1: {model: M3, other: M1}}, aift: {M2: {judge: M2}}}"


@pytest.mark.parametrize(
    ("params", "first"),
    [
        (PARAMS, None),
        (
            PARAMS.replace("other: M1", "other: M2P"),
            "1 stage(s) ran with other parameters than params.yaml has now (first head_to_head@M3-M1: head_to_head.M3-M1)",
        ),
        (PARAMS.replace("judge: M2", "judge: large"), "(first judge_candidates@M2: aift.M2.judge)"),
        (PARAMS.replace("seed: 1", "seed: 2"), "3 stage(s) ran with other parameters"),
        ("[1]", None),
    ],
)
def test_parameters_that_changed_since_a_stage_ran_are_named(tmp_path, params, first):
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "params.yaml").write_text(params)
    assert first is None if (note := other_params(tmp_path)) is None else first in note


@pytest.mark.parametrize(
    "lock", ["", "stages: [1]", "stages: {a: 1}", "stages: {a: {params: {params.yaml: [1]}}}", "{"]
)
def test_a_lock_of_another_form_is_no_traceback(tmp_path, lock):
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "dvc.lock").write_text(lock)
    assert other_params(tmp_path) is None
