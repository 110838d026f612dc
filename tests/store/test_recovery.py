"""What a killed run leaves behind is put away, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from stages.console.errors import SrlmError
from stages.store.recovery import recover

LOCK = """\
schema: '2.0'
stages:
  split_seed:
    cmd: python -m stages.split_seed
    deps:
    - path: stages/split_seed.py
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 12
"""


@contextmanager
def process(module, *words, cwd):
    """`python -m MODULE WORDS` in `cwd`, of a module by this name that sleeps."""
    file = cwd / f"{module.replace('.', '/')}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    for folder in file.parents:
        if folder == cwd:
            break
        (folder / "__init__.py").touch()
    file.write_text("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, "-m", module, *words], cwd=cwd) as started:
        try:
            yield started.pid
        finally:
            started.kill()


OWNED = json.dumps({"write": {"data/models/M3": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}})


def rwlock(root, content):
    lock = root / ".dvc/tmp/rwlock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(content)
    return lock


@pytest.mark.parametrize(
    "content",
    ['{"write": {"data/mod', OWNED, '{"write": {"a": {"cmd": "x"}}}', '{"read": {"a": [1]}}'],
    ids=["cut off", "of a process", "of no process", "of another form"],
)
def test_the_lock_of_a_dead_dvc_is_removed(tmp_path, content):
    """Cut off, or of a process whose number another has got since, as after a restart of the machine."""
    lock = rwlock(tmp_path, content)
    recover(tmp_path)
    assert not lock.exists()


def test_a_zombie_is_dead(tmp_path):
    """Killed, and its parent, killed too, cannot say that it has seen it."""
    with process("dvc", "repro", cwd=tmp_path) as pid:
        lock = rwlock(tmp_path, OWNED)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        recover(tmp_path)
        assert not lock.exists()


@pytest.mark.parametrize("module", ["dvc", "stages.console.dvc"])
def test_a_dvc_that_runs_is_not_disturbed(tmp_path, module):
    with process(module, "repro", cwd=tmp_path) as pid:
        lock = rwlock(tmp_path, OWNED)
        with pytest.raises(SrlmError, match=rf"Another DVC process is running here .*kill {pid}$"):
            recover(tmp_path)
        assert lock.exists()


def test_a_stage_that_outlived_its_dvc_is_not_disturbed(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    partial = here / "data/models/M2.partial"
    partial.mkdir(parents=True)
    elsewhere.mkdir()
    with (
        process("stages.train_dpo", "M2", cwd=here) as pid,
        process("stages.commands.cli", "repro", cwd=here),
    ):
        with pytest.raises(
            SrlmError, match=rf"A stage is running here \(process {pid}: .*stages\.train_dpo M2\).*kill {pid}$"
        ):
            recover(here)
        assert partial.exists()
        recover(elsewhere)
    recover(here)
    assert not partial.exists()


CUTS = [
    "",
    "schema: '",
    "schema: '2.0'\nstages:\n  a",
    LOCK[: LOCK.index("path:") + 3],
    LOCK[: LOCK.index("hash: md") + 8],
    LOCK[: LOCK.index("md5:")],
]
CUTS += [LOCK[:-25], LOCK[:-2], f"{LOCK}  a: 1\n", "\0\0\0"]


@pytest.mark.parametrize("cut", CUTS)
def test_a_dvc_lock_that_is_cut_off_is_set_aside(tmp_path, capsys, cut):
    (tmp_path / "dvc.lock").write_text(cut)
    recover(tmp_path)
    assert not (tmp_path / "dvc.lock").exists()
    assert [file.read_text() for file in tmp_path.glob("dvc.lock.damaged-*")] == [cut]
    assert "dvc.lock is damaged" in capsys.readouterr().err


def test_a_dvc_lock_that_is_no_text_is_set_aside(tmp_path):
    (tmp_path / "dvc.lock").write_bytes(b"schema: \xff")
    recover(tmp_path)
    assert not (tmp_path / "dvc.lock").exists()


REMOTE = f"{LOCK}    - path: s3://bucket/seed.jsonl\n      etag: 0a4f-2\n      size: 5\n"


MERGE = f"{LOCK}<<<<<<< HEAD\n=======\n>>>>>>> other\n"


@pytest.mark.parametrize(
    "text", [LOCK, REMOTE, MERGE], ids=["whole", "with a file in a bucket", "a merge that people have to end"]
)
def test_another_dvc_lock_stays(tmp_path, capsys, text):
    (tmp_path / "dvc.lock").write_text(text)
    recover(tmp_path)
    assert (tmp_path / "dvc.lock").read_text() == text
    assert capsys.readouterr().err == ""


def test_an_empty_folder(tmp_path):
    recover(tmp_path)
    assert list(tmp_path.iterdir()) == []
