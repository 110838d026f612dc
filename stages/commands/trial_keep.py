"""What becomes of a try: `srlm try ... --keep` takes it into params.yaml and the workspace, `--forget` deletes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.commands.tries import Try, asked, every, forget
from stages.config import change as changes
from stages.config.load import PARAMS, read_mapping, read_yaml
from stages.console.command import run_dvc
from stages.console.errors import SrlmError
from stages.console.terminal import stderr
from stages.store.copies import LOCK
from stages.store.files import atomic_write, ignored_by_dvc, md5
from stages.store.recovery import check_none_runs, recover


def keep(words: Sequence[str], root: Path = Path()) -> None:
    """Take a finished try into params.yaml and the workspace, where DVC restores all from its cache, and delete the
    copy. The same command goes on where it was stopped. Raises SrlmError where the project is another by now."""
    root = root.resolve()
    tries = asked(root, words) if words else every(root)
    if len(tries) != 1:
        there = "; ".join(f"{t.command} --keep" for t in every(root)) or "there is none yet"
        raise SrlmError(f"one try can be kept, and {len(tries)} are meant. Name it: {there}")
    [tried] = tries
    if not tried.record.get("finished"):
        raise SrlmError(f"{tried.name} has not been tried to its end. Run: {tried.command}")
    check_none_runs(tried.folder)
    recover(root)
    check_same(root, tried)
    with atomic_write(root / PARAMS) as partial:
        changes.write(root / PARAMS, partial, tried.change)
    if code := run_dvc("repro", "--quiet", root=root):
        raise SystemExit(code)
    forget([tried])
    stderr.print(f"{PARAMS} has {tried.name}, and data/ what was tried. To name this version: git commit, srlm tag")


def check_same(root: Path, tried: Try) -> None:
    """Raises SrlmError where the project with the change is not what was tried, and would be made anew."""
    params = changes.applied(read_yaml(root), tried.change)
    if params != changes.applied(read_yaml(tried.folder), {}):
        raise SrlmError(f"{PARAMS} is another than when {tried.name} was tried. Try it again: {tried.command}")
    ignored = ignored_by_dvc(root)
    stages = (read_mapping(tried.folder / LOCK) or {}).get("stages", {}).values()
    deps = {dep["path"]: dep["md5"] for stage in stages for dep in stage.get("deps", ()) if "md5" in dep}
    for path, known in deps.items():
        if path.startswith("stages/") and (not (root / path).exists() or md5(root / path, ignored) != known):
            raise SrlmError(f"{path} is another than when {tried.name} was tried. Try it again: {tried.command}")


def drop(words: Sequence[str], root: Path = Path()) -> None:
    """Delete the tries that the words name; all without words. What DVC and the completion cache hold of them stays."""
    tries = asked(root, words) if words else every(root)
    there = [tried for tried in tries if tried.folder.is_dir()]
    forget(there)
    stderr.print(f"deleted: {'; '.join(tried.name for tried in there) or 'none, there is no such try'}")
