"""Files and folders that `params.yaml` names, looked at before anything runs: DVC would hash them only when their stage
starts, and hang at a device."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pathspec import PathSpec

from stages.config.finding import Finding, listing
from stages.config.params import Params
from stages.console.errors import ParamsError

TEMPLATE_BYTES = 1_000_000
MODEL_FILES = 10_000
"""A folder with more is no model, and takes long to walk."""
WRITTEN = (
    ".git",
    ".dvc",
    *(f"data/{name}" for name in ["IFT", "EFT", "TEST", "AIFT", "EVAL", "models", "metrics", "plots", "cache", "logs"]),
)
EXPECTED = {
    "template": "a text file",
    "file": "a file of ranked answers",
    "model": "a model's folder",
    "code": "code of the project",
}
KINDS = {
    stat.S_ISFIFO: "a pipe (FIFO)",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def faults(p: Params, root: Path) -> list[Finding]:
    """What is wrong with the paths of `p`, of which sections may be absent."""
    return [Finding(key, *fault) for key, path, want in _named(p) if (fault := _fault(root, path, want))]


def require(p: Params, root: Path) -> None:
    """Raises ParamsError with all that is wrong with the paths of `p`: under plain `dvc repro` the first stages ask."""
    if found := faults(p, root):
        raise ParamsError(f"{listing(found, 'params.yaml')}\nEverything else is looked at by: srlm check")


def _named(p: Params) -> Iterator[tuple[str, str, str]]:
    """Key, path, and what it should be: a template, a file, a model's folder, or code of the project."""
    if hasattr(p, "judge"):
        yield "judge.template", p.judge.template, "template"
    if hasattr(p, "write_prompts"):
        yield "write_prompts.template", p.write_prompts.template, "template"
    if hasattr(p, "split_seed"):
        yield "split_seed.path", p.split_seed.path, "file" if p.split_seed.source == "file" else "code"
    for name, model in p.base.items() if hasattr(p, "base") else ():
        yield f"base.{name}.path", model.path, "model" if model.source == "local" else "code"


def _fault(root: Path, path: str, want: str) -> tuple[str, str] | None:
    """(what was seen, what to set); None when the path can be used."""
    kind = EXPECTED[want]
    if not path.strip() or not path.isprintable():
        return f"expected {kind}, seen {path!r}", "Name one"
    if "://" in path or path.startswith("~"):
        return f"{path} is no path: addresses and ~ are not followed", "Write the path of a file on this machine"
    root, full = root.resolve(), Path(os.path.normpath(root.resolve() / path))
    if want in ("template", "code") and root not in (full, *full.parents):
        return f"{path} is outside of the project, where git does not version it", "Copy it into the project"
    try:
        about = full.stat()
        for place, other in product((full, full.resolve()), (root / name for name in WRITTEN)):
            if place == other or place in other.parents or other in place.parents:
                return (
                    f"{path} is, holds, or lies in {other.relative_to(root)}, which the run writes",
                    "Keep it elsewhere",
                )
        if root in full.parents and _ignored(root, full):
            return f"{path} is hidden from DVC by .dvcignore", "Keep it elsewhere, or change .dvcignore"
        if not os.access(full, os.R_OK | (os.X_OK if stat.S_ISDIR(about.st_mode) else 0)):
            raise PermissionError
        return _kind(full, path, about, want)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} is not there; expected {kind}", "Correct the path: it begins in the project's folder"
    except PermissionError:
        return f"no permission to read {path}", "Give yourself the right to read it (chmod), or name another"
    except OSError as e:
        return f"{path} cannot be looked at: {e.strerror}", "Name another"


def _ignored(root: Path, full: Path) -> bool:
    rules = root / ".dvcignore"
    lines = rules.read_text(encoding="utf-8").splitlines() if rules.is_file() else []
    return PathSpec.from_lines("gitwildmatch", lines).match_file(full.relative_to(root))


def _kind(full: Path, path: str, about: os.stat_result, want: str) -> tuple[str, str] | None:
    kind, folder = EXPECTED[want], stat.S_ISDIR(about.st_mode)
    if odd := next((name for test, name in KINDS.items() if test(about.st_mode)), None):
        return f"{path} is {odd}, which would never end; expected {kind}", "Name a regular file"
    if folder and want in ("template", "file"):
        return f"{path} is a folder; expected {kind}", "Name a file in it"
    if want == "template" and about.st_size > TEMPLATE_BYTES:
        return f"{path} has {about.st_size:,} bytes; expected at most {TEMPLATE_BYTES:,} in a template", "Name another"
    if want == "template":
        try:
            full.read_text(encoding="utf-8")
        except UnicodeDecodeError as e:
            return f"{path} is not UTF-8 text, from byte {e.start} on", "Save it as UTF-8"
    if want == "file" and not about.st_size:
        return f"{path} is empty; expected {kind}", "Name another"
    if want == "model":
        if not folder or not (full / "config.json").is_file():
            return f"{path} is no model: it has no config.json", "Name a folder as save_pretrained writes it"
        return _walk(full, path)
    return None


def _walk(full: Path, path: str) -> tuple[str, str] | None:
    """What DVC would stumble over in a model's folder."""
    count = 0
    for folder, _, files in os.walk(full):
        for name in files:
            file, count = Path(folder, name), count + 1
            if count > MODEL_FILES:
                return f"{path} has more than {MODEL_FILES:,} files, which no model has", "Name the model's own folder"
            if not file.is_file():
                return (
                    f"{path} holds {file.relative_to(full)}, which is no file (a pipe, or a broken link)",
                    "Remove it",
                )
            if not os.access(file, os.R_OK):
                return f"no permission to read {file.relative_to(full)} in {path}", "Give yourself the right (chmod)"
    return None
