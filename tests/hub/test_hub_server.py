"""What the real clients make of the Hub that the tests have, of its errors and of its faults."""

from __future__ import annotations

import io
import itertools
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import huggingface_hub
import polars as pl
import pytest
from hub_server import Fault, Server
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

COUNT = itertools.count()


@pytest.fixture
def api(hub: Server) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_ann")


@pytest.fixture
def repo(api: HfApi) -> str:
    """A private one of each test's own."""
    name = f"ann/rows-{next(COUNT)}"
    api.create_repo(name, repo_type="dataset", private=True)
    return name


def table(*rows: dict[str, Any]) -> bytes:
    pl.DataFrame(rows).write_parquet(buffer := io.BytesIO())
    return buffer.getvalue()


README, DATA = b"---\nlicense: mit\n---\n# Rows\n", table({"a": 1})


def publish(api: HfApi, repo: str, files: dict[str, bytes] | None = None, **how: Any) -> str:
    files = {"README.md": README, "data/a.parquet": DATA} if files is None else files
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="Rows", repo_type="dataset", **how).oid


def asked(hub: Server, path: str) -> list[int]:
    """Statuses of the answers to requests whose path has this in it."""
    return [request["status"] for request in hub.asked() if path in request["path"]]


def heads(hub: Server, repo: str) -> list[str]:
    return [commit["oid"] for commit in hub.commits("dataset", repo)]


def failure(do: Callable[[], Any]) -> HfHubHTTPError:
    with pytest.raises(HfHubHTTPError) as error:
        do()
    return error.value


def test_a_commit_has_regular_files_and_large_ones(api, hub, repo):
    first = publish(api, repo)
    commit = hub.commits("dataset", repo)[-1]
    assert (commit["oid"], commit["author"], commit["title"]) == (first, "ann", "Rows")
    assert {path: file["lfs"] for path, file in commit["files"].items()} == {
        ".gitattributes": False,
        "README.md": False,
        "data/a.parquet": True,
    }
    files = hub.files("dataset", repo)
    assert (files["README.md"], files["data/a.parquet"]) == (README, DATA)
    assert len(asked(hub, "/_lfs/")) == 1
    second = publish(
        api,
        repo,
        {"README.md": README, "b.txt": b"b", "copy.parquet": DATA, "empty": b"", "bytes": b"\xff"},
        parent_commit=first,
    )
    assert heads(hub, repo)[-2:] == [first, second]
    assert [path for path, file in hub.commits("dataset", repo)[-1]["files"].items() if file["lfs"]] == [
        "data/a.parquet",
        "copy.parquet",
        "bytes",
    ]
    assert len(asked(hub, "/_lfs/")) == 2, "an object that is there is not sent again"
    assert [commit.commit_id for commit in api.list_repo_commits(repo, repo_type="dataset")] == heads(hub, repo)[::-1]


def test_a_commit_on_another_parent_is_refused(api, hub, repo):
    first = publish(api, repo)
    second = publish(api, repo, {"b.txt": b"b"})
    error = failure(lambda: publish(api, repo, {"c.txt": b"c"}, parent_commit=first))
    assert type(error) is HfHubHTTPError
    assert (error.response.status_code, "A commit has happened since" in str(error)) == (412, True)
    assert asked(hub, "/commit/")[-1:] == [412], "it asks once"
    assert heads(hub, repo)[-1] == second


def test_large_files_are_what_was_announced(api, hub, repo):
    operation = CommitOperationAdd("a.parquet", DATA)
    operation._upload_mode, operation._is_uploaded = "lfs", True  # a client that says so but never did
    with pytest.raises(BadRequestError, match="LFS pointer pointed to a file that does not exist"):
        api.create_commit(repo, [operation], commit_message="-", repo_type="dataset")
    for size, content in ((len(DATA), b"x" * len(DATA)), (1, DATA)):
        url = f"{hub.url}/_lfs/datasets/{repo}/{operation.upload_info.sha256.hex()}?size={size}"
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(urllib.request.Request(url, content, method="PUT"))
    assert sorted(hub.files("dataset", repo)) == [".gitattributes"]


@pytest.mark.parametrize(
    ("kind", "what", "token", "error", "status"),
    [
        ("no such repository", "README.md", "hf_ann", RepositoryNotFoundError, 404),
        ("no such repository", "README.md", False, RepositoryNotFoundError, 401),
        ("private", "README.md", "hf_bob", RepositoryNotFoundError, 404),
        ("private", "README.md", False, RepositoryNotFoundError, 401),
        ("private", "README.md", "hf_nobody", HfHubHTTPError, 401),
        ("no such revision", "README.md", "hf_ann", RevisionNotFoundError, 404),
        ("no such file", "none", "hf_ann", RemoteEntryNotFoundError, 404),
    ],
)
def test_what_is_not_there_and_what_one_may_not_see(api, hub, repo, tmp_path, kind, what, token, error, status):
    publish(api, repo)
    name, revision = (
        "ann/none" if kind == "no such repository" else repo,
        "none" if kind == "no such revision" else "main",
    )
    asks = [
        lambda: hf_hub_download(
            name, what, repo_type="dataset", revision=revision, cache_dir=tmp_path, token=token, endpoint=hub.url
        )
    ]
    asks.append(lambda: list(api.list_repo_tree(name, what, repo_type="dataset", revision=revision, token=token)))
    if error is not RemoteEntryNotFoundError:
        asks.append(lambda: api.dataset_info(name, revision=revision, token=token))
    for ask in asks:
        raised = failure(ask)
        assert (type(raised), raised.response.status_code) == (error, status)
    assert isinstance(raised, EntryNotFoundError) == (kind == "no such file")


@pytest.mark.parametrize(("token", "status"), [("hf_bob", 403), ("hf_reader", 403), (False, 401), ("hf_nobody", 401)])
def test_not_everyone_writes(api, hub, repo, token, status):
    api.update_repo_settings(repo, repo_type="dataset", private=False)
    for write in (
        lambda: publish(api, repo, token=token),
        lambda: api.create_tag(repo, tag="v", repo_type="dataset", token=token),
    ):
        assert failure(write).response.status_code == status
    assert len(heads(hub, repo)) == 1


def test_a_commit_is_done_though_its_answer_was_lost(api, hub, repo):
    """The same operations know nothing of what was committed meanwhile, new ones do: nothing is left to commit."""
    operations = [CommitOperationAdd("README.md", README), CommitOperationAdd("a.parquet", DATA)]
    commit = lambda **how: api.create_commit(repo, operations, commit_message="Rows", repo_type="dataset", **how)
    parent = heads(hub, repo)[-1]
    hub.behave(Fault("POST", "/commit/", drop_after=True, times=1))
    with pytest.raises(huggingface_hub.errors.HTTPError, match="Server disconnected without sending a response"):
        commit(parent_commit=parent)
    lost = heads(hub, repo)[-1]
    assert lost != parent
    assert failure(lambda: commit(parent_commit=parent)).response.status_code == 412
    assert publish(api, repo, {"README.md": README, "a.parquet": DATA}, parent_commit=parent) == lost
    assert commit().oid != lost, "without a parent they are committed once more, and change nothing"
    assert hub.commits("dataset", repo)[-1]["files"] == hub.commits("dataset", repo)[-2]["files"]
