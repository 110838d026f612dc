"""What the tab key proposes, by typer's own protocol: as a shell asks, so the program is asked."""

import os
import shutil
import subprocess
import sys

import pytest

from stages.commands import complete
from tests.workspace import ROOT

SRLM = "import sys; sys.argv[0] = 'srlm'; from stages.commands.cli import app; app(prog_name='srlm')"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    shutil.copy2(ROOT / "params.yaml", root / "params.yaml")
    (root / "dvc.lock").write_text("")
    (root / "dvc.yaml").write_text("")
    (root / "data/AIFT/M1").mkdir(parents=True)
    (root / "data/AIFT/M1/pairs.parquet").touch()
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q", "--initial-branch=main"], cwd=root, check=True)
    subprocess.run([*git, "add", "--all"], cwd=root, check=True)
    subprocess.run([*git, "commit", "-qm", "a run"], cwd=root, check=True)
    for name in ("v1", "v2", "$(touch${IFS}x)"):
        subprocess.run([*git, "tag", "-a", "-m", f"what {name} is", name], cwd=root, check=True)
    return root


def asked(folder, shell, words):
    """What `shell` is told for a command line, a line each."""
    line = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": words}
    env = {**os.environ, **line, "_SRLM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", SRLM], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        ("srlm ta", ["tag"]),
        ("srlm diff v", ["v2", "v1"]),
        ("srlm diff v1 m", ["main"]),
        ("srlm diff v1 v2 pai", ["pairs"]),
        ("srlm query --rev v", ["v2", "v1"]),
        ("srlm report --rev ", ["v2", "v1", "main"]),
        ("srlm query score_", ["score_distribution", "score_gap"]),
        ("srlm query pair_lineage p", ["prompt_id="]),
        ("srlm query nosuch p", []),
        ("srlm head-to-head M1 M", ["M1", "M0", "M2", "M3"]),
        ("srlm head-to-head --judge o", ["oracle"]),
        ("srlm cache --model S", ["SFT"]),
        ("srlm profile t", ["tiny"]),
        ("srlm init mine --profile t", ["tiny"]),
        ("srlm preview judge_s", ["judge_seed"]),
        ("srlm export aift_m", ["aift_m1"]),
        ("srlm export ift", ["ift", "ift_valid"]),
        ("srlm try sample_candidates.n", ["sample_candidates.n="]),
        ("srlm lm-eval M3", ["M3"]),
    ],
)
def test_bash_is_told_what_fits(project, words, proposed):
    assert asked(project, "bash", words) == proposed


def test_zsh_and_fish_are_told_what_it_means(project):
    assert "".join(asked(project, "zsh", "srlm diff v1")) == '_arguments \'*: :(("v1":"what v1 is"))\''
    assert "score_gap\t" in "\n".join(asked(project, "fish", "srlm query score_"))


def test_a_name_that_a_shell_would_run_is_not_proposed(project):
    assert not [line for line in asked(project, "zsh", "srlm diff ") if "touch" in line]


def test_outside_a_project_there_is_nothing(tmp_path):
    assert asked(tmp_path, "bash", "srlm diff ") == []
    (tmp_path / "params.yaml").write_text("][")
    assert set(asked(tmp_path, "bash", "srlm bank ")) == {"SFT", "M1"}


def test_a_proposal_that_fails_is_none():
    @complete.proposes
    def broken(ctx):
        raise OSError("no disk")

    assert broken(None, "") == []
