"""What DVC says of the store here: whether it is what dvc.yaml, params.yaml and dvc.lock say; and which files git has
to hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stages.console.errors import RevisionError, SrlmError
from stages.store.recovery import check_none_runs

OURS = ("dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config", ".dvcignore", "stages", "data")
"""What makes a version beside the files that params.yaml names."""


class State(NamedTuple):
    """Of a project, against its dvc.lock."""

    stale: dict[str, str]
    """Stages that are not up to date, and `.dvc` files whose data are other, or gone from DVC's cache: what is the
    matter, in words."""
    uncached: list[Path]
    """Small outputs, which git holds instead of DVC's cache, of the stages of now."""
    read: list[str]
    """Files and folders of the user's own in the project that stages read, beside OURS."""
    stages: list[str]


def state(root: Path) -> State:
    """Look at every stage. Raises SrlmError where DVC, or a stage, is running here, or DVC cannot read the project."""
    check_none_runs(root)
    with opened(root) as repo:
        found, folder = repo.status(), root.resolve()
        outs = [out for stage in repo.index.stages for out in stage.outs]
        own = {stage.addressing: stage.name for stage in repo.index.stages if hasattr(stage, "name")}
        deps = {Path(dep.fs_path) for stage in repo.index.stages if stage.addressing in own for dep in stage.deps}
        inside = {dep.relative_to(folder) for dep in deps if dep.is_relative_to(folder)}
        return State(
            {own.get(name, name): _reason(why) for name, why in found.items()},
            sorted(Path(out.fs_path).relative_to(folder) for out in outs if not out.use_cache),
            sorted(str(dep) for dep in inside if not any(dep.is_relative_to(ours) for ours in OURS)),
            list(own.values()),
        )


def cache_folder(root: Path) -> Path:
    """Where DVC's cache of the project is."""
    with opened(root) as repo:
        return Path(repo.cache.local_cache_dir).resolve()


def remotes(root: Path) -> tuple[str | None, list[str]]:
    """DVC's default remote, and all that are configured."""
    with opened(root) as repo:
        return repo.config["core"].get("remote"), sorted(repo.config["remote"])


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            yield repo
    except LockError:
        raise SrlmError("Another DVC process is running here. Wait for it to finish, or stop it") from None
    except DvcException as e:
        raise RevisionError(f"DVC cannot read the project in {root.resolve()}: {e}") from None


def _reason(why: list[Any]) -> str:
    """The first of what DVC says of a stage: `changed deps` -> file -> how."""
    for each in why:
        if not isinstance(each, dict):
            return str(each)
        for kind, files in each.items():
            for name, how in files.items():
                if isinstance(how, dict):  # of params.yaml, by key
                    return f"{name}: {next(iter(how))} is another"
                return f"{name} is {how}" if kind == "changed outs" else f"it read another {name}"
    return "changed"
