"""A repository on the Hub: what it holds, and one commit that changes it, whatever becomes of the connection.

A commit is made on top of the head that was looked at, or not at all. After a failed request the repository is looked
at again: a commit whose answer was lost is recognised by what it holds, and one of somebody else's is never written
over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_session,
    hf_hub_url,
    set_client_factory,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, hf_raise_for_status, validate_repo_id
from huggingface_hub.utils._http import default_client_factory  # the library exports the setter alone
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from stages.console.errors import HubError
from stages.console.terminal import stderr
from stages.hub.errors import Unanswered, explain, is_retryable, status
from stages.text.escape import for_terminal

TRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 4, 1.0, 20.0
SILENCE_S = 120.0
"""Longest wait for the next byte."""
IN_GIT = 10 * 2**20
"""Bytes: the Hub keeps larger files in LFS or Xet, whatever they are."""
Kind = Literal["dataset", "model"]
Result = TypeVar("Result")


class Local(NamedTuple):
    """A file to be published: `file` on this disk, `path` in the repository. `blob`: as git hashes it; None for a file
    too large for git."""

    path: str
    file: Path
    size: int
    sha256: str
    blob: str | None

    @classmethod
    def of(cls, path: str, file: Path) -> Local:
        size = file.stat().st_size
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        if size > IN_GIT:
            return cls(path, file, size, sha256, None)
        blob = hashlib.sha1(b"blob %d\0" % size + file.read_bytes(), usedforsecurity=False)
        return cls(path, file, size, sha256, blob.hexdigest())

    def about(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "bytes": self.size} | ({"blob": self.blob} if self.blob else {})


class Found(NamedTuple):
    """A repository at one moment."""

    head: str | None
    """None: there is no such repository."""
    private: bool
    files: Mapping[str, str]
    """Path -> sha256, or the hash of git's blob."""


class Change(NamedTuple):
    path: str
    what: Literal["new", "changed", "unchanged", "gone"]
    size: int


def changes(files: Iterable[Local], gone: Iterable[str], there: Mapping[str, str]) -> list[Change]:
    """What a commit of these would do, by path. `there`: path -> hash of the files that the repository has."""
    listed = [Change(path, "gone", 0) for path in gone if path in there]
    for file in files:
        same = there.get(file.path) in (file.sha256, file.blob)
        what: Any = "new" if file.path not in there else "unchanged" if same else "changed"
        listed.append(Change(file.path, what, file.size))
    return sorted(listed)


class Remote:
    """The repository `name` ("organisation/name"). Every method raises HubError, in which the token never stands, for
    what the Hub refuses and for a connection that does not come back."""

    def __init__(self, name: str, kind: Kind, *, endpoint: str | None, token: str | None) -> None:
        self.name, self.kind, self.token = name, kind, token
        if "/" not in name:
            raise HubError(f"{name!r} names no repository. Expected organisation/name, or your user name/name")
        try:
            validate_repo_id(name)
        except HFValidationError as e:
            raise HubError(f"{name!r} cannot be the name of a repository: {e}") from None
        self.api = HfApi(endpoint=endpoint, token=token or False, library_name="self-rewarding-lm")
        check_address(self.api.endpoint)
        set_client_factory(patient_client)
        if not stderr.is_terminal:
            disable_progress_bars()
        self.url = f"{self.api.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"

    def look(self) -> Found:
        """What is there now. A file whose hash the Hub leaves out is read."""

        def info() -> Any:
            try:
                return self.api.repo_info(self.name, repo_type=self.kind, files_metadata=True)
            except RepositoryNotFoundError:
                return None

        if (there := self._call(info)) is None:
            return Found(None, False, {})
        files = {file.rfilename: (file.lfs and file.lfs.sha256) or file.blob_id for file in there.siblings or ()}
        for path in [path for path, known in files.items() if not known]:
            files[path] = hashlib.sha256(self._read(path, there.sha)).hexdigest()
        return Found(str(there.sha), bool(there.private), files)

    def commit_of(self, revision: str) -> str:
        """The commit that a branch, a tag or the beginning of a hash stands for."""

        def commit() -> str:
            try:
                return str(self.api.repo_info(self.name, repo_type=self.kind, revision=revision).sha)
            except HfHubHTTPError as e:
                if status(e) not in (401, 404):
                    raise
                raise HubError(
                    f"{self.name} has no commit, tag or branch {revision!r}. See {self.url}/commits"
                ) from None

        return self._call(commit)

    def tags(self) -> dict[str, str]:
        """Tag -> commit."""
        refs = self._call(lambda: self.api.list_repo_refs(self.name, repo_type=self.kind))
        return {tag.name: tag.target_commit for tag in refs.tags}

    def text(self, path: str, found: Found) -> str | None:
        """A text file, None when there is none. Raises HubError also for one that is not UTF-8."""
        if path not in found.files:
            return None
        try:
            return self._read(path, found.head).decode()
        except UnicodeDecodeError as e:
            raise HubError(f"{path} of {self.name} is not UTF-8 (byte {e.start}). Fix it on the Hub") from None

    def check_card(self, text: str) -> None:
        """Raises HubError for a card whose metadata the Hub would refuse, for example an unknown licence."""

        def check() -> None:
            content = {"content": text, "repoType": self.kind}
            url = f"{self.api.endpoint}/api/validate-yaml"
            response = get_session().post(url, json=content, headers=build_hf_headers(token=self.api.token))
            if response.status_code == 400:
                errors = "; ".join(str(error["message"]) for error in response.json()["errors"])
                raise HubError(
                    f"the Hub would refuse the card of {self.name}: {for_terminal(errors)[:300]}. Fix publish in "
                    f"params.yaml, or the card on the Hub"
                )
            hf_raise_for_status(response)

        self._call(check)

    def create(self, *, private: bool) -> Found:
        """Make the repository, and look at it."""
        self._call(lambda: self.api.create_repo(self.name, repo_type=self.kind, private=private, exist_ok=True))
        return self.look()

    def commit(self, files: list[Local], gone: list[str], base: Found, message: str) -> str:
        """One commit on top of `base` that adds `files` and removes `gone`; its hash. Raises HubError also when the
        repository has another head than `base`."""
        another = HubError(
            f"{self.name} got another commit in the meantime. It was not overwritten, and nothing of this is visible. "
            f"Look at it, {self.url}/commits/main, then run the same command again"
        )
        added = [file for file in files if base.files.get(file.path) not in (file.sha256, file.blob)]
        tried = False

        def commit() -> str:
            nonlocal tried
            if tried and (now := self.look()).head != base.head:
                if now.head and all(change.what == "unchanged" for change in changes(files, gone, now.files)):
                    return now.head  # a commit of ours whose answer was lost
                raise another
            tried = True
            # made anew for each try: the library remembers in them what it uploaded, and would make an empty commit
            adds = [CommitOperationAdd(file.path, str(file.file)) for file in added]
            for file, add in zip(added, adds, strict=True):
                if add.upload_info.sha256.hex() != file.sha256:
                    raise HubError(f"{file.file} changed while it was published; nothing was sent. Run: srlm repro")
            try:
                commit = self.api.create_commit(
                    self.name,
                    [*adds, *(CommitOperationDelete(path) for path in gone if path in base.files)],
                    commit_message=message,
                    repo_type=self.kind,
                    parent_commit=base.head,
                )
            except HfHubHTTPError as e:
                raise another if status(e) in (409, 412) else e from None
            return str(commit.oid)

        return self._call(commit)

    def tag(self, tag: str, commit: str) -> None:
        """Name the commit. Raises HubError when the name stands for another."""
        self._call(lambda: self.api.create_tag(self.name, tag=tag, revision=commit, repo_type=self.kind, exist_ok=True))
        if (other := self.tags().get(tag)) != commit:
            raise HubError(f"tag {tag} of {self.name} names commit {str(other)[:12]}, and tags do not move")

    def snapshot(self, commit: str, folder: Path) -> Path:
        """Every file of a commit, downloaded into `folder`, past every cache. None may lead out of it."""
        self._call(
            lambda: self.api.snapshot_download(
                self.name, repo_type=self.kind, revision=commit, local_dir=folder, cache_dir=folder.with_name("cache")
            )
        )
        for path in folder.rglob("*"):
            if not path.resolve().is_relative_to(folder.resolve()):
                raise HubError(
                    f"{path.relative_to(folder)} of {self.name} links to a place outside it: nothing was read"
                )
        return folder

    def _read(self, path: str, head: str | None) -> bytes:
        url = hf_hub_url(self.name, path, repo_type=self.kind, revision=head, endpoint=self.api.endpoint)

        def read() -> bytes:
            response = get_session().get(url, headers=build_hf_headers(token=self.api.token))
            hf_raise_for_status(response)
            return response.content

        return self._call(read)

    def _call(self, ask: Callable[[], Result]) -> Result:
        """What `ask` returns, tried again after what may pass."""
        retrying = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            retry=retry_if_exception(is_retryable),
            reraise=True,
        )
        try:
            return retrying(ask)
        except (HTTPError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as e:
            # the last three: not a Hub's answer
            raise Unanswered(explain(e, f"{self.kind} {self.name}", self.api.endpoint, self.token)) from None


def check_address(url: str) -> None:
    """Raises HubError for an endpoint that no request can be sent to."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise HubError(
            f"{for_terminal(url)!r} is no address of a Hub. Expected --base-url https://host or https://host:port (or "
            f"the same in HF_ENDPOINT)"
        )


def patient_client() -> Any:
    """The library's HTTP client, which alone would wait for ever."""
    client = default_client_factory()
    client.timeout = SILENCE_S
    return client
