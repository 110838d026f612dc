"""A repository on the Hub: what is there, what would change, and one commit that changes it, whatever becomes of the
connection.

A commit is made on top of the head that was looked at, or not at all. Data are uploaded before it, where no reader sees
them. After a fault the repository is looked at again: a commit whose answer was lost is recognised by what it holds,
and one of somebody else's in between is never written over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetInfo,
    HfApi,
    ModelInfo,
    get_session,
    set_client_factory,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, hf_raise_for_status, validate_repo_id
from huggingface_hub.utils._http import default_client_factory  # the library exports the setter alone
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from stages.console.errors import HubError
from stages.console.terminal import stderr
from stages.hub.faults import PASSING, is_retryable, of_this_disk, status
from stages.hub.local import Local, changes
from stages.text.escape import for_terminal

TRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 4, 1.0, 20.0
SILENCE_S = 120.0
"""Longest wait for the next byte."""
Kind = Literal["dataset", "model"]
Result = TypeVar("Result")


class Found(NamedTuple):
    """A repository as it was at one moment."""

    head: str | None
    """None: there is no such repository."""
    private: bool
    files: Mapping[str, str]
    """Path -> sha256 where the Hub keeps it in LFS, else git's hash."""
    tags: Mapping[str, str]
    """Tag -> commit."""


class Remote:
    """The repository `name` ("organisation/name") of one `kind`.

    Every method raises HubError, in which the token never stands, for what the Hub refuses and for a connection that
    does not come back.
    """

    def __init__(self, name: str, kind: Kind, *, endpoint: str | None, token: str | None) -> None:
        self.name, self.kind, self.token = name, kind, token
        if "/" not in name:
            raise HubError(
                f"{name!r} names no repository: write organisation/name, or your user's name before the slash"
            )
        try:
            validate_repo_id(name)
        except HFValidationError as e:
            raise HubError(f"the Hub takes no repository of the name {name!r}: {e}") from None
        self.api = HfApi(endpoint=endpoint, token=token or False, library_name="self-rewarding-lm")
        check_address(self.api.endpoint)
        set_client_factory(patient_client)
        if not stderr.is_terminal:
            disable_progress_bars()

    @cached_property
    def url(self) -> str:
        return f"{self.api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def check_rights(self) -> str:
        """The user's name. Raises HubError when the token is none, or may not write here."""
        me = self._asked(self.api.whoami)
        if not isinstance(me, dict) or not isinstance(me.get("name"), str):
            raise HubError(f"{self.api.endpoint} does not say whose token this is: is it a Hub?")
        namespace, token_role = self.name.split("/")[0], (me.get("auth") or {}).get("accessToken", {}).get("role")
        roles = {org["name"]: org.get("roleInOrg") for org in me.get("orgs", ())}
        names = {name.lower(): name for name in (me["name"], *roles)}
        if token_role == "read":
            raise HubError(
                f"the token of {me['name']} may only read. Make one that may write at "
                f"{self.api.endpoint}/settings/tokens, then: hf auth login"
            )
        stranger = (
            namespace.lower() not in names and token_role != "fineGrained"
        )  # such a token may not tell of all its organisations
        if stranger or roles.get(names.get(namespace.lower(), "")) == "read":
            there = ", ".join([me["name"], *(org for org, role in roles.items() if role != "read")])
            raise HubError(f"{me['name']} may not write to {namespace}. With this token you may write to: {there}")
        return str(me["name"])

    def look(self) -> Found:
        """What is there now."""
        try:
            about = self.api.dataset_info if self.kind == "dataset" else self.api.model_info
            info: DatasetInfo | ModelInfo = self._asked(lambda: about(self.name, files_metadata=True), missing=True)
            refs = self._asked(lambda: self.api.list_repo_refs(self.name, repo_type=self.kind), missing=True)
        except RepositoryNotFoundError:
            return Found(None, False, {}, {})
        files = {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) or "" for file in info.siblings or ()}
        return Found(info.sha, bool(info.private), files, {tag.name: tag.target_commit for tag in refs.tags})

    def text(self, path: str, found: Found, folder: Path) -> str | None:
        """A text file of the commit that was found, None when it has none; downloaded into `folder`, past every cache.

        Raises HubError also for one that is not UTF-8.
        """
        if path not in found.files:
            return None
        file = self._asked(
            lambda: self.api.hf_hub_download(
                self.name, path, repo_type=self.kind, revision=found.head, cache_dir=folder, force_download=True
            )
        )
        try:
            return Path(file).read_bytes().decode()
        except UnicodeDecodeError as e:
            raise HubError(
                f"{path} of {self.name} is not UTF-8 (byte {e.start}). Mend it on the Hub, then run the same command "
                f"again"
            ) from None

    def check_card(self, text: str) -> None:
        """Raises HubError for a card whose metadata the Hub would refuse: a licence that it does not know, say."""

        def once() -> None:
            asked = {"content": text, "repoType": self.kind}
            answer = get_session().post(
                f"{self.api.endpoint}/api/validate-yaml", json=asked, headers=build_hf_headers(token=self.api.token)
            )
            if answer.status_code == 400:
                errors = "; ".join(str(error["message"]) for error in answer.json()["errors"])
                raise HubError(
                    f"the Hub would not take the card of {self.name}: {for_terminal(errors)[:300]}. Mend params.yaml, "
                    f"publish, or the card there"
                )
            hf_raise_for_status(answer)

        self._asked(once)

    def create(self, *, private: bool) -> Found:
        """Make the repository, and look at it."""
        self._asked(lambda: self.api.create_repo(self.name, repo_type=self.kind, private=private, exist_ok=True))
        return self.look()

    def commit(self, files: list[Local], gone: list[str], base: Found, message: str) -> str:
        """One commit on top of `base` that adds `files` and removes `gone`; its hash. Makes none when everything is so
        already.

        Raises HubError also when the repository has another head than `base`.
        """

        def once() -> str:
            now = self.look()
            if now.head and all(change.what == "unchanged" for change in changes(files, gone, now.files)):
                return now.head  # a commit of ours whose answer was lost, or nothing to do
            if now.head != base.head:
                raise self._another(now.head)
            # made anew for each try: the library remembers in them what it uploaded, and would make an empty commit
            adds = [CommitOperationAdd(file.path, str(file.file)) for file in files]
            if moved := next(
                (file for file, add in zip(files, adds, strict=True) if add.upload_info.sha256.hex() != file.sha256),
                None,
            ):
                raise HubError(
                    f"{moved.file} changed while it was being published. Nothing of this was sent; run: srlm repro, "
                    f"then the same command again"
                )
            deletes = [CommitOperationDelete(path) for path in gone if path in now.files]
            try:
                made = self.api.create_commit(
                    self.name, [*adds, *deletes], commit_message=message, repo_type=self.kind, parent_commit=base.head
                )
            except HfHubHTTPError as e:
                if status(e) in (409, 412):
                    raise self._another(None) from None
                raise
            return str(made.oid)

        return self._asked(once)

    def tag(self, tag: str, commit: str) -> None:
        """Name the commit. Raises HubError when the name stands for another."""

        def once() -> None:
            stands_for = self.look().tags.get(tag)
            if stands_for is None:
                self.api.create_tag(self.name, tag=tag, revision=commit, repo_type=self.kind)
            elif stands_for != commit:
                raise HubError(
                    f"tag {tag} of {self.name} stands for commit {stands_for[:12]} already, and tags do not move. Name "
                    f"another"
                )

        self._asked(once)

    def snapshot(self, revision: str, folder: Path) -> Path:
        """Every file of a commit, downloaded into `folder`, past every cache."""
        return Path(
            self._asked(
                lambda: self.api.snapshot_download(self.name, repo_type=self.kind, revision=revision, cache_dir=folder)
            )
        )

    def _another(self, head: str | None) -> HubError:
        commit = f" ({head[:12]})" if head else ""
        return HubError(
            f"{self.name} got another commit{commit} in the meantime. It was not written over, and nothing of this is "
            f"visible. "
            f"Look at it, {self.url}/commits/main, then run the same command again"
        )

    def _asked(self, ask: Callable[[], Result], *, missing: bool = False) -> Result:
        """What `ask` returns, tried again after what may pass; errors in words, but RepositoryNotFoundError if it may
        be `missing`."""
        pauses = wait_exponential(FIRST_PAUSE_S, max=LONGEST_PAUSE_S)
        with self._in_words(missing):
            return Retrying(
                stop=stop_after_attempt(TRIES), wait=pauses, retry=retry_if_exception(is_retryable), reraise=True
            )(ask)

    @contextmanager
    def _in_words(self, missing: bool) -> Iterator[None]:
        try:
            yield
        except HubError:
            raise
        except RepositoryNotFoundError:
            if missing:
                raise
            raise HubError(
                f"{self.kind} {self.name} is not on {self.api.endpoint}, or this token may not see it"
            ) from None
        except Exception as e:
            if not isinstance(
                e, (HTTPError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
            ):  # the last three: not a Hub's answer
                raise
            raise HubError(self._words(e)) from None

    def _said(self, e: Exception) -> str:
        said = str(e).replace(self.token, "***") if self.token else str(e)
        return " ".join(said.split())[:300]

    def _words(self, e: Exception) -> str:
        while isinstance(e, RuntimeError) and isinstance(e.__cause__, Exception):
            e = e.__cause__  # an upload's error, wrapped
        said = self._said(e)
        if of_this_disk(e):
            return (
                f"this computer's disk, not the Hub: {said}. Readers see nothing half-published; mend it, then run "
                f"the same command again"
            )
        match status(e):
            case 401:
                return f"the Hub does not take this token ({said}). Log in again: hf auth login"
            case 403:
                return (
                    f"this token may not do that to {self.name} ({said}). Ask its owner for the right to write, or "
                    f"name another with --repo"
                )
            case 413:
                return f"the Hub finds a file of {self.name} too large ({said})"
            case int() as code if code not in PASSING:
                return f"the Hub refuses ({code}: {said})"
        if isinstance(e, (RevisionNotFoundError, EntryNotFoundError)) and not isinstance(e, LocalEntryNotFoundError):
            return f"{self.name} has no such revision or file: {said}"
        return (
            f"{self.api.endpoint} does not answer as it should ({type(e).__name__}: {said}). Readers see nothing "
            f"half-published; run the same command again"
        )


def check_address(url: str) -> None:
    """Raises HubError for an endpoint that no request can be sent to."""
    try:
        parts = urlsplit(url)
        known = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search(r"[\s\x00-\x1f]", url)
        )
    except ValueError:
        known = False
    if not known:
        raise HubError(
            f"{for_terminal(url)!r} is no address of a Hub. Write --base-url https://host or https://host:port, or so "
            f"in HF_ENDPOINT"
        )


def patient_client() -> Any:
    """The library's HTTP client, which alone would wait for ever; it makes another after some faults, so setting the
    time once is not enough."""
    client = default_client_factory()
    client.timeout = SILENCE_S
    return client
