"""What a stage tells of itself while it runs: whole lines, not too many, and no failure for it."""

import os
import subprocess
import sys

import pytest

from stages.console import live
from stages.console.progress import progress
from stages.store.run import LIVE, Run


@pytest.fixture(autouse=True)
def _nothing_is_told_here(monkeypatch):
    monkeypatch.delenv(live.VARIABLE, raising=False)


def test_a_stage_tells_its_beginning_its_progress_and_its_end(tmp_path):
    with Run("train_dpo", tmp_path, "M2"), progress("DPO M2", 3, "steps") as advance:
        for step in range(3):
            advance(1, f"loss {step}", figures={"loss": float(step)})
    lines = live.lines(tmp_path / LIVE / "train_dpo@M2.jsonl")
    assert lines[0]["pid"] == os.getpid()
    assert [line["loss"] for line in lines if "step" in line] == [0.0, 1.0, 2.0]
    last = [line for line in lines if "label" in line][-1]
    assert (last["label"], last["done"], last["total"], last["note"]) == ("DPO M2", 3, 3, "loss 2")
    assert (lines[-1]["outcome"], lines[-1]["error"]) == ("done", None)
    assert live.VARIABLE not in os.environ


def test_an_error_is_told_in_its_own_words(tmp_path):
    with pytest.raises(ValueError, match="too small"), Run("evaluate", tmp_path, "M2"):
        raise ValueError("too small")
    assert live.lines(tmp_path / LIVE / "evaluate@M2.jsonl")[-1]["error"] == "too small"


def test_many_batches_make_few_lines_and_cut_texts(tmp_path):
    live.begin(tmp_path / "x.jsonl")
    with progress("M1 writes", 10_000, "texts") as advance:
        for i in range(1_000):
            advance(10, texts=[(f"p{i}", n, "y" * 100_000) for n in range(10)])
    live.end("done")
    lines = live.lines(tmp_path / "x.jsonl")
    assert len(lines) < 20
    assert lines[-2]["done"] == 10_000
    [texts, *_] = [line["texts"] for line in lines if "texts" in line]
    assert (len(texts), len(texts[0][2])) == (live.TEXTS, live.CHARS)


def test_a_new_run_begins_a_new_file_and_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    live.begin(path)
    live.begin(path)
    live.end("done")
    path.write_bytes(path.read_bytes() + b'{"outcome": "do')
    assert [set(line) for line in live.lines(path)] == [{"started", "pid", "created"}, {"outcome", "error", "ended"}]
    assert live.lines(tmp_path / "none.jsonl") == []


def test_half_a_character_and_a_place_that_cannot_be_written_fail_nothing(tmp_path):
    live.begin(tmp_path / "x.jsonl")
    live.tell(texts=[["p", 0, "\ud800"]])
    assert live.lines(tmp_path / "x.jsonl")[-1]["texts"][0][2] == "\ud800"
    (tmp_path / "file").write_text("")
    live.begin(tmp_path / "file/x.jsonl")
    live.tell(step=1)
    live.end("done")


def test_processes_that_a_stage_starts_tell_into_its_file(tmp_path):
    live.begin(tmp_path / "x.jsonl")
    code = "from stages.console import live; live.tell(step=1, loss=2.0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    live.end("done")
    assert live.lines(tmp_path / "x.jsonl")[1] == {"step": 1, "loss": 2.0}
