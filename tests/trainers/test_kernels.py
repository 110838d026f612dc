"""hardware.kernels: what Liger's kernels need, and what they replace. What they compute needs a GPU."""

from __future__ import annotations

import sys
from types import MethodType, SimpleNamespace

import pytest
import test_resume as r
import torch
from transformers import AutoModelForCausalLM
from transformers.activations import ACT2FN
from transformers.models.llama import modeling_llama

from stages.config.shared import Adapter
from stages.console.errors import TrainingError
from stages.trainers.kernels import use_kernels

LIGER = r.PARAMS.hardware.model_copy(update={"kernels": "liger", "device": "auto"})


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize("kind", r.KINDS)
@pytest.mark.parametrize(("device", "seen"), [("cpu", "hardware.device is cpu"), ("auto", "torch sees none")])
def test_without_a_gpu_a_training_is_refused(kind, device, seen, base_model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, params, rows, make = r.KINDS[kind]
    machine = LIGER.model_copy(update={"device": device, "threads": 1})
    with pytest.raises(TrainingError, match=f"liger needs a CUDA device, and {seen}. Set it to null"):
        make(base_model, tmp_path, rows, params, seed=1, hardware=machine)


def test_a_package_that_is_not_there_is_named(cuda, base_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    with pytest.raises(
        TrainingError, match=r"needs liger-kernel. Type: pip install -c constraints.txt -e '.\[liger\]'"
    ):
        use_kernels(AutoModelForCausalLM.from_pretrained(base_model), LIGER)


@pytest.mark.parametrize("adapted", [False, True])
def test_layers_are_liger_s_and_the_head_is_not(cuda, base_model, tmp_path, monkeypatch, adapted):
    pytest.importorskip("liger_kernel")
    _, params, rows, make = r.KINDS["sft"]
    params = params.model_copy(update={"adapter": Adapter(r=4, alpha=8) if adapted else None})
    _, ready = make(base_model, tmp_path, rows, params, seed=1, hardware=r.CPU)
    model = ready.model.get_base_model() if adapted else ready.model
    head, shared = model.forward, dict(vars(modeling_llama))
    use_kernels(ready.model, LIGER)
    layer = model.model.layers[0]
    places = (layer.input_layernorm, layer.post_attention_layernorm, model.model.norm, layer.mlp)
    assert all(place.forward.__func__.__module__.startswith("liger_kernel") for place in places)
    assert model.forward == head
    assert vars(modeling_llama) == shared
    monkeypatch.setattr(model.config, "model_type", "none")
    with pytest.raises(TrainingError, match="Liger has none for models of the type none"):
        use_kernels(ready.model, LIGER)


def test_another_model_of_the_process_is_torch_s(cuda, base_model, monkeypatch):
    """One that answers after the training, when a model is chosen: its texts are cached as the plain engine's. A Liger
    that patches what the real one does, which needs triton."""

    def patch(model, **asked):
        wrong = SimpleNamespace(forward=lambda self, x, *more: x * 0)
        parts = {"LlamaRMSNorm": [model.model.norm], "LlamaMLP": [layer.mlp for layer in model.model.layers]}
        for name, places in parts.items():
            kind = getattr(modeling_llama, name)
            monkeypatch.setattr(modeling_llama, name, type(name, (kind,), {"forward": wrong.forward}))
            for place in places:
                place.forward = MethodType(wrong.forward, place)
        if asked.get("rope", True):
            monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, *more: (q, k))
        monkeypatch.setitem(ACT2FN, "silu", torch.nn.Identity)

    liger = SimpleNamespace(_apply_liger_kernel_to_instance=patch)
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace(transformers=liger))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", liger)
    families = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": patch})
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", families)
    ids = torch.arange(12)[None]

    def logits(model):
        with torch.no_grad():
            return model(ids).logits

    plain = logits(AutoModelForCausalLM.from_pretrained(base_model))
    use_kernels(trained := AutoModelForCausalLM.from_pretrained(base_model), LIGER)
    assert not logits(trained).any()
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(base_model)), plain)
