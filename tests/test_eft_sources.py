"""EFT without the SFT baseline's judgements, by DVC: no model is made but the one that judges."""

import json

import polars as pl
import pytest

from stages.store.catalog import read
from stages.store.tables import EFT, RANKED, SEED_JUDGEMENTS
from tests.workspace import Workspace

RANKS = {"judge_seed.source": "ranks", "judge_seed.path": "stages/templates/judge_by_rank.jinja"}
JUDGE = {"judge_seed.source": "judge", "judge_seed.judge": "J", "judge_seed.path": "data/models/J"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("eft"), **RANKS, **{"build_eft.agreement": "strict"})


def metrics(space):
    return json.loads((space.path / "data/metrics/EFT.json").read_text())


def test_peoples_ranks_need_no_model(space):
    assert space.repro("build_eft") == ["split_seed", "judge_seed", "build_eft"]
    judged, ranked = read(SEED_JUDGEMENTS, space.path), read(RANKED, space.path)
    assert set(judged["judge"]) == {"ranks"}
    assert judged["candidate_id"].to_list() == ranked["candidate_id"].to_list()
    assert (metrics(space)["source"], metrics(space)["agreeing_share"], metrics(space)["warned"]) == ("ranks", 1, [])
    assert read(EFT, space.path)["response"].str.contains(r"(?i)people|ranked").all()
    template = space.path / "stages/templates/judge_by_rank.jinja"
    template.write_text("Platz {{ better + 1 }}.\n{{ score_line }}")
    assert space.repro("build_eft") == ["judge_seed", "build_eft"], "the template is watched"
    assert read(EFT, space.path)["response"].str.starts_with("Platz").all()


def test_drawn_answers_alone_are_judged_with_the_same_scores(space):
    before = read(SEED_JUDGEMENTS, space.path)
    space.set(**{"judge_seed.answers_per_prompt": 2})
    assert space.repro("build_eft") == ["judge_seed", "build_eft"]
    drawn = read(SEED_JUDGEMENTS, space.path)
    assert drawn.group_by("prompt_id").len()["len"].max() == 2
    assert drawn.equals(before.join(drawn, on="candidate_id", how="semi", maintain_order="left"))
    assert metrics(space)["answers_judged"] == len(drawn) < metrics(space)["ranked_answers"] == len(before)
    assert metrics(space)["agreeing_share"] == 1


def test_another_model_judges(space):
    space.set(**JUDGE, **{"base.J": {"source": "random", "path": "stages/models/checkpoint.py"}})
    space.set(**{"judge_seed.answers_per_prompt": None, "build_eft.agreement": "tau", "build_eft.tau": 0.5})
    assert space.repro("build_eft") == ["get_model@J", "judge_seed", "build_eft"]
    assert set(read(SEED_JUDGEMENTS, space.path)["judge"]) == {"J"}
    shown = metrics(space)
    assert (shown["source"], shown["judge"]) == ("judge", "J")
    assert 0 < shown["chance_share"] < 1
    assert sum(shown["lost_prompts"].values()) + shown["agreeing_prompts"] == shown["ranked_prompts"]


def test_thin_eft_is_warned_of_and_empty_eft_is_refused_with_what_helps(space):
    space.set(**{"warn.eft_yield": 1.0})
    assert space.repro("build_eft") == ["build_eft"]
    head, *lines = metrics(space)["warned"]
    assert head.startswith("only ")
    assert lines
    judged = read(SEED_JUDGEMENTS, space.path)
    dull = judged.with_columns(text=pl.lit("Good."), score=pl.lit(None, pl.Float64), finish_reason=pl.lit("stop"))
    dull.write_parquet(space.path / "data/EFT/judgements.parquet")
    done = space.run("stages.build_eft")
    assert done.returncode != 0
    assert f"{len(judged)} of {len(judged)} judgements have no score line" in done.stderr
    assert "or ranks (people's)" in done.stderr
    assert "Traceback" not in done.stderr
