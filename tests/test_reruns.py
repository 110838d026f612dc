"""The real dvc.yaml with the scripted engine: what a change reruns.

One workspace, a copy of the finished run; the tests change it and put it back, in order.
"""

import json
import shutil

import polars as pl
import pytest
from ruamel.yaml import YAML

from stages.engines.cache import CompletionCache
from stages.method.judging import distinct
from stages.store.catalog import read
from stages.store.run import COMPLETION_CACHE
from stages.store.tables import (
    CANDIDATES,
    JUDGEMENTS,
    VERDICTS,
)
from tests.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def space(finished, tmp_path_factory):
    return Workspace.copy(finished, tmp_path_factory.mktemp("loop") / "space")


def yaml(space):
    return YAML(typ="safe").load(space.path / "params.yaml")


def kept(space) -> dict[str, int]:
    """Finished completions by stage."""
    with CompletionCache(space.path / COMPLETION_CACHE) as finished:
        return {size.stage: size.completions for size in finished.sizes()}


def test_a_second_run_does_nothing(space):
    assert space.repro() == []


def test_hardware_reruns_nothing(space):
    space.set(**{"hardware.threads": 2})
    assert space.repro() == []
    space.set(**{"hardware.threads": 1})


def test_another_margin_generates_nothing_before_the_pairs(space):
    before, had = space.lock(), kept(space)["write_prompts@M2"]
    space.set(**{"build_pairs.min_margin": 1.0})
    assert space.repro("sample_candidates@M2") == [
        "build_pairs@M1",
        "build_judge_pairs@M1",
        "train_dpo@M2",
        "write_prompts@M2",
        "sample_candidates@M2",
    ]
    assert kept(space)["write_prompts@M2"] == had, (
        "prompts are written by M0; M2's lineage says which must not come again"
    )
    space.set(**{"build_pairs.min_margin": 0.5})
    assert space.repro() == [], "set back, everything comes from DVC's run-cache"
    assert space.lock() == before


def test_another_judge_template_reruns_judging_and_its_heirs(space):
    template = space.path / "stages/templates/judge.jinja"
    before, text = space.lock(), template.read_text()
    try:
        template.write_text(text + "\nBe brief.")
        stages = space.repro("build_pairs@M1")
    finally:
        template.write_text(text)
    assert stages == [
        "judge_seed",
        "build_eft",
        "train_sft_M1",
        "write_prompts@M1",
        "sample_candidates@M1",
        "judge_candidates@M1",
        "build_pairs@M1",
    ]
    assert space.repro() == []
    assert space.lock() == before


def test_more_judgements_generate_only_what_is_new(space):
    before, had, k = space.lock(), kept(space), yaml(space)["judge_candidates"]["k"]
    space.set(**{"judge_candidates.k": k + 1})
    assert space.repro("judge_candidates@M1") == ["judge_candidates@M1"]
    candidates = len(distinct(read(CANDIDATES, space.path, "M1")))
    assert kept(space) == had | {"judge_candidates@M1": had["judge_candidates@M1"] + candidates}
    judgements = read(JUDGEMENTS, space.path, "M1")
    assert len(judgements) == candidates * (k + 1)
    space.set(**{"judge_candidates.k": k})
    assert space.repro() == []
    assert space.lock() == before


def test_another_judge_or_engine_reruns_only_the_judging(space):
    before, params = space.lock(), yaml(space)
    answers = read(JUDGEMENTS, space.path, "M1")
    space.set(**{"aift.M1.judge": "SFT", "judge_candidates.engine": params["engine"] | {"max_context": 1024}})
    assert space.repro("judge_candidates@M1") == ["judge_candidates@M1"]
    judged = read(JUDGEMENTS, space.path, "M1")
    assert set(judged["judge"]) == {"SFT"}
    assert judged["candidate_id"].to_list() == answers["candidate_id"].to_list()
    assert judged["text"].to_list() != answers["text"].to_list()
    had = kept(space)
    space.set(**{"write_prompts.engine": params["engine"] | {"max_context": 1024}})
    assert space.repro("write_prompts@M1") == ["write_prompts@M1"], "the scripted engine writes the same prompts"
    assert kept(space)["write_prompts@M1"] == 2 * had["write_prompts@M1"], (
        "by another engine: nothing that was kept is taken for its own"
    )
    space.set(**{"aift.M1.judge": "M1", "judge_candidates.engine": None, "write_prompts.engine": None})
    assert space.repro() == []
    assert space.lock() == before


def test_a_model_with_an_engine_of_its_own_compares(space):
    before, params = space.lock(), yaml(space)
    space.set(
        **{
            "evaluate.compare_by": "model",
            "evaluate.compare_with": "M1",
            "evaluate.judge_engine": params["engine"] | {"max_context": 4096},
        }
    )
    assert space.repro("head_to_head@M3-M1") == ["head_to_head@M3-M1"]
    verdicts = read(VERDICTS, space.path, "M3-M1")
    assert set(verdicts["judge"]) == {"M1"}
    assert kept(space)["head_to_head@M3-M1"] == 2 * len(verdicts), "each pair in both orders"
    space.set(**{f"evaluate.{key}": params["evaluate"][key] for key in ("compare_by", "compare_with", "judge_engine")})
    assert space.repro() == []
    assert space.lock() == before


def test_what_is_finished_is_not_generated_again(space):
    """A forced stage writes the same bytes from what is kept."""
    before, had = space.lock(), kept(space)
    done = space.run("dvc", "repro", "--force", "--single-item", "judge_candidates@M2")
    assert done.returncode == 0, done.stderr
    assert "cached" in done.stdout
    assert kept(space) == had
    assert space.lock() == before


def test_a_fourth_iteration_runs_only_its_own_stages(space):
    params = (space.path / "params.yaml").read_text()
    new = params.replace("evaluated: [SFT, M1, M2, M3]", "evaluated: [SFT, M1, M2, M3, M4]")
    new = new.replace(
        "  M2: {writer: M0, judge: M2, prompts: 32, rho: null}\n",
        "  M2: {writer: M0, judge: M2, prompts: 32, rho: null}\n  M3: {writer: M0, judge: M3, prompts: 16, rho: 0.1}\n",
    )
    new = new.replace("  M3: {prev: M2}\n", "  M3: {prev: M2}\n  M4: {prev: M3}\n")
    new = new.replace(
        "  M3-M2: {model: M3, other: M2}\n", "  M3-M2: {model: M3, other: M2}\n  M4-M3: {model: M4, other: M3}\n"
    )
    try:
        (space.path / "params.yaml").write_text(new)
        stages = space.repro()
    finally:
        (space.path / "params.yaml").write_text(params)
    assert set(stages) == {
        "write_prompts@M3",
        "sample_candidates@M3",
        "judge_candidates@M3",
        "build_pairs@M3",
        "build_judge_pairs@M3",
        "train_dpo@M4",
        "evaluate@M4",
        "head_to_head@M4-M3",
        "summarize",
    }


def test_the_positive_only_variant_runs_beside_the_loop(space):
    params = (space.path / "params.yaml").read_text()
    try:
        (space.path / "params.yaml").write_text(params.replace("positive_only: {}", "positive_only: {M2P: {aift: M1}}"))
        stages = space.repro("train_positive@M2P")
    finally:
        (space.path / "params.yaml").write_text(params)
    assert stages == ["train_positive@M2P"]
    lineage = json.loads((space.path / "data/models/M2P/lineage.json").read_text())
    m1 = json.loads((space.path / "data/models/M1/lineage.json").read_text())
    best = pl.read_parquet(space.path / "data/AIFT/M1/scores.parquet").filter(
        pl.col("score") == 5, ~pl.col("fate").is_in(["cut_off", "duplicate"])
    )
    assert lineage["parent"] == "M0"
    assert lineage["rows"] == m1["rows"] + len(best) > m1["rows"]


def test_a_dvc_lock_cut_off_in_mid_write_is_made_anew(space):
    """Of what stages made nothing is made again: DVC's cache of runs has it."""
    space.repro()  # the summary is of what params.yaml names, and an earlier test took its fourth iteration away
    lock, log = space.lock(), space.path / "data/logs/runs.jsonl"
    ran = log.read_text()
    (space.path / "dvc.lock").write_text(lock[: lock.index("hash: md5", len(lock) // 2) + len("hash: md")])
    assert space.run("dvc", "repro").returncode != 0, "DVC alone gives up"
    done = space.run("stages.commands.cli", "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "dvc.lock is damaged" in done.stderr
    now, before = (YAML(typ="safe").load(text)["stages"] for text in (space.lock(), lock))
    stages = set(space.run("dvc", "stage", "list", "--name-only").stdout.split())
    assert set(now) == stages
    assert now == {name: before[name] for name in stages}, "what earlier tests made and took away is no stage any more"
    assert log.read_text() == ran
    next(space.path.glob("dvc.lock.damaged-*")).unlink()


def test_a_cold_run_elsewhere_has_the_same_lock(finished, tmp_path):
    """Bit for bit: no cache, another folder, stages run again one by one. The tables that are missing here, the golden
    ones show."""
    stages = ("get_model@M0", "train_sft_M1", "judge_candidates@M1", "build_pairs@M1", "train_dpo@M2")
    other = Workspace.copy(finished, tmp_path / "other")
    shutil.rmtree(other.path / ".dvc/cache")
    (other.path / COMPLETION_CACHE).unlink()
    before = [(other.path / f"data/models/{model}").stat().st_ino for model in ("M0", "M1", "M2")]
    assert other.repro("--force", "--single-item", *stages) == [*stages]
    assert before != [(other.path / f"data/models/{model}").stat().st_ino for model in ("M0", "M1", "M2")]
    assert other.lock() == (finished / "dvc.lock").read_text()
