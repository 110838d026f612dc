"""What the real clients make of the Hub that the tests have, of its errors and of its faults."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import polars as pl
import pytest
from hub_server import USERS, Fault, Server, serving
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem, hf_hub_download
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
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


def test_who_one_is(api, hub):
    me = api.whoami()
    assert (me["name"], me["auth"]["accessToken"]["role"]) == ("ann", "write")
    assert {org["name"]: org["roleInOrg"] for org in me["orgs"]} == {"lab": "write", "club": "read"}
    assert failure(lambda: api.whoami(token="hf_nobody")).response.status_code == 401


@pytest.mark.parametrize("repo_type", ["model", "dataset"])
def test_a_repository_is_made_once(api, hub, repo_type):
    url = api.create_repo("lab/once", repo_type=repo_type, private=True)
    assert (url.repo_id, url.repo_type, url.endpoint) == ("lab/once", repo_type, hub.url)
    assert failure(lambda: api.create_repo("lab/once", repo_type=repo_type)).response.status_code == 409
    assert api.create_repo("lab/once", repo_type=repo_type, exist_ok=True, private=False) == url
    assert api.repo_info("lab/once", repo_type=repo_type).private, "what was asked of one that exists is not done"
    assert api.repo_info("lab/once", repo_type=repo_type, token="hf_bob").private, "org members read"
    api.update_repo_settings("lab/once", repo_type=repo_type, private=False)
    assert not api.repo_info("lab/once", repo_type=repo_type, token=False).private


@pytest.mark.parametrize(
    ("name", "token", "status"),
    [
        ("bob/x", "hf_ann", 403),
        ("club/x", "hf_ann", 403),
        ("ann/x", "hf_reader", 403),
        ("ann/x", "hf_nobody", 401),
        ("ann/x", False, 401),
    ],
)
def test_not_everyone_makes_repositories(api, hub, name, token, status):
    assert failure(lambda: api.create_repo(name, token=token)).response.status_code == status
    assert failure(lambda: api.create_repo(name, token=token, exist_ok=True)).response.status_code == status


def test_names_are_checked_by_the_hub_too(api, hub):
    body = json.dumps({"name": "a..b", "type": "dataset"}).encode()
    request = urllib.request.Request(f"{hub.url}/api/repos/create", body, {"Authorization": "Bearer hf_ann"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


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


def test_what_has_not_changed_is_no_commit(api, hub, repo):
    first = publish(api, repo)
    hub.reset()
    assert publish(api, repo) == first
    assert publish(api, repo, parent_commit="0" * 40) == first, (
        "where there is nothing to commit, nobody looks at the parent"
    )
    assert not asked(hub, "/commit/")
    assert not asked(hub, "/_lfs/")


def test_a_commit_on_another_parent_is_refused(api, hub, repo):
    first = publish(api, repo)
    second = publish(api, repo, {"b.txt": b"b"})
    error = failure(lambda: publish(api, repo, {"c.txt": b"c"}, parent_commit=first))
    assert type(error) is HfHubHTTPError
    assert (error.response.status_code, "A commit has happened since" in str(error)) == (412, True)
    assert asked(hub, "/commit/")[-1:] == [412], "it asks once"
    assert heads(hub, repo)[-1] == second


def test_files_are_deleted(api, hub, repo):
    publish(api, repo, {"a.txt": b"a", "b/c.txt": b"c", "b/d/e.txt": b"e"})
    delete = lambda *paths: api.create_commit(
        repo, [CommitOperationDelete(p) for p in paths], commit_message="-", repo_type="dataset"
    )
    delete("a.txt", "b/d/")
    assert sorted(hub.files("dataset", repo)) == [".gitattributes", "b/c.txt"]
    for missing in ("a.txt", "b/d/"):
        with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
            delete(missing)


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


def test_a_card_is_checked_before_anything_is_sent(api, hub, repo):
    with pytest.raises(ValueError, match=r"Invalid metadata in README.md"):
        publish(api, repo, {"README.md": b"---\na: [\n---\n", "a.parquet": DATA})
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        publish(api, repo, {"README.md": b"# Rows\n"})
    assert [request["path"].split("/")[2] for request in hub.asked()][:2] == ["repos", "validate-yaml"]
    assert not asked(hub, ".git/info/lfs")


def test_tags_stay_where_they_are(api, hub, repo):
    first, second = publish(api, repo), publish(api, repo, {"b.txt": b"b"})
    api.create_tag(repo, tag="v1", revision=first, repo_type="dataset")
    assert (
        failure(lambda: api.create_tag(repo, tag="v1", revision=second, repo_type="dataset")).response.status_code
        == 409
    )
    api.create_tag(repo, tag="v1", revision=second, repo_type="dataset", exist_ok=True)
    api.create_tag(repo, tag="v2", repo_type="dataset")
    refs = api.list_repo_refs(repo, repo_type="dataset")
    assert {tag.name: tag.target_commit for tag in refs.tags} == {"v1": first, "v2": second}, (
        "exist_ok says nothing of another commit"
    )
    assert [(branch.name, branch.target_commit) for branch in refs.branches] == [("main", second)]
    assert api.dataset_info(repo, revision="v1").sha == first
    api.delete_tag(repo, tag="v1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(repo, tag="v3", revision="0" * 40, repo_type="dataset")


def test_what_a_repository_holds(api, hub, repo):
    first = publish(api, repo)
    publish(api, repo, {"data/b.txt": b"b"})
    tree = {entry.path: entry for entry in api.list_repo_tree(repo, repo_type="dataset", recursive=True, expand=True)}
    assert list(tree) == [".gitattributes", "README.md", "data", "data/a.parquet", "data/b.txt"]
    assert (tree["data/a.parquet"].lfs.size, tree["data/a.parquet"].last_commit.oid) == (len(DATA), first)
    assert tree["data"].last_commit.oid == heads(hub, repo)[-1]
    assert [entry.path for entry in api.list_repo_tree(repo, repo_type="dataset")] == [
        ".gitattributes",
        "README.md",
        "data",
    ]
    assert [entry.path for entry in api.list_repo_tree(repo, "data", revision=first, repo_type="dataset")] == [
        "data/a.parquet"
    ]
    paths = api.get_paths_info(repo, ["data", "README.md", "none"], repo_type="dataset")
    assert [entry.path for entry in paths] == ["data", "README.md"]
    info = api.dataset_info(repo, revision=first, files_metadata=True)
    assert (info.sha, info.private) == (first, True)
    assert {file.rfilename: (file.size, bool(file.lfs)) for file in info.siblings}["data/a.parquet"] == (
        len(DATA),
        True,
    )


def test_files_are_read_by_commit(api, hub, repo, tmp_path):
    files = {"README.md": README, "data/a.parquet": DATA, "d é/ü 1.txt": "é".encode() * 300}
    first = publish(api, repo, files)
    publish(api, repo, dict.fromkeys(files, b"---\na: 1\n---\n"))
    assert [entry.path for entry in api.list_repo_tree(repo, "d é", repo_type="dataset")] == ["d é/ü 1.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(repo, "漢.txt", repo_type="dataset")
    for path, content in files.items():
        found = api.hf_hub_download(repo, path, repo_type="dataset", revision=first, cache_dir=tmp_path / "cache")
        assert Path(found).read_bytes() == content
        assert first in found
    files = HfFileSystem(endpoint=hub.url, token="hf_ann", skip_instance_cache=True)
    with files.open(f"datasets/{repo}@{first}/data/a.parquet", block_size=10) as file:
        file.seek(5)
        assert file.read(7) == DATA[5:12]
    assert 206 in asked(hub, "/resolve/")


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


AGAIN = {"preupload": "/preupload/", "LFS batch": "objects/batch", "LFS object": "/_lfs/"}
ONCE = {"card": "validate-yaml", "commit": "/commit/"}
FAULTS = {
    "drop": Fault(drop=True),
    "drop_after": Fault(drop_after=True),
    **{str(status): Fault(status=status) for status in (401, 403, 412, 429, 500, 503)},
    "429, Retry-After": Fault(status=429, headers=(("Retry-After", "3"),)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", AGAIN | ONCE)
def test_where_the_client_asks_again(api, hub, repo, waited, where, fault):
    path, transient = (AGAIN | ONCE)[where], fault not in ("401", "403", "412")
    hub.behave(FAULTS[fault]._replace(path=path, times=1))
    try:
        publish(api, repo)
        done = True
    except (huggingface_hub.errors.HTTPError, RuntimeError):
        done = False
    assert done == (where in AGAIN and transient)
    assert waited == (([4] if fault == "429, Retry-After" else [1]) if done else []), "Retry-After and a second"
    assert len(asked(hub, path)) == (2 if done else 1)
    lost = fault == "drop_after" and where == "commit"
    assert len(heads(hub, repo)) == 1 + (done or lost)


def test_it_gives_up_after_six_times(api, hub, repo, waited):
    hub.behave(Fault("POST", "/preupload/", status=503, text="no more"))
    assert "no more" in str(failure(lambda: publish(api, repo)))
    assert (asked(hub, "/preupload/"), waited) == ([503] * 6, [1, 2, 4, 8, 8])
    hub.behave(Fault("PUT", "/_lfs/", drop=True))
    with pytest.raises(RuntimeError, match=r"Error while uploading 'data/a.parquet'") as error:
        publish(api, repo)
    assert isinstance(error.value.__cause__, huggingface_hub.errors.HTTPError)


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


def test_a_lost_answer_looks_like_somebody_elses_tag_or_repository(api, hub, repo):
    publish(api, repo)
    hub.behave(*(Fault("POST", path, status=504, done=True, times=1) for path in ("/tag/", "/create")))
    for do in (
        lambda: api.create_tag(repo, tag="v1", repo_type="dataset"),
        lambda: api.create_repo(f"{repo}-2", repo_type="dataset"),
    ):
        assert failure(do).response.status_code == 504
        assert failure(do).response.status_code == 409


def test_reading_is_asked_again_or_not(api, hub, repo, waited):
    publish(api, repo)
    drop = Fault(drop=True, times=1)
    hub.behave(drop)
    assert len(list(api.list_repo_tree(repo, repo_type="dataset"))) == 3
    hub.behave(drop)
    assert len(api.list_repo_commits(repo, repo_type="dataset")) == 2
    assert waited == [1, 1]
    for read in (api.whoami, lambda: api.dataset_info(repo), lambda: api.list_repo_refs(repo, repo_type="dataset")):
        hub.behave(drop)
        with pytest.raises(huggingface_hub.errors.HTTPError, match="Server disconnected"):
            read()
    assert waited == [1, 1]


def test_downloads_are_asked_again_or_not(api, hub, repo, waited, tmp_path):
    oid = publish(api, repo)
    download = lambda: api.hf_hub_download(
        repo, "data/a.parquet", repo_type="dataset", revision=oid, cache_dir=tmp_path
    )
    for fault, error in ((Fault(status=401), HfHubHTTPError), (Fault(drop=True), huggingface_hub.errors.HTTPError)):
        hub.behave(fault._replace(method="HEAD", times=1))
        with pytest.raises(error):
            download()
    hub.behave(Fault("GET", status=503, times=1))
    assert failure(download).response.status_code == 503
    assert waited == [], "neither a dropped HEAD nor a GET with an error is asked again"
    hub.behave(Fault("HEAD", status=503))
    with pytest.raises(LocalEntryNotFoundError):
        download()
    assert waited == [1, 2, 4, 8, 8]
    hub.behave(
        Fault("HEAD", status=503, times=1), Fault("GET", drop=True, times=1), Fault("GET", status=429, skip=1, times=1)
    )
    assert Path(download()).read_bytes() == DATA
    assert waited[5:] == [1, 1], "the second HEAD does not wait"


def test_slow_answers(api, hub, repo):
    hub.behave(Fault("GET", delay=0.3))
    begun = time.monotonic()
    api.dataset_info(repo)
    assert time.monotonic() - begun > 0.3
    with pytest.raises(huggingface_hub.errors.HTTPError, match="timed out"):
        api.dataset_info(repo, timeout=0.05)
    assert huggingface_hub.get_session().timeout.read is None, "nobody else has a timeout, a commit least of all"


def test_a_401_or_a_403_of_the_moment_is_told_as_it_is(api, hub, repo):
    hub.behave(
        Fault(status=401, text='{"error": "you sent {authorization}"}', times=1),
        Fault(status=403, text="rights", skip=1),
    )
    assert "you sent Bearer hf_ann" in str(failure(lambda: api.dataset_info(repo)))
    assert "rights" in str(failure(lambda: api.dataset_info(repo)))
    with pytest.raises(RepositoryNotFoundError):
        hub.behave(Fault(status=401, headers=(("X-Error-Code", "RepoNotFound"),)))
        api.dataset_info(repo)


def test_requests_are_counted_and_have_no_tokens(api, hub):
    name = f"ann/rows-{next(COUNT)}"
    api.create_repo(name, repo_type="dataset")
    publish(api, name, revision="main")
    requests = hub.asked()
    assert [
        (request["method"], request["path"].split("?")[0].replace(name, "REPO"), request["status"])
        for request in requests
    ] == [
        ("POST", "/api/repos/create", 200),
        ("POST", "/api/validate-yaml", 200),
        ("POST", "/api/datasets/REPO/preupload/main", 200),
        ("POST", "/datasets/REPO.git/info/lfs/objects/batch", 200),
        ("PUT", f"/_lfs/datasets/REPO/{hub.commits('dataset', name)[-1]['files']['data/a.parquet']['sha256']}", 200),
        ("POST", "/api/datasets/REPO/commit/main", 200),
    ]
    assert "hf_ann" not in json.dumps(requests)
    assert not any(b"hf_ann" in path.read_bytes() for path in hub.folder.rglob("*") if path.is_file())
    hub.reset()
    assert hub.asked() == []


@pytest.mark.parametrize("after", [False, True])
def test_each_request_of_a_conversation_can_be_lost(api, hub, waited, after):
    """The second try goes through, whichever was lost; there is one commit each time."""
    for k in itertools.count():
        name = f"ann/rows-{next(COUNT)}"
        hub.behave(Fault(drop=not after, drop_after=after, skip=k, times=1))
        hub.reset()
        for attempt in range(2):
            try:
                api.create_repo(name, repo_type="dataset", exist_ok=True)
                publish(api, name)
                break
            except huggingface_hub.errors.HTTPError:
                assert attempt == 0
        assert len(heads(hub, name)) == 2
        if not (lost := [request for request in hub.asked() if not request["status"]]):
            break
        assert len(lost) == 1
    assert k == 6


def test_a_server_that_was_killed_goes_on_where_it_was(tmp_path):
    with serving(tmp_path, USERS) as hub:
        api = HfApi(endpoint=hub.url, token="hf_ann")
        api.create_repo("lab/rows", repo_type="dataset", private=True)
        oid = publish(api, "lab/rows")
        api.create_tag("lab/rows", tag="v1", repo_type="dataset")
        hub.kill()
        with pytest.raises(huggingface_hub.errors.HTTPError):
            api.whoami()
        with serving(tmp_path, USERS, hub.port) as again:
            assert again.url == hub.url
            assert api.dataset_info("lab/rows", revision="v1").sha == oid
            assert api.dataset_info("lab/rows").private
            assert publish(api, "lab/rows") == oid
            assert again.files("dataset", "lab/rows") == hub.files("dataset", "lab/rows", oid)


CARD = b"""---
configs:
- config_name: small
  data_files:
  - {split: train, path: small/train.parquet}
  - {split: test, path: small/test.parquet}
- config_name: large
  data_files:
  - {split: train, path: large/*.parquet}
---
# Rows
"""
ROWS = {
    ("small", "train"): [{"id": "a", "n": 1, "text": ["x", "é"]}, {"id": "b", "n": None, "text": []}],
    ("small", "test"): [{"id": "c", "n": 3, "text": ["y"]}],
    ("large", "train"): [{"id": str(i), "score": i / 8} for i in range(100)],
}
LOAD = """
import json, sys
from datasets import load_dataset
repo, revision = sys.argv[1:]
loaded = {config: load_dataset(repo, config, revision=revision) for config in ("small", "large")}
print(json.dumps([[config, split, list(rows)] for config, splits in loaded.items() for split, rows in splits.items()]))
"""


def test_datasets_loads_the_rows_of_a_commit(api, hub, repo, tmp_path):
    files = {"README.md": CARD} | {f"{config}/{split}.parquet": table(*rows) for (config, split), rows in ROWS.items()}
    oid = publish(api, repo, files)
    publish(api, repo, {"small/train.parquet": DATA})
    others = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path),
        "HF_TOKEN": "hf_ann",
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }
    variables |= dict.fromkeys(("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, repo, oid], env=others | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {(config, split): rows for config, split, rows in json.loads(done.stdout)} == ROWS
