"""The summary holds what was measured, and leaves out what was not."""

import json
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from stages.store import metrics
from stages.store.files import md5
from stages.summarize import KINDS, summary
from tests.workspace import ROOT, Workspace

PARAMS = SimpleNamespace(
    evaluated=["SFT", "M1"],
    head_to_head={"M1-SFT": SimpleNamespace(model="M1", other="SFT")},
    aift={"M1": None, "M2": None},
    warn=SimpleNamespace(scores_apart=0.05),
    score_points=5,
)
MATCH = {("head_to_head", "M1-SFT"): {"greedy": {"win": {"value": 0.5}}}}


def test_matches_without_evaluations_are_of_no_last_model():
    assert summary(MATCH, PARAMS) == {"pairs": 0, "pair_yield": None, "warnings": 0}


def test_the_last_evaluated_model_is_summed_up():
    means = {"writer": {"greedy": {"oracle_score": {"value": 3.5}}}, "judge": {"pairwise_accuracy": {"value": None}}}
    aift = {"prompts": 4, "pairs": 3, "warned": ["a saturated judge"]}
    found = {**MATCH, ("EVAL", "M1"): means, ("AIFT", "M1"): aift}
    assert summary(found, PARAMS) == {
        "writer": {"M1": 3.5}, "win": {"M1-SFT": 0.5}, "pairs": 3, "pair_yield": 0.75, "warnings": 1
    }  # fmt: skip


def test_a_judge_that_parts_from_the_checker_is_a_warning():
    found = {}
    for model, own, checked in (("M1", 3.0, 4.0), ("M2", 4.0, 3.0)):
        found["AIFT", model] = {"prompts": 4, "pairs": 3, "mean_score": own}
        found["EVAL", model] = {"writer": {"greedy": {"oracle_score": {"value": checked}}}}
        found["EVAL", model]["judge"] = {"pairwise_accuracy": {"value": None}}
    assert summary(found, PARAMS)["warnings"] == 1


def test_the_stage_watches_the_kinds_that_it_reads_and_git_holds_their_folders():
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
    watched = {dep for dep in stages["summarize"]["deps"] if dep.startswith("data/")}
    assert watched == {f"data/metrics/{kind}{'.json' if kind in metrics.ONCE else ''}" for kind in KINDS}
    for kind in ("AIFT", "drift", "head_to_head"):  # of which a run may have none
        assert (ROOT / f"data/metrics/{kind}/.gitkeep").is_file()


@pytest.mark.slow
def test_what_a_command_measures_makes_no_summary_stale(tmp_path):
    space = Workspace(tmp_path, drift={}, head_to_head={}, aift={}, models={}, evaluated=["M1"])
    figure = {"value": 0.5, "low": None, "high": None, "n": 30}
    judge, writer = {"pairwise_accuracy": figure}, {"greedy": {"oracle_score": figure}}
    metrics.write(tmp_path, "EFT", None, {"warned": []})
    metrics.write(tmp_path, "EVAL", "M1", {"judge": judge, "writer": writer})
    done = space.run("dvc", "repro", "--single-item", "summarize")
    assert done.returncode == 0, done.stdout + done.stderr
    locked = YAML(typ="safe", pure=True).load(space.lock())["stages"]["summarize"]["deps"]
    assert {dep["path"]: dep["md5"] for dep in locked} == {dep["path"]: md5(tmp_path / dep["path"]) for dep in locked}
    before = (tmp_path / "data/summary.json").read_text()
    metrics.write(tmp_path, "bank", "M1", {"authors": {}, "warned": ["gameable"]})
    assert json.loads(space.run("dvc", "status", "--json", "summarize").stdout) == {}
    assert space.run("stages.summarize").returncode == 0
    assert (tmp_path / "data/summary.json").read_text() == before
    metrics.write(tmp_path, "EVAL", "M1", {"judge": judge, "writer": writer, "trust": {"n": figure}})
    assert json.loads(space.run("dvc", "status", "--json", "summarize").stdout) != {}
