"""init: a folder of one's own, ready for `srlm repro`.

    srlm init my-run --model DIR_OR_REPO --data FILE_OR_REPO [--small]
    srlm init my-run --profile tiny

It holds params.yaml of a profile, dvc.yaml, the code of the stages, and a history of git and DVC. The code is copied,
not linked: what a stage of dvc.yaml depends on is then what runs, at every commit of the folder, on any machine,
whatever becomes of the package that made it.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from stages.commands import profile as profiles
from stages.console.errors import ParamsError, SrlmError
from stages.console.terminal import stderr
from stages.store.copies import EMPTY

CODE = Path(__file__).parents[1]
PROJECT = CODE / "config" / "project"
"""Files of a project, under names that neither git nor DVC obeys here."""
PLACES = {
    "pipeline.yaml": "dvc.yaml",
    "gitignore": ".gitignore",
    "dvcignore": ".dvcignore",
    "data.gitignore": "data/.gitignore",
}
NO_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", "*.partial")
IN_GIT = 50_000_000
"""Bytes of a seed file that git gets, at most; a larger one stays where it is."""
SEED = "seed"


def init(
    folder: Path, *, profile: str | None = None, model: str | None = None, data: str | None = None, small: bool = False
) -> None:
    """Make `folder`. Raises SrlmError where it holds something, and for whatever is wrong with model, data or profile;
    then nothing is left of it."""
    target = folder.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SrlmError(
            f"{folder} is {'not empty' if target.is_dir() else 'a file'}. Name a new folder: srlm init NAME"
        )
    if not target.parent.is_dir():
        raise SrlmError(f"no such folder: {target.parent}. Create it, or name a folder elsewhere")
    if shutil.which("git") is None:
        raise SrlmError("git is not installed, and holds the history of a run. Install it, and type the same again")
    profile = None if profile == "own" else profile
    if profile is None:
        model = model or _ask("model", "a model's folder, or ORG/NAME on the Hub")
        data = data or _ask("data", "a file of ranked answers, or ORG/NAME on the Hub")
    try:
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as space:
            made = Path(space) / target.name
            fill(made, profile, model, data, small=small)
            committed = versioned(made)
            if target.exists():  # an empty folder, perhaps the one that a terminal is in
                for each in made.iterdir():
                    each.rename(target / each.name)
            else:
                made.rename(target)
    except PermissionError as e:
        raise SrlmError(f"No permission to write in {target.parent} ({e.strerror}). Name a folder elsewhere") from None
    steps = [] if target == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    if not committed:
        steps += ["git config user.name 'Your Name'", "git config user.email you@example.com", "git commit -m init"]
    steps += ["srlm check", *([] if profile else ["srlm preview judge_seed"]), "srlm repro"]
    who = "" if committed else ", but for its first commit: git does not know who you are"
    stderr.print(f"{folder} is ready{who}. Next: {'; '.join(steps)}")


def _ask(option: str, what: str) -> str:
    """Raises ParamsError where nobody could answer."""
    if not sys.stdin.isatty():
        raise ParamsError(f"init wants --model and --data, or --profile tiny: --{option} is {what}")
    return str(typer.prompt(f"{option} ({what})")).strip()


def fill(made: Path, profile: str | None, model: str | None, data: str | None, *, small: bool) -> None:
    """Write all of the project but its history."""
    shutil.copytree(CODE, made / "stages", ignore=NO_CODE)
    for empty in EMPTY:
        (made / empty).parent.mkdir(parents=True)
        (made / empty).touch()
    for name, place in PLACES.items():
        shutil.copyfile(PROJECT / name, made / place)
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("{name}", made.name).replace("{version}", version("self-rewarding-lm"))
    (made / "README.md").write_text(readme, encoding="utf-8")
    model = str(Path(model).resolve()) if model and Path(model).exists() else model
    kept = None
    if data and Path(data).is_file():  # read where its owner has it: what is wrong is said of that file
        kept, data = _seed(made, Path(data)), str(Path(data).resolve())
    if profile is None:
        profiles.for_own(str(model), str(data), small=small, force=False, kept=kept, root=made)
    else:
        profiles.copy(profile, model=model, data=data, kept=kept, root=made)


def _seed(made: Path, file: Path) -> str | None:
    """Copy a seed file into the project, where that is not too much for git; the copy's path there."""
    if file.stat().st_size > IN_GIT:
        stderr.print(f"{file} is large, and stays where it is: params.yaml names it there")
        return None
    (made / SEED).mkdir()
    shutil.copyfile(file, made / SEED / file.name)
    return f"{SEED}/{file.name}"


def versioned(made: Path) -> bool:
    """Put it under git and DVC; whether git could commit it, which needs a name. Raises SrlmError."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    _git(made, "init", "-q", "-b", "main")
    try:
        logging.getLogger("dvc").setLevel(logging.WARNING)  # what it says of its success init says, too
        Repo.init(str(made)).close()
    except DvcException as e:
        raise SrlmError(f"DVC could not be set up: {e}") from None
    shutil.copyfile(PROJECT / "dvc.config", made / ".dvc" / "config")
    shutil.copyfile(PROJECT / "dvcignore", made / ".dvcignore")
    _git(made, "add", "-A")
    return _git(made, "commit", "-q", "-m", "srlm init", fails=True)


def _git(made: Path, *arguments: str, fails: bool = False) -> bool:
    done = subprocess.run(["git", *arguments], cwd=made, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode and not fails:
        raise SrlmError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return not done.returncode
