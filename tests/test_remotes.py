"""A DVC remote: what is pushed, what a fresh clone gets back and runs again, a push that is killed, what `dvc gc`
leaves.

Real git and DVC on a small project that has what matters of ours: a stage get_external whose model is not pushed, and a
dataset that is made from it.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workspace import ENV, ran

pytestmark = pytest.mark.slow
GET_EXTERNAL = "import os, pathlib as p; p.Path('model').mkdir(); p.Path('model/weights').write_text(os.environ.get('MACHINE', 'one') * 1000)"
MAKE_DATASET = (
    "import pathlib as p; p.Path('dataset').mkdir(); "
    "[p.Path(f'dataset/{i}').write_text(p.Path('model/weights').read_text() + f'${version} {i}') for i in range(40)]"
)
STAGES = {
    "get_external": {"cmd": f'python -c "{GET_EXTERNAL}"', "outs": [{"model": {"push": False}}]},
    "make_dataset": {"cmd": f'python -c "{MAKE_DATASET}"', "deps": ["model"], "outs": ["dataset"]},
}
FEW = 5
S3_SERVER = f"""
import itertools, sys, threading, time
from pathlib import Path
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

s3, held, uploads = DomainDispatcherApplication(create_backend_app), Path(sys.argv[1]), itertools.count()

def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "PUT" and held.exists() and next(uploads) >= {FEW}:
        while held.exists():
            time.sleep(0.1)
    return s3(environ, start_response)

server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port, flush=True)
sys.stdin.read()  # ends with the test, however that ends
"""
SSH_SERVER = """
import asyncio, sys
import asyncssh

async def main(key_file):
    host, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    client.write_private_key(key_file)
    known = asyncssh.import_authorized_keys(client.export_public_key().decode())
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[host], authorized_client_keys=known, sftp_factory=True)
    print(server.get_port(), flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(sys.argv[1]))
"""


class Project:
    """A clone of the small project. Nothing of the user's own git, DVC or AWS settings reaches it."""

    def __init__(self, path: Path):
        self.path = path
        kept = {name: value for name, value in ENV.items() if not name.startswith(("AWS_", "DVC_", "GIT_", "XDG_"))}
        people = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        login = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }
        home = str(path.parent / "home")
        self.env = (
            kept | login | dict.fromkeys(people, "someone@example.org") | {"HOME": home, "DVC_SITE_CACHE_DIR": home}
        )

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.path, env=self.env, check=True, capture_output=True)

    def start(self, *arguments: str, **env: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.Popen(
            command, cwd=self.path, env=self.env | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def dvc(self, *arguments: str, code: int = 0, **env: str) -> str:
        """What DVC says. Fails the test when it ends with another exit code."""
        process = self.start(*arguments, **env)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        return said

    def repro(self, *arguments: str, **env: str) -> list[str]:
        return ran(self.dvc("repro", *arguments, **env))

    def version(self, name: str) -> set[str]:
        """Make this version of the dataset and commit it; the hashes of its files."""
        (self.path / "params.yaml").write_text(f"version: {name}\n")
        self.repro()
        self.git("add", "--all")
        self.git("commit", "--message", name)
        return {hashlib.md5(text).hexdigest() for text in self.dataset().values()}

    def dataset(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (self.path / "dataset").iterdir()}

    def clone(self, path: Path) -> Project:
        subprocess.run(["git", "clone", "--quiet", self.path, path], env=self.env, check=True)
        return Project(path)


def new_project(path: Path, **remote: str) -> Project:
    (path / ".dvc").mkdir(parents=True)
    settings = "\n".join(f"    {key} = {value}" for key, value in remote.items())
    core = "[core]\n    analytics = false\n    check_update = false\n    remote = store\n"
    (path / ".dvc/config").write_text(f"{core}['remote \"store\"']\n{settings}\n")
    (path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (path / ".gitignore").write_text("/model\n/dataset\n")
    (path / "dvc.yaml").write_text(json.dumps({"stages": STAGES}))
    project = Project(path)
    project.git("init", "--quiet")
    return project


def objects(store: Path) -> set[str]:
    """Hashes of the files in a cache, or in a remote that is a folder."""
    return {file.parent.name + file.name for file in store.glob("files/md5/*/*")}


@contextmanager
def served(code: str, file: Path) -> Iterator[int]:
    """A server in a process of its own; the port that it listens to."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class S3:
    """moto's server."""

    def __init__(self, port: int, held: Path):
        self.endpoint, self.held = f"http://127.0.0.1:{port}", held

    def bucket(self, name: str) -> dict[str, str]:
        """A new bucket, as a DVC remote."""
        self.ask(name, "PUT")
        return {"url": f"s3://{name}/srlm", "endpointurl": self.endpoint}

    def objects(self, bucket: str) -> set[str]:
        return {
            key.replace("/", "")
            for key in re.findall("<Key>srlm/files/md5/(.*?)</Key>", self.ask(f"{bucket}?list-type=2", "GET"))
        }

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Here uploads after the first few wait."""
        self.held.touch()
        try:
            yield
        finally:
            self.held.unlink()

    def ask(self, path: str, method: str) -> str:
        straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return (
            straight.open(urllib.request.Request(f"{self.endpoint}/{path}", method=method), timeout=30).read().decode()
        )


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    pytest.importorskip("dvc_s3", reason="an S3 remote wants the extra s3: pip install -c constraints.txt -e '.[s3]'")
    pytest.importorskip(
        "moto.server", reason="S3 is played by moto's server: pip install -c constraints.txt -e '.[dev]'"
    )
    held = tmp_path_factory.mktemp("s3") / "held"
    with served(S3_SERVER, held) as port:
        yield S3(port, held)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """An SSH server that knows one key: where a folder is, as a DVC remote."""
    pytest.importorskip(
        "dvc_ssh", reason="an SSH remote wants the extra ssh: pip install -c constraints.txt -e '.[ssh]'"
    )
    folder = tmp_path_factory.mktemp("ssh")
    with served(SSH_SERVER, folder / "key") as port:
        yield {"url": f"ssh://someone@127.0.0.1:{port}{folder}/remote", "keyfile": str(folder / "key")}


@pytest.fixture(scope="module", params=["folder", "s3", "ssh"])
def pushed(request, tmp_path_factory):
    """A project whose only version is in its remote."""
    folder = tmp_path_factory.mktemp("pushed")
    match request.param:
        case "folder":
            remote = {"url": str(folder / "remote")}
        case "s3":
            remote = request.getfixturevalue("s3").bucket("pushed")
        case "ssh":
            remote = request.getfixturevalue("ssh")
    project = new_project(folder / "project", **remote)
    project.version("v1")
    assert "41 files pushed" in project.dvc("push"), "40 files and their list; the model stays"
    return project


def test_a_fresh_clone_gets_the_dataset_back_and_runs_only_what_was_not_pushed(pushed, tmp_path):
    clone = pushed.clone(tmp_path / "clone")
    clone.dvc("pull", "--allow-missing")
    assert clone.dataset() == pushed.dataset()
    assert not (clone.path / "model").exists()
    assert clone.repro() == ["get_external"]


@pytest.mark.parametrize("pushed", ["folder"], indirect=True)
def test_one_command_pulls_and_runs_the_rest(pushed, tmp_path):
    clone = pushed.clone(tmp_path / "clone")
    assert clone.repro("--pull") == ["get_external"]
    assert clone.dataset() == pushed.dataset()


@pytest.mark.parametrize("pushed", ["folder"], indirect=True)
def test_a_plain_pull_fails_for_the_model_after_restoring_the_rest(pushed, tmp_path):
    clone = pushed.clone(tmp_path / "clone")
    assert re.search(r"failed to pull .*\nmodel\n", clone.dvc("pull", code=1), re.DOTALL)
    assert clone.dataset() == pushed.dataset()


@pytest.mark.parametrize("pushed", ["folder"], indirect=True)
def test_a_clone_is_checked_without_any_data(pushed, tmp_path):
    """Here --pull would change nothing: a stage that need not run is not pulled."""
    clone = pushed.clone(tmp_path / "clone")
    assert clone.repro("--pull", "--allow-missing") == []
    assert not (clone.path / "dataset").exists()


@pytest.mark.parametrize("pushed", ["folder"], indirect=True)
def test_a_model_that_comes_out_otherwise_on_another_machine_makes_everything_anew(pushed, tmp_path):
    """So only what every machine gets alike, as from the Hub, may stay out of the remote."""
    clone = pushed.clone(tmp_path / "clone")
    assert clone.repro("--pull", MACHINE="another") == ["get_external", "make_dataset"]


def test_a_push_that_was_killed_is_finished_by_the_same_command(s3, tmp_path):
    project = new_project(tmp_path / "project", **s3.bucket("killed"))
    whole = project.version("v1")
    with s3.stuck():
        push = project.start("push")
        until = time.monotonic() + 60
        while len(s3.objects("killed")) < FEW:
            assert push.poll() is None, push.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        push.kill()
        push.communicate()
        assert s3.objects("killed") < whole, "some files, and not yet the list of them: nobody can pull half a dataset"

    project.dvc("push")
    assert s3.objects("killed") > whole
    clone = project.clone(tmp_path / "clone")
    clone.dvc("pull", "--allow-missing")
    assert clone.dataset() == project.dataset()


def test_tagged_versions_and_the_workspace_survive_gc(tmp_path):
    project = new_project(tmp_path / "project", url=str(tmp_path / "remote"))
    cache, remote = project.path / ".dvc/cache", tmp_path / "remote"
    tagged = project.version("v1")
    tagged_dataset = project.dataset()
    project.git("tag", "v1")
    untagged = project.version("v2")
    newest = project.version("v3")
    project.dvc("push", "--all-commits")
    assert tagged | untagged | newest < objects(remote)

    rule = ("gc", "--workspace", "--all-tags", "--force")
    project.dvc(*rule)
    assert tagged | newest < objects(cache)
    assert not untagged & objects(cache)
    model = hashlib.md5((project.path / "model/weights").read_bytes()).hexdigest()
    assert model in objects(cache) - objects(remote)
    assert untagged < objects(remote), "the remote is only cleaned when asked"

    project.dvc(*rule, "--cloud")
    assert tagged | newest < objects(remote)
    assert not untagged & objects(remote)
    clone = project.clone(tmp_path / "clone")
    clone.git("checkout", "--quiet", "v1")
    clone.dvc("pull", "--allow-missing")
    assert clone.dataset() == tagged_dataset
