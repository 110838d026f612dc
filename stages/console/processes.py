"""Which of the machine's processes are DVC's and which are stages; and processes that end together."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise

import psutil


def program(words: Sequence[str]) -> str:
    """What a command line runs: a program, or a script or module of Python's."""
    if not words or not re.search(r"(^|[/\\])python[\d.]*(\.exe)?$", words[0]):
        return words[0] if words else ""
    for word, following in pairwise([*words[1:], ""]):
        if word == "-m":
            return following
        if not word.startswith("-"):
            return word
    return ""


def is_dvc(words: Sequence[str]) -> bool:
    """Whether this command line is DVC's: `dvc repro`, `python -m dvc`, `python -m stages.console.dvc`."""
    return re.search(r"(^|[/\\]|^stages\.console\.)dvc(\.exe|\.py)?$", program(words)) is not None


def is_stage(words: Sequence[str]) -> bool:
    """Whether this command line is that of a verb of dvc.yaml: `python -m stages.train_dpo M2`."""
    return re.fullmatch(r"stages\.\w+", program(words)) is not None


def stages_among(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that run a stage; one that ends meanwhile, or is another user's, is none."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE and is_stage(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is over, with all that it started, when the context is."""
    # in a group of its own: a terminal's Ctrl-C comes to this process alone
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(psutil.Error):
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for each in family:  # the parent first: it would tell of the others' end at length
                with suppress(psutil.Error):
                    each.kill()
            psutil.wait_procs(family, 10)
        process.wait()


def this_process() -> tuple[int, float]:
    """Its id, which another may have later, and when it was created."""
    return (me := psutil.Process()).pid, me.create_time()


def end_with(process: int, created: float) -> None:
    """End this process when that one, or the parent of this one, is no more: nobody would wait for it. For a thread."""
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            if abs(psutil.Process(process).create_time() - created) > 1:
                break
        except psutil.Error:
            break
        time.sleep(0.5)
    os._exit(1)
