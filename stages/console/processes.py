"""Which of the machine's processes are DVC's and which are stages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
