"""`python stages/commands/restore.py`: a version comes back without DVC and without our package."""

import ast
import filecmp
import hashlib
import json
import shutil
import subprocess
import sys
import time

import pytest
from dvc.utils.serialize._yaml import dumps_yaml
from ruamel.yaml import YAML

from stages.commands import restore
from tests.workspace import ENV, ROOT, Workspace

SCRIPT = ROOT / "stages/commands/restore.py"
BARE = {"PATH": ENV["PATH"]}
PLAIN = ("-S", SCRIPT)
"""As people type it: its folder, with our `profile.py`, is on the path of modules."""
ALONE = ("-I", "-S", SCRIPT)
"""No site-packages, nothing of the environment, not even the script's own folder."""


def run(folder, *arguments, how=ALONE):
    return subprocess.run(
        [sys.executable, *how, *map(str, arguments)], cwd=folder, env=BARE, capture_output=True, text=True, check=False
    )


def git(folder, *arguments):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=folder, check=True)


def md5(data):
    return hashlib.md5(data).hexdigest()


def cached(cache, data, suffix=""):
    """`data` where DVC keeps it; its md5."""
    name = md5(data) + suffix
    file = cache / "files/md5" / name[:2] / name[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return name


def locked(**outs):
    """A dvc.lock as DVC writes it, of paths to md5s."""
    entries = [{"path": path, "hash": "md5", "md5": name, "size": 1} for path, name in outs.items()]
    return dumps_yaml({"schema": "2.0", "stages": {"make@M1": {"cmd": "make", "outs": entries}}})


@pytest.fixture
def project(tmp_path):
    """Version v1: a table, a model's folder, and a metrics file that git holds."""
    folder = tmp_path / "project"
    cache = folder / ".dvc/cache"
    parts = {"config.json": b"{}", "sub/weights.bin": b"w" * 3_000_000}
    tree = [{"md5": cached(cache, data), "relpath": name} for name, data in parts.items()]
    outs = {
        "data/AIFT/M1/pairs.parquet": cached(cache, b"pairs"),
        "data/models/M1": cached(cache, json.dumps(tree).encode(), ".dir"),
        "data/metrics/M1.json": md5(b"{}\n"),
    }
    (folder / "data/metrics").mkdir(parents=True)
    (folder / "data/metrics/M1.json").write_text("{}\n")
    git(folder, "init", "-q")
    commit(folder, locked(**outs))
    git(folder, "tag", "v1")
    return folder


def commit(folder, lock):
    (folder / "dvc.lock").write_text(lock)
    git(folder, "add", "dvc.lock", "data")
    git(folder, "commit", "-qm", "a run")


def held(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_imports_the_standard_library_alone():
    tree = ast.walk(ast.parse(SCRIPT.read_text()))
    names = {node.module for node in tree if isinstance(node, ast.ImportFrom)}
    names |= {
        alias.name
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.slow
def test_a_finished_run_comes_back_whole_without_dvc(finished, tmp_path):
    space = Workspace.copy(finished, tmp_path / "space")
    shutil.copy(ROOT / ".dvc/.gitignore", space.path / ".dvc")
    git(space.path, "init", "-q")
    git(space.path, "add", "-A")
    git(space.path, "commit", "-qm", "a run")
    git(space.path, "tag", "v1")
    (space.path / ".dvc/cache").rename(tmp_path / "remote")
    done = run(space.path, "v1", "--to", tmp_path / "back", "--from", tmp_path / "remote")
    assert done.returncode == 0, done.stderr
    lock = YAML(typ="safe").load(space.lock())
    made = [out["path"] for stage in lock["stages"].values() for out in stage["outs"]]
    assert {"data/models/M3", "data/AIFT/M2/pairs.parquet", "data/metrics/AIFT/M1.json"} <= set(made)
    for path in made:
        here, there = space.path / path, tmp_path / "back" / path
        files = [file.relative_to(here) for file in here.rglob("*") if file.is_file()] if here.is_dir() else ["."]
        assert (
            filecmp.cmpfiles(here, there, files, shallow=False)[0] == files
            if here.is_dir()
            else filecmp.cmp(here, there, shallow=False)
        )
    assert {*held(tmp_path / "back")} == {
        path for path in held(space.path) if any(path == m or path.startswith(f"{m}/") for m in made)
    }


@pytest.mark.parametrize("how", [PLAIN, ALONE])
def test_folders_metrics_of_git_and_nothing_twice(project, tmp_path, how):
    done = run(project, "v1", "--to", tmp_path / "back", how=how)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 file(s) written" in done.stdout
    back = held(tmp_path / "back")
    assert {path: len(data) for path, data in back.items()} == {
        "data/AIFT/M1/pairs.parquet": 5,
        "data/models/M1/config.json": 2,
        "data/models/M1/sub/weights.bin": 3_000_000,
        "data/metrics/M1.json": 3,
    }
    assert "0 file(s) written" in run(project, "v1", "--to", tmp_path / "back").stdout


def test_a_name_means_a_table_a_model_or_a_folder(project, tmp_path):
    for name, paths in {
        "pairs": ["data/AIFT/M1/pairs.parquet"],
        "data/models/": ["data/models/M1/config.json", "data/models/M1/sub/weights.bin"],
        "data/metrics/M1.json": ["data/metrics/M1.json"],
    }.items():
        assert run(project, "v1", name, "--to", tmp_path / name).returncode == 0
        assert sorted(held(tmp_path / name)) == paths
    done = run(project, "v1", "pears")
    assert "names no 'pears'; near it: pairs" in done.stderr


def test_what_differs_is_overwritten_only_with_force(project):
    (project / "data/AIFT/M1").mkdir(parents=True)
    table = project / "data/AIFT/M1/pairs.parquet"
    table.write_bytes(b"mine")
    (project / "data/models/M1").mkdir(parents=True)
    (project / "data/models/M1/notes.txt").write_text("mine, too")
    done = run(project, "v1")
    assert done.returncode == 1
    assert "1 file(s) differ from v1, first data/AIFT/M1/pairs.parquet, so nothing was written" in done.stderr
    assert table.read_bytes() == b"mine"
    assert not (project / "data/models/M1/config.json").exists()
    done = run(project, "v1", "--force")
    assert done.returncode == 0
    assert table.read_bytes() == b"pairs"
    assert "1 file(s) more lie in its folders, and stay there: 'data/models/M1/notes.txt'" in done.stderr


def test_what_is_missing_or_damaged_is_named_and_the_rest_comes_back(project, tmp_path):
    cache = project / ".dvc/cache/files/md5"
    table = md5(b"pairs")
    (cache / table[:2] / table[2:]).write_bytes(b"pears")
    weights = md5(b"w" * 3_000_000)
    (cache / weights[:2] / weights[2:]).unlink()
    done = run(project, "v1", "--to", tmp_path / "back")
    assert done.returncode == 1
    assert "2 file(s) written" in done.stdout
    assert f"data/models/M1/sub/weights.bin (md5 {weights})\n" in done.stderr
    assert (
        f"data/AIFT/M1/pairs.parquet (md5 {table}, but .dvc/cache/files/md5/{table[:2]}/{table[2:]} has another md5"
        in done.stderr
    )
    assert "missing in .dvc/cache and in git. Name another folder with --from" in done.stderr
    assert sorted(held(tmp_path / "back")) == ["data/metrics/M1.json", "data/models/M1/config.json"], "no half file"
    cached(tmp_path / "remote", b"pairs")
    cached(tmp_path / "remote", b"w" * 3_000_000)
    assert run(project, "v1", "--to", tmp_path / "back", "--from", tmp_path / "remote").returncode == 0
    shutil.rmtree(project / ".dvc")
    done = run(project, "v1", "M1", "--to", tmp_path / "other")
    assert "data/models/M1 (md5 " in done.stderr, "a folder whose list is nowhere"


@pytest.mark.parametrize(
    "path",
    [
        "../out",
        "/tmp/out",
        "data/../../out",
        ".git/hooks/pre-commit",
        "data/.GIT/x",
        ".dvc/config",
        "a\\b",
        "C:/x",
        "data/a\u202eb",
        "a//b",
        "./a",
    ],
)
def test_no_path_leads_out(project, tmp_path, path):
    commit(project, locked(**{path: cached(project / ".dvc/cache", b"x")}))
    done = run(project, "HEAD", "--to", tmp_path / "to/back")
    assert done.returncode == 1
    assert "refused" in done.stderr
    tree = json.dumps([{"md5": cached(project / ".dvc/cache", b"x"), "relpath": path}]).encode()
    commit(project, locked(**{"data/models/M9": cached(project / ".dvc/cache", tree, ".dir")}))
    done = run(project, "HEAD", "--to", tmp_path / "to/back")
    assert done.returncode == 1
    assert "the list of data/models/M9 names" in done.stderr
    assert not (tmp_path / "to").exists()


def test_no_link_leads_out(project, tmp_path):
    (tmp_path / "back").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "back/data").symlink_to(tmp_path / "elsewhere")
    assert "leads elsewhere, by a link to" in run(project, "v1", "--to", tmp_path / "back").stderr
    assert not held(tmp_path / "elsewhere")


def test_whatever_dvc_writes_is_read():
    paths = ["data/a b", "x" * 150, "data/" + "long name " * 20, "it's", "#x", "'q'", "é/日本", "- x", "yes", "123", "~", "*x", "a #b", '"', "{a}", "x,y", "0x1f", "!x", "%", "@", "'a' b", "outs", "? x"]  # fmt: skip
    entries = [{"path": path, "hash": "md5", "md5": f"{n:032}", "size": n} for n, path in enumerate(paths)]
    params = {"params.yaml": {"a": {"b": [1, [2, 3]], "c": "x\n\n  y\nouts:\n- path: z\n", "n": None, "e": []}}}
    dep = {"path": "stages/a.py", "hash": "md5", "md5": "f" * 32, "size": 1}
    stage = {"cmd": "python -c 'x'\n\nouts:\n- path: y\n", "deps": [dep], "params": params, "outs": entries}
    stages = {"a b@c": stage, "'q': x": {"cmd": ["a " * 60, "outs:"], "outs": [{**entries[0]}]}, "last": {"cmd": "x"}}
    lock = dumps_yaml({"schema": "2.0", "stages": stages, "datasets": [{"name": "d", "outs": 1}]})
    assert restore.outs(lock) == [(path, f"{n:032}") for n, path in enumerate(paths)] + [("data/a b", "0" * 32)]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("schema: '2.0'", "schema: '3.0'", "line 1"),
        ("    outs:\n", "    outs: [a]\n", "line 5"),
        ("    outs:\n", "    sorted:\n", "line 5"),
        ("  make@M1:\n", "  ? make@M1\n", "line 3"),
        ("  make@M1:\n", "<<<<<<< HEAD\n  make@M1:\n", "line 3"),
        ("      hash: md5\n", "      hash: etag\n", "no md5 of 'data/x'"),
        ("      hash: md5\n", "", "no md5 of 'data/x'"),
        ("      md5: 0", "      md5: ../../0", "no md5 of 'data/x'"),
        ("      size: 1", "      files: 1", "line 9"),
        ("path: data/x", "path: &a data/x", "a form that is not read here"),
        ("path: data/x", 'path: "data/\\x41"', "a form that is not read here"),
        ("    - path", "     - path", "line 6"),
    ],
)  # fmt: skip
def test_what_dvc_does_not_write_is_refused_by_name(old, new, why):
    lock = locked(**{"data/x": "0a" * 16})
    assert restore.outs(lock) == [("data/x", "0a" * 16)]
    assert old in lock
    with pytest.raises(SystemExit, match=why):
        restore.outs(lock.replace(old, new))


def test_a_line_of_blanks_takes_no_time():
    lock = locked(**{"data/x": "0a" * 16}).replace("      size: 1", "      size: 1" + " " * 60_000)
    begin = time.process_time()
    assert restore.outs(lock) == [("data/x", "0a" * 16)]
    with pytest.raises(SystemExit, match="line 10"):
        restore.outs(lock + " " * 60_000)
    assert time.process_time() - begin < 2


def test_two_stages_with_one_path_are_not_guessed_at():
    both = [("data/x", "0" * 32), ("data/x", "1" * 32), ("data/y", "2" * 32)]
    with pytest.raises(SystemExit, match="two stages made data/x"):
        restore.chosen(both, [])
    assert restore.chosen(both, ["y"]) == {"data/y": "2" * 32}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["v9"], "git has no dvc.lock of 'v9' in "),
        (["v1", "--from", "nowhere"], "no folder 'nowhere': --from names"),
    ],
)
def test_bad_input_is_one_sentence(project, arguments, why):
    done = run(project, *arguments)
    assert done.returncode == 1
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_place_that_cannot_be_written_ends_it_in_words(project, tmp_path):
    (tmp_path / "back").mkdir()
    (tmp_path / "back/data").write_text("a file")
    done = run(project, "v1", "--to", tmp_path / "back")
    assert done.returncode == 1
    assert "stopped: " in done.stderr
    assert "Traceback" not in done.stderr
