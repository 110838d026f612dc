"""What a training says of its speed: tokens that are no padding, useful FLOPs, a share of a peak only where it is
known."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from test_train_dpo import PAIRS
from test_train_dpo import run as dpo
from test_train_sft import ROWS
from test_train_sft import run as sft

from stages.config.flops import card_of, causal, shape_of
from stages.console import progress
from stages.text.chat import Chat
from stages.trainers import speed as speeds
from stages.trainers.loading import load
from stages.trainers.speed import Speed


def lengths(model, prompts, answers):
    return [(len(p), len(a)) for p, a in Chat(load(model, 0.0)[1]).encode(prompts, answers)]


def test_tokens_are_those_of_the_rows_and_the_log_has_them(base_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    trained = sft(base_model, tmp_path, epochs=2)
    rows = lengths(base_model, ROWS["instruction"].to_list(), ROWS["response"].to_list())
    whole = [prompt + answer for prompt, answer in rows]
    shape = shape_of(json.loads((base_model / "config.json").read_text()))
    figures = trained.figures
    assert figures["tokens"] == trained.log["tokens"][-1] == 2 * sum(whole)
    assert figures["flops"] == pytest.approx(2 * shape.flops(sum(whole), causal(whole)), rel=1e-6)
    assert figures["parameters"] == shape.parameters
    assert figures["tokens_per_s"] > 0
    assert (figures["device"], figures["peak_share"], figures["gpu_peak_mb"]) == ("cpu", None, None)
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith("M1: 3/6 steps ")
    assert " s left loss " in line
    assert " tokens/s, " in line
    assert "of peak" not in line, "nobody told a CPU's"
    assert line.endswith(" GB")


def test_a_prompt_that_both_answers_share_is_computed_once(base_model, tmp_path, capsys):
    trained = dpo(base_model, tmp_path, PAIRS, epochs=1)
    prompts = PAIRS["prompt"].to_list()
    chosen, rejected = (lengths(base_model, prompts, PAIRS[side].to_list()) for side in ("chosen", "rejected"))
    both = [prompt + answer for prompt, answer in chosen + rejected]
    shared = [prompt for prompt, _ in chosen]
    shape = shape_of(json.loads((base_model / "config.json").read_text()))
    assert trained.figures["tokens"] == sum(both)
    useful = shape.flops(sum(both) - sum(shared), causal(both) - causal(shared))
    assert trained.figures["flops"] == pytest.approx(useful, rel=1e-6)
    assert "margin " in capsys.readouterr().out.splitlines()[-1]


def test_weights_that_stay_as_they_are_have_no_gradient_to_compute(base_model):
    model = load(base_model, 0.0)[0]
    ready = SimpleNamespace(model=model, rows={"prompt_ids": [[1] * 4], "response_ids": [[1] * 6]})
    whole = Speed(ready, "float32").flops_per_token
    for weight in [*model.parameters()][1:]:
        weight.requires_grad_(False)
    embedding = next(model.parameters()).numel()
    assert 2 * embedding < model.num_parameters()
    assert Speed(ready, "float32").flops_per_token == pytest.approx(2 / 3 * whole)


def test_the_first_step_warms_up_and_a_share_is_of_a_known_peak(base_model, monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr(speeds.time, "monotonic", lambda: next(clock))
    model = load(base_model, 0.0)[0]
    speed = Speed(SimpleNamespace(model=model, rows={"prompt_ids": [[1] * 4], "response_ids": [[1] * 6]}), "bfloat16")
    assert speed.step({"loss": 1.0, "num_tokens": 100.0}).startswith("loss 1.000, 1 tokens/s, ")
    speed.step({"loss": 1.0, "num_tokens": 600.0})
    speed.step({"loss": 1.0, "num_tokens": 1100.0})
    assert speed.tokens_per_s() == 500
    speed.peak = card_of("H100").bfloat16
    assert speed.share_of_peak() == pytest.approx(500 * speed.shape.flops(10, causal([10])) / 10 / 989e12)


def test_the_peak_of_several_processes_is_of_all_their_cards(base_model, monkeypatch):
    for name, value in {"is_available": True, "is_initialized": True, "reset_peak_memory_stats": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    ready = SimpleNamespace(model=load(base_model, 0.0)[0], rows={"prompt_ids": [[1] * 4], "response_ids": [[1] * 6]})
    assert Speed(ready, "bfloat16").peak == 8 * 989e12
    whole = Speed(ready, "float32").peak
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")  # as Trainer sets it; allow_tf32 raises then
    assert Speed(ready, "float32").peak == 8 * 989e12 / 2 > whole
