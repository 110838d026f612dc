"""srlm preview: the stage itself on a few rows, which leaves nothing behind but cached completions."""

import polars as pl
import pytest

from stages.commands.preview import advice, preview
from stages.config.load import load_params
from stages.console.errors import SrlmError
from tests.workspace import Workspace


@pytest.mark.slow
def test_a_preview_judges_held_out_answers_and_leaves_only_cached_texts(tmp_path, capfd):
    space = Workspace(tmp_path, profile="scripted")
    preview("judge_seed", 12, root=tmp_path)
    out = capfd.readouterr()
    assert "judges 8 held-out answers" in out.err
    assert "of 12 judgements" in out.out
    assert "chance: 50%" in out.out
    assert "people's rank" in out.out
    files = [f for f in (tmp_path / "data").rglob("*") if f.is_file() and not f.name.startswith(".git")]
    assert {f.relative_to(tmp_path).parts[:2] for f in files} <= {("data", "cache")}
    assert not (space.path / "dvc.lock").exists()


@pytest.mark.slow
def test_the_judge_that_params_name_is_previewed(tmp_path, capfd):
    judge = {"judge_seed.source": "judge", "judge_seed.judge": "J", "judge_seed.path": "data/models/J"}
    random = {"base.J": {"source": "random", "path": "stages/models/checkpoint.py"}}
    Workspace(tmp_path, profile="scripted", **random, **judge, **{"judge_seed.answers_per_prompt": 2})
    preview("judge_seed", 8, root=tmp_path)
    assert "J judges 8 held-out answers" in capfd.readouterr().err


def test_where_no_model_judges_there_is_nothing_to_preview(tmp_path):
    ranks = {"judge_seed.source": "ranks", "judge_seed.path": "stages/templates/judge_by_rank.jinja"}
    Workspace(tmp_path, **ranks)
    with pytest.raises(SrlmError, match=r"no model judges where judge_seed\.source is ranks"):
        preview("judge_seed", 8, root=tmp_path)


def test_a_stage_without_a_preview_is_named(tmp_path):
    Workspace(tmp_path)
    with pytest.raises(SrlmError, match=r"srlm preview judge_seed"):
        preview("train_dpo", 10, root=tmp_path)


@pytest.mark.parametrize(
    ("scores", "reasons", "value", "said"),
    [
        ([4.0] * 8, ["stop"] * 8, 0.9, ["this model can judge"]),
        ([None] * 8, ["stop"] * 8, None, ["8 of 8 judgements have no score line"]),
        ([None] * 4 + [3.0] * 4, ["length"] * 4 + ["stop"] * 4, 0.9, ["no score line", "4 were cut off"]),
        ([4.0, 3.0], ["stop"] * 2, 0.5, ["hardly agree"]),
    ],
)
def test_what_to_change_follows_from_the_counts(tmp_path, scores, reasons, value, said):
    params = load_params(Workspace(tmp_path).path)
    judgements = pl.DataFrame(
        {"score": scores, "finish_reason": reasons}, schema={"score": pl.Float64, "finish_reason": pl.String}
    )
    lines = advice(judgements, {"value": value, "n": 0 if value is None else 4}, params)
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))
