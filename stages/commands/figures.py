"""What a command that measures leaves, and shows. It is DVC's as what a stage makes is: each table an out of its own,
each file of figures a metric of `dvc metrics diff`. Git takes the small files that say so."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from typing import Any

from stages.config.shared import MODEL_NAME
from stages.console.command import run_dvc
from stages.console.sheets import Sheet, to_terminal
from stages.console.terminal import stderr, warn
from stages.store import catalog, metrics
from stages.store.files import atomic_write


def aside() -> AbstractContextManager[Any]:
    """What is printed within goes to standard error: the figures have standard output for themselves."""
    return redirect_stdout(sys.stderr)


def show(content: Mapping[str, Any], sheets: Iterable[Sheet], *, as_json: bool) -> None:
    """Print `content` as JSON, an interval of few values unknown, or the sheets."""
    if as_json:
        print(json.dumps(metrics.without_empty_claims(dict(content)), ensure_ascii=False, indent=2))
        return
    for sheet in sheets:
        to_terminal(sheet, sys.stdout, longest=200)
        print()


def keep(kind: str, name: str, content: dict[str, Any], root: Path, *tables: Path) -> None:
    """Write figures into data/metrics, give them and the `tables` behind them to DVC, and say where they are."""
    metrics.write(root, kind, name, content)
    declare(file := metrics.file_of(root, kind, name))
    for table in tables:
        track(root, table)
    stderr.print(f"{', '.join(map(str, (*tables, file)))}; compare: dvc metrics diff")


def keep_of_model(kind: str, model: str, content: dict[str, Any], root: Path) -> None:
    """Figures of a model of data/models, into data/metrics; nothing of others'."""
    if re.fullmatch(MODEL_NAME, model) and catalog.model_dir(root, model).is_dir():
        keep(kind, model, content, root)


def declare(figures: Path) -> None:
    """The files beside `figures` are metrics: a dvc.yaml there says so."""
    names = sorted(file.name for file in figures.parent.glob("*.json"))
    with atomic_write(figures.parent / "dvc.yaml") as partial:
        partial.write_text("metrics:\n" + "".join(f"- {name}\n" for name in names), encoding="utf-8")


def track(root: Path, table: Path) -> None:
    """Add `table` to DVC (`dvc add`)."""
    if not (root / ".dvc").is_dir():
        return
    path = os.path.relpath(table)
    if run_dvc("add", "--quiet", path):
        warn(f"{path} is written, but DVC does not hold it yet. Type: dvc add {path}")
