"""`srlm tag`: a version is whole or not there, and the same command goes on from anywhere."""

import json
import shutil
import subprocess
import sys

import pytest

from stages.commands import diff, tag
from stages.console.errors import RevisionError
from stages.store import git as git_of
from stages.store import versions
from stages.text.escape import for_markdown
from tests.workspace import ENV, ROOT

DVC = (sys.executable, "-m", "dvc")
STAGES = """
stages:
  count:
    cmd: wc -l < words.txt > data/count.txt
    deps: [words.txt]
    outs: [data/count.txt]
"""
EVIL = "a|b <script> **bold**\nsecond `x`"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


def run(root, *command):
    return subprocess.run(command, cwd=root, check=True, env=ENV, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of one stage, in a commit."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    shutil.copy2(ROOT / "stages/config/profiles/scripted.yaml", root / "params.yaml")
    (root / "data/.gitignore").write_text("/count.txt\n*.partial\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "words.txt").write_text("one\ntwo\n")
    run(root, "git", "init", "-q")
    for key, value in (("name", "a"), ("email", "a@b.c")):
        run(root, "git", "config", f"user.{key}", value)
    run(root, *DVC, "init", "-q")
    for key in ("analytics", "check_update"):  # else another DVC runs for a moment after each
        run(root, *DVC, "config", f"core.{key}", "false")
    run(root, *DVC, "repro", "-q")
    commit(root)
    return root


@pytest.fixture
def root(first, tmp_path):
    return shutil.copytree(first, tmp_path / "project", symlinks=True)


def commit(root):
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "-qm", "a run")


def lines(root):
    return [line for line in (root / tag.VERSIONS).read_text().splitlines() if line.startswith("| v")][1:]


def test_a_version_holds_its_own_line_and_names_the_commit_of_its_data(root, capsys):
    of = run(root, "git", "rev-parse", "HEAD").strip()
    tag.make("v1", EVIL, root)
    assert "no DVC remote is configured" in capsys.readouterr().err
    assert run(root, "git", "cat-file", "-t", "v1").strip() == "tag", "annotated"
    assert run(root, "git", "rev-parse", "v1^{commit}~1").strip() == of
    assert f"`{of[: tag.SHOWN]}`" in run(root, "git", "show", f"v1:{tag.VERSIONS}")
    [line] = lines(root)
    assert for_markdown(EVIL) in line
    assert "<script>" not in line
    assert not run(root, "git", "status", "--porcelain")
    tag.show_list(root, as_json=True)
    [told] = json.loads(capsys.readouterr().out)
    assert (told["name"], told["message"]) == ("v1", "a|b <script> **bold** second `x`")
    with pytest.raises(RevisionError, match="v1 is a version already"):
        tag.make("v1", None, root)
    assert versions.label(root, "HEAD") == "HEAD (v1)"
    diff.show("v1", "HEAD", None, root)
    assert "no table differs between v1 and HEAD (v1)" in capsys.readouterr().out
    tag.make("v2", None, root)
    assert [line.split(" | ")[0] for line in lines(root)] == ["| v1", "| v2"]
    with pytest.raises(RevisionError, match=r"did you mean v[12]\?"):
        diff.show("v1x", None, None, root)


def nameless(root):
    run(root, "git", "config", "--remove-section", "user")
    run(root, "git", "config", "user.useConfigOnly", "true")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: (root / "words.txt").write_text("one\n"), r"count: it read another words.txt\). Run: srlm repro"),
        (lambda root: (root / "data/count.txt").unlink(), r"data/count.txt is deleted\). Run: srlm repro"),
        (lambda root: (root / "dvc.lock").unlink(), "nothing has run here yet"),
        (lambda root: (root / "data/new.json").write_text("{}"), r"first data/new.json\). Run: git add"),
        (lambda root: (root / tag.VERSIONS).write_text("| mine |\n"), "VERSIONS.md has changes"),
        (lambda root: shutil.rmtree(root / ".dvc/cache"), r"is not in cache\). Run: dvc commit"),
        (nameless, "git does not know who you are"),
        (lambda root: run(root, *DVC, "remote", "add", "far", "/x"), r"first .dvc/config\)"),
    ],
    ids=["input", "output", "lock", "untracked", "page", "cache", "nobody", "config"],
)
def test_what_is_not_whole_gets_no_name(root, make, message):
    make(root)
    with pytest.raises(RevisionError, match=message):
        tag.make("v1", None, root)
    assert not git_of.tags(root)
    assert run(root, "git", "rev-list", "--count", "HEAD").strip() == "1"


@pytest.mark.parametrize("name", ["", "-x", "a b", "a..b", "x.lock", "$(id)", "HEAD", "workspace", "é", "a/b"])
def test_a_name_that_a_shell_or_git_does_not_take(root, name):
    with pytest.raises(RevisionError, match="cannot be a version's name"):
        tag.check_name(root, name)


def test_a_branch_is_no_version(root):
    run(root, "git", "branch", "side")
    with pytest.raises(RevisionError, match="side is a branch"):
        tag.check_name(root, "side")


def test_a_folder_without_git_has_no_versions(tmp_path):
    with pytest.raises(RevisionError, match="is not under git"):
        tag.check_name(tmp_path, "v1")


def test_what_git_ignores_and_what_does_not_count_is_no_matter(root):
    (root / "README.md").write_text("draft")
    (root / "data/x.partial").write_text("half")
    tag.make("v1", None, root)
    assert run(root, "git", "status", "--porcelain").strip() == "?? README.md", "not in the version's commit"


def test_a_hook_that_refuses_leaves_all_as_it_was(root):
    hook = root / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho no >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RevisionError, match=r"git commit failed in .*: no"):
        tag.make("v1", None, root)
    assert not run(root, "git", "status", "--porcelain")
    assert not (root / tag.VERSIONS).exists()
    hook.unlink()
    tag.make("v1", None, root)


@pytest.mark.parametrize("at", ["add", "commit", "tag"])
def test_killed_at_any_place_the_same_command_goes_on(root, monkeypatch, at):
    """Nothing cleans up after kill -9."""
    real = tag.git

    def dies(root, *words, **how):
        if words[0] == at:
            raise MemoryError
        return real(root, *words, **how)

    with monkeypatch.context() as patched:
        patched.setattr(tag, "git", dies)
        patched.setattr(tag, "_undo", lambda *_: None)
        with pytest.raises(MemoryError):
            tag.make("v1", None, root)
    assert (root / tag.VERSIONS).is_file()
    tag.make("v1", None, root)
    assert len(lines(root)) == 1
    assert run(root, "git", "rev-list", "--count", "v1").strip() == "2", "one commit for one line"
    assert not run(root, "git", "status", "--porcelain")


def test_the_data_are_in_the_remote_before_the_name_is_there(root, tmp_path, capsys):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    run(root, *DVC, "remote", "add", "store", str(blocked / "store"))
    commit(root)
    with pytest.raises(RevisionError, match="none of them the default"):
        tag.make("v1", None, root)
    run(root, *DVC, "remote", "default", "store")
    commit(root)
    with pytest.raises(RevisionError, match="remote store did not take all data"):
        tag.make("v1", None, root)
    assert not git_of.tags(root)
    tag.make("v0", None, root, push=False)
    assert not capsys.readouterr().out
    blocked.unlink()
    tag.make("v1", None, root, as_json=True)
    assert json.loads(capsys.readouterr().out)["pushed"] == "store"
    run(root, "git", "clone", "-q", ".", str(tmp_path / "clone"))
    run(tmp_path / "clone", *DVC, "pull", "-q")
    assert (tmp_path / "clone/data/count.txt").read_text().strip() == "2"


def test_a_line_tells_what_a_run_came_to(finished):
    row = tag.describe(finished, "why")
    assert row["IFT"] == 32
    assert row["AIFT pairs"].startswith("M1 ")
    assert "M3 " in row["judge: pairwise acc. %"]
    assert "±" in row["judge: pairwise acc. %"]
    assert list(row) == list(tag.COLUMNS[3:])
