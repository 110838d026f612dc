"""Errors are sentences, exit codes are kept, Ctrl-C says how to go on. Real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import sys, time
from pathlib import Path
from stages.console.command import command
from stages.console.errors import ParamsError
from stages.store.files import atomic_write

def main(what: str) -> None:
    if what == "fault":
        raise ParamsError("params.yaml: [bold]seed[/bold]: missing")
    if what == "hostile":
        raise ParamsError("seen \\x1b[31mRED\\x9b2J\\u202e\\nsecond line")
    if what == "bug":
        raise ZeroDivisionError("ours")
    if what == "wait":
        with atomic_write(Path("out.txt")) as partial:
            partial.write_text("half")
            print("ready", flush=True)
            time.sleep(60)

command(main)
"""


@pytest.fixture(autouse=True)
def hang_up():
    """Tests that run under nohup hand on that a closed terminal is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(tmp_path, *args):
    (tmp_path / "verb.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "verb.py", *args],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_done_is_zero(tmp_path):
    process = start(tmp_path, "nothing")
    assert process.communicate()[1] == ""
    assert process.returncode == 0


def test_a_fault_is_one_sentence_and_one(tmp_path):
    process = start(tmp_path, "fault")
    said = process.communicate()[1]
    assert process.returncode == 1
    assert said.strip() == "error: params.yaml: [bold]seed[/bold]: missing", "no traceback, and text is never markup"


def test_a_bug_keeps_its_traceback(tmp_path):
    process = start(tmp_path, "bug")
    assert "ZeroDivisionError" in process.communicate()[1]
    assert process.returncode == 1


def test_wrong_usage_is_two(tmp_path):
    process = start(tmp_path)
    assert "Missing argument" in process.communicate()[1]
    assert process.returncode == 2


def test_a_fault_that_quotes_a_text_cannot_colour_or_clear_the_terminal(tmp_path):
    process = start(tmp_path, "hostile")
    said = process.communicate()[1]
    assert said == "error: seen \\x1b[31mRED\\x9b2J\\u202e\nsecond line\n"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupt_leaves_nothing_half_written(tmp_path, sent, code):
    process = start(tmp_path, "wait")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(sent)
    started = time.monotonic()
    said = process.communicate(timeout=10)[1]
    assert process.returncode == code
    assert time.monotonic() - started < 5
    assert [f for f in os.listdir(tmp_path) if f.startswith("out")] == []
    assert sent != signal.SIGINT or "same command goes on" in said
