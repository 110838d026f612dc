"""The store as it was at a git revision, tag or branch, read through DVC from its cache or a remote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.console.errors import RevisionError
from stages.store.tables import TABLES

PATTERNS = (*(table.path.replace("{model}", "*") for table in TABLES), "data/metrics/*.json", "data/models/*/lineage.json", "params.yaml", "dvc.lock")
"""What a query or a report may want of a revision."""


@contextmanager
def at(root: Path, revision: str | None) -> Iterator[Path]:
    """A folder with the store of `revision`: `root` itself for None, else a temporary copy.

    Raises RevisionError when git does not know the revision, or when neither DVC's cache nor a remote has a file of it.
    """
    if revision is None:
        yield root
        return
    with TemporaryDirectory(prefix="srlm-") as folder:
        _copy(root, revision, Path(folder))
        yield Path(folder)


def _copy(root: Path, revision: str, to: Path) -> None:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import RevError, SCMError

    try:
        files = DVCFileSystem(str(root), rev=revision)
        names = [name.lstrip("/") for name in (*files.find("/data"), "/params.yaml", "/dvc.lock") if files.exists(name)]
    except (RevError, SCMError) as e:
        raise RevisionError(f"git knows no revision {revision} here ({e}). git log --oneline and git tag name those it knows") from None
    except (NotDvcRepoError, FileNotFoundError) as e:
        raise RevisionError(f"{root.resolve()} is no project under git and DVC, so it has no revisions: {e}") from None
    except DvcException as e:
        raise RevisionError(f"DVC cannot read revision {revision}: {e}") from None
    for name in sorted(name for name in names if any(fnmatch(name, pattern) for pattern in PATTERNS)):
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(f"/{name}", str(target))
        except (FileNotFoundError, DvcException) as e:
            raise RevisionError(
                f"{name} of revision {revision} is in no cache or remote here ({e}). Run dvc push --all-commits where it was made, dvc fetch --all-commits here"
            ) from None
