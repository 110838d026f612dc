"""tag: name a version of the store.

    srlm tag v1 -m "eight answers instead of four"      a tag of git, the data in DVC's remote, a line in VERSIONS.md
    srlm tag                                            the versions that there are

In this order, so that the same command goes on wherever it was stopped, and a name never stands for data that are
nowhere: look, push the data, commit the line, tag that commit. The tagged commit holds its own line, as a release
holds its entry in a changelog; the line names the commit before it, whose data these are, since no commit can hold its
own hash.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.command import run_dvc
from stages.console.errors import RevisionError
from stages.console.sheets import Code, Figure, Sheet, to_markdown, to_terminal
from stages.console.terminal import stderr, warn
from stages.store.dvc_status import OURS, remotes, state
from stages.store.files import atomic_write
from stages.store.git import git, knows, tags
from stages.store.metrics import Metrics, read_all
from stages.text.escape import for_markdown

VERSIONS = "data/VERSIONS.md"
HEAD = """# Versions

A line for each version, written by `srlm tag`: rows of IFT and EFT, pairs of each AIFT, and what each model reached on
held-out data (± 95 %). `srlm diff` compares two, `srlm query --rev` asks one.

"""
COLUMNS = (
    *("version", "date", "commit", "IFT", "EFT", "AIFT pairs"),
    *("judge: pairwise acc. %", "fully right %, greedy", "note"),
)
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
"""Of a version: a shell, a URL and SQL take it as it is."""
SHOWN = 12
"""Digits of a commit."""


def show_list(root: Path, *, as_json: bool = False) -> None:
    """The versions, the newest first."""
    found = tags(root)
    if as_json:
        print(json.dumps([{**tag._asdict(), "made": tag.made.isoformat()} for tag in found], ensure_ascii=False))
    elif found:
        rows = [[tag.name, f"{tag.made:%Y-%m-%d %H:%M}", tag.commit[:SHOWN], tag.message] for tag in found]
        to_terminal(Sheet(["version", "made", "commit", ""], rows), sys.stdout)
    else:
        print("no version yet: srlm tag v1 makes one")


def make(name: str, message: str | None, root: Path, *, push: bool = True, as_json: bool = False) -> None:
    """Make version `name` of what is here. Raises RevisionError where the name cannot be used, the store is not what
    dvc.lock says, or git does not hold what counts; nothing is changed then."""
    check_name(root, name)
    check_here(root, name)
    pushed = push_data(root) if push else None
    row, base = describe(root, message), git(root, "rev-parse", "HEAD").strip()
    if not (resumed := is_committed(root, name)):
        commit_line(root, name, base, row)
    what = message or f"{name}: {', '.join(f'{key} {value}' for key, value in row.items() if value and key != 'note')}"
    git(root, "tag", "--annotate", "--cleanup=whitespace", "--file=-", name, given=what)
    tag = next(tag for tag in tags(root) if tag.name == name)
    if as_json:
        print(json.dumps({**tag._asdict(), "made": tag.made.isoformat(), "pushed": pushed, **row}, ensure_ascii=False))
        return
    again = " (its line was committed before)" if resumed else ""
    stderr.print(f"{name} is commit {tag.commit[:SHOWN]}, with a line in {VERSIONS}{again}")
    if push and pushed is None:
        stderr.print(
            "no DVC remote is configured, so the data are on this disk alone: dvc remote add --default store FOLDER, "
            "then dvc push (docs/storage.md)"
        )
    if where := git(root, "remote").split():
        stderr.print(f"to share it: git push {where[0]} HEAD {name}")
    stderr.print(f"what changes from here on: srlm diff {name}")


def check_name(root: Path, name: str) -> None:
    """Raises RevisionError for a name that git or a shell would not take, or that is taken."""
    sound = re.fullmatch(NAME, name) and name not in ("HEAD", "workspace")  # DVC's name of what is on the disk
    if not sound or not knows(root, "check-ref-format", f"refs/tags/{name}"):
        raise RevisionError(f"{name!r} cannot be a version's name. Expected one like v1 or 2026-11-more-answers")
    if not knows(root, "rev-parse", "--git-dir"):
        raise RevisionError(
            f"{root.resolve()} is not under git, whose tags the versions are: git init, git add, commit"
        )
    if taken := next((tag for tag in tags(root) if tag.name == name), None):
        raise RevisionError(
            f"{name} is a version already, of {taken.made:%Y-%m-%d}, commit {taken.commit[:SHOWN]}. Versions do not "
            f"move: take another name (srlm tag lists them), or delete that one: git tag -d {name}"
        )
    if knows(root, "rev-parse", "--verify", "--quiet", name):
        raise RevisionError(f"{name} is a branch, a tag or a commit already. Take another name")


def check_here(root: Path, name: str) -> None:
    """Raises RevisionError where the store is not what dvc.lock says, the cache does not have it, or git does not
    hold it; ParamsError for a params.yaml with faults."""
    load_params(root)
    if not (root / "dvc.lock").is_file():
        raise RevisionError("nothing has run here yet: there is no dvc.lock. Run: srlm repro")
    if not knows(root, "rev-parse", "--verify", "--quiet", "HEAD"):
        raise RevisionError("git has no commit here yet. Run: git add --all && git commit -m 'a run'")
    now = state(root)
    if now.stale:
        first, why = next(iter(now.stale.items()))
        how = f"dvc checkout {first}, or to keep what is here dvc commit {first}" if ".dvc" in first else "srlm repro"
        how = "dvc commit --force" if why.endswith("is not in cache") else how
        raise RevisionError(
            f"what is here is not what dvc.lock says: {len(now.stale)} stage(s) are not up to date (first {first}: "
            f"{why}). Run: {how}"
        )
    changed = [path for path in dirty(root, [*OURS, *now.read]) if not path.endswith(VERSIONS)]
    if changed:
        raise RevisionError(
            f"git does not hold {len(changed)} file(s) as they are here (first {changed[0]}). Run: git add --all && "
            f"git commit -m 'a run'"
        )
    file, head = root / VERSIONS, committed(root) or EMPTY
    here = file.read_text(encoding="utf-8") if file.is_file() else EMPTY
    if without(here, name) != without(head, name):  # a line of this name: an earlier try was stopped
        raise RevisionError(f"{VERSIONS} has changes that are not committed. Commit them, or: git checkout {VERSIONS}")
    if not knows(root, "var", "GIT_COMMITTER_IDENT"):
        raise RevisionError(
            "git does not know who you are. Type: git config --global user.name 'Your Name'; git config --global "
            "user.email you@example.com"
        )


def dirty(root: Path, paths: list[str]) -> list[str]:
    """Files below these that git does not hold as they are; what it was told to ignore is not asked."""
    found = git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *paths)
    return [entry[3:] for entry in found.split("\0") if entry]


def push_data(root: Path) -> str | None:
    """The remote that the data are in now; None without one. Raises RevisionError when it did not take them."""
    default, every = remotes(root)
    if not every:
        return None
    if default is None:
        raise RevisionError(
            f"DVC has remotes ({', '.join(every)}), none of them the default. Type: dvc remote default {every[0]}; or "
            f"leave the data here: --no-push"
        )
    if run_dvc("push", root=root, out=2):  # on standard error
        raise RevisionError(
            f"remote {default} did not take all data, so nothing was tagged. The same command sends the rest; "
            f"--no-push leaves them here"
        )
    return default


def describe(root: Path, message: str | None) -> dict[str, Any]:
    """What a version's line says, by column; null where it is not known."""
    params, metrics = load_params(root), read_all(root)
    pairs = [(m, metrics["AIFT", m]["pairs"]) for m in params.aift if ("AIFT", m) in metrics]
    values = (
        metrics.get(("seed", None), {}).get("parts", {}).get("ift", {}).get("prompts"),
        metrics.get(("EFT", None), {}).get("eft"),
        ", ".join(f"{m} {n:,}" for m, n in pairs) or None,
        reached(params, metrics, ("judge", "pairwise_accuracy")),
        reached(params, metrics, ("writer", "greedy", "fully_right")),
        message,
    )
    return dict(zip(COLUMNS[3:], values, strict=True))


def reached(params: Params, metrics: Metrics, path: tuple[str, ...]) -> str | None:
    """A share of each evaluated model, in one text."""
    known = []
    for model in params.evaluated:
        figure: Any = metrics.get(("EVAL", model), {})
        for part in path:
            figure = figure.get(part) or {}
        if figure.get("value") is not None:
            known.append(f"{model} {Figure(**figure, digits=1, scale=100, shows_n=False)}")
    return ", ".join(known) or None


def committed(root: Path) -> str | None:
    """VERSIONS.md as HEAD has it."""
    at = f"HEAD:./{VERSIONS}"
    return git(root, "show", at) if knows(root, "cat-file", "-e", at) else None


def line_of(text: str, name: str) -> str | None:
    """The line of version `name`."""
    begin = f"| {for_markdown(name)} |"
    return next((line for line in text.splitlines() if line.startswith(begin)), None)


def without(text: str, name: str) -> list[str]:
    """The lines of the page but that of version `name`."""
    own = line_of(text, name)
    return [line for line in text.rstrip("\n").splitlines() if line != own]


def is_committed(root: Path, name: str) -> bool:
    """Whether HEAD has this version's line, and nothing else since the commit that the line names: an earlier try was
    stopped between its commit and its tag."""
    of = re.search(rf"\| `([0-9a-f]{{{SHOWN}}})` \|", line_of(committed(root) or "", name) or "")
    if not of or not knows(root, "rev-parse", "--verify", "--quiet", f"{of[1]}^{{commit}}"):
        return False
    return git(root, "diff", "--name-only", "--relative", of[1], "HEAD").splitlines() == [VERSIONS]


def commit_line(root: Path, name: str, base: str, row: dict[str, Any]) -> None:
    """Add the version's line to VERSIONS.md, in a commit that holds nothing else. Where git does not take it, the page
    is as it was."""
    before = committed(root)
    cells = [name, f"{datetime.now(UTC):%Y-%m-%d}", Code(base[:SHOWN]), *row.values()]
    line = markdown([cells]).splitlines()[-1]
    try:
        with atomic_write(root / VERSIONS) as partial:
            partial.write_text("\n".join([*without(before or EMPTY, name), line, ""]), encoding="utf-8")
        git(root, "add", "--", VERSIONS)
        git(root, "commit", "--quiet", "--only", "--cleanup=whitespace", f"--message=Version {name}", "--", VERSIONS)
    except BaseException:
        _undo(root, before)
        raise


def _undo(root: Path, before: str | None) -> None:
    if committed(root) != before:
        return  # git did take it
    try:
        git(root, "reset", "--quiet", "--", VERSIONS)
        if before is None:
            (root / VERSIONS).unlink(missing_ok=True)
        else:
            git(root, "checkout", "--quiet", "--", VERSIONS)
    except (RevisionError, OSError) as e:
        warn(f"{VERSIONS} has a line of a version that was not made: {e}")


def markdown(rows: list[list[Any]]) -> str:
    file = StringIO()
    to_markdown(Sheet(COLUMNS, rows), file)
    return file.getvalue()


EMPTY = HEAD + markdown([])
