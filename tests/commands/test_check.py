"""`srlm check`: everything that would fail, at once, before the first second of compute; and quickly."""

import json
import subprocess
import sys

import polars as pl
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


def test_kernels_without_a_gpu_are_told_before_hours_of_texts(space):
    space.set(**{"hardware.kernels": "liger", "hardware.device": "cpu"})
    with pytest.raises(ParamsError, match=r"hardware\.kernels: liger needs a CUDA device, and hardware\.device is cpu"):
        check.gate(space.path)


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


OWN = {
    "split_seed.source": "file",
    "split_seed.path": "rows.jsonl",
    "judge.template": "stages/templates/judge.jinja",
    "write_prompts.template": "stages/templates/write_prompt.jinja",
    "evaluate.oracle": "none",
    "evaluate.compare_by": "model",
    "base.M0": {"source": "random", "path": "stages/get_model.py"},
}


def rows(path, count, **row):
    lines = [json.dumps({key: value.replace("N", str(n)) for key, value in row.items()}) for n in range(count)]
    path.write_text("\n".join(lines))


def test_data_without_ranks_or_in_no_format_are_told_before(space):
    space.set(**OWN)
    rows(space.path / "rows.jsonl", 9, instruction="Name N.", output="N.")
    words = r"split_seed\.format: rows.jsonl, read as instructions .*, has no ranks: .*dvc repro train_sft_baseline"
    with pytest.raises(ParamsError, match=words):
        check.gate(space.path)
    rows(space.path / "rows.jsonl", 9, a="Name N.", b="N.")
    with pytest.raises(ParamsError, match=r"split_seed: rows.jsonl fits no format. Its columns: a, b"):
        check.gate(space.path)
    rows(space.path / "rows.jsonl", 9, prompt="Name N.", chosen="N.", rejected="Five.")
    check.gate(space.path)


def test_data_without_ranks_make_ift_and_say_so(space):
    """Alpaca's rows, told to have one answer each, make IFT and test prompts; judging says what is missing."""
    space.set(**OWN, **{"split_seed.columns": {"prompt": "q"}, "split_seed.format": "instructions"})
    rows(space.path / "rows.jsonl", 60, q="Tell me what N is in words of yours.", output="N.")
    done = space.run("stages.split_seed")
    assert done.returncode == 0, done.stderr
    assert "rows.jsonl: 60 rows read as instructions with one answer each: prompt=q, response=output" in done.stdout
    assert "instructions has no ranks: it makes IFT and no EFT" in " ".join(done.stderr.split())
    seed = json.loads((space.path / "data/metrics/seed.json").read_text())
    assert {key: seed[key] for key in ("format", "columns", "rows", "messages", "prompts", "lang")} == {
        "format": "instructions",
        "columns": {"prompt": "q", "response": "output"},
        "rows": 60,
        "messages": 120,
        "prompts": 60,
        "lang": None,
    }
    assert seed["near_duplicates"] == {"prompts": 0, "groups": 0, "left_out": 0}
    assert pl.read_parquet(space.path / "data/EFT/ranked.parquet").is_empty()
    assert len(pl.read_parquet(space.path / "data/IFT/train.parquet")) == 32
    done = space.run("stages.judge_seed")
    assert done.returncode == 1
    assert "no answers to judge: the seed data have no ranks" in " ".join(done.stderr.split())


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


def test_batches_that_the_processes_of_a_launch_cannot_share(space):
    (space.path / "two.yaml").write_text("distributed_type: MULTI_GPU\nnum_machines: 1\nnum_processes: 2\n")
    changes = {"device": "cpu", "launch": "two.yaml"}
    space.set(**{f"hardware.{key}": value for key, value in changes.items()})
    assert check.findings(space.path)[1] == []
    space.set(**{"train_dpo.batch": 3, "train_dpo.micro_batch": 1})
    (found,) = check.findings(space.path)[1]
    assert str(found).startswith("train_dpo.batch: batch 3 cannot be dealt out to 2 processes. Set batch to a multiple")
