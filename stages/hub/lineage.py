"""Where what is published comes from, from models and datasets back to the seed rows: the part of dvc.lock that made
it, as a graph of stages.

`lineage.json` holds, under `stages`, each stage's command, parameters, and the md5 of every file that it read (`deps`)
and made (`outs`), as DVC computes them; under `files`, each published file's sha256 and which table of the store it is;
under `kept`, the same of files that an earlier publication made and that the card still names, with the `commit` of the
repository whose own graph leads to them; under `models`, the `lineage.json` that training left beside each; under
`packages`, the versions of those that wrote the texts of a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from stages.console.errors import HubError
from stages.text.escape import for_terminal

OURS = "self-rewarding-lm lineage"
FORMAT = f"{OURS} 2"
NAME = "lineage.json"
LOCK = "dvc.lock"
Stage = dict[str, Any]
"""`cmd`, `params`, `deps` and `outs`; the last two map a path to its md5."""


def locked(file: Path, now: Container[str]) -> dict[str, Stage]:
    """The stages of a dvc.lock, of those that there are `now`: DVC leaves in it what a stage did that is gone.

    Raises HubError when there is no such file, and as `stages` does.
    """
    try:
        known = stages(YAML(typ="safe").load(file.read_text(encoding="utf-8")) or {})
    except FileNotFoundError:
        raise HubError(
            f"no {file.name} in {file.parent.resolve()}: nothing was made here yet. Run: srlm repro"
        ) from None
    return {name: stage for name, stage in known.items() if name in now}


def stages(lock: Mapping[str, Any]) -> dict[str, Stage]:
    """Of a dvc.lock that was read, in its order.

    Raises HubError for an entry without a hash: that stage was never run to its end.
    """
    found: dict[str, Stage] = {}
    for name, entry in (lock.get("stages") or {}).items():
        try:
            hashes = {kind: {item["path"]: item["md5"] for item in entry.get(kind, ())} for kind in ("deps", "outs")}
        except KeyError as e:
            raise HubError(f"dvc.lock: stage {name} has no {e}. Run: srlm repro") from None
        found[name] = {"cmd": entry.get("cmd", ""), "params": entry.get("params", {}), **hashes}
    return found


def ancestors(known: Mapping[str, Stage], wanted: Iterable[str]) -> dict[str, Stage]:
    """The stages that made the files and folders `wanted`, those that made what these read, and so on, in the order of
    `known`.

    Raises HubError for something wanted that no stage makes.
    """
    makers = {path: name for name, stage in known.items() for path in stage["outs"]}
    todo, seen = [], set()
    for path in wanted:
        if path not in makers:
            raise HubError(f"dvc.lock knows no stage that makes {path}. Run: srlm repro")
        todo.append(makers[path])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [
                makers[out]
                for path in known[name]["deps"]
                for out in makers
                if _within(path, out) or _within(out, path)
            ]
    return {name: stage for name, stage in known.items() if name in seen}


def document(
    made_by: Mapping[str, Stage],
    files: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Any],
    packages: Mapping[str, Mapping[str, str]],
    code: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole `lineage.json`. `packages`: table -> versions of those that wrote its texts; `code`: the revisions of
    git and of dvc.lock."""
    told = {"stages": dict(made_by), "files": dict(files), "models": dict(models), "packages": dict(packages)}
    return {"format": FORMAT, "paper": "arXiv:2401.10020", "code": dict(code), **told}


def dump(lineage: Mapping[str, Any]) -> str:
    """As JSON text: equal lineages are equal bytes."""
    return json.dumps(lineage, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def parse(text: str | None) -> dict[str, Any] | None:
    """A published `lineage.json`; None for what is not ours, or names files outside its repository.

    Raises HubError for one of another version of srlm: it is neither a stranger's nor to be written over by this one.
    """
    try:
        found = json.loads(text or "")
        if found["format"] != FORMAT and str(found["format"]).startswith(f"{OURS} "):
            raise HubError(
                f"{NAME} there is of another version of srlm ({for_terminal(found['format'])}; this one writes "
                f"{FORMAT}). Use that version"
            )
        known = found["format"] == FORMAT and all(
            isinstance(found[part], dict) for part in ("code", "files", "models", "packages", "stages")
        )
        held = {**found["files"], **found.get("kept", {})}
        known = known and all(isinstance(about["sha256"], str) for about in held.values())
        known = (
            known
            and all(re.fullmatch("[0-9a-f]+", found["code"][name]) for name in ("git", "dvc_lock"))
            and isinstance(found.get("card", {}), dict)
        )
        known = known and not any(
            PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts for path in held
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if known and isinstance(found, dict) else None


def same_but_for_code(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether they tell of the same data: a commit that changed nothing that was published is no reason to publish
    again."""
    return bool(old) and {**(old or {}), "code": None} == {**new, "code": None}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
