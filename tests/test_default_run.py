"""The default run itself, made small: real pretraining, generation, judging and training, no scripted text. What it
must reach at full size is measured by `make seeds` and stands in the README; here only what holds at any size.
"""

import json

import polars as pl
import pytest

from stages.commands import disk
from stages.config.load import load_params
from stages.method.judging import distinct
from stages.store.catalog import read
from stages.store.files import md5
from stages.store.tables import CANDIDATES, JUDGEMENTS, PAIRS, PROMPTS, RANKED_VALID, TEST_PROMPTS
from tests.workspace import Workspace

SMALL = {
    "tinyworld.steps": 500,
    "split_seed.ift": 300,
    "split_seed.eft_prompts": 60,
    "split_seed.test_prompts": 60,
    "split_seed.test_ranked": 24,
    "judge_seed.source": "written",  # so young an M0 does not judge yet; written judgements teach it
    "judge_seed.path": "stages/tinyworld/reviews.py",
    "aift.M1.prompts": 24,
    "aift.M2.prompts": 32,
    "sample_candidates.n": 4,
    "write_prompts.round": 50,
    "evaluate.bootstrap": 100,
}


@pytest.mark.slow
def test_the_default_run_made_small(tmp_path):
    space = Workspace(tmp_path, profile="tiny", **SMALL)
    space.repro()
    held_out = {*read(TEST_PROMPTS, tmp_path)["prompt"], *read(RANKED_VALID, tmp_path)["prompt"]}
    for model in ("M1", "M2"):
        prompts, pairs = read(PROMPTS, tmp_path, model), read(PAIRS, tmp_path, model)
        assert not held_out & set(prompts.filter(pl.col("dropped").is_null())["prompt"])
        assert len(read(JUDGEMENTS, tmp_path, model)) == 3 * len(distinct(read(CANDIDATES, tmp_path, model)))
        assert (pairs["chosen_score"] > pairs["rejected_score"]).all()
    weights = {m: md5(tmp_path / f"data/models/{m}/model.safetensors") for m in ("M0", "SFT", "M1", "M2", "M3")}
    assert len(set(weights.values())) == 5
    metrics = {m: json.loads((tmp_path / f"data/metrics/EVAL/{m}.json").read_text()) for m in ("SFT", "M1", "M2", "M3")}
    assert all(0 <= m["writer"]["greedy"]["oracle_score"]["value"] <= 5 for m in metrics.values())
    assert metrics["M1"]["judge"]["unreadable_share"]["value"] < 0.2, "M1 has learnt to judge"
    versioned = sum(file.stat().st_size for file in (tmp_path / ".dvc/cache").rglob("*") if file.is_file())
    models = {"M0": disk.on_disk(tmp_path / "data/models/M0")}
    needs = disk.needed(tmp_path, load_params(tmp_path), models)
    assert 0 < versioned <= needs[tmp_path / ".dvc/cache"], "the forecast of disk use is not exceeded"
    assert space.repro() == []
