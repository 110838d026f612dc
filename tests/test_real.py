"""Real ranked answers in Open Assistant's schema: real lengths, unicode, code. Skipped where the file is not at
hand."""

import json
from pathlib import Path

import polars as pl
import pytest

from stages.method.judging import distinct
from stages.store.catalog import read
from stages.store.tables import CANDIDATES, EFT, IFT_TRAIN, JUDGEMENTS, PAIRS, RANKED, RANKED_VALID, TEST_PROMPTS
from tests.workspace import Workspace

REAL = Path(__file__).parents[2] / "shared/real/ranked_messages.jsonl.gz"
pytestmark = pytest.mark.skipif(not REAL.is_file(), reason="the real answers are not here")
SIZES = {
    "split_seed.ift": 120,
    "split_seed.ift_valid": 10,
    "split_seed.eft_prompts": 60,
    "split_seed.test_prompts": 20,
    "split_seed.test_ranked": 20,
}
FILE = {
    "split_seed.source": "file",
    "split_seed.path": str(REAL),
    "evaluate.oracle": "none",
    "evaluate.compare_by": "model",
}


@pytest.mark.slow
def test_the_whole_loop_on_real_answers_with_the_scripted_engine(tmp_path):
    smaller = SIZES | {"split_seed.ift": 24, "split_seed.eft_prompts": 30, "judge_seed.k": 2}
    space = Workspace(
        tmp_path,
        **FILE,
        **smaller,
        **{"train_sft.max_length": 4096, "engine.max_context": 4096, "train_sft.micro_batch": 2},
    )
    space.repro()
    parts = [
        set(read(IFT_TRAIN, tmp_path)["instruction"]),
        *(set(read(t, tmp_path)["prompt"]) for t in (RANKED, RANKED_VALID, TEST_PROMPTS)),
    ]
    assert all(not a & b for i, a in enumerate(parts) for b in parts[i + 1 :])
    assert [len(p) for p in parts] == [24, 30, 20, 20]
    ranked = read(RANKED, tmp_path)
    assert ranked.group_by("prompt_id").len()["len"].min() >= 2
    assert ranked["response"].str.len_chars().max() > 1000, "real lengths"
    assert len(read(EFT, tmp_path)) > 0
    metrics = json.loads((tmp_path / "data/metrics/EVAL/M3.json").read_text())
    assert metrics["writer"]["greedy"]["oracle_score"]["value"] is None, "no checker, no score: null, not 0"
    assert metrics["judge"]["pairwise_accuracy"]["value"] is not None
    assert json.loads((tmp_path / "data/metrics/head_to_head/M3-M1.json").read_text())["greedy"]["win"]["n"] > 0


@pytest.mark.slow
def test_real_lengths_through_a_real_model(tmp_path):
    """A randomly initialised Llama with a context of 4,096 bytes: sampling, judging and a DPO step; what does not fit
    is counted, never an exception."""
    space = Workspace(
        tmp_path, **FILE, **SIZES,
        **{"engine.name": "transformers", "engine.max_context": 4096, "engine.max_batch_tokens": 16384, "aift.M1.prompts": 8,
           "sample_candidates.n": 3, "sample_candidates.max_tokens": 64,
           "judge_candidates.k": 2, "judge_candidates.max_tokens": 24, "train_dpo.max_length": 1024,
           "train_dpo.batch": 2, "train_dpo.micro_batch": 2, "train_dpo.lr": 1e-3},
    )  # fmt: skip
    for command in (("stages.get_model", "M0"), ("stages.split_seed",)):
        done = space.run(*command)
        assert done.returncode == 0, done.stderr
    (tmp_path / "data/models/M0").rename(tmp_path / "data/models/M1")
    # real prompts in the place of written ones: a random model writes no question
    ranked = read(RANKED, tmp_path)
    prompts = (
        ranked.unique("prompt_id", keep="first", maintain_order=True)
        .sort(pl.col("prompt").str.len_chars())
        .gather_every(8)
    )
    prompts = prompts.select(
        "prompt_id",
        model=pl.lit("M1"),
        prompt="prompt",
        writer=pl.lit("people"),
        shots=pl.lit([], pl.List(pl.String)),
        dropped=pl.lit(None, pl.String),
    )
    (tmp_path / "data/AIFT/M1").mkdir(parents=True)
    prompts.write_parquet(tmp_path / "data/AIFT/M1/prompts.parquet")
    for verb in ("sample_candidates", "judge_candidates"):
        done = space.run(f"stages.{verb}", "M1")
        assert done.returncode == 0, done.stderr
    candidates, judgements = read(CANDIDATES, tmp_path, "M1"), read(JUDGEMENTS, tmp_path, "M1")
    assert len(candidates) == 3 * len(prompts)
    assert len(judgements) == 2 * len(distinct(candidates))
    assert "length" in set(candidates["finish_reason"])
    assert set(judgements.filter(pl.col("finish_reason") == "length")["score"]) == {None}, "cut off is unreadable"
    done = space.run("stages.build_pairs", "M1")
    assert done.returncode == 1, "noise holds no score"
    assert "AIFT(M1) has no pairs" in done.stderr
    # real pairs: people's best against people's worst
    ends = ranked.group_by("prompt_id", maintain_order=True).agg(pl.all().sort_by("human_rank"))
    pairs = ends.select(
        "prompt_id", model=pl.lit("M1"), prompt=pl.col("prompt").list.first(), chosen=pl.col("response").list.first(), rejected=pl.col("response").list.last(),
        chosen_id=pl.col("candidate_id").list.first(), rejected_id=pl.col("candidate_id").list.last(), chosen_score=pl.lit(5.0), rejected_score=pl.lit(1.0),
        chosen_thought=pl.lit(None, pl.String), rejected_thought=pl.lit(None, pl.String),
        rejected_by=pl.lit(None, pl.String), reversed=pl.lit(None, pl.Int32),
    ).head(16)  # fmt: skip
    pairs.write_parquet(tmp_path / "data/AIFT/M1/pairs.parquet")
    read(PAIRS, tmp_path, "M1")
    done = space.run("stages.train_dpo", "M2", "--prev", "M1")
    assert done.returncode == 0, done.stderr
    assert "left out as longer than 1024 tokens" in done.stdout
    assert (tmp_path / "data/models/M2/lineage.json").is_file()
