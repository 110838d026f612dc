from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.commands.disk import EMBEDDED, on_disk
from stages.config.sections import Tinyworld
from stages.tinyworld.muon import orthogonalize
from stages.tinyworld.pretrain import build_model, pretrain
from stages.tinyworld.tokenizer import CONTEXT

WORLD = Tinyworld(seed=7, steps=12, docs_per_step=8, lr=3e-3)


@pytest.fixture(scope="module", autouse=True)
def _small_tokenizer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.tinyworld.pretrain.TOKENIZER_DOCUMENTS", 3000)
        yield


@pytest.fixture(scope="module")
def m0(tmp_path_factory) -> tuple[Path, list[dict[str, float]]]:
    out = tmp_path_factory.mktemp("M0")
    return out, pretrain(out, seed=1, world=WORLD, threads=1)


@pytest.mark.slow
def test_it_learns_and_says_so(m0):
    _, log = m0
    assert [row["step"] for row in log] == [10, 12]
    assert log[-1]["loss"] < log[0]["loss"]
    assert 0 < log[-1]["lr"] < WORLD.lr


def test_the_folder_is_a_model_for_anyone(m0):
    out, _ = m0
    assert on_disk(out).weights <= EMBEDDED.weights, "what the forecast of disk use takes for granted"
    config = json.loads((out / "config.json").read_text())
    assert config["use_cache"] is True
    assert config["dtype"] == "float32"
    assert config["max_position_embeddings"] == CONTEXT == 512
    assert not list(out.glob("*.bin"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert 0.3e6 < model.num_parameters() < 0.35e6
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say cat 3 times."}], add_generation_prompt=True, return_tensors="pt"
    )
    assert model.generate(**asked, max_new_tokens=3, do_sample=False).shape[1] <= asked["input_ids"].shape[1] + 3


@pytest.mark.slow
def test_two_runs_are_equal(m0, tmp_path):
    out, log = m0
    torch.manual_seed(123)  # no global state may reach the run
    assert pretrain(tmp_path, seed=1, world=WORLD, threads=1) == log
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / file).read_bytes() == (out / file).read_bytes()


def test_another_seed_starts_elsewhere(m0):
    tokenizer = AutoTokenizer.from_pretrained(m0[0])
    one, same, other = (build_model(tokenizer, seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_newton_schulz_brings_singular_values_near_one_in_either_shape():
    matrices = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    for m in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonalize(m))
        assert values.min() > 0.5
        assert values.max() < 1.3
