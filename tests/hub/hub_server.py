"""A Hugging Face Hub in a process of its own, for the unmodified `huggingface_hub` and `datasets`, that misbehaves when
it is told to.

    (echo '{"hf_ann": {"name": "ann"}}'; cat) | python hub_server.py FOLDER [PORT]    # prints its port, lives until
stdin is closed

The first line of stdin says who has which token (`User`). All else lies in FOLDER, one folder a repository: `repo.json`
(commits, branches, tags) and `objects`, contents under their sha256; both are written whole and renamed, so that a
server that was killed goes on where it was. Not spoken: Xet (a 404 for its token), multipart uploads, pull requests,
branches, .gitignore, pages of long answers. PUT /_test/faults says how to answer whom (`Fault`), GET /_test/asked what
was asked.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4


class User(NamedTuple):
    """Who has a token."""

    name: str
    orgs: Mapping[str, str] | None = None
    """Organisation -> role there, "admin", "write" or "read"."""
    token_role: str = "write"
    """A "read" token changes nothing, whoever has it."""


class Fault(NamedTuple):
    """How `times` of the requests that match are answered, after `skip` that are answered well; they are counted from
    `behave` on."""

    method: str = ".*"
    path: str = ".*"
    """A regex that is searched in path and query as they were sent, that is quoted."""
    drop: bool = False
    """The connection is closed without an answer, and nothing is done."""
    drop_after: bool = False
    """It is done, then the connection is closed without an answer."""
    delay: float = 0.0
    """Seconds before anything is done: one that the client did not wait for is done nevertheless."""
    status: int = 0
    """Instead of the answer: this status, with `headers` and `text`, in which {authorization} becomes what the client
    sent. Nothing is done, ..."""
    done: bool = False
    """... unless so, as behind a gateway that lost patience."""
    headers: tuple[tuple[str, str], ...] = ()
    text: str = '{"error": "told to fail"}'
    skip: int = 0
    times: int = 10**9


class Server(NamedTuple):
    """The process, seen by a test. What is in the repositories is read from disk: it can be asked of a server that was
    killed."""

    port: int
    folder: Path
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, *faults: Fault) -> None:
        """From now on so, and no longer as told before; of the faults whose turn it is the first decides."""
        self._call("PUT", "faults", json.dumps([fault._asdict() for fault in faults]).encode())

    def forget(self) -> None:
        """No faults."""
        self.behave()
        self.forgetful([])

    def forgetful(self, where: list[str]) -> None:
        """From now on no hashes of git are told in the "listing" of a repository, nor in its "tree"; and how many
        "weights" a model has is not."""
        self._call("PUT", "forgetful", json.dumps(where).encode())

    def asked(self) -> list[dict[str, Any]]:
        """`method`, `path`, `status` and `at` of the requests since `reset`, in the order they came. Status 0: no
        answer; None: not yet."""
        return self._call("GET", "asked")

    def reset(self) -> None:
        """Nothing was asked."""
        self._call("DELETE", "asked")

    def kill(self) -> None:
        """SIGKILL; `serving(folder, users, port)` starts another where this one was."""
        self.process.kill()
        self.process.wait()

    def repo(self, repo_type: str, repo: str) -> dict[str, Any]:
        """`private`, `branches` and `tags` (name -> oid), `commits`."""
        return json.loads((self.folder / f"{repo_type}s" / repo / "repo.json").read_text())

    def commits(self, repo_type: str, repo: str) -> list[dict[str, Any]]:
        """Oldest first; the first is the Hub's own, with .gitattributes. `files`: path -> sha256, size, oid in git,
        lfs."""
        return self.repo(repo_type, repo)["commits"]

    def files(self, repo_type: str, repo: str, revision: str = "main") -> dict[str, bytes]:
        found = Repo(self.folder / f"{repo_type}s" / repo)
        return {path: found.read(file) for path, file in found.at(revision)["files"].items()}

    def _call(self, method: str, what: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_test/{what}", data, method=method)) as answer:
            return json.load(answer)


@contextmanager
def serving(folder: Path, users: Mapping[str, User], port: int = 0) -> Iterator[Server]:
    """`users` maps tokens to whom they belong to."""
    command = [sys.executable, __file__, str(folder), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({token: user._asdict() for token, user in users.items()}) + "\n")
        process.stdin.flush()
        yield Server(int(process.stdout.readline()), folder, process)


class Refused(Exception):
    """An error as the Hub tells it: `code` (X-Error-Code) decides which exception the client raises."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: Any) -> None:
        self.status, self.body = status, {"error": message, **body}
        self.headers = {"X-Error-Message": message.encode("ascii", "replace").decode()} | (
            {"X-Error-Code": code} if code else {}
        )


ATTRIBUTES = "".join(
    f"{name} filter=lfs diff=lfs merge=lfs -text\n"
    for name in ("*.arrow", "*.bin", "*.gz", "*.parquet", "*.safetensors")
)
REGULAR = 10 * 2**20
"""Bytes of a file that may be in git itself."""


def write(path: Path, content: bytes) -> None:
    new = path.with_name(f".{uuid4().hex}")
    new.write_bytes(content)
    new.replace(path)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_binary(sample: bytes) -> bool:
    """The sample may end in the middle of a character."""
    try:
        return "\0" in codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return True


class Repo:
    """A repository on disk. `state` is what `repo.json` says, and `save` makes it so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = json.loads((folder / "repo.json").read_text())
        self.commits = {commit["oid"]: commit for commit in self.state["commits"]}

    @classmethod
    def create(cls, folder: Path, private: bool) -> None:
        new = folder.with_name(f".{uuid4().hex}")
        (new / "objects").mkdir(parents=True)
        write(new / "repo.json", json.dumps({"private": private, "commits": [], "branches": {}, "tags": {}}).encode())
        repo = cls(new)
        repo.commit("main", "initial commit", "", "system", {".gitattributes": repo.add(ATTRIBUTES.encode())})
        new.rename(folder)

    def save(self) -> None:
        write(self.folder / "repo.json", json.dumps(self.state).encode())

    def object(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256

    def read(self, file: dict[str, Any]) -> bytes:
        return self.object(file["sha256"]).read_bytes()

    def add(self, content: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        write(self.object(sha256), content)
        return {"sha256": sha256, "size": len(content), "oid": git_oid(content), "lfs": False}

    def lfs(self, sha256: str) -> dict[str, Any]:
        """What git has of it is a pointer."""
        size = self.object(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return {"sha256": sha256, "size": size, "oid": git_oid(pointer.encode()), "lfs": True, "pointer": len(pointer)}

    def commit(self, branch: str, title: str, description: str, author: str, files: dict[str, Any]) -> str:
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        parent = self.state["branches"].get(branch)
        commit = {
            "parent": parent,
            "title": title,
            "description": description,
            "date": date,
            "author": author,
            "files": files,
        }
        oid = hashlib.sha1(json.dumps(commit, sort_keys=True).encode()).hexdigest()
        self.state["commits"].append({"oid": oid, **commit})
        self.state["branches"][branch] = oid
        self.save()
        return oid

    def at(self, revision: str) -> dict[str, Any]:
        """The commit that a branch, a tag or a commit's hash stands for."""
        oid = self.state["branches"].get(revision) or self.state["tags"].get(revision) or revision
        if oid not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, commit: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Newest first."""
        yield commit
        while commit["parent"]:
            yield (commit := self.commits[commit["parent"]])

    def weights(self, commit: dict[str, Any]) -> dict[str, int]:
        """Type -> how many, by the headers of its safetensors."""
        counts: Counter[str] = Counter()
        for path, file in commit["files"].items():
            if path.endswith(".safetensors"):
                content = self.read(file)
                header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
                for tensor in (about for name, about in header.items() if name != "__metadata__"):
                    counts[tensor["dtype"]] += prod(tensor["shape"])
        return counts

    def entry(self, commit: dict[str, Any], path: str, expand: bool) -> dict[str, Any] | None:
        """What there is at the path, a file or a folder; None if there is nothing."""
        if file := commit["files"].get(path):
            oid = "" if "tree" in Handler.forgetful else file["oid"]
            found = {"type": "file", "path": path, "size": file["size"], "oid": oid}
            if file["lfs"]:
                found["lfs"] = {"oid": file["sha256"], "size": file["size"], "pointerSize": file["pointer"]}
        elif inside := sorted(
            (name, file["oid"]) for name, file in commit["files"].items() if name.startswith(f"{path}/")
        ):
            found = {
                "type": "directory",
                "path": path,
                "size": 0,
                "oid": hashlib.sha1(repr(inside).encode()).hexdigest(),
            }
        else:
            return None
        if expand:  # the oldest of the latest commits that all have it so
            for last in self.history(commit):
                if (self.entry(last, path, False) or {}).get("oid") != found["oid"]:
                    break
                found["lastCommit"] = {"id": last["oid"], "title": last["title"], "date": last["date"]}
        return found


class Ask(NamedTuple):
    """One request."""

    folder: Path
    url: str
    method: str
    query: dict[str, list[str]]
    range: str
    body: bytes
    user: User | None

    def json(self) -> Any:
        return json.loads(self.body)

    def role(self, namespace: str) -> str | None:
        return (
            None
            if self.user is None
            else "write"
            if namespace == self.user.name
            else (self.user.orgs or {}).get(namespace)
        )

    def writes(self, namespace: str) -> bool:
        return self.user is not None and self.user.token_role == "write" and self.role(namespace) in ("admin", "write")

    def repo(self, kind: str | None, name: str, writing: bool = False) -> Repo:
        """As on the Hub, one that this user may not see is not there. The Hub's 401 needs no code: the client knows it
        by the https in its URL."""
        kind, (namespace, _) = kind or "models", name.split("/")
        repo = Repo(self.folder / kind / name) if (self.folder / kind / name / "repo.json").exists() else None
        if self.user is None and (repo is None or repo.state["private"] or writing):
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        if repo is None or (repo.state["private"] and self.role(namespace) is None):
            raise Refused(404, "Repository not found", "RepoNotFound")
        if writing and not self.writes(namespace):
            raise Refused(403, f"You have no write access to {name}")
        return repo


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []
REPO, REVISION = r"/api/(models|datasets)/([^/]+/[^/]+)", "([^/]+)"


def route(method: str, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The function answers such requests; it gets the groups of the path, unquoted, and returns JSON, or status, bytes
    and headers."""

    def known(function: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, re.compile(path), function))
        return function

    return known


@route("GET", "/api/whoami-v2")
def whoami(ask: Ask) -> Any:
    if ask.user is None:
        raise Refused(401, "Invalid username or password.")
    orgs = [
        {"type": "org", "name": org, "fullname": org, "roleInOrg": role} for org, role in (ask.user.orgs or {}).items()
    ]
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": ask.user.token_role}}
    return {"type": "user", "name": ask.user.name, "fullname": ask.user.name, "orgs": orgs, "auth": token}


@route("POST", "/api/repos/create")
def create(ask: Ask) -> Any:
    if ask.user is None:
        raise Refused(401, "Invalid username or password.")
    asked = ask.json()
    kind, namespace, name = (
        f"{asked.get('type') or 'model'}s",
        asked.get("organization") or ask.user.name,
        asked["name"],
    )
    if kind not in ("models", "datasets") or not re.fullmatch(
        r"(?!.*(--|\.\.|\.git$))\w([\w.-]{,94}\w)?", name, re.ASCII
    ):
        raise Refused(400, f"Invalid repo name: {name}")
    if not ask.writes(namespace):
        raise Refused(403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{namespace}"')
    folder = ask.folder / kind / namespace / name
    url = f"{ask.url}/{'datasets/' if kind == 'datasets' else ''}{namespace}/{name}"
    if folder.exists():
        raise Refused(409, f"You already created this {kind[:-1]} repo: {namespace}/{name}", url=url)
    Repo.create(folder, asked.get("visibility") == "private")
    return {"url": url, "name": f"{namespace}/{name}"}


@route("PUT", f"{REPO}/settings")
def settings(ask: Ask, kind: str, name: str) -> Any:
    repo = ask.repo(kind, name, writing=True)
    repo.state["private"] = ask.json()["visibility"] == "private"
    repo.save()
    return {}


@route("GET", f"{REPO}(?:/revision/{REVISION})?")
def info(ask: Ask, kind: str, name: str, revision: str | None) -> Any:
    repo = ask.repo(kind, name)
    commit = repo.at(revision or "main")
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit["files"])]
    for sibling in siblings if "blobs" in ask.query else []:
        file = commit["files"][sibling["rfilename"]]
        sibling |= {"size": file["size"], "blobId": file["oid"]}
        if "listing" in Handler.forgetful:
            sibling["blobId"] = ""
        if file["lfs"]:
            sibling["lfs"] = {"sha256": file["sha256"], "size": file["size"], "pointerSize": file["pointer"]}
    about = {
        "id": name,
        "author": name.split("/")[0],
        "sha": commit["oid"],
        "private": repo.state["private"],
        "gated": False,
        "disabled": False,
    }
    if kind == "models" and "weights" not in Handler.forgetful and (counts := repo.weights(commit)):
        about["safetensors"] = {"parameters": counts, "total": sum(counts.values())}
    return about | {
        "createdAt": repo.state["commits"][0]["date"],
        "lastModified": commit["date"],
        "tags": [],
        "siblings": siblings,
    }


@route("POST", f"{REPO}/preupload/{REVISION}")
def preupload(ask: Ask, kind: str, name: str, revision: str) -> Any:
    repo = ask.repo(kind, name, writing=True)
    files = repo.at(revision)["files"]
    attributes = repo.read(files[".gitattributes"]).decode() if ".gitattributes" in files else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    answers = []
    for file in ask.json()["files"]:
        path, there = file["path"], files.get(file["path"])
        named = any(fnmatch(path, pattern) or fnmatch(path.rsplit("/", 1)[-1], pattern) for pattern in patterns)
        lfs = named or file["size"] > REGULAR or is_binary(base64.b64decode(file["sample"]))
        oid = {"oid": there["sha256" if there["lfs"] else "oid"]} if there else {}
        answers.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, **oid})
    return {"files": answers}


@route("POST", r"/(?:(datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
def lfs_batch(ask: Ask, kind: str | None, name: str) -> Any:
    repo = ask.repo(kind, name, writing=True)
    objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in ask.json()["objects"]]
    for wanted in objects:
        if not repo.object(wanted["oid"]).exists():
            href = f"{ask.url}/_lfs/{kind or 'models'}/{name}/{wanted['oid']}?size={wanted['size']}"
            wanted["actions"] = {"upload": {"href": href, "header": {}}}
    return {"transfer": "basic", "objects": objects}


@route("PUT", "/_lfs/(models|datasets)/([^/]+/[^/]+)/([0-9a-f]{64})")
def lfs_put(ask: Ask, kind: str, name: str, sha256: str) -> Any:
    """Anyone who knows the URL, as with the Hub's signed ones."""
    if hashlib.sha256(ask.body).hexdigest() != sha256 or str(len(ask.body)) != ask.query["size"][0]:
        raise Refused(400, "The object is not what was announced")
    write(Repo(ask.folder / kind / name).object(sha256), ask.body)
    return {}


@route("POST", f"{REPO}/commit/{REVISION}")
def commit(ask: Ask, kind: str, name: str, branch: str) -> Any:
    """One that changes nothing is made like any other: it is the client that leaves out what has not changed."""
    repo = ask.repo(kind, name, writing=True)
    if branch not in repo.state["branches"]:
        raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    head = repo.at(branch)
    header, *changes = [json.loads(line) for line in ask.body.splitlines()]
    if not head["oid"].startswith(header["value"].get("parentCommit", "")):
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head["files"])
    for change in changes:
        what, path = change["value"], change["value"]["path"]
        if change["key"] == "file":
            files[path] = repo.add(base64.b64decode(what["content"]))
        elif change["key"] == "lfsFile":
            if not repo.object(what["oid"]).exists():
                raise Refused(
                    400, f"Your push was rejected because an LFS pointer pointed to a file that does not exist: {path}"
                )
            files[path] = repo.lfs(what["oid"])
        else:
            gone = (
                [path]
                if change["key"] == "deletedFile"
                else [file for file in files if file.startswith(path.rstrip("/") + "/")]
            )
            if not gone or gone[0] not in files:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for file in gone:
                del files[file]
    assert ask.user
    oid = repo.commit(branch, header["value"]["summary"], header["value"].get("description", ""), ask.user.name, files)
    return {
        "success": True,
        "commitOid": oid,
        "commitUrl": f"{ask.url}/{'datasets/' if kind == 'datasets' else ''}{name}/commit/{oid}",
    }


@route("GET", f"{REPO}/tree/{REVISION}(?:/(.+))?")
def tree(ask: Ask, kind: str, name: str, revision: str, folder: str | None) -> Any:
    repo = ask.repo(kind, name)
    commit, prefix = repo.at(revision), f"{folder}/" if folder else ""
    inside = [path.removeprefix(prefix).split("/") for path in commit["files"] if path.startswith(prefix)]
    if folder and not inside:
        raise Refused(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    recursive, expand = (
        (ask.query.get(what) or ["false"])[0].lower() in ("true", "1") for what in ("recursive", "expand")
    )
    paths = {"/".join(parts[:depth]) for parts in inside for depth in range(1, len(parts) + 1 if recursive else 2)}
    return [repo.entry(commit, prefix + path, expand) for path in sorted(paths)]


@route("POST", f"{REPO}/paths-info/{REVISION}")
def paths_info(ask: Ask, kind: str, name: str, revision: str) -> Any:
    repo, form = ask.repo(kind, name), parse_qs(ask.body.decode())
    found = [
        repo.entry(repo.at(revision), path.rstrip("/"), form["expand"] == ["true"]) for path in form.get("paths", [])
    ]
    return [entry for entry in found if entry]


@route("GET", f"{REPO}/refs")
def refs(ask: Ask, kind: str, name: str) -> Any:
    state = ask.repo(kind, name).state
    as_refs = lambda what, oids: [
        {"name": ref, "ref": f"refs/{what}/{ref}", "targetCommit": oid} for ref, oid in oids.items()
    ]
    return {"branches": as_refs("heads", state["branches"]), "tags": as_refs("tags", state["tags"]), "converts": []}


@route("GET", f"{REPO}/commits/{REVISION}")
def commits(ask: Ask, kind: str, name: str, revision: str) -> Any:
    repo = ask.repo(kind, name)
    return [
        {
            "id": commit["oid"],
            "title": commit["title"],
            "message": commit["description"],
            "date": commit["date"],
            "authors": [{"user": commit["author"]}],
        }
        for commit in repo.history(repo.at(revision))
    ]


@route("POST|DELETE", f"{REPO}/tag/{REVISION}")
def tag(ask: Ask, kind: str, name: str, revision: str) -> Any:
    """What is in the path: when a tag is made, its commit; when it is deleted, its name."""
    repo = ask.repo(kind, name, writing=True)
    tags = repo.state["tags"]
    if ask.method == "DELETE":
        if tags.pop(revision, None) is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    else:
        if not re.fullmatch(r"\w[\w./-]*", new := ask.json()["tag"], re.ASCII):
            raise Refused(400, f"Invalid tag name: {new}")
        if new in tags:
            raise Refused(409, f"Reference already exists: {new}")
        tags[new] = repo.at(revision)["oid"]
    repo.save()
    return {}


@route("GET|HEAD", rf"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/{REVISION}/(.+)")
def resolve(ask: Ask, kind: str | None, name: str, revision: str, path: str) -> Any:
    repo = ask.repo(kind, name)
    commit = repo.at(revision)
    headers = {"X-Repo-Commit": commit["oid"], "Accept-Ranges": "bytes"}
    if (file := commit["files"].get(path)) is None:
        refused = Refused(404, f"Entry not found: {path}", "EntryNotFound")
        refused.headers |= headers
        raise refused
    etag = f'"{file["sha256"] if file["lfs"] else file["oid"]}"'
    headers |= {"ETag": etag} | ({"X-Linked-Etag": etag, "X-Linked-Size": str(file["size"])} if file["lfs"] else {})
    content, size = repo.read(file), file["size"]
    if not (asked := re.fullmatch(r"bytes=(\d*)-(\d*)", ask.range)):
        return (200, content, headers)
    first, last = (int(number) if number else None for number in asked.groups())
    start, stop = (
        (max(size - (last or 0), 0), size) if first is None else (first, size if last is None else min(last + 1, size))
    )
    if start >= stop:
        return (416, b"", headers | {"Content-Range": f"bytes */{size}"})
    return (206, content[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})


@route("POST", "/api/validate-yaml")
def validate_yaml(ask: Ask) -> Any:
    import yaml

    if not (block := re.match(r"\s*---[\r\n]+(.*?)[\r\n]+---([\r\n]|$)", ask.json()["content"], re.DOTALL)):
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    try:
        fault = None if isinstance(yaml.safe_load(block[1]), dict) else "the metadata are no mapping"
    except yaml.YAMLError as error:
        fault = str(error)
    if fault:
        raise Refused(400, "Invalid metadata", errors=[{"message": fault}])
    return {"errors": [], "warnings": []}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path
    users: Mapping[str, User]
    lock = threading.Lock()
    faults: tuple[tuple[Fault, list[int]], ...] = ()
    """Each with how many requests matched it."""
    forgetful: tuple[str, ...] = ()
    asked: tuple[dict[str, Any], ...] = ()

    def log_message(self, *args: Any) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/_test/"):
            self.send(200, self.told(body), {})
            return
        seen = {"method": self.command, "path": self.path, "status": None, "at": time.monotonic()}
        with self.lock:
            Handler.asked += (seen,)
            fault = self.fault()
        time.sleep(fault.delay)
        if fault.done or fault.drop_after or not (fault.drop or fault.status):
            with self.lock:
                status, text, headers = self.answer(body)
        if fault.status:
            text = fault.text.replace("{authorization}", self.headers.get("Authorization", "")).encode()
            status, headers = fault.status, dict(fault.headers)
        if fault.drop or fault.drop_after:
            seen["status"], self.close_connection = 0, True
            return
        seen["status"] = status
        with suppress(ConnectionError):  # the client did not wait
            self.send(status, text, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def told(self, body: bytes) -> bytes:
        with self.lock:
            if self.path.endswith("forgetful"):
                Handler.forgetful = tuple(json.loads(body))
            elif self.command == "PUT":
                Handler.faults = tuple((Fault(**fault), [0]) for fault in json.loads(body))
            elif self.command == "DELETE":
                Handler.asked = ()
            return json.dumps(self.asked).encode()

    def fault(self) -> Fault:
        decided = Fault()
        for fault, matched in reversed(self.faults):
            if re.fullmatch(fault.method, self.command) and re.search(fault.path, self.path):
                if fault.skip <= matched[0] < fault.skip + fault.times:
                    decided = fault
                matched[0] += 1
        return decided

    def answer(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        url, token = urlsplit(self.path), self.headers.get("Authorization", "").removeprefix("Bearer ")
        where, part = f"http://{self.headers['Host']}", self.headers.get("Range", "")
        ask = Ask(self.folder, where, self.command, parse_qs(url.query), part, body, self.users.get(token))
        try:
            if token and ask.user is None:
                raise Refused(401, "Invalid credentials in Authorization header")
            for method, path, function in ROUTES:
                if re.fullmatch(method, self.command) and (match := path.fullmatch(url.path)):
                    answer = function(ask, *(group and unquote(group) for group in match.groups()))
                    return answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode(), {})
            raise Refused(404, "Sorry, we can't find the page you are looking for.")
        except Refused as refused:
            return refused.status, json.dumps(refused.body).encode(), refused.headers

    def send(self, status: int, text: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else text)


class Listening(ThreadingHTTPServer):
    request_queue_size = 64


USERS = {
    "hf_ann": User("ann", {"lab": "write", "club": "read"}),
    "hf_bob": User("bob", {"lab": "read"}),
    "hf_reader": User("ann", token_role="read"),
    "hf_fine": User("ann", token_role="fineGrained"),
}


if __name__ == "__main__":
    Handler.folder = Path(sys.argv[1])
    Handler.users = {token: User(**user) for token, user in json.loads(sys.stdin.readline()).items()}
    listening = Listening(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    print(listening.server_port, flush=True)
    sys.stdin.read()  # until the test is gone, however it went
