"""check --model: what a model brings, told before anything runs."""

import json
import shutil
from pathlib import Path

import pytest

from stages.commands import check_model
from stages.console.errors import ModelError
from stages.models import checkpoint
from tests.families import FAMILIES, build

ROWS = [("Say cat.", "cat")]


@pytest.fixture
def llama(tmp_path):
    checkpoint.random_llama(tmp_path / "my-model", seed=1, max_context=64)
    return tmp_path / "my-model"


def test_facts_of_a_folder(llama, tmp_path, capsys):
    before = {file.name: file.read_bytes() for file in llama.iterdir()}
    check_model.show("my-model", tmp_path)
    out = capsys.readouterr().out
    assert "my-model: LlamaForCausalLM, 0.1 M parameters, context 64" in out
    assert "ours: the model has none" in out
    assert "  | ⟦<s>⟧⟦### User:⟧" in out
    assert "⟦### Assistant:⟧ {answer}⟦</s>⟧" in out
    assert {file.name: file.read_bytes() for file in llama.iterdir()} == before, "nothing is written there"


def test_a_folder_by_another_way_to_name_it(llama, tmp_path, monkeypatch):
    (llama / "data").mkdir()
    monkeypatch.chdir(llama)
    assert check_model.look(".", Path())["model"] == "."
    assert check_model.look("..", llama / "data")["stops"] == {"</s>": 1}


@pytest.mark.slow
def test_json_of_what_is_put_right(tmp_path, capsys):
    family = next(f for f in FAMILIES if f.name == "DeepSeek-R1 distill")
    build(family, tmp_path / "r1", ROWS)
    check_model.show("r1", tmp_path, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True
    assert facts["turn_ends_with"] == "<｜end▁of▁sentence｜>"
    assert "closes the thought" in facts["put_right"][0]
    assert facts["exchange"].endswith("⟦<think>⟧\n\n⟦</think>⟧\n\n{answer}⟦<｜end▁of▁sentence｜>⟧")
    assert "<｜User｜>" in facts["control"]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_model_that_cannot_be_used(llama, tmp_path, capsys, as_json):
    (llama / "model.safetensors").write_bytes(b"")
    if as_json:
        with pytest.raises(SystemExit, match="1"):
            check_model.show("my-model", tmp_path, as_json=True)
        facts = json.loads(capsys.readouterr().out)
        assert facts["ok"] is False
        assert "model.safetensors is empty" in facts["fault"]
    else:
        with pytest.raises(ModelError, match=r"model\.safetensors is empty"):
            check_model.show("my-model", tmp_path)


def test_names_of_params_and_names_of_nothing(llama, tmp_path, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    text = (check_model.Path(__file__).parents[2] / "params.yaml").read_text()
    (root / "params.yaml").write_text(text)
    with pytest.raises(ModelError, match="the run makes it"):
        check_model.look("M0", root)
    with pytest.raises(ModelError, match=r"expected a folder.* or one of M0"):
        check_model.look("nothing at all", root)
    shutil.copytree(llama, root / "data/models/M2")
    assert check_model.look("M2", root)["parameters"] > 0
