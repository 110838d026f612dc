"""`srlm` runs DVC, and DVC a stage: however one of them is stopped, all end, one sentence says so, and the exit code is
the signal's. Real processes; the stage stands for a long one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.console.command import STOPPED
from stages.console.errors import SrlmError
from stages.console.processes import stages_among
from stages.store.recovery import recover

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STAGE = """
import time
from pathlib import Path
from stages.console.command import command
from stages.store.files import atomic_write

def main() -> None:
    with atomic_write(Path("data/out")) as partial:
        partial.write_text("half")
        Path("started").touch()
        try:
            while not Path("go").exists():
                time.sleep(0.05)
        finally:
            while Path("slow").exists():
                time.sleep(0.05)

command(main)
"""
SRLM = "from stages.console.command import run, run_dvc; run(lambda: exit(run_dvc('repro')))"
COMMANDS = {"srlm": ("-c", SRLM), "dvc": ("-m", "dvc", "repro")}


class Pipeline:
    """A pipeline of one stage in a folder of its own, started as people start it: in a group of its own."""

    def __init__(self, path: Path):
        self.path = path
        (path / ".dvc/tmp").mkdir(parents=True)
        (path / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
        (path / "dvc.yaml").write_text("stages: {a: {cmd: python -m stages.wait, outs: [data/out]}}\n")
        package = path / "code/stages"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(
            f"__path__.append({str(ROOT / 'stages')!r})\n{(ROOT / 'stages/__init__.py').read_text()}"
        )
        (package / "wait.py").write_text(STAGE)
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{path / 'code'}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def start(self, command: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *COMMANDS[command]],
            cwd=self.path,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.wait_for(lambda: (self.path / "started").exists())
        return process

    def wait_for(self, condition, seconds=30):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture(autouse=True)
def hang_up():
    """Tests that run under nohup hand on that a closed terminal is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to", ["srlm alone", "all"])
def test_stopped_all_end_with_one_sentence(pipeline, sent, to):
    process = pipeline.start("srlm")
    (os.kill if to == "srlm alone" else os.killpg)(process.pid, sent)
    err = process.communicate(timeout=10)[1]
    assert process.returncode == 128 + sent
    word = STOPPED[sent]
    assert err == f"{word}. Nothing is half-written; the same command goes on from there.\n"
    assert list((pipeline.path / "data").iterdir()) == []
    recover(pipeline.path)


def test_a_second_signal_ends_what_cannot_clean_up(pipeline):
    (pipeline.path / "slow").touch()
    process = pipeline.start("srlm")
    (stage,) = stages_among(psutil.Process(process.pid).children(recursive=True))
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    pipeline.wait_for(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE)
    recover(pipeline.path)
    assert list((pipeline.path / "data").iterdir()) == []


def test_a_stage_that_is_stopped_before_it_is_ready_says_nothing(pipeline):
    """While it imports: no traceback."""
    (pipeline.path / "code/stages/wait.py").write_text("import time; open('started', 'w').close(); time.sleep(60)")
    process = pipeline.start("srlm")
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=10)[1]
    assert process.returncode == 130
    assert err == "interrupted. Nothing is half-written; the same command goes on from there.\n"


def test_what_was_half_made_when_it_was_stopped_says_nothing(pipeline):
    """As a bar of tqdm that the signal cut off in its `__init__`: its `__del__` fails, in each of the processes."""
    (pipeline.path / "code/sitecustomize.py").write_text(
        "import atexit\n"
        "class HalfMade:\n"
        "    def __del__(self): import sys; raise AttributeError(str(sys.orig_argv))\n"
        "half_made = [HalfMade()]\n"
        "atexit.register(half_made.clear)\n"
    )
    (pipeline.path / "code/stages/wait.py").write_text("import time; open('started', 'w').close(); time.sleep(60)")
    process = pipeline.start("srlm")
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=10)[1]
    assert err == "interrupted. Nothing is half-written; the same command goes on from there.\n"


@pytest.mark.parametrize("command", ["srlm", "dvc"])
def test_a_second_run_disturbs_nothing(pipeline, command):
    """Whatever the times of DVC's files say."""
    process = pipeline.start(command)
    rwlock = pipeline.path / ".dvc/tmp/rwlock"
    os.utime(rwlock, (0, 0))
    before = rwlock.read_bytes()
    with pytest.raises(SrlmError, match="is running here"):
        recover(pipeline.path)
    assert rwlock.read_bytes() == before
    (pipeline.path / "go").touch()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, out + err
    recover(pipeline.path)
    assert (pipeline.path / "dvc.lock").exists()


def test_a_dvc_between_stages_is_not_disturbed(pipeline):
    """It holds DVC's lock, and may be in the middle of writing dvc.lock."""
    (pipeline.path / "dvc.lock").write_text("half")
    hold = "from dvc.lock import make_lock; a = make_lock('.dvc/tmp/lock'); a.lock(); open('started', 'w'); input()"
    with subprocess.Popen([sys.executable, "-c", hold], cwd=pipeline.path, stdin=subprocess.PIPE) as other:
        pipeline.wait_for(lambda: (pipeline.path / "started").exists())
        with pytest.raises(SrlmError, match="Another DVC process is running here"):
            recover(pipeline.path)
        assert (pipeline.path / "dvc.lock").read_text() == "half"
        other.communicate(b"\n")
    recover(pipeline.path)
    assert not (pipeline.path / "dvc.lock").exists()


def test_a_stage_that_fails_is_an_error(pipeline):
    (pipeline.path / "code/stages/wait.py").write_text("open('started', 'w').close(); raise SystemExit(1)")
    process = pipeline.start("srlm")
    err = process.communicate(timeout=20)[1]
    assert process.returncode not in (0, 130)
    assert "failed to reproduce 'a'" in err
