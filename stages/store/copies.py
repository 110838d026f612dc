"""Copies of the project in folders of their own, with other parameters. A copy has its own workspace and its own
dvc.lock, and shares with the project DVC's cache and the cache of completions: what is the same in both is made once.

Not DVC's `exp run --temp`: that begins with a commit of git, leaves out what git ignores (the completions, so every
text is paid again), and a killed one begins anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.config import change
from stages.config.load import PARAMS, read_yaml
from stages.config.paths import WRITTEN
from stages.console.command import run_dvc
from stages.console.errors import SrlmError
from stages.store.dvc_status import cache_folder
from stages.store.files import atomic_write
from stages.store.run import COMPLETION_CACHE

COPIED = ("dvc.yaml", ".dvcignore", "stages", "data/.gitignore")
EMPTY = tuple(f"data/{kind}/.gitkeep" for kind in ("metrics/AIFT", "metrics/drift", "metrics/head_to_head", "REVIEW"))
"""DVC wants the folders."""
LOCK = "dvc.lock"


def prepare(root: Path, folder: Path, overrides: change.Change) -> None:
    """Copy the code into `folder`, point DVC at the shared cache, write params.yaml with the overrides. Raises
    ParamsError for a key that params.yaml does not have."""
    shutil.rmtree(folder / "stages", ignore_errors=True)  # a file deleted here must not live on there
    reviews = (file.relative_to(root).as_posix() for file in root.glob("data/REVIEW/*.parquet"))
    for name in (*COPIED, *EMPTY, *reviews):
        source, target = root / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy2(source, target)
    (folder / ".dvc").mkdir(exist_ok=True)
    # a link costs neither time nor room; no stage writes into a file, each replaces its own
    (folder / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        f"[cache]\n    dir = {cache_folder(root)}\n    type = reflink,hardlink,copy\n"
    )
    with atomic_write(folder / PARAMS) as partial:
        change.write(root / PARAMS, partial, overrides)
    for path in _files_of(read_yaml(folder)):
        _bring(root, folder, path)


def share_completions(root: Path, folder: Path) -> None:
    """Have the copy find the texts that the project made, and the project those of the copy."""
    shared = (root / COMPLETION_CACHE).resolve()
    shared.parent.mkdir(parents=True, exist_ok=True)  # SQLite follows the link, to a file that is still to come, too
    _link(folder / COMPLETION_CACHE, shared)


def _files_of(params: dict[str, Any]) -> Iterable[str]:
    """Files of the user's own that a params.yaml names, in the project: not what stages make there."""
    named = [params["judge"]["template"], params["write_prompts"]["template"], params["split_seed"]["path"]]
    named += [params["judge_pairs"]["meta_judge"]["template"], params["judge_seed"]["path"]]
    named += [params["hardware"]["launch"], *(entry["path"] for entry in params["base"].values())]
    return [path for path in named if isinstance(path, str) and not path.startswith(tuple(f"{w}/" for w in WRITTEN))]


def _bring(root: Path, folder: Path, path: str) -> None:
    """Have the project's file or folder `path` at the same place in the copy, by a link. What lies outside the project
    is reached by its absolute path alone. Raises SrlmError for another."""
    if Path(path).is_absolute() or (folder / path).exists():
        return
    if ".." in Path(path).parts:
        raise SrlmError(
            f"{path} in {PARAMS} is beside the project, where a copy does not find it. Give its whole path: "
            f"{(root / path).resolve()}"
        )
    if (root / path).exists():  # else it is a name, as hardware.launch ddp
        _link(folder / path, (root / path).resolve())


def _link(link: Path, to: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(to)


def begin_with(root: Path, folder: Path, uncached: Iterable[Path], log: Path) -> None:
    """Put what the stages of the project made into the copy: files of DVC's cache by a link, the small ones that git
    holds by a copy. Raises SrlmError naming the log."""
    for path in uncached:
        if (root / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, folder / path)
    shutil.copy2(root / LOCK, folder / LOCK)
    with log.open("a", encoding="utf-8") as out:
        if run_dvc("checkout", "--quiet", "--allow-missing", root=folder, out=out, err=out):
            raise SrlmError(f"DVC could not bring the data of the run here into {folder}: read {log}")
