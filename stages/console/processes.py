"""Which of the machine's processes are DVC's and which are stages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import psutil


def is_dvc(words: Sequence[str]) -> bool:
    """Whether this command line is DVC's: `dvc repro`, `python -m dvc`, `python -m stages.console.dvc`."""
    return any(re.search(r"(^|[/\\.])dvc(\.exe|\.py)?$", word) for word in words)


def is_stage(words: Sequence[str]) -> bool:
    """Whether this command line is that of a verb of dvc.yaml: `python -m stages.train_dpo M2`."""
    return "-m" in words and any(re.fullmatch(r"stages\.\w+", word) for word in words)


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
