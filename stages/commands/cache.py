"""cache: completions of engines and log-probabilities of DPO's references, cached so that no work is done twice, and
checkpoints of trainings.
`srlm cache` shows them by model and stage.

    srlm cache --prune --model M1          delete M1's
    srlm cache --prune --older 30          delete what is older than 30 days

What is deleted is computed again when a stage next needs it; the store's tables do not depend on it.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.commands.disk import held
from stages.console.errors import EngineError, SrlmError, TrainingError
from stages.console.sheets import Figure, Sheet, to_terminal
from stages.console.terminal import stderr
from stages.engines.cache import CompletionCache
from stages.store.files import remove
from stages.store.run import COMPLETION_CACHE, TRAINING_CACHE
from stages.trainers.references import References
from stages.trainers.resume import Checkpoints, step_of

DAY_S = 86_400


def show(root: Path = Path(), as_json: bool = False) -> None:
    """Print how much is cached, by model and stage."""
    if as_json:
        write_json(root)
        return
    path = root / COMPLETION_CACHE
    for folder in trainings(root):
        last = Checkpoints(folder).last
        at = f"stopped after step {step_of(last)}" if last else "has no whole checkpoint"
        print(f"the training of {folder.name} {at}: {held(folder) / 1e6:.1f} MB in {folder}")
    if not path.is_file():
        stderr.print("No completions are cached yet: engines cache what they finish when a stage runs")
        return
    with CompletionCache(path) as cache, References(path) as references:
        sizes, logps = cache.sizes(), references.counts()
    rows = [
        (s.model, s.stage, s.completions, Figure(s.bytes / 1e6, digits=1), day(s.oldest), day(s.newest)) for s in sizes
    ]
    to_terminal(Sheet(["model", "stage", "completions", "MB of text", "oldest", "newest"], rows), sys.stdout)
    print(f"{sum(size.completions for size in sizes):,} completions in {path}, {path.stat().st_size / 1e6:.1f} MB")
    if logps:
        by_model = ", ".join(f"{model} {count:,}" for model, count in sorted(logps.items()))
        print(f"{sum(logps.values()):,} log-probabilities of DPO's references there: {by_model}")


def write_json(root: Path) -> None:
    """The same as one object: `trainings` (model, step of the last checkpoint or null, bytes), `completions` (model,
    stage, completions, bytes, oldest, newest), `reference_logprobs` by model, `path`, `bytes` of the file."""
    path = root / COMPLETION_CACHE
    found: dict[str, Any] = {"completions": [], "reference_logprobs": {}}
    if path.is_file():
        with CompletionCache(path) as cache, References(path) as references:
            found = {
                "completions": [
                    size._asdict() | {"oldest": day(size.oldest), "newest": day(size.newest)} for size in cache.sizes()
                ],
                "reference_logprobs": references.counts(),
            }
    stopped = [
        {"model": folder.name, "step": (last := Checkpoints(folder).last) and step_of(last), "bytes": held(folder)}
        for folder in trainings(root)
    ]
    size = path.stat().st_size if path.is_file() else 0
    print(json.dumps({"path": str(path), "bytes": size, "trainings": stopped} | found, indent=2))


def prune(*, model: str | None = None, older: float | None = None, root: Path = Path()) -> None:
    """Delete completions, log-probabilities and checkpoints of `model` (None: of all) that are older than `older` days
    (None: of any age). Raises SrlmError for a model that has none."""
    path, before = root / COMPLETION_CACHE, None if older is None else time.time() - older * DAY_S
    old = [folder for folder in trainings(root) if model in (None, folder.name)]
    old = [folder for folder in old if before is None or folder.stat().st_mtime < before]
    for folder in old:
        remove(folder)
        stderr.print(f"Deleted the checkpoint of the training of {folder.name}")
    if not path.is_file() and old:
        return
    if not path.is_file():
        raise SrlmError(f"No completions are cached: {path} does not exist")
    try:
        with CompletionCache(path) as cache, References(path) as references:
            models = {size.model for size in cache.sizes()} | references.counts().keys()
            if model is not None and model not in models and old:
                return
            if model is not None and model not in models:
                raise SrlmError(
                    f"No completions of {model} are cached, only of {', '.join(sorted(models)) or 'no model'}"
                )
            logps = references.prune(model=model, before=before)
            count = f"{cache.prune(model=model, before=before):,}"
    except (EngineError, TrainingError):  # damaged, or no room on the disk, which deleting rows needs
        if model is not None or before is not None:
            raise
        for suffix in ("-wal", "-shm", ""):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        count, logps = "all", 0
    more = f" and {logps:,} log-probabilities of references" if logps else ""
    stderr.print(f"Deleted {count} cached completions{more}")


def trainings(root: Path) -> list[Path]:
    """Folders of the models whose training is under way, or was stopped."""
    return sorted(path for path in (root / TRAINING_CACHE).glob("*") if path.is_dir())


def day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
