"""One entry for every command: a typed function becomes a command line, and an SrlmError one readable sentence with its
exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import typer

from stages.console.errors import SrlmError
from stages.console.terminal import stderr


class Interrupted(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which typer turns into a bare "Aborted!"; not an Exception, so that nothing
    swallows it."""


def command(main: Callable[..., Any]) -> None:
    """Run `main` with its arguments from the command line.

    Exit codes: 0 done; 1 an SrlmError, printed without a traceback; 2 wrong usage or a wrong query; 130 interrupted;
    143 terminated.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    run(app)


def run(app: Callable[..., Any]) -> None:
    """Run a typer app under the same rules."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that temporary files are removed when a scheduler ends us
    try:
        app()
    except SrlmError as e:
        stderr.print("error:", style="bold red", end=" ")
        stderr.print(str(e))
        raise SystemExit(e.exit_code) from None
    except Interrupted:
        stderr.print("interrupted. Nothing is half-written; the same command goes on from there.")
        raise SystemExit(130) from None
    except BrokenPipeError:  # `srlm results | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def own_path() -> dict[str, str]:
    """The environment, with this python's folder first on the PATH: DVC runs `python`."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def run_dvc(*arguments: str) -> int:
    """`dvc ...` in this folder; its exit code.

    Ctrl-C reaches DVC and its stage by themselves, and ending takes them a moment: we wait, for a DVC killed at once
    could be cut off while it writes dvc.lock. SIGTERM reaches only us, so it is passed on, to the stage first.
    """
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], env=own_path())

    def stop(signum: int, frame: FrameType | None) -> None:
        for child in reversed(psutil.Process(process.pid).children(recursive=True)):
            child.terminate()

    old = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
    }
    try:
        return process.wait()
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not break the clean-up
    raise Interrupted
