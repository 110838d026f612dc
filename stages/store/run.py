"""One run of one verb: what it reads is hashed, and must be the same when it ends; what it writes is whole or absent.

What is equal in equal runs goes into `lineage.json` beside a model; times, memory and the git revision into
`data/logs/runs.jsonl`, which DVC does not see: else every commit would be a new version of every model.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import polars as pl
import psutil

from stages.console import live
from stages.console.errors import ParamsError, StaleInputError
from stages.console.terminal import warn
from stages.store import catalog, metrics
from stages.store.files import append_line, atomic_write, md5, read_json, read_lines, signature, write_json
from stages.store.tables import Table

LOG = "data/logs/runs.jsonl"
LIVE = "data/logs/live"
"""A file for each stage that runs, or ran last: console/live.py."""
COMPLETION_CACHE = "data/cache/completions.v3.sqlite"
"""Completions that engines finished, all stages'. The number is the schema's."""
TRAINING_CACHE = "data/cache/training"
"""A folder for each model whose training is under way, with its last checkpoint."""
VERSIONED = ("torch", "transformers", "trl", "tokenizers", "polars", "numpy")


class TextSource(Protocol):
    """What the store must know of an engine whose texts it keeps."""

    name: str
    packages: Mapping[str, str]
    served_by: Mapping[str, Any] | None


class Run:
    """Context of one verb: `with Run("train_dpo", root, "M2") as run: ...`. Raises StaleInputError at the end when an
    input changed while the verb ran."""

    def __init__(self, verb: str, root: Path = Path(), key: str | None = None) -> None:
        self.stage = f"{verb}@{key}" if key else verb
        self.root = root
        self.inputs: dict[str, str] = {}
        self._signatures: dict[str, list[tuple[str, int, int]]] = {}
        self.completion_cache = root / COMPLETION_CACHE
        self.training_cache = root / TRAINING_CACHE
        self.servers: dict[str, Mapping[str, Any]] = {}
        self.compute_s = 0.0
        self.figures: dict[str, Any] = {}
        """Tokens and speed of what computed, for the log."""

    def __enter__(self) -> Run:
        self._started = psutil.Process().create_time()  # the imports are part of what a stage costs
        live.begin(self.root / LIVE / f"{self.stage}.jsonl")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.check_inputs()
        finally:
            outcome = "done" if error is None else kind.__name__ if kind else "?"
            self._log(outcome)
            live.end(outcome, str(error)[:2000] if error else None)

    # What comes in

    def watch(self, path: Path) -> Path:
        """Record the hash of an input file or folder."""
        name = os.path.relpath(path, self.root)
        self._signatures[name] = signature(path)
        self.inputs[name] = md5(path)
        return path

    @contextmanager
    def passing(self, path: Path) -> Iterator[Path]:
        """An input of now, no input of what the run writes: it will be gone."""
        yield self.watch(path)
        self.check_inputs()
        name = os.path.relpath(path, self.root)
        del self.inputs[name], self._signatures[name]

    def read(self, table: Table, model: str | None = None, columns: tuple[str, ...] | None = None) -> pl.DataFrame:
        path = catalog.table_path(table, self.root, model)
        if path.is_file():  # else reading says which stage makes it
            self.watch(path)
        return catalog.read(table, self.root, model, columns)

    def read_metrics(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Metrics that another stage wrote. Raises TableError when they are not there or no JSON."""
        path = metrics.file_of(self.root, kind, name)
        return read_json(self.watch(path) if path.is_file() else path)

    def template(self, name: str) -> str:
        """Text of a template named in params. Raises ParamsError when it cannot be read."""
        path = self.root / name
        if path.is_file():
            self.watch(path)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ParamsError(f"template {name} cannot be read: {e}. Its name stands in params.yaml") from None

    def model(self, name: str) -> Path:
        """Folder of an input model. Raises ModelError when it is not there."""
        return self.watch(catalog.there(self.root, name))

    def hash_of(self, path: Path) -> str:
        """The recorded content hash of an input."""
        return self.inputs[os.path.relpath(path, self.root)]

    def check_inputs(self) -> None:
        for name, before in self.inputs.items():
            path = self.root / name
            if signature(path) == self._signatures[name]:
                continue
            now = md5(path) if path.exists() else "gone"
            if now != before:
                raise StaleInputError(
                    f"{name} changed while {self.stage} ran (was {before}, now {now}), so its outputs are not of one "
                    f"version. Run: dvc repro"
                )

    # What goes out

    def write(
        self,
        table: Table,
        frame: pl.DataFrame,
        model: str | None = None,
        engine: TextSource | None = None,
        reviewed: Mapping[str, Any] | None = None,
    ) -> None:
        """Check and write a table; `engine` is what wrote its texts: its packages, and what a server left out of the
        requests, go into the file, the server into the log. `reviewed`: counts of people's reviews in it."""
        self.check_inputs()
        if engine and engine.served_by:
            self.servers[engine.name] = engine.served_by
        left_out = (engine.served_by or {}).get("left_out", ()) if engine else ()
        catalog.write(table, frame, self.root, model, engine.packages if engine else None, left_out, reviewed)

    def write_metrics(self, kind: str, data: dict[str, Any], name: str | None = None) -> None:
        """data/metrics/KIND.json, or KIND/NAME.json."""
        metrics.write(self.root, kind, name, data)

    def write_plot(self, name: str, frame: pl.DataFrame) -> None:
        """Points of a chart of `dvc plots`, one row a point."""
        with atomic_write(self.root / "data" / "plots" / f"{name}.csv") as partial:
            frame.write_csv(partial)

    @contextmanager
    def new_model(
        self,
        name: str,
        *,
        parent: str | None,
        method: str,
        params: dict[str, Any],
        notes: dict[str, Any],
        packages: Iterable[str] = (),
    ) -> Iterator[Path]:
        """Yield an empty folder for a new model; with its `lineage.json` it becomes `data/models/{name}` in one
        rename. `packages`: those that decide its bytes beside the usual ones."""
        with atomic_write(catalog.model_dir(self.root, name)) as partial:
            partial.mkdir()
            yield partial
            self.check_inputs()
            lineage = {"name": name, "parent": parent, "method": method, "data": self.inputs, "params": params}
            write_json(partial / "lineage.json", lineage | {"versions": versions(*VERSIONED, *packages)} | notes)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Time spent here is the model's own compute."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.compute_s += time.monotonic() - started

    # The log beside the outputs

    def _log(self, outcome: str) -> None:
        entry = {
            "stage": self.stage,
            "outcome": outcome,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self._started, 2),
            "compute_s": round(self.compute_s, 2),
            "cpu_s": round(time.process_time(), 2),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "git": _git_revision(self.root),
            "inputs": self.inputs,
            "servers": self.servers,
        } | self.figures
        try:
            append_line(self.root / LOG, entry)
        except OSError as e:  # a full disk: the log must not hide the error that matters
            warn(f"{LOG} was not written: {e}")


def times(root: Path) -> dict[str, dict[str, float]]:
    """`seconds`, `compute_s` (the model's own) and `peak_mb` of each stage's last whole run, in the order they ran.
    A stage that was only restored from DVC's cache is absent."""
    keys = ("seconds", "compute_s", "peak_mb")
    last: dict[str, dict[str, float]] = {}
    for entry in read_lines(root / LOG):
        stage, spent = entry.get("stage"), {key: entry.get(key) for key in keys}
        numbers = {key: value for key, value in spent.items() if isinstance(value, int | float)}
        if entry.get("outcome") == "done" and isinstance(stage, str) and numbers == spent:
            last.pop(stage, None)  # the order is that of the last runs
            last[stage] = numbers
    return last


def versions(*only: str) -> dict[str, str]:
    """Versions of the packages that decide a model's bytes; of what is copied, `only` those that touch it."""
    return {name: importlib.metadata.version(name) for name in only or VERSIONED}


def _git_revision(root: Path) -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
