"""The paper's choice of a checkpoint, in a real `dvc repro`: what a judge decides lies in lineage and metrics, and
another judge chooses anew. The engine is scripted: its answers are those of a name, whatever its weights."""

import json
import shutil

import pytest

from tests.workspace import Workspace

pytestmark = pytest.mark.slow
TRAININGS = ("train_sft_baseline", "train_sft_M1", "train_dpo@M2")


def test_a_model_that_judges_chooses_and_another_judge_chooses_anew(finished, tmp_path):
    space = Workspace.copy(finished, tmp_path / "space")
    shutil.copytree(space.path / "data/models/M0", space.path / "judge")
    base = {"source": "local", "path": "judge"}
    changes = {"every_steps": 1, "by": "model", "judge": "J", "compare_max_tokens": 64}
    batches = {f"{key}.{size}": 16 for key in ("train_sft", "train_dpo") for size in ("batch", "micro_batch")}
    space.set(**{"base.J": base, "base.K": base}, **{f"choose.{k}": v for k, v in changes.items()}, **batches)
    assert {"get_model@J", *TRAININGS} <= {*space.repro(TRAININGS[-1])}
    for model in ("SFT", "M1", "M2"):
        chosen = json.loads((space.path / f"data/models/{model}/lineage.json").read_text())["chosen"]
        metrics = json.loads((space.path / f"data/metrics/train/{model}.json").read_text())
        first, *later = chosen["of"]
        assert (chosen["judge"], chosen["step"], later[-1]) == ("J", first, metrics["steps"])
        told = [(m["step"], m["against"], m["tie"] + m["unreadable"]) for m in chosen["matches"]]
        assert told == [(step, first, 8) for step in later], "8 prompts of IFT_VALID, which it answers alike"
        assert sum(m["tie"] for m in chosen["matches"]) > 0
        assert (metrics["chosen_step"], metrics["matches_won"]) == (first, 0)
        assert metrics["valid_loss"] > 0
    assert not list((space.path / "data/cache/training").glob("*"))
    assert space.repro(TRAININGS[-1]) == []
    space.set(**{"choose.judge": "K"})
    assert space.repro(TRAININGS[0]) == ["get_model@K", TRAININGS[0]]
    assert json.loads((space.path / "data/models/SFT/lineage.json").read_text())["chosen"]["judge"] == "K"
