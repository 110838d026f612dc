"""What a command makes is DVC's as what a stage makes is: each table an out of its own, each file of figures a metric
of `dvc metrics diff`. Git takes the small files that say so."""

from __future__ import annotations

import os
from pathlib import Path

from stages.console.command import run_dvc
from stages.console.terminal import warn
from stages.store.files import atomic_write


def declare(figures: Path) -> None:
    """The files beside `figures` are metrics: a dvc.yaml there says so."""
    names = sorted(file.name for file in figures.parent.glob("*.json"))
    with atomic_write(figures.parent / "dvc.yaml") as partial:
        partial.write_text("metrics:\n" + "".join(f"- {name}\n" for name in names), encoding="utf-8")


def track(root: Path, table: Path, figures: Path | None = None) -> None:
    """Add `table` to DVC (`dvc add`), and declare `figures`."""
    if figures:
        declare(figures)
    if not (root / ".dvc").is_dir():
        return
    path = os.path.relpath(table)
    if run_dvc("add", "--quiet", path):
        warn(f"{path} is written, but DVC does not hold it yet. Type: dvc add {path}")
