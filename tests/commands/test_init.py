"""srlm init: a folder of one's own in which everything is, or nothing of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from typer.testing import CliRunner

from stages.commands import cli
from stages.commands.init import PLACES, PROJECT, init
from stages.config.load import load_params
from stages.console.errors import ModelError, ParamsError, SeedDataError, SrlmError
from stages.store.copies import EMPTY
from stages.store.files import md5
from tests.workspace import EMPTY as EMPTY_OF_A_CLONE
from tests.workspace import ENV, ROOT


@pytest.fixture(autouse=True)
def _a_name_for_git(monkeypatch):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")


@pytest.fixture
def answers(tmp_path):
    """A file of ranked answers."""
    rows = [
        {"prompt": f"Question number {i} of the forty?", "responses": ["good one here", "bad one"], "ranks": [0, 1]}
        for i in range(40)
    ]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(folder, *command):
    done = subprocess.run([*command], cwd=folder, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_folder_of_ones_own_runs_its_own_code(tmp_path):
    init(tmp_path / "toy", profile="scripted")
    made = tmp_path / "toy"
    assert run(made, "git", "status", "--porcelain") == ""
    assert run(made, "git", "log", "--format=%s") == "srlm init\n"
    stages = run(made, sys.executable, "-m", "dvc", "stage", "list", "--name-only")
    assert "train_dpo@M3" in stages
    assert md5(made / "stages") == md5(ROOT / "stages"), "links are resolved, and nothing is added"
    assert not [f for f in made.rglob("*") if f.is_symlink()]
    # what DVC watches is what runs: a rule that is edited here is the rule
    where = run(made, sys.executable, "-c", "import stages.method.pairing as p; print(p.__file__)")
    assert Path(where.strip()).is_relative_to(made)
    run(made, sys.executable, "-m", "dvc", "repro", "split_seed")
    assert run(made, sys.executable, "-m", "dvc", "status", "split_seed").startswith(
        "Data and pipelines are up to date"
    )
    deps = YAML(typ="safe").load(made / "dvc.lock")["stages"]["split_seed"]["deps"]
    assert {"stages/split_seed.py", "stages/method/seeds.py"} <= {dep["path"] for dep in deps}
    assert run(made, "git", "status", "--porcelain").splitlines() == ["?? data/metrics/seed.json", "?? dvc.lock"]


def test_ones_own_data_are_copied_and_the_model_is_named_where_it_is(tmp_path, answers, monkeypatch):
    model = tmp_path / "model"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"--model .*model: expected a folder here, or a repository"):
        init(Path("mine"), model="model", data="answers.jsonl")
    assert [f.name for f in tmp_path.iterdir()] == ["answers.jsonl"], "nothing half-made is left"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}')
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "tokenizer.model").touch()
    save_file({}, model / "model.safetensors")
    init(Path("mine"), model="model", data="answers.jsonl", small=True)
    params = load_params(tmp_path / "mine")
    assert params.base["M0"].path == str(model)
    assert params.split_seed.path == "seed/answers.jsonl"
    assert (tmp_path / "mine" / "seed" / "answers.jsonl").read_bytes() == answers.read_bytes()
    assert "srlm check" in (tmp_path / "mine" / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", r"{file}, line 1: not JSON"), ('{"a": 1}', r"{file} fits no format\. .* Rename the columns, or set")],
)
def test_bad_data_are_named_as_their_owner_knows_them(tmp_path, text, why):
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(SeedDataError, match="^" + why.format(file=file)):
        init(tmp_path / "mine", profile="scripted", data=str(file))
    assert [*tmp_path.iterdir()] == [file]


def test_the_next_steps_can_be_typed_as_they_stand(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    init(Path("my run"), profile="scripted")
    assert capfd.readouterr().err == "my run is ready. Next: cd 'my run'; srlm check; srlm repro\n"
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")  # even where the machine's own name would do
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    init(Path("nobody"), profile="scripted")
    said = capfd.readouterr().err
    assert (
        "nobody is ready, but for its first commit: git does not know who you are. Next: cd nobody; git config" in said
    )
    commit = said.partition("Next: ")[2].partition("; srlm check")[0]
    subprocess.run(commit, shell=True, cwd=tmp_path, check=True)
    assert run(tmp_path / "nobody", "git", "log", "--format=%an <%ae> %s") == "Your Name <you@example.com> init\n"


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(SrlmError, match=r"Name a new folder: srlm init NAME"):
            init(tmp_path / name, profile="tiny")
    with pytest.raises(SrlmError, match="no such folder"):
        init(tmp_path / "none" / "mine", profile="tiny")
    with pytest.raises(ParamsError, match="no profile tin"):
        init(tmp_path / "mine", profile="tin")
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["file", "full", "mine.txt"]


def test_an_empty_folder_is_filled_where_it_stands(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    init(Path(), profile="tiny")
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ". is ready. Next: srlm check; srlm repro\n"
    assert Path("params.yaml").is_file(), "the folder that a terminal is in is the same one"
    assert (tmp_path / ".dvc" / "config").is_file()
    assert not [f for f in tmp_path.parent.iterdir() if f.name.startswith(f".{tmp_path.name}-")]


def test_what_is_not_given_is_asked_for_on_a_terminal_alone(tmp_path, monkeypatch):
    done = CliRunner().invoke(cli.app, ["init", str(tmp_path / "mine")])
    assert isinstance(done.exception, ParamsError)
    assert "init wants --model and --data, or --profile tiny: --model is a model's folder" in str(done.exception)
    master, slave = os.openpty()
    os.write(master, b"nowhere\nno.jsonl\n")
    command = [sys.executable, "-m", "stages.commands.cli", "init", str(tmp_path / "mine")]
    asked = subprocess.run(
        command, cwd=ROOT, env=ENV, stdin=slave, capture_output=True, text=True, timeout=60, check=False
    )
    assert "model (a model's folder" in asked.stdout
    assert asked.returncode == 1
    assert "--model nowhere: expected a folder here" in asked.stderr


def test_what_a_folder_gets_is_what_a_clone_has():
    for name, place in PLACES.items():
        assert (PROJECT / name).read_bytes() == (ROOT / place).read_bytes()
    assert set(EMPTY) == set(EMPTY_OF_A_CLONE)
