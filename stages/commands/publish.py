"""publish: the store's datasets, and models, on the Hugging Face Hub, each repository in one commit, with cards and
lineage.

    srlm publish --repo ORG/NAME [--models M1 M2 M3] [--raw] [--private] [--tag v1] [--replace] [--dry-run]

Everything is checked and rendered before anything is sent. The same store published twice makes no commit. What was
published from a commit that this branch does not hold, and what somebody changed on the Hub, is overwritten with
--replace only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
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
from stages.hub.errors import Unanswered
from stages.hub.plan import Before, Publication, Source
from stages.hub.remote import Remote
from stages.store import catalog
from stages.store.files import ignored_by_dvc, md5
from stages.store.metrics import read_all
from stages.store.versions import stages_now
from stages.text.escape import for_terminal

ANEW = "Type: srlm repro, then git add -A && git commit -m 'a run'"


def publish(
    repo: str,
    models: list[str],
    *,
    raw: bool = False,
    private: bool = False,
    tag: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    endpoint: str | None = None,
    root: Path = Path(),
) -> None:
    """Publish the datasets as `repo` and each of `models` as `repo`-MODEL, or show what would be published. What was
    published before an error is whole, and stays."""
    from huggingface_hub import get_token

    console, token, params = Console(soft_wrap=True), get_token(), load_params(root)
    check_names(models, params, tag)
    if not token and not dry_run:
        raise HubError("no token for the Hub. Type: hf auth login (or set HF_TOKEN)")
    data = Remote(repo, "dataset", endpoint=endpoint, token=token)
    others = {model: Remote(f"{repo}-{model}", "model", endpoint=endpoint, token=token) for model in models}
    check_up_to_date(root)
    source, remotes = read_source(root, params), [data, *others.values()]
    with disk_explained(), TemporaryDirectory(prefix="srlm-") as name:
        folders = [Path(name) / str(number) for number in range(len(remotes))]
        for folder in folders:
            folder.mkdir()
        befores = look(remotes, dry_run)
        # what was published raw once stays up to date
        raw = raw or any(about.get("raw") for about in befores[0].ours.values())
        contents = [plan.datasets(source, partial(read_as_locked, source), folders[0], raw=raw)]
        names = {model: remote.name for model, remote in others.items()}
        contents += [plan.model(source, model, data, names) for model in models]
        planned = [plan.put(*each) for each in zip(contents, remotes, befores, folders, strict=True)]
        # a model and its card reveal much of the data that it learnt from
        private = private or bool(befores[0].found and befores[0].found.private)
        for publication in planned:
            check(publication, root, private=private, tag=tag, replace=replace)
        for publication in planned:
            (show if dry_run else send)(publication, console, private=private, tag=tag)


def look(remotes: list[Remote], dry_run: bool) -> list[Before]:
    """What is there; nothing is known of it where a dry run cannot ask the Hub."""
    try:
        return [plan.look(remote) for remote in remotes]
    except Unanswered as e:
        if not dry_run:
            raise
        warn(f"what would change is unknown: {e}")
        return [Before(None)] * len(remotes)


@contextmanager
def disk_explained() -> Iterator[None]:
    """What is published is written to this computer first."""
    try:
        yield
    except OSError as e:
        raise HubError(
            f"could not write what is to be published to {gettempdir()}: {e}. Free some space there, or choose "
            f"another place: export TMPDIR="
        ) from None


def check_names(models: list[str], params: Params, tag: str | None) -> None:
    """Raises HubError for a name that the Hub would not take, or that is no model of ours."""
    if tag is not None and not re.fullmatch(r"(?!.*\.lock$)[A-Za-z0-9][\w-]*(\.[\w-]+)*", tag, re.ASCII):
        raise HubError(f"{tag!r} cannot be a tag. Expected letters, digits, -, _ and single dots, as in v1.0")
    own = [name for name, base in params.input_models.items() if base.source == "tinyworld"]
    names = list(dict.fromkeys([*own, "SFT", "M1", *params.models, *params.positive_only]))
    if other := [model for model in models if model not in names]:
        raise HubError(f"{other[0]} is no model that is trained here; there are {', '.join(names)}")


def check_up_to_date(root: Path) -> None:
    """Raises HubError when git or DVC say that what is here is not what the last commit says."""
    if dirty := git(root, "status", "--porcelain").splitlines():
        raise HubError(
            f"git has {len(dirty)} uncommitted change(s), first {dirty[0].strip()!r}: a card could not say what made "
            f"the data. Type: git add -A && git commit -m 'a run'"
        )
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=root, env=own_path(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise HubError(f"dvc status fails in {root.resolve()}: {done.stderr.strip()[-500:]}")
    if stale := sorted(json.loads(done.stdout or "{}")):
        shown = ", ".join(stale[:5]) + (" ..." if len(stale) > 5 else "")
        raise HubError(f"{len(stale)} stage(s) are not up to date: {shown}. {ANEW}")


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HubError(f"git {arguments[0]} fails in {root.resolve()}: {done.stderr.strip()}")
    return done.stdout


def code_url(root: Path) -> str | None:
    """The web page of git's remote `origin`, without any token in its address; None where it has none."""
    try:
        origin = git(root, "remote", "get-url", "origin").strip()
    except HubError:
        return None
    address = r"(?:https://(?:[^@/]*@)?|ssh://git@|git@)([\w.-]+)[:/]([\w./-]+?)(?:\.git)?/?"
    page = re.fullmatch(address, origin, re.ASCII)
    return page and f"https://{page[1]}/{page[2]}"


def read_source(root: Path, params: Params) -> Source:
    stages = lineage.locked(root / lineage.LOCK, stages_now(root))
    outs = [path for stage in stages.values() for path in stage["outs"]]
    metrics = {  # as the cards name them: M1, M3-M1, AIFT-M1, drift-M2, EFT
        "-".join(filter(None, ["" if kind in ("EVAL", "head_to_head") else kind, name])): content
        for (kind, name), content in read_all(root).items()
    }
    beside = {PARAMS: root / PARAMS}
    beside |= {o.removeprefix("data/"): root / o for o in sorted(outs) if re.match(r"data/metrics/.*\.json$", o)}
    models = [out.removeprefix("data/models/") for out in outs if out.startswith("data/models/")]
    left = {model: catalog.model_dir(root, model) / lineage.NAME for model in models}
    # a model that a server has leaves none
    lineages = {model: read_json(file) for model, file in left.items() if file.is_file()}
    code = {"git": git(root, "rev-parse", "HEAD").strip(), "dvc_lock": md5(root / lineage.LOCK)}
    if url := code_url(root):
        code["url"] = url
    packages = {out: made_by for out in outs if (made_by := catalog.packages(root / out))}
    left_out = {out: fields for out in outs if (fields := catalog.left_out(root / out))}
    return Source(root, params, stages, beside, metrics, lineages, code, ignored_by_dvc(root), packages, left_out)


def read_as_locked(source: Source, split: Split) -> pl.DataFrame:
    """Raises HubError when the rows are not those whose hash is going to be published."""
    frame = catalog.read(split.table, source.root, split.model)
    if md5(source.root / split.path) != source.md5(split.path):
        raise HubError(f"{split.path} is not what dvc.lock says. {ANEW}")
    return frame


def read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"it holds {type(data).__name__}")
    except (OSError, ValueError) as e:
        raise HubError(f"{file} cannot be read ({e}). Run: dvc checkout, or srlm repro") from None
    return data


def check(publication: Publication, root: Path, *, private: bool, tag: str | None, replace: bool) -> None:
    """Raises HubError for what the Hub would refuse after a part was sent, and, without `replace`, where another's work
    would be overwritten."""
    before, found, remote = publication.before, publication.before.found, publication.remote
    if found is None:
        return
    check_private(remote, found, private)
    other = remote.tags().get(tag) if tag and found.head else None
    if other and (other != found.head or publication.changed):
        raise HubError(f"tag {tag} of {remote.name} names commit {other[:12]}, and tags do not move. Choose another")
    if not publication.changed:
        return
    commit = before.lineage["code"]["git"] if before.lineage else "HEAD"
    ancestor = ["git", "merge-base", "--is-ancestor", commit, "HEAD"]
    branched = subprocess.run(ancestor, cwd=root, capture_output=True, check=False).returncode
    lost, taken = publication.overwritten(), publication.taken()
    for why, sentence in (
        (
            branched,
            f"{remote.name} was last published from commit {commit[:12]}, which this branch does not hold: newer data "
            f"may be there. Type: git pull (a shallow clone: git fetch --unshallow), then srlm repro",
        ),
        (
            lost,
            f"{len(lost)} file(s) of {remote.name} were put, changed or deleted on the Hub by somebody else, first "
            f"{next(iter(lost), '')!r}. Look at {remote.url}/commits/main; take the change over here",
        ),
        (
            taken,
            f"{remote.name} has config {', '.join(taken)} by somebody else, or with other columns, and those who read "
            f"it would break. Tell them which commit to go on with",
        ),
    ):
        if why and not replace:
            raise HubError(f"{sentence}. Or overwrite it: --replace")
    remote.check_card(publication.card)


def check_private(remote: Remote, found: Any, private: bool) -> None:
    """Raises HubError where what is private would be public."""
    if private and found.head and not found.private:
        raise HubError(
            f"{remote.name} exists and is public, and what is to be published is private. Choose another name, or make "
            f"it private at {remote.url}/settings"
        )


def show(publication: Publication, console: Console, *, private: bool, tag: str | None) -> None:
    """What would be sent, and the card."""
    found, remote = publication.before.found, publication.remote
    state = f"would be made, {'private' if private else 'public'}" if found else "what it holds is unknown"
    if found and found.head:
        state = f"exists, at commit {found.head[:12]}"
    console.print(f"{remote.kind} {remote.name}: {state}")
    grid = Grid("file", "bytes", "", box=None)
    for change in publication.changes():
        grid.add_row(for_terminal(change.path), f"{change.size:,}", change.what if found else "unknown")
    console.print(grid)
    if not publication.changed:
        console.print("nothing would change: no commit")
    if tag:
        console.print(f"tag {tag}")
    console.rule(f"card of {remote.name}")
    for line in publication.card.splitlines():
        console.print(for_terminal(line))


def send(publication: Publication, console: Console, *, private: bool, tag: str | None) -> None:
    """One commit, if anything changes, and the tag."""
    remote, changed, base = publication.remote, publication.changed, publication.before.found
    if base is None:
        raise ValueError("nobody looked at the repository")
    commit, what = base.head or "", "nothing changed, still"
    if changed:
        if base.head is None:
            base = remote.create(private=private)
            if foreign := sorted(set(base.files) - {".gitattributes"}):
                raise HubError(
                    f"{remote.name} was made by somebody else in the meantime, with {foreign[0]!r}. Nothing was sent; "
                    f"run the same command again"
                )
            check_private(remote, base, private)
        message = f"srlm publish: the store at git {publication.lineage['code']['git'][:12]}"
        commit = remote.commit(publication.files, publication.gone, base, message)
        what = f"{len(changed)} file(s) changed,"
    if tag:
        remote.tag(tag, commit)
    console.print(f"{remote.kind} {remote.name}: {what} commit {commit}")
    console.print(f"  {remote.url}  (srlm verify --repo {remote.name} --revision {commit})")
