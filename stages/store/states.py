"""Where each stage of dvc.yaml stands: waiting, running, done, failed or up to date, told without DVC, whose lock a run
holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from stages.config.load import PARAMS, read_mapping
from stages.console import live
from stages.store.files import ignored_by_dvc, md5, signature
from stages.store.run import LIVE, times

REPRO = "repro"
"""The file in LIVE of `srlm repro` itself."""
STEPS = 400
"""Of a training, as many points as a screen can show."""
TOO_LARGE = 2_000_000_000
"""Bytes of a local input that are not hashed again: a model folder of one's own is taken to be as it was."""
Lines = list[dict[str, Any]]


@contextmanager
def watched(root: Path) -> Iterator[None]:
    """While `srlm repro` runs here: stages that are done are of this run."""
    live.begin(root / LIVE / f"{REPRO}.jsonl")
    outcome, error = "done", None
    try:
        yield
    except BaseException as e:
        outcome, error = type(e).__name__, None if isinstance(e, SystemExit) else str(e)
        raise
    finally:
        live.end(outcome, error)


class States:
    """Of the project in `root`; what was hashed is remembered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hashes: dict[str, tuple[Any, str]] = {}

    def running(self) -> bool:
        """Whether `srlm repro` runs here."""
        return (_outcome(live.lines(self.root / LIVE / f"{REPRO}.jsonl")) or {}).get("state") == "running"

    def all(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Of the stages `names`, each with the name under which it logs (`versions.stages_in_order`): `repro` (state:
        running, done or failed, and error; or null), `stages` in their order, each with name, logs_as, state, progress
        (label, done, total, unit, note), seconds, left_s, error, steps and texts, and `left_s` of what runs and waits,
        which lacks the `unknown` stages."""
        repro = live.lines(self.root / LIVE / f"{REPRO}.jsonl")
        earlier, fresh = times(self.root), self.up_to_date(names)
        stages = [
            {"name": name, "logs_as": log, **self._stage(log, name in fresh, repro, earlier.get(log))}
            for name, log in names.items()
        ]
        open_ = [stage for stage in stages if stage["state"] in ("running", "waiting")]
        known = [stage["left_s"] for stage in open_ if stage["left_s"] is not None]
        return {
            "repro": _outcome(repro),
            "stages": stages,
            "left_s": sum(known) if known else None,
            "unknown": len(open_) - len(known),
            "at": time.time(),
        }

    def _stage(self, name: str, fresh: bool, repro: Lines, earlier: Mapping[str, float] | None) -> dict[str, Any]:
        lines = live.lines(self.root / LIVE / f"{name}.jsonl")
        outcome = _outcome(lines)
        here = bool(lines and repro) and lines[0].get("started", 0) >= repro[0].get("started", 0)
        told = outcome["state"] if outcome else None
        if told == "running":
            state = "running"
        elif told == "done" and here and (fresh or self.running()):  # dvc.lock may not have it yet
            state = "done"
        elif fresh:
            state = "up to date"
        else:  # one that failed before this run is tried again
            state = "failed" if told == "failed" and (here or not repro) else "waiting"
        of_now = state in ("running", "failed", "done")
        progress = _last(lines, "label") if of_now else None
        seconds = (lines[-1].get("ended") or time.time()) - lines[0]["started"] if of_now and lines else None
        left = None
        if state == "waiting":
            left = earlier["seconds"] if earlier else None
        elif state == "running" and seconds is not None:
            left = _left(progress) if progress and progress["done"] < progress["total"] else None
            if left is None and earlier:
                left = max(earlier["seconds"] - seconds, 0.0)
        steps = [line for line in lines if "step" in line] if of_now else []
        texts = [text for line in lines if "texts" in line for text in line["texts"]] if state == "running" else []
        return {
            "state": state,
            "progress": progress,
            "seconds": seconds,
            "left_s": left,
            "error": outcome["error"] if outcome and state == "failed" else None,
            "steps": steps[:: -(-len(steps) // STEPS) or 1] if steps else [],
            "texts": texts[-12:][::-1],
        }

    def up_to_date(self, names: Iterable[str]) -> set[str]:
        """The stages whose parameters, inputs and outputs are those in dvc.lock, and all that they depend on are."""
        lock, params = read_mapping(self.root / "dvc.lock") or {}, read_mapping(self.root / PARAMS) or {}
        recorded = lock.get("stages")
        entries = {name: recorded[name] for name in names if isinstance(recorded, dict) and name in recorded}
        makers = {out.get("path"): name for name, entry in entries.items() for out in _list(entry, "outs")}
        made = {out.get("path"): out.get("md5") for entry in entries.values() for out in _list(entry, "outs")}
        fresh = {name for name, entry in entries.items() if self._same(entry, params, made)}
        while stale := [
            name
            for name in fresh
            if any(makers.get(dep.get("path"), name) not in fresh for dep in _list(entries[name], "deps"))
        ]:
            fresh -= {*stale}
        return fresh

    def _same(self, entry: Any, params: Mapping[str, Any], made: Mapping[Any, Any]) -> bool:
        deps, outs = _list(entry, "deps"), _list(entry, "outs")
        was = (entry.get("params") or {}).get(PARAMS) or {}
        return (
            all(_value(params, key) == value for key, value in was.items())
            and all((self.root / out["path"]).exists() for out in outs if "path" in out)
            and all(
                (made[dep["path"]] if dep["path"] in made else self._hash(dep["path"])) in (dep.get("md5"), None)
                for dep in deps
                if "path" in dep
            )
        )

    def _hash(self, name: str) -> str | None:
        """Content hash of an input that no stage makes; None where it is too large to be hashed again and again."""
        path = self.root / name
        try:
            now = signature(path)
            if sum(size for _, size, _ in now) > TOO_LARGE:
                return None
            if name not in self._hashes or self._hashes[name][0] != now:
                self._hashes[name] = now, md5(path, ignored_by_dvc(self.root)) if path.exists() else "gone"
        except OSError:
            return "gone"
        return self._hashes[name][1]


def _list(entry: Any, key: str) -> list[dict[str, Any]]:
    found = entry.get(key) if isinstance(entry, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def _last(lines: Lines, key: str) -> dict[str, Any] | None:
    return next((line for line in reversed(lines) if key in line), None)


def _left(progress: Mapping[str, Any]) -> float | None:
    """Seconds, at the speed so far of what did not come for free."""
    worked, begun = progress["done"] - progress["free"], progress.get("begun")
    if worked <= 0 or begun is None:
        return None
    return float((progress["at"] - begun) * (progress["total"] - progress["done"]) / worked)


def _outcome(lines: Lines) -> dict[str, Any] | None:
    """Of a process that told of itself: running, done or failed, and why; None where none did."""
    if not lines:
        return None
    if (last := _last(lines, "outcome")) is not None:
        return {"state": "done" if last["outcome"] == "done" else "failed", "error": last.get("error")}
    with suppress(psutil.Error):
        process = psutil.Process(int(lines[0].get("pid", -1)))
        if process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - lines[0].get("created", 0)) < 1:
            return {"state": "running", "error": None}
    return {"state": "failed", "error": "its process is gone: it was killed. srlm repro goes on from there"}
