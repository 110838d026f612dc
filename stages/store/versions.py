"""The store as it was at a git revision, tag or branch, read through DVC from its cache or a remote."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.config.finding import nearest
from stages.console.errors import RevisionError
from stages.store.git import git, tags
from stages.store.tables import TABLES

ALWAYS = ("data/metrics/*.json", "data/metrics/*/*.json", "params.yaml", "dvc.lock")
OF_MODELS = ("data/models/*/lineage.json", "data/plots/train_*.csv")


def stages_now(root: Path) -> list[str]:
    """Names of the stages that dvc.yaml has with this params.yaml; dvc.lock keeps earlier ones, too. Raises
    RevisionError where DVC cannot read them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    try:
        with Repo(str(root)) as repo:
            return [stage.name for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    except DvcException as e:
        raise RevisionError(f"DVC cannot read the stages in {root.resolve()}: {e}") from None


def names(root: Path) -> list[str]:
    """The tags that are versions of the store, the newest first; none where git cannot say."""
    try:
        return [tag.name for tag in tags(root)]
    except RevisionError:
        return []


def label(root: Path, revision: str) -> str:
    """The revision as people call it: `HEAD` as `HEAD (v1)` where that is a version."""
    known = {tag.name: tag.commit for tag in tags(root)}
    if revision in known:
        return revision
    commit = git(root, "rev-parse", f"{revision}^{{commit}}").strip()
    named = [name for name, of in known.items() if of == commit]
    return f"{revision} ({named[0]})" if named else revision


def stages_in_order(root: Path) -> dict[str, str]:
    """The stages of `stages_now` as they run, each after those that it depends on -> the name under which it logs its
    runs: `train_sft_M1` is `train_sft@M1` there. Raises RevisionError where DVC cannot read them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    order: dict[str, str] = {}

    def add(stage: PipelineStage) -> None:
        if stage.name not in order:
            for before in needs[stage]:
                if isinstance(before, PipelineStage):
                    add(before)
            order[stage.name] = logged(stage.name, str(stage.cmd))

    try:
        with Repo(str(root)) as repo:
            place = {stage: i for i, stage in enumerate(repo.index.stages)}
            graph = repo.index.graph
            needs = {stage: sorted(graph.successors(stage), key=lambda one: place[one]) for stage in place}
            for stage in place:
                if isinstance(stage, PipelineStage):
                    add(stage)
    except DvcException as e:
        raise RevisionError(f"DVC cannot read the stages in {root.resolve()}: {e}") from None
    return order


def logged(stage: str, command: str) -> str:
    """`python -m stages.train_sft M1 --on IFT` logs as train_sft@M1."""
    found = re.match(r"python -m stages\.(\w+)(?: (?!-)(\S+))?", command)
    return "@".join(filter(None, found.groups())) if found else stage


@contextmanager
def at(root: Path, revision: str | None, tables: Collection[str] | None = None) -> Iterator[Path]:
    """A folder with the store of `revision` (None: `root` itself), of these `tables` and the metrics alone if they are
    named. Raises RevisionError when git does not know it, or neither DVC's cache nor a remote has a file of it."""
    if revision is None:
        yield root
        return
    if not revision.strip():
        raise RevisionError("the revision is empty. git log --oneline and git tag name those that there are")
    with TemporaryDirectory(prefix="srlm-") as folder:
        wanted = [table.path.replace("{model}", "*") for table in TABLES if tables is None or table.name in tables]
        _copy(root, revision, [*ALWAYS, *(OF_MODELS if tables is None else ()), *wanted], Path(folder))
        yield Path(folder)


def _copy(root: Path, revision: str, patterns: Iterable[str], to: Path) -> None:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import RevError, SCMError
    from dvc_data.index import DataIndexDirError

    what = f"revision {revision}"
    try:
        files = DVCFileSystem(str(root), rev=revision)
        for pattern in patterns:
            for name in sorted(files.glob(f"/{pattern}")):
                what = f"{name.lstrip('/')} of revision {revision}"
                target = to / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(name, str(target))
    except (RevError, SCMError) as e:
        near = nearest(revision, names(root))
        raise RevisionError(
            f"git knows no revision {revision} here ({e}){f'; did you mean {near}?' if near else ''}. srlm tag names "
            f"the versions, git log --oneline the commits"
        ) from None
    except NotDvcRepoError as e:
        raise RevisionError(f"{root.resolve()} is no project under git and DVC, so it has no revisions: {e}") from None
    except (FileNotFoundError, DataIndexDirError, DvcException) as e:
        raise RevisionError(
            f"{what} is in no cache or remote here ({e}). Run dvc push --all-commits where it was made, dvc fetch "
            f"--all-commits here"
        ) from None
