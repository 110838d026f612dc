"""What a verb reads is recorded and must not move; a model comes with a lineage that equal runs share."""

import json
from types import SimpleNamespace

import polars as pl
import pytest

from stages.console.errors import ModelError, StaleInputError
from stages.store import catalog
from stages.store.files import append_line, md5
from stages.store.run import LOG, Run, times
from stages.store.tables import IFT_TRAIN


def log(root):
    return [json.loads(line) for line in (root / LOG).read_text().splitlines()]


def make(root, name="M1"):
    (root / "in.txt").write_text("data")
    with Run("train_dpo", root, name) as run:
        run.watch(root / "in.txt")
        with (
            run.new_model(
                name, parent="M0", method="dpo", params={"lr": 1e-4}, notes={"seed": 1, "threads": 2}
            ) as folder,
            run.computing(),
        ):
            (folder / "config.json").write_text("{}")


def test_lineage_says_which_data_made_the_model(tmp_path):
    make(tmp_path)
    lineage = json.loads((tmp_path / "data/models/M1/lineage.json").read_text())
    assert (lineage["name"], lineage["parent"], lineage["method"]) == ("M1", "M0", "dpo")
    assert lineage["data"] == {"in.txt": md5(tmp_path / "in.txt")}
    assert lineage["params"] == {"lr": 1e-4}
    assert (lineage["seed"], lineage["threads"]) == (1, 2)
    assert {"torch", "trl", "transformers"} <= set(lineage["versions"])


def test_equal_runs_make_equal_bytes(tmp_path):
    make(tmp_path)
    first = md5(tmp_path / "data/models/M1")
    make(tmp_path)
    assert md5(tmp_path / "data/models/M1") == first
    assert [entry["outcome"] for entry in log(tmp_path)] == ["done", "done"]


def test_an_input_that_moves_fails_the_stage_and_leaves_no_model(tmp_path):
    (tmp_path / "in.txt").write_text("data")
    with (
        pytest.raises(StaleInputError, match=r"in\.txt changed while train_dpo@M2 ran"),
        Run("train_dpo", tmp_path, "M2") as run,
    ):
        run.watch(tmp_path / "in.txt")
        with run.new_model("M2", parent="M1", method="dpo", params={}, notes={}) as folder:
            (folder / "config.json").write_text("{}")
            (tmp_path / "in.txt").write_text("other data")
    assert not list((tmp_path / "data/models").iterdir())
    assert log(tmp_path)[0]["outcome"] == "StaleInputError"


def test_an_input_that_is_only_touched_is_the_same_input(tmp_path):
    with Run("build_pairs", tmp_path) as run:
        (tmp_path / "in.txt").write_text("data")
        run.watch(tmp_path / "in.txt")
        (tmp_path / "in.txt").write_text("data")


def test_an_input_that_vanishes_is_told(tmp_path):
    with pytest.raises(StaleInputError, match="now gone"), Run("build_pairs", tmp_path) as run:
        (tmp_path / "in.txt").write_text("data")
        run.watch(tmp_path / "in.txt")
        (tmp_path / "in.txt").unlink()


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"models/M1 holds no model"), Run("evaluate", tmp_path) as run:
        run.model("M1")


def test_the_log_holds_what_differs_between_equal_runs(tmp_path):
    make(tmp_path)
    entry = log(tmp_path)[0]
    assert entry["stage"] == "train_dpo@M1"
    assert entry["seconds"] >= entry["compute_s"] >= 0
    assert entry["peak_mb"] > 0
    assert entry["ended"]
    assert entry["servers"] == {}
    assert entry["cpu_s"] > 0


def test_the_log_tells_the_servers_that_were_asked(tmp_path):
    with Run("judge_candidates", tmp_path, "M1") as run:
        server = {"url": "http://localhost:8000/v1", "model": "judge"}
        frame = pl.DataFrame(
            [["x"] * len(IFT_TRAIN.schema)], schema=dict.fromkeys(IFT_TRAIN.schema, pl.String), orient="row"
        )
        frame = frame.cast(dict(IFT_TRAIN.schema))
        run.write(IFT_TRAIN, frame, engine=SimpleNamespace(name="J", packages={"vllm": "1"}, served_by=server))
    assert catalog.packages(tmp_path / IFT_TRAIN.path) == {"vllm": "1"}
    assert log(tmp_path)[0]["servers"] == {"J": {"url": "http://localhost:8000/v1", "model": "judge"}}


def test_a_damaged_log_line_is_skipped_and_said(tmp_path, capsys):
    make(tmp_path)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"stage": "b", "outco\xff\n')
    make(tmp_path, "M2")
    (tmp_path / LOG).write_text(
        (tmp_path / LOG).read_text(errors="replace")
        + '3\n{"outcome": "done", "stage": ["a"], "seconds": 1, "compute_s": 0, "peak_mb": 1}\n'
    )
    assert [*times(tmp_path)] == ["train_dpo@M1", "train_dpo@M2"]
    assert "runs.jsonl: 2 damaged line(s) skipped" in capsys.readouterr().err


def test_times_are_of_the_last_whole_run_of_each_stage_in_order(tmp_path):
    def entry(stage, seconds, outcome="done"):
        return {"stage": stage, "outcome": outcome, "seconds": seconds, "compute_s": 0.0, "peak_mb": 1}

    assert times(tmp_path) == {}
    for e in (entry("b", 9.0), entry("a", 1.0), entry("b", 2.0), entry("b", 0.1, "KeyboardInterrupt")):
        append_line(tmp_path / LOG, e)
    assert [(stage, spent["seconds"]) for stage, spent in times(tmp_path).items()] == [("a", 1.0), ("b", 2.0)]
