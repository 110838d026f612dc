"""One entry for every command: a typed function becomes a command line, and an SrlmError one readable sentence with its
exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

import psutil
import typer

from stages.console.errors import SrlmError
from stages.console.processes import stages_among
from stages.console.quiet import quiet_libraries
from stages.console.terminal import shown, stderr

STOPPED: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "its terminal was closed",
}
"""Signals that end a command in good order, and what it says."""
UNDER_SRLM = "SRLM_RUNS_DVC"
"""Set for what `srlm` starts: it says itself that it was stopped, once for all."""
SAME_S = 0.5
"""A second signal so soon is the same Ctrl-C: a terminal sends it to a stage, and srlm passes it on."""


class Interrupted(BaseException):
    """A signal of STOPPED, `signum`. Not KeyboardInterrupt, which typer turns into a bare "Aborted!"; not an Exception,
    so that nothing swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(STOPPED[signum])
        self.signum = signum


def command(main: Callable[..., Any]) -> None:
    """Run `main` with its arguments from the command line.

    Exit codes: 0 done; 1 an SrlmError, printed without a traceback; 2 wrong usage or a wrong query; 128 and
    the signal when it was stopped: 130 by Ctrl-C, 143 by SIGTERM, 129 by a closed terminal.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    run(app)


def run(app: Callable[..., Any]) -> None:
    """Run a typer app under the same rules. The first signal lets it clean up; a second one ends it, and all that it
    started, at once."""
    stopped: list[Interrupted] = []
    since = 0.0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal since
        if not stopped:
            since = time.monotonic()
            stopped.append(Interrupted(signum))
            raise stopped[0]
        if time.monotonic() - since > SAME_S:
            for child in psutil.Process().children(recursive=True):
                child.kill()
            os._exit(128 + signum)

    handle(stop)
    ignore_what_was_half_made(lambda: bool(stopped))
    quiet_libraries()
    try:
        app()
    except SystemExit:
        raise
    except BrokenPipeError:  # `srlm results | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except BaseException as e:
        reason = stopped[0] if stopped else e  # a library may make another exception of it
        if isinstance(reason, Interrupted):
            if UNDER_SRLM not in os.environ:
                stderr.print(f"{reason}. Nothing is half-written; the same command goes on from there.")
            raise SystemExit(128 + reason.signum) from None
        if not isinstance(e, SrlmError):
            raise
        stderr.print("error:", style="bold red", end=" ")
        stderr.print(shown(str(e)))
        raise SystemExit(e.exit_code) from None


def handle(stop: Callable[[int, FrameType | None], None]) -> None:
    """Have the signals of STOPPED call `stop`, but for one that whoever started this wants ignored, as nohup does."""
    for signum in STOPPED:
        if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, stop)


def ignore_what_was_half_made(stopped: Callable[[], bool]) -> None:
    """An object that a signal cut off while it was made may fail in its `__del__`, as a bar of tqdm does; python would
    tell of it on stderr. Once `stopped`, it does not."""
    sys.unraisablehook = lambda failed: None if stopped() else sys.__unraisablehook__(failed)


def own_path() -> dict[str, str]:
    """The environment, with this python's folder first on the PATH: DVC runs `python`."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def run_dvc(*arguments: str, root: Path = Path(), out: IO[str] | int | None = None, err: IO[str] | None = None) -> int:
    """`dvc ...` in `root`; its exit code. What it prints goes to `out` and `err` if given. Raises Interrupted when
    it, or this process, is stopped, after DVC and its stage have ended in good order."""
    process = start_dvc(*arguments, root=root, stdout=out, stderr=err)
    try:
        code = process.wait()
    except Interrupted as e:
        stop_dvc([process], e.signum)
        raise
    if code - 128 in STOPPED:
        raise Interrupted(code - 128)
    return code if code >= 0 else 128 - code


def start_dvc(*arguments: str, root: Path, **how: Any) -> subprocess.Popen[bytes]:
    """`dvc ...` in `root`, under way; `how` as of Popen."""
    command = [sys.executable, "-m", "stages.console.dvc", *arguments]
    return subprocess.Popen(command, cwd=root, env={**own_path(), UNDER_SRLM: "1"}, **how)


def stop_dvc(processes: Sequence[subprocess.Popen[bytes]], signum: int) -> None:
    """Pass a signal on to the stage that each DVC runs, at which DVC ends, too, or to DVC when there is none; wait for
    all. DVC itself ignores Ctrl-C while a stage runs, and killed at once it could be cut off while it writes
    dvc.lock."""
    informed = set()
    while running := [process for process in processes if process.poll() is None]:
        for process in running:
            with suppress(psutil.Error):  # it ended meanwhile
                dvc = psutil.Process(process.pid)
                for each in stages_among(dvc.children(recursive=True)) or [dvc]:
                    if each not in informed:
                        informed.add(each)
                        each.send_signal(signum)
        with suppress(subprocess.TimeoutExpired):
            running[0].wait(0.2)
