"""dtype bfloat16_weights: what float32 would do, in half the bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import test_launch
import test_resume as r
import torch
from safetensors.torch import load_file, save_file

from stages.commands import disk
from stages.config.shared import Adapter
from stages.trainers.adapters import FOLDER
from stages.trainers.masters import MasterAdamW, add_masters, as_stored
from stages.trainers.resume import step_of
from stages.trainers.rows import prepare

HALF = {"dtype": "bfloat16_weights"}


def in_bfloat16(model: Path, out: Path) -> Path:
    shutil.copytree(model, out)
    save_file(
        {name: weight.bfloat16() for name, weight in load_file(model / "model.safetensors").items()},
        out / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((out / "config.json").read_text()) | {"dtype": "bfloat16"}
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize("kind", r.KINDS)
def test_the_curve_is_float32_s(kind, base_model, tmp_path):
    """Within two parts of a hundred, as far as bfloat16's grain goes; what is saved is float32, as what was loaded."""
    options = {"dropout": 0.0, "epochs": 5}
    exact = r.run(kind, base_model, tmp_path / "exact", None, **options).log
    half = r.run(kind, base_model, tmp_path / "half", None, **options, **HALF).log
    assert exact["loss"][-1] < 0.8 * exact["loss"][0]
    assert half["loss"].to_list() == pytest.approx(exact["loss"].to_list(), rel=0.02, abs=0.01)
    saved, like = (load_file(tmp_path / name / "model.safetensors") for name in ("half", "exact"))
    assert {name: (w.dtype, w.shape) for name, w in saved.items()} == {n: (w.dtype, w.shape) for n, w in like.items()}
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "float32"
    start = load_file(base_model / "model.safetensors")
    moved, wanted = (torch.cat([(w[n] - start[n]).flatten() for n in start]) for w in (saved, like))
    assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.9


def test_a_model_that_came_in_bfloat16_is_saved_in_it(base_model, tmp_path):
    half = in_bfloat16(base_model, tmp_path / "M0")
    r.run("sft", half, tmp_path / "M1", None, **HALF)
    assert {weight.dtype for weight in load_file(tmp_path / "M1/model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "M1/config.json").read_text())["dtype"] == "bfloat16"


def test_masters_are_the_file_s_weights_whatever_its_config_says(base_model, tmp_path):
    model = in_bfloat16(base_model, tmp_path / "M0")
    shutil.copyfile(base_model / "model.safetensors", model / "model.safetensors")
    params, rows = r.SFT.model_copy(update=HALF), r.ROWS.select("instruction", "response")
    ready, exact = prepare(model, rows, params, "train_sft", 1).model, load_file(base_model / "model.safetensors")
    for name, weight in ready.named_parameters():
        assert torch.equal(weight.master, exact[name]), name
    assert not all(torch.equal(weight, weight.bfloat16().float()) for weight in exact.values())
    assert {weight.dtype for weight in as_stored(ready).values()} == {torch.float32}


def test_steps_below_bfloat16_s_grain_add_up():
    """A thousand steps of 1e-5 on weights of 1, whose neighbours in bfloat16 are 0.004 and 0.008 away."""
    gradient, ends = torch.ones(3), {}
    for name, start in (("float32", torch.float32), ("plain", torch.bfloat16), ("masters", torch.float32)):
        model = torch.nn.Linear(3, 1, bias=False, dtype=start)
        torch.nn.init.ones_(model.weight)
        options = {"lr": 1e-5, "weight_decay": 0.0}
        if name == "masters":
            add_masters(model)
        kind = MasterAdamW if name == "masters" else torch.optim.AdamW
        optimizer = kind([{"params": [model.weight]}], **options)
        for _ in range(1000):
            model.weight.grad = gradient.to(model.weight.dtype)[None]
            optimizer.step()
        ends[name] = model.weight
    assert ends["plain"].eq(1).all()
    assert ends["masters"].dtype == torch.bfloat16
    assert torch.equal(ends["masters"].master, ends["float32"])
    assert torch.equal(ends["masters"], ends["float32"].bfloat16())
    assert ends["masters"].lt(1).all()


@pytest.mark.parametrize("kind", r.KINDS)
def test_killed_and_continued_is_as_not_killed(kind, base_model, tmp_path, monkeypatch):
    """At a rate at which masters differ from the rounded weights."""
    options = HALF | {"lr": 1e-5, "lr_end": 1e-6}
    whole = r.run(kind, base_model, tmp_path / "whole", None, **options).log
    kept = tmp_path / "kept"
    r.killed(monkeypatch, 5, lambda: r.run(kind, base_model, tmp_path / "a", r.checkpoints(kept), **options))
    [checkpoint] = kept.iterdir()
    assert step_of(checkpoint) == 4
    large = sum((checkpoint / name).stat().st_size for name in ("model.safetensors", "optimizer.pt"))
    assert large == pytest.approx((disk.CHECKPOINT + disk.MASTERS) * disk.on_disk(base_model).weights, rel=0.03)
    again = r.run(kind, base_model, tmp_path / "b", r.checkpoints(kept), **options)
    assert again.figures["continued_at"] == 4
    assert again.log.equals(whole)
    assert r.weights(tmp_path / "b") == r.weights(tmp_path / "whole")


def test_layers_still_compute_real_tokens_only(base_model, tmp_path):
    _, params, rows, make = r.KINDS["sft"]
    trainer, ready = make(base_model, tmp_path, rows, params.model_copy(update=HALF), seed=1, hardware=r.CPU)
    assert ready.model.config._attn_implementation == "padding_free"
    assert {weight.dtype for weight in ready.model.parameters()} == {torch.bfloat16}
    buffers = {name: buffer.dtype for name, buffer in ready.model.named_buffers()}
    assert buffers.pop("model.rotary_emb.inv_freq") == torch.float32
    assert not trainer.args.bf16


def test_an_adapter_stays_float32_over_half_the_bytes(base_model, tmp_path):
    adapter = Adapter(r=4, alpha=8, save="keep")
    options = {"adapter": adapter, "dropout": 0.0, "lr": 2e-2}
    exact = r.run("dpo", base_model, tmp_path / "exact", None, **options).log
    half = r.run("dpo", base_model, tmp_path / "half", None, **options, **HALF).log
    assert half["loss"].to_list() == pytest.approx(exact["loss"].to_list(), rel=0.05, abs=0.02)
    trained = load_file(tmp_path / "half" / FOLDER / "adapter_model.safetensors")
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    _, params, rows, make = r.KINDS["dpo"]
    params = params.model_copy(update=options | HALF)
    _, ready = make(base_model, tmp_path, rows, params, seed=1, hardware=r.CPU)
    kinds = {("lora" in name, weight.dtype) for name, weight in ready.model.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


@pytest.mark.parametrize("then", [None, Adapter(r=2, alpha=4, parent_adapter="stack")], ids=["none", "stack"])
def test_an_adapter_below_is_merged_in_float32(base_model, tmp_path, then):
    r.run("sft", base_model, tmp_path / "M1", None, adapter=Adapter(r=4, alpha=8, save="keep"), lr=2e-2)
    params = r.SFT.model_copy(update={"adapter": then, "dropout": 0.0})
    rows = r.ROWS.select("instruction", "response")
    weights = {}
    for dtype in ("float32", "bfloat16", "bfloat16_weights"):
        ready = prepare(tmp_path / "M1", rows, params.model_copy(update={"dtype": dtype}), "train_sft", 1)
        by_name = {
            name.replace("base_model.model.", "").replace(".base_layer", ""): w
            for name, w in ready.model.named_parameters()
        }
        weights[dtype] = {name: w for name, w in by_name.items() if "lora" not in name}
    assert weights["float32"].keys() == load_file(base_model / "model.safetensors").keys()
    for name, exact in weights["float32"].items():
        half = weights["bfloat16_weights"][name]
        assert torch.equal(half, exact.bfloat16()), name
        assert torch.equal(weights["bfloat16"][name], exact.bfloat16() if then else exact), name
        if then is None:
            assert torch.equal(half.master, exact), name


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(base_model, tmp_path):
    params = test_launch.SFT.model_copy(update=HALF)
    machine = test_launch.hardware(tmp_path, None)
    one = test_launch.train(test_launch.train_sft, base_model, tmp_path / "one", test_launch.ROWS, params, machine)
    machine = test_launch.hardware(tmp_path)
    two = test_launch.train(test_launch.train_sft, base_model, tmp_path / "two", test_launch.ROWS, params, machine)
    assert two.processes == 2
    assert two.log["loss"].to_list() == pytest.approx(one.log["loss"].to_list(), rel=0.01)
    assert isinstance(two.log, pl.DataFrame)
