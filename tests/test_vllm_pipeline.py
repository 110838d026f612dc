"""The real dvc.yaml with vLLM: pretraining, SFT, and vLLM on the checkpoints that our own SFT and DPO made."""

import json

import polars as pl
import pytest
from ruamel.yaml import YAML

from stages.method.judging import distinct
from stages.store.catalog import read
from stages.store.tables import CANDIDATES, JUDGEMENTS, PAIRS, SCORES
from tests.test_default_run import SMALL
from tests.workspace import Workspace

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def test_the_loop_from_m0_to_m2_with_vllm(tmp_path):
    space = Workspace(
        tmp_path,
        profile="tiny",
        **SMALL,
        **{"engine.name": "vllm", "judge_candidates.k": 1, "judge_candidates.score": "expected"},
    )
    m0 = tmp_path / "stages/tinyworld/pretrain.py"
    text = m0.read_text()
    changed = text.replace("hidden_size=80", "hidden_size=64").replace("num_attention_heads=4", "num_attention_heads=2")
    assert changed != text, "vLLM on the CPU knows heads of 32, not of 20"
    m0.write_text(changed)
    done = [*space.repro("train_sft_M1"), *space.repro("judge_candidates@M1"), *space.repro("evaluate@M2")]
    assert done[-2:] == ["train_dpo@M2", "evaluate@M2"]
    assert YAML(typ="safe").load(space.path / "params.yaml")["engine"]["name"] == "vllm"
    candidates, judgements, scores = (read(table, tmp_path, "M1") for table in (CANDIDATES, JUDGEMENTS, SCORES))
    assert len(candidates) == 4 * SMALL["aift.M1.prompts"]
    assert len(judgements) == len(distinct(candidates))
    readable = judgements.drop_nulls("score")
    assert len(readable) > len(judgements) / 2, "M1 has learnt to judge"
    assert readable["expected"].null_count() == 0
    assert ((readable["expected"] - readable["score"]).abs() < 3).mean() > 0.9
    assert scores.filter(pl.col("score") % 0.5 != 0).height > 0, "expected scores are no halves"
    assert (read(PAIRS, tmp_path, "M1")["chosen_score"] > read(PAIRS, tmp_path, "M1")["rejected_score"]).all()
    assert (
        json.loads((tmp_path / "data/metrics/EVAL/M2.json").read_text())["judge"]["pairwise_accuracy"]["value"]
        is not None
    )
    assert space.repro("evaluate@M2") == []
