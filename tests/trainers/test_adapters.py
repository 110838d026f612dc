"""LoRA: what is trained over weights that stay, saved as any model is or beside them, and gone on with."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.config.load import load_params
from stages.config.sections import TrainDpo, TrainSft
from stages.config.shared import Adapter
from stages.console.errors import ModelError, TrainingError
from stages.store.run import Run
from stages.store.weights import check_weights
from stages.trainers.adapters import packages, quantization
from stages.trainers.dpo import train_dpo
from stages.trainers.resume import environment
from stages.trainers.sft import sft_trainer, train_sft

PARAMS = load_params(Path(__file__).parents[2])
CPU = PARAMS.hardware.model_copy(update={"device": "cpu", "threads": 1})
COMMON = {
    **{"epochs": 2, "lr": 2e-2, "lr_end": 0.0, "batch": 4, "micro_batch": 4, "warmup_steps": 1, "max_length": 60},
    **{"dropout": 0.0, "dtype": "float32", "gradient_checkpointing": False},
}
ROWS = pl.DataFrame({"instruction": [f"Say cat {n} times." for n in range(12)], "response": ["cat cat cat."] * 12})
PAIRS = pl.DataFrame(
    {
        "prompt": [f"Say cat {n} times." for n in range(12)],
        "chosen": ["cat cat cat."] * 12,
        "rejected": ["pear plum apple."] * 12,
    }
)


def sft(model: Path, out: Path, adapter: dict | None, **changed):
    out.mkdir()
    params = TrainSft(**PARAMS.train_sft.model_dump() | COMMON | changed | {"adapter": adapter})
    return train_sft(model, out, ROWS, params, seed=1, hardware=CPU, label="M1")


def dpo(model: Path, out: Path, adapter: dict | None, **changed):
    out.mkdir()
    params = TrainDpo(**PARAMS.train_dpo.model_dump() | COMMON | {"nll_weight": 0.0} | changed | {"adapter": adapter})
    return train_dpo(model, out, PAIRS, params, seed=1, hardware=CPU, label="M2")


def logits(folder: Path) -> torch.Tensor:
    """What a model folder says, read as the engine of transformers reads it."""
    from stages.engines.backends.transformers import _load

    return _load(folder, torch.float32)(torch.arange(3, 9)[None]).logits.detach()


KEEP = {"r": 4, "alpha": 8, "save": "keep"}


@pytest.fixture(scope="module")
def adapted(base_model, tmp_path_factory) -> Path:
    """M1: the base's weights, and an adapter beside them."""
    out = tmp_path_factory.mktemp("adapted") / "M1"
    sft(base_model, out, KEEP)
    return out


def test_an_adapter_lies_beside_the_weights_that_it_was_trained_over(base_model, adapted, tmp_path):
    assert (adapted / "model.safetensors").read_bytes() == (base_model / "model.safetensors").read_bytes()
    assert {file.name for file in (adapted / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((adapted / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, "..")
    check_weights(adapted, "M1")
    AutoTokenizer.from_pretrained(adapted)
    assert not torch.allclose(logits(adapted), logits(base_model), atol=1e-2)
    sft(base_model, tmp_path / "M1", KEEP)
    for file in (adapted / "adapter").iterdir():
        assert file.read_bytes() == (tmp_path / "M1/adapter" / file.name).read_bytes(), "equal runs, equal bytes"


def test_merged_it_is_a_model_like_any_other_that_says_the_same(base_model, adapted, tmp_path):
    sft(base_model, tmp_path / "M1", KEEP | {"save": "merge"})
    assert not (tmp_path / "M1/adapter").exists()
    check_weights(tmp_path / "M1", "M1")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "M1")
    assert (model.dtype, model.config.use_cache) == (torch.float32, True)
    torch.testing.assert_close(logits(tmp_path / "M1"), logits(adapted), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("adapter", "rank"),
    [
        (KEEP, 4),
        (KEEP | {"parent_adapter": "stack", "r": 2, "target_modules": ["q_proj", "v_proj"]}, 6),
        (KEEP | {"save": "merge"}, None),
        (None, None),
    ],
    ids=["continue", "stack", "merge", "every weight"],
)
def test_preferences_over_a_model_with_an_adapter(base_model, adapted, tmp_path, adapter, rank):
    """The reference is the model with its adapter; what is saved is what the last step left."""
    seen = {}

    def watched(model, *args, **kwargs):
        model.eval()
        seen["logits"] = model(torch.arange(3, 9)[None]).logits.detach()
        return original(model, *args, **kwargs)

    from stages.trainers import saving

    original = saving.save
    saving.save = watched
    try:
        log = dpo(adapted, tmp_path / "M2", adapter, lr=5e-3).log
    finally:
        saving.save = original
    assert log["loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert log["margin"][-1] > 0.02
    torch.testing.assert_close(logits(tmp_path / "M2"), seen["logits"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(seen["logits"], logits(adapted), atol=1e-3)
    check_weights(tmp_path / "M2", "M2")
    if rank:
        assert json.loads((tmp_path / "M2/adapter/adapter_config.json").read_text())["r"] == rank
        assert (tmp_path / "M2/model.safetensors").read_bytes() == (base_model / "model.safetensors").read_bytes()
    else:
        assert not (tmp_path / "M2/adapter").exists()


def test_another_shape_than_the_adapter_s_cannot_be_continued(adapted, tmp_path):
    with pytest.raises(TrainingError, match="has r 4 and alpha 8, and r 8 and alpha 8 are asked for"):
        dpo(adapted, tmp_path / "M2", KEEP | {"r": 8})


def test_an_adapter_of_another_model_is_refused(adapted, tmp_path):
    from tiny_llama import build

    other = build(tmp_path / "M1", hidden_size=32)
    (other / "adapter").symlink_to(adapted / "adapter")
    with pytest.raises(ModelError, match="no LoRA adapter of the model in"):
        dpo(other, tmp_path / "M2", KEEP)


def test_modules_that_the_model_has_not(base_model, tmp_path):
    with pytest.raises(TrainingError, match=r"adapter\.target_modules \['W_pack'\]"):
        sft(base_model, tmp_path / "M1", KEEP | {"target_modules": ["W_pack"]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="is not refused there")
def test_its_packages_decide_where_there_is_one(base_model, adapted, tmp_path):
    """Else a checkpoint is what it was, and so is lineage."""
    assert packages(base_model, None) == []
    assert packages(adapted, None) == packages(base_model, Adapter(r=2, alpha=4)) == ["peft"], "merged in, too"
    assert packages(base_model, Adapter(r=2, alpha=4, quantize="nf4")) == ["peft", "bitsandbytes"]
    assert packages(base_model, None, "liger") == ["liger-kernel"], "of which another version computes other sums"
    for folder, has_one in ((base_model, False), (adapted, True)):
        params = TrainSft(**PARAMS.train_sft.model_dump() | COMMON)
        trainer, ready = sft_trainer(folder, tmp_path, ROWS, params, seed=1, hardware=CPU)
        assert ("peft" in environment(trainer, ready)["versions"]) == has_one
        with Run("train_sft", tmp_path, "M1").new_model(
            "M1", parent="M0", method="sft", params={}, notes={}, packages=packages(folder, None)
        ):
            pass
        lineage = json.loads((tmp_path / "data/models/M1/lineage.json").read_text())
        assert ("peft" in lineage["versions"]) == has_one


def test_four_bits_want_a_gpu(base_model, tmp_path):
    with pytest.raises(TrainingError, match="nf4 needs a CUDA device"):
        sft(base_model, tmp_path / "M1", KEEP | {"quantize": "nf4"})


def test_each_process_holds_its_four_bits_on_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace())
    monkeypatch.setattr(transformers, "BitsAndBytesConfig", dict)
    adapter = Adapter(r=4, alpha=8, quantize="nf4")
    assert quantization(adapter)["device_map"] == {"": 0}
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert quantization(adapter)["device_map"] == {"": 1}


def test_half_precision_below_and_dropout_in_the_adapter(adapted, tmp_path):
    shaken = KEEP | {"dropout": 0.5}
    log = dpo(adapted, tmp_path / "M2", shaken, dtype="bfloat16", gradient_checkpointing=True, micro_batch=2).log
    assert abs(log["loss"][0] - math.log(2)) > 1e-3
    assert logits(tmp_path / "M2").isfinite().all()
