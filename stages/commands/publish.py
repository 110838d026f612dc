"""publish: the store's datasets, and models, on the Hugging Face Hub, each repository in one commit, with cards and
lineage.

    srlm publish --repo ORG/NAME [--models M1 M2 M3] [--raw] [--private] [--tag v1] [--replace] [--dry-run]

Everything is checked and rendered before anything is sent. The same store published twice makes no commit. What was
published from a commit that this branch does not hold, and what somebody changed on the Hub, is written over with
--replace only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import polars as pl
from rich.table import Table as Grid

from stages.config.load import PARAMS, load_params
from stages.config.params import Params
from stages.console.command import own_path
from stages.console.errors import HubError
from stages.console.terminal import Console, warn
from stages.hub import lineage, plan
from stages.hub.configs import Split
from stages.hub.plan import Publication, Source
from stages.hub.remote import Remote
from stages.store import catalog, versions
from stages.store.files import ignored_by_dvc, md5
from stages.store.metrics import read_all
from stages.text.escape import for_terminal


def publish(
    repo: str,
    models: list[str],
    *,
    raw: bool = False,
    private: bool = False,
    tag: str | None = None,
    new_config: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    endpoint: str | None = None,
    root: Path = Path(),
) -> None:
    """Publish the datasets as `repo` and each of `models` as `repo`-MODEL, or show what would be published.

    Raises HubError, and as reading tables and params does. What was published before an error is whole, and stays.
    """
    from huggingface_hub import get_token

    console, token, params = Console(soft_wrap=True), get_token(), load_params(root)
    check_names(models, params, tag, new_config)
    if not token and not dry_run:
        raise HubError("there is no token. Type: hf auth login (or set HF_TOKEN)")
    data = Remote(repo, "dataset", endpoint=endpoint, token=token)
    others = {model: Remote(f"{repo}-{model}", "model", endpoint=endpoint, token=token) for model in models}
    check_up_to_date(root)
    if token:
        try:
            data.check_rights()
        except HubError as e:
            if not dry_run:
                raise
            warn(str(e))
    source = read_source(root, params)
    with disk_in_words(), TemporaryDirectory(prefix="srlm-") as name:
        folder = Path(name) / "datasets"
        folder.mkdir()
        planned = [
            plan.datasets(
                source, lambda split: read_as_locked(split, source, root), data, folder, raw=raw, new_config=new_config
            )
        ]
        for model, remote in others.items():
            folder = Path(name) / "models" / model
            folder.mkdir(parents=True)
            planned.append(plan.model(source, model, catalog.model_dir(root, model), remote, folder, data=planned[0]))
        secret = (
            private or planned[0].before.found.private
        )  # a model and its card tell much of the data that it learnt from
        for publication in planned:
            check(publication, private=secret, tag=tag)
            if any(change.what != "unchanged" for change in publication.changes()):
                if not replace:
                    check_nothing_is_lost(publication, root)
                publication.remote.check_card(publication.card)
        for publication in planned:
            if dry_run:
                show(publication, console, private=secret, tag=tag)
            else:
                send(publication, console, private=secret, tag=tag)


@contextmanager
def disk_in_words() -> Iterator[None]:
    """What is published is written down here first. Raises HubError when that does not go."""
    try:
        yield
    except OSError as e:
        raise HubError(
            f"what is to be published cannot be written to {gettempdir()}: {e}. Make room there, or name another "
            f"place: export TMPDIR="
        ) from None


def check_names(models: list[str], params: Params, tag: str | None, new_config: str | None) -> None:
    """Raises HubError for a name that the Hub or its readers would not take; nothing was sent then."""
    if tag is not None and (
        not re.fullmatch(r"[A-Za-z0-9][\w.-]*", tag, re.ASCII) or ".." in tag or tag.endswith((".", ".lock"))
    ):
        raise HubError(f"{tag!r} cannot be a tag: write letters, digits, - and _, and single dots within, as in v1.0")
    if new_config is not None and not re.fullmatch(r"\w[\w.-]*", new_config, re.ASCII):
        raise HubError(f"{new_config!r} cannot end a config's name: write letters, digits, -, _ and dots, as in v2")
    known = list(dict.fromkeys([*params.input_models, "SFT", "M1", *params.models, *params.positive_only]))
    for model in models:
        if model not in known:
            raise HubError(f"no model {model} in params.yaml; there are {', '.join(known)}")
        if model in params.input_models and params.input_models[model].source != "tinyworld":
            raise HubError(
                f"{model} was not made here (source {params.input_models[model].source}): its publisher's version is "
                f"the one to name"
            )


def check_up_to_date(root: Path) -> None:
    """Raises HubError when git or DVC say that what is here is not what the last commit says."""
    if dirty := git(root, "status", "--porcelain").splitlines():
        raise HubError(
            f"git knows of {len(dirty)} change(s) that are in no commit, first {dirty[0].strip()!r}: a card could not "
            f"say what made the data. "
            "Type: git add -A && git commit -m 'a run'"
        )
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=root,
        env=own_path(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HubError(f"dvc status fails in {root.resolve()}: {done.stderr.strip()[-500:]}")
    if stale := sorted(json.loads(done.stdout or "{}")):
        shown = ", ".join(stale[:5]) + (" ..." if len(stale) > 5 else "")
        raise HubError(
            f"{len(stale)} stage(s) are not up to date: {shown}. Type: srlm repro, then git add -A && git commit -m 'a "
            f"run'"
        )


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HubError(
            f"git {arguments[0]} fails in {root.resolve()}: {done.stderr.strip()}. What is published must stand in a "
            f"commit"
        )
    return done.stdout


def read_source(root: Path, params: Params) -> Source:
    metrics = {  # as the cards call them: M1, M3-M1, AIFT-M1, drift-M2, EFT
        "-".join([*([kind] if kind not in ("EVAL", "head_to_head") else []), *([name] if name else [])]): content
        for (kind, name), content in read_all(root).items()
    }
    stages = lineage.locked(root / lineage.LOCK, versions.stages_now(root))
    made = [
        path.removeprefix("data/models/")
        for stage in stages.values()
        for path in stage["outs"]
        if path.startswith("data/models/")
    ]
    lineages = {}
    for model in made:
        file = catalog.model_dir(root, model) / lineage.NAME
        if file.is_file():  # a model that a server has leaves none
            lineages[model] = read_json(file)
    code = {"git": git(root, "rev-parse", "HEAD").strip(), "dvc_lock": md5(root / lineage.LOCK)}
    text, packages = (root / PARAMS).read_text(encoding="utf-8"), lambda path: catalog.packages(root / path)
    return Source(params, text, stages, metrics, lineages, code, ignored_by_dvc(root), packages)


def read_as_locked(split: Split, source: Source, root: Path) -> pl.DataFrame:
    """The rows of a table. Raises HubError when they are not those whose hash is going to be published."""
    frame = catalog.read(split.table, root, split.model)
    if md5(root / split.path) != source.md5(split.path):
        raise HubError(
            f"{split.path} changed while it was being published. Nothing was sent. Type: srlm repro, then git add -A "
            f"&& git commit -m 'a run'"
        )
    return frame


def read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}")
    except ValueError as e:
        raise HubError(
            f"{file} cannot be read ({e}). Run: dvc checkout, or srlm repro; or delete it if no stage makes it"
        ) from None
    return found


def check(publication: Publication, *, private: bool, tag: str | None) -> None:
    """Raises HubError for what would be seen to be wrong only after a part was sent."""
    found, remote = publication.before.found, publication.remote
    if private and found.head and not found.private:
        raise HubError(
            f"{remote.name} exists and is public, and what is to be published is private. Name another, or make it "
            f"private at {remote.url}/settings"
        )
    stands_for = found.tags.get(tag or "")
    if stands_for and (stands_for != found.head or any(change.what != "unchanged" for change in publication.changes())):
        raise HubError(
            f"tag {tag} of {remote.name} stands for commit {stands_for[:12]} already, and tags do not move. Name "
            f"another"
        )


def check_nothing_is_lost(publication: Publication, root: Path) -> None:
    """Raises HubError where another's work on the Hub would be written over: a publication that this branch does not
    follow, or files of theirs."""
    remote, before = publication.remote, publication.before
    commit = before.lineage["code"]["git"] if before.lineage else "HEAD"
    if subprocess.run(
        ["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=root, capture_output=True, check=False
    ).returncode:
        raise HubError(
            f"{remote.name} was last published from commit {commit[:12]}, which this branch does not hold: newer data "
            f"may be there. Type: git pull "
            "(a shallow clone: git fetch --unshallow), then srlm repro. Or write over them: --replace"
        )
    if lost := publication.overwritten():
        raise HubError(
            f"{len(lost)} file(s) of {remote.name} were put, changed or deleted on the Hub by somebody else, first "
            f"{lost[0]!r}. "
            f"Look at {remote.url}/commits/main; take the change over here, or write over it: --replace"
        )


def show(publication: Publication, console: Console, *, private: bool, tag: str | None) -> None:
    """What would be sent, and the card."""
    found, remote = publication.before.found, publication.remote
    state = (
        f"exists, at commit {found.head[:12]}" if found.head else f"would be made, {'private' if private else 'public'}"
    )
    console.print(f"{remote.kind} {remote.name}: {state}")
    grid = Grid("file", "bytes", "", box=None)
    for change in publication.changes():
        grid.add_row(for_terminal(change.path), f"{change.size:,}", change.what)
    console.print(grid)
    if not any(change.what != "unchanged" for change in publication.changes()):
        console.print("nothing would change: no commit")
    if tag:
        console.print(f"tag {tag}")
    console.rule(f"card of {remote.name}")
    for line in publication.card.splitlines():
        console.print(for_terminal(line))


def send(publication: Publication, console: Console, *, private: bool, tag: str | None) -> None:
    """One commit, if anything changes, and the tag."""
    remote, base = publication.remote, publication.before.found
    changed = [change for change in publication.changes() if change.what != "unchanged"]
    if changed:
        if base.head is None:
            base = remote.create(private=private)
            if strange := sorted(set(base.files) - {".gitattributes"}):
                raise HubError(
                    f"{remote.name} was made by somebody else in the meantime, with {strange[0]!r}. Nothing was sent; "
                    f"run the same command again"
                )
            check(publication._replace(before=publication.before._replace(found=base)), private=private, tag=tag)
        commit = remote.commit(
            publication.files,
            publication.gone,
            base,
            f"srlm publish: the store at git {publication.lineage['code']['git'][:12]}",
        )
        console.print(
            f"{remote.kind} {remote.name}: {len(changed)} file(s) changed, commit {commit}",
        )
    else:
        commit = base.head or ""
        console.print(f"{remote.kind} {remote.name}: nothing changed, still commit {commit}")
    if tag:
        remote.tag(tag, commit)
    console.print(f"  {remote.url}  (srlm verify --repo {remote.name} --revision {commit})")
