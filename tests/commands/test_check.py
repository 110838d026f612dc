"""`srlm check`: everything that would fail, at once, before the first second of compute; and quickly."""

import json
import subprocess
import sys

import pytest

from stages.commands import check, disk
from stages.console.errors import ParamsError
from tests.workspace import ENV, Workspace


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "space")


def test_a_sound_project_is_told_in_one_line(space, capsys):
    check.show(space.path)
    told = capsys.readouterr().err
    assert "no fault in" in told
    assert "read from 'Score: <n>', as stages/templates/judge.jinja asks for it" in told.replace("\n", " ")


def test_faults_of_every_kind_are_told_together(space, capsys):
    (space.path / "mine.jinja").write_text("Rate {{ response }}. Rating: [[n]]")
    space.set(
        **{
            "judge.template": "mine.jinja",
            "write_prompts.template": "none.jinja",
            "sample_candidates.n": 1,
            "train_dpo.lr_end": 0.1,
            "evaluated": ["SFT", "SFT"],
        }
    )
    with pytest.raises(ParamsError) as e:
        check.gate(space.path)
    keys = {line.split(":")[0].strip() for line in str(e.value).splitlines()[1:-1]}
    assert keys == {
        "judge.template",
        "write_prompts.template",
        "sample_candidates.n",
        "train_dpo.lr_end",
        "evaluated",
        *(f"head_to_head.{match}" for match in ("M1-SFT", "M2-SFT", "M3-SFT", "M2-M1", "M3-M1", "M3-M2")),
    }
    with pytest.raises(SystemExit):
        check.show(space.path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert {finding["key"] for finding in told["findings"]} == keys
    assert all(finding["seen"] for finding in told["findings"])


def test_too_little_room_on_disk_is_a_fault(space, monkeypatch):
    monkeypatch.setattr(disk, "look", lambda *_: ["up to 435 TB more may be needed"])
    with pytest.raises(ParamsError, match="disk: up to 435 TB more may be needed"):
        check.gate(space.path)


def test_a_model_that_get_model_would_refuse_is_told_before(space):
    (space.path / "mine").mkdir()
    (space.path / "mine/config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (space.path / "mine/tokenizer.json").write_text("{}")
    (space.path / "mine/pytorch_model.bin").write_bytes(b"a pickle")
    space.set(**{"base.M0": {"source": "local", "path": "mine"}})
    with pytest.raises(ParamsError, match=r"base\.M0\.path: mine: no \*\.safetensors in the model's folder"):
        check.gate(space.path)


def test_repro_and_the_first_stages_refuse_before_anything_is_made(space):
    space.set(**{"judge.template": "data/../none.jinja"})
    for command in (("stages.commands.cli", "repro"), ("stages.get_model", "M0"), ("stages.split_seed",)):
        done = space.run(*command)
        assert done.returncode == 1
        assert "judge.template: data/../none.jinja is not there" in " ".join(done.stderr.split())
    assert not (space.path / "dvc.lock").exists()
    assert not (space.path / "data/models").exists()


def test_it_needs_no_torch(space):
    code = "import sys; from stages.commands import check; check.show(__import__('pathlib').Path())\n"
    code += "assert not {'torch', 'transformers', 'datasets', 'huggingface_hub'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=space.path, env=ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
