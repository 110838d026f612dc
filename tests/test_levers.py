"""Levers that need an older model, switched on together: the whole loop with them, under every contract."""

import json

import polars as pl
import pytest

from stages.store.references import follow
from tests.workspace import Workspace

pytestmark = pytest.mark.slow

LEVERS = {
    "build_pairs.rejected_from": "previous",
    "build_pairs.consistency": "smooth",
    "build_pairs.pairs_per_prompt": 3,
    "build_pairs.prompts_per_cluster": 20,
    "judge_candidates.second_judge": "previous",
    "judge_pairs.source": "changed_prompt",
    "judge_pairs.share": 0.3,
    "judge_pairs.score_line": 0.5,
    "train_dpo.replay.eft": 1.0,
    "train_dpo.replay.judge_pairs": 2.0,
    "train_dpo.replay.order": "shuffled",
}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    space = Workspace(tmp_path_factory.mktemp("levers"), **LEVERS)
    space.repro("train_dpo@M3", "build_judge_pairs@M2")
    return space


def table(space, name, model):
    return pl.read_parquet(space.path / f"data/AIFT/{model}/{name}.parquet")


def test_an_aift_without_an_older_model_is_the_papers(space):
    assert table(space, "candidates", "M1")["model"].unique().to_list() == ["M1"]
    assert table(space, "judgements", "M1")["judge"].unique().to_list() == ["M1"]
    assert table(space, "scores", "M1")["tau"].null_count() == len(table(space, "scores", "M1"))


def test_the_older_model_answers_and_judges_the_next(space):
    candidates, scores = table(space, "candidates", "M2"), table(space, "scores", "M2")
    by = dict(candidates["model"].value_counts().iter_rows())
    assert by["M1"] == by["M2"] == len(candidates) / 2
    assert candidates.filter(model="M1")["n"].min() == candidates.filter(model="M2")["n"].max() + 1
    assert {*table(space, "judgements", "M2")["judge"]} == {"M1", "M2"}
    assert scores["tau"].count() > 0
    assert (
        "M1"
        not in table(space, "pairs", "M2").join(scores, left_on="chosen_id", right_on="candidate_id")["model_right"]
    )
    metrics = json.loads((space.path / "data/metrics/AIFT/M2.json").read_text())
    assert sum(metrics["fates"].values()) == metrics["candidates"] == len(candidates)
    assert metrics["prompts_with_tau"] > 0


def test_every_row_can_be_followed(space):
    assert [one for one in follow(space.path, ["M1", "M2"]) if one.wrong] == []


def test_lineage_names_what_was_trained(space):
    lineage = json.loads((space.path / "data/models/M3/lineage.json").read_text())
    data, pairs = lineage["data"], table(space, "judge_pairs", "M2")
    assert sum(lineage["replayed"]["judge_pairs"].values()) == len(pairs) > 1
    assert 0 < pairs["chosen"].str.starts_with("Score:").sum() < len(pairs)
    assert {"data/AIFT/M2/pairs.parquet", "data/EFT/train.parquet", "data/models/M2"} <= {*data}
    assert ("data/AIFT/M2/judge_pairs.parquet" in data) == bool(LEVERS["judge_pairs.source"])


def test_another_older_model_reruns_what_it_decides_and_no_more(space):
    space.set(**{"judge_candidates.second_judge": None, "build_pairs.consistency": "none"})
    ran = space.repro("build_pairs@M2")
    assert "sample_candidates@M2" not in ran
    assert {"judge_candidates@M2", "build_pairs@M2"} <= {*ran}


def test_a_judge_that_compares_gives_shares_of_wins(tmp_path):
    how = {"kind": "pairwise", "comparisons": 6, "k": 1}
    space = Workspace(
        tmp_path, **{f"judge_candidates.{key}": value for key, value in how.items()}, **{"build_pairs.min_margin": 0.3}
    )
    space.repro("build_pairs@M1")
    judgements, scores = table(space, "judgements", "M1"), table(space, "scores", "M1")
    assert judgements.group_by("prompt_id").len()["len"].max() == 2 * 6
    assert {*judgements["score"].drop_nulls()} == {0.0, 0.5, 1.0}
    assert scores["score"].is_between(0, 1).all()
    pairs = table(space, "pairs", "M1")
    assert (pairs["chosen_score"] - pairs["rejected_score"]).min() > 0.3
    metrics = json.loads((space.path / "data/metrics/AIFT/M1.json").read_text())
    assert set(metrics["score_histogram"]) == {"0", "0.5", "1"}
    assert metrics["mean_score"] is None  # a half, whatever the answers are
    assert sum(metrics["score_histogram"].values()) + metrics["unparsed"] == len(judgements)
    assert [one for one in follow(space.path, ["M1"]) if one.wrong] == []
