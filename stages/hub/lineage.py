"""Where what is published comes from, back to the seed rows: the part of dvc.lock that made it, as a graph of stages.

`lineage.json` holds, under `stages`, each stage's command, parameters, and the md5 of what it read (`deps`) and wrote
(`outs`); under `files`, each published file's sha256 and its table; under `models`, the `lineage.json` that training
left beside each; under `packages`, the versions of those that wrote the texts of a table; under `card`, our metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from stages.console.errors import HubError

FORMAT = "self-rewarding-lm lineage 2"
NAME = "lineage.json"
LOCK = "dvc.lock"
Stage = dict[str, Any]
"""`cmd`, `params`, `deps` and `outs`; the last two map a path to its md5."""


def locked(file: Path, now: Container[str]) -> dict[str, Stage]:
    """The stages of a dvc.lock, in its order, of those that there are `now`: DVC keeps those that are gone.

    Raises HubError for no such file, and for an entry without a hash: that stage never ran to its end.
    """
    try:
        lock = YAML(typ="safe").load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise HubError(f"no {file.name} in {file.parent.resolve()}: no stage ran here yet. Run: srlm repro") from None
    stages: dict[str, Stage] = {}
    for name, entry in (lock.get("stages") or {}).items():
        if name in now:
            try:
                deps, outs = ({item["path"]: item["md5"] for item in entry.get(kind, ())} for kind in ("deps", "outs"))
            except KeyError as e:
                raise HubError(f"dvc.lock: stage {name} has no {e}. Run: srlm repro") from None
            stages[name] = {"cmd": entry.get("cmd", ""), "params": entry.get("params", {}), "deps": deps, "outs": outs}
    return stages


def ancestors(stages: Mapping[str, Stage], wanted: Iterable[str]) -> dict[str, Stage]:
    """The stages that wrote the files and folders `wanted`, those that wrote what these read, and so on, in the order
    of `stages`. Raises HubError for something wanted that no stage writes."""
    makers = {path: name for name, stage in stages.items() for path in stage["outs"]}
    try:
        todo, seen = [makers[path] for path in wanted], set[str]()
    except KeyError as e:
        raise HubError(f"dvc.lock has no stage that makes {e.args[0]}. Run: srlm repro") from None
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            read = [(PurePosixPath(path), PurePosixPath(out)) for path in stages[name]["deps"] for out in makers]
            todo += [makers[str(out)] for path, out in read if path.is_relative_to(out) or out.is_relative_to(path)]
    return {name: stage for name, stage in stages.items() if name in seen}


def dump(lineage: Mapping[str, Any]) -> str:
    """Equal lineages are equal bytes."""
    return json.dumps(lineage, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def parse(text: str | None) -> dict[str, Any] | None:
    """A published `lineage.json`; None for what this version of srlm did not write."""
    try:
        lineage = json.loads(text or "")
        valid = (
            lineage["format"] == FORMAT
            and all(isinstance(lineage[part], dict) for part in ("card", "code", "files", "models", "packages"))
            and all(isinstance(stage, dict) for stage in lineage["stages"].values())
            and all(isinstance(about["sha256"], str) for about in lineage["files"].values())
            and all(re.fullmatch("[0-9a-f]+", lineage["code"][name]) for name in ("git", "dvc_lock"))
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return lineage if valid else None
