"""Where a stage stands: as dvc.lock, its inputs and its own file say."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from ruamel.yaml import YAML

from stages.console import live
from stages.store import versions
from stages.store.files import append_line, md5
from stages.store.run import LIVE, LOG
from stages.store.states import REPRO, States, watched
from tests.test_architecture import ROOT

NAMES = {"make": "make", "use@M1": "use@M1"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two stages that are up to date, the second from the first."""
    monkeypatch.delenv(live.VARIABLE, raising=False)
    for name in ("code.py", "data/a", "data/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dvcignore").write_text("")
    (tmp_path / "params.yaml").write_text("seed: 1\nuse: {n: 4}\n")
    dep, out = ({"path": name, "md5": md5(tmp_path / name)} for name in ("code.py", "data/a"))
    last = {"path": "data/b", "md5": md5(tmp_path / "data/b")}
    stages = {
        "make": {"deps": [dep], "params": {"params.yaml": {"seed": 1}}, "outs": [out]},
        "use@M1": {"deps": [out], "params": {"params.yaml": {"use.n": 4}}, "outs": [last]},
    }
    YAML().dump({"schema": "2.0", "stages": stages}, tmp_path / "dvc.lock")
    return tmp_path


def states(root):
    return [stage["state"] for stage in States(root).all(NAMES)["stages"]]


def tell(root, name, *lines, pid=None, **first):
    path = root / LIVE / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    pid = pid or os.getpid()
    created = psutil.Process(pid).create_time() if psutil.pid_exists(pid) else 1.0
    begun = {"started": time.time(), "pid": pid, "created": created} | first
    path.write_text("".join(json.dumps(line) + "\n" for line in (begun, *lines)))


def test_what_is_recorded_and_unchanged_is_up_to_date(root):
    assert states(root) == ["up to date", "up to date"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "params.yaml").write_text("seed: 1\nuse: {n: 5}\n"), ["up to date", "waiting"]),
        (lambda root: (root / "params.yaml").write_text("use: {n: 4}\n"), ["waiting", "waiting"]),
        (lambda root: (root / "code.py").write_text("other"), ["waiting", "waiting"]),
        (lambda root: (root / "code.py").unlink(), ["waiting", "waiting"]),
        (lambda root: (root / "data/b").unlink(), ["up to date", "waiting"]),
        (lambda root: (root / "dvc.lock").unlink(), ["waiting", "waiting"]),
        (lambda root: (root / "dvc.lock").write_text("stages: [half"), ["waiting", "waiting"]),
    ],
)
def test_what_changed_waits_and_what_depends_on_it_too(root, change, expected):
    change(root)
    assert states(root) == expected


def test_a_change_is_seen_by_the_same_eyes_and_so_is_its_end(root):
    seen = States(root)
    assert seen.up_to_date(NAMES) == {*NAMES}
    (root / "code.py").write_text("other")
    assert seen.up_to_date(NAMES) == set()
    (root / "code.py").write_text("code.py")
    assert seen.up_to_date(NAMES) == {*NAMES}


def test_running_with_the_time_that_is_left(root):
    progress = {"label": "M1 writes", "total": 110, "unit": "texts", "done": 60, "free": 10, "note": "", "begun": 100.0}
    tell(root, "use@M1", progress | {"at": 200.0}, {"step": 1, "loss": 2.0}, {"texts": [["p", 0, "cat"]]})
    one = States(root).all(NAMES)["stages"][1]
    assert (one["state"], one["left_s"], one["steps"][0]["loss"]) == ("running", 100.0, 2.0)
    assert one["texts"] == [["p", 0, "cat"]]


def test_a_killed_stage_has_failed(root):
    (root / "data/b").unlink()
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    tell(root, "use@M1", pid=process.pid)
    one = States(root).all(NAMES)["stages"][1]
    assert (one["state"], "killed" in one["error"]) == ("failed", True)


def test_an_error_is_shown_until_the_stage_is_tried_again(root):
    (root / "data/b").unlink()
    tell(root, "use@M1", {"outcome": "EngineError", "error": "no room", "ended": time.time()})
    one = States(root).all(NAMES)["stages"][1]
    assert (one["state"], one["error"]) == ("failed", "no room")
    tell(root, REPRO, started=time.time() + 1)
    assert states(root)[1] == "waiting"


def test_done_is_what_this_run_did(root):
    tell(root, REPRO)
    tell(root, "use@M1", {"outcome": "done", "ended": time.time()})
    (root / "data/b").unlink()  # dvc.lock is not written yet
    assert states(root) == ["up to date", "done"]


def test_repro_tells_of_itself(root):
    with watched(root):
        assert States(root).running()
    assert States(root).all(NAMES)["repro"] == {"state": "done", "error": None}
    with pytest.raises(SystemExit), watched(root):
        raise SystemExit(1)
    assert States(root).all(NAMES)["repro"]["state"] == "failed"


def test_what_waits_takes_as_long_as_last_time(root):
    (root / "code.py").write_text("other")
    entry = {"outcome": "done", "seconds": 7.0, "compute_s": 1.0, "peak_mb": 1}
    append_line(root / LOG, {"stage": "use@M1"} | entry)
    told = States(root).all(NAMES)
    assert (told["left_s"], told["unknown"]) == (7.0, 1)


def test_stages_come_in_the_order_in_which_they_run():
    order = versions.stages_in_order(ROOT)
    assert order["train_sft_M1"] == "train_sft@M1"
    assert order["build_eft"] == "build_eft"
    names = [*order]
    for before, after in (("train_dpo@M2", "write_prompts@M2"), ("build_pairs@M1", "train_dpo@M2")):
        assert names.index(before) < names.index(after)
    assert names[-1] == "summarize"
