"""Rows in one line give what each gives alone: log-probabilities, gradients, and whatever the layers are."""

from __future__ import annotations

import copy
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import HARDWARE
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig

from stages.config.load import load_params
from stages.trainers import padding_free
from stages.trainers.padding_free import SHARED, PaddingFree, in_one_line
from stages.trainers.sft import sft_trainer

SMALL = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "grouped heads": LlamaConfig(**SMALL),
    "sliding window": MistralConfig(**SMALL, sliding_window=5),
    "softcap, eager": Gemma2Config(**SMALL, sliding_window=5, attn_implementation="eager"),
    "learned positions": GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=4, pad_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
}
ROWS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=30), min_size=1, max_size=9)


def batch(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@given(ROWS)
def test_each_row_is_a_path_and_shared_beginnings_stand_once(rows):
    inputs = batch(rows)
    line = in_one_line(**inputs)
    tokens = inputs["input_ids"].flatten()[line.tokens]
    paths = [path.tolist() for path in line.paths.split(line.ends.diff().tolist())]
    assert [tokens[path].tolist() for path in paths] == rows
    assert all(line.positions[path].tolist() == list(range(len(path))) for path in paths)
    assert line.paths[line.in_paths].tolist() == list(range(len(tokens)))
    assert torch.cat([g.flatten() for g in line.groups])[line.in_groups].tolist() == list(range(len(tokens)))
    assert all(line.padded[i, : len(path)].tolist() == path for i, path in enumerate(paths))
    assert len(tokens) <= sum(map(len, rows))
    assert len(set(map(tuple, rows))) > 1 or len(rows[0]) < SHARED or len(tokens) == len(rows[0])


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8, deadline=None)
@given(rows=ROWS)
def test_logits_and_gradients_are_the_padded_models(name, rows):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(MODELS[name]))
    inputs = batch(rows)
    real = inputs["attention_mask"].bool()

    def results() -> list[torch.Tensor]:
        model.zero_grad()
        logits = model(**inputs, use_cache=False).logits[real]
        logits.square().mean().backward()
        return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    padded = results()
    way = PaddingFree(model)
    in_line = results()
    way.remove()
    assert len(padded) == len(in_line)
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(padded, in_line, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(padded, results(), strict=True)), "removed, it is as before"


def test_compiled_layers_train_to_the_same_loss(base_model, tmp_path, monkeypatch):
    """Through the graphs of torch.compile, not through its compiler, which takes a minute."""
    compiled = []

    def compile_eagerly(layer: torch.nn.Module, **options: bool) -> None:
        compiled.append(layer)
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend="aot_eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    rows = pl.DataFrame(
        {"instruction": ["Say cat 3 times.", "Name fruits."] * 4, "response": ["cat.", "apple pear."] * 4}
    )
    params = load_params(Path(__file__).parents[2]).train_sft.model_copy(update={"batch": 4, "micro_batch": 2})
    losses = []
    for asked in (False, True):
        hardware = HARDWARE.model_copy(update={"compile": asked})
        trainer, _ = sft_trainer(base_model, tmp_path, rows, params, seed=1, hardware=hardware)
        trainer.train()
        losses.append([step["loss"] for step in trainer.state.log_history if "loss" in step])
    assert len(compiled) == 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_a_model_that_says_otherwise_without_padding_keeps_it_and_that_is_said(
    base_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(padding_free, "TOLERANCE", {"float32": -1.0})
    rows = pl.DataFrame({"instruction": ["Say cat 3 times.", "Name fruits."], "response": ["cat.", "apple pear."]})
    params = load_params(Path(__file__).parents[2]).train_sft
    model = sft_trainer(base_model, tmp_path, rows, params, seed=1, hardware=HARDWARE)[1].model
    assert model.config._attn_implementation == "sdpa"
    assert not model.base_model._forward_hooks
    assert "models of the type llama are trained with padding" in " ".join(capsys.readouterr().err.split())


def test_two_batches_before_one_backward_with_gradient_checkpointing():
    """As replay beside DPO does: what is computed again is computed of its own batch."""
    model = AutoModelForCausalLM.from_config(copy.deepcopy(MODELS["grouped heads"])).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    batches = [batch([[1, 2, 3, 4, 5], [1, 2]]), batch([[5, 4, 3], [2, 3, 4, 5, 6, 7, 8, 9, 1]])]

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        outs = [model(**one, use_cache=False).logits[one["attention_mask"].bool()] for one in batches]
        sum(out.square().mean() for out in outs).backward()
        return [p.grad.clone() for p in model.parameters()]

    padded = gradients()
    PaddingFree(model)
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(padded, gradients(), strict=True))


def test_gradients_are_the_same_bits_whatever_threads_do():
    """Tokens that rows share get the gradients of all of them, added up in one order."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL | {"hidden_size": 64, "head_dim": 16}))
    PaddingFree(model)
    rows = batch([[1] * 40 + [n, *range(2, 50)] for n in range(1, 33)])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = set()
        for _ in range(8):
            model.zero_grad()
            model(**rows, use_cache=False).logits.square().mean().backward()
            seen.add(b"".join(p.grad.numpy().tobytes() for p in model.parameters()))
    finally:
        torch.set_num_threads(threads)
    assert len(seen) == 1
