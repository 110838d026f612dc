"""Packed weights multiply as plain ones do."""

from __future__ import annotations

import pytest
import torch

from stages.engines.backends.packing import SMALLEST, PackedLinear, pack_weights
from stages.engines.sampling import explain_nonfinite_logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_packed_layers_give_the_same_products(dtype, bias):
    torch.manual_seed(0)
    close = 2e-2 if dtype == torch.bfloat16 else 1e-4  # a bias is added before rounding or after
    near = {"rtol": close, "atol": close}
    layer = torch.nn.Linear(576, SMALLEST // 576 + 1, bias=bias, dtype=dtype)
    states = torch.randn(2, 48, 576, dtype=dtype)[:, ::3]
    plain, numbers = layer(states), layer.weight.numel()
    pack_weights(torch.nn.Sequential(layer))
    torch.testing.assert_close(layer(states), plain, **near)
    if dtype == torch.float32 and torch.backends.mkldnn.is_available():
        assert isinstance(layer, PackedLinear)
        assert layer.weight.numel() == numbers
    alone = torch.cat([layer(states[:, i : i + 2]) for i in range(0, 16, 2)], 1)
    torch.testing.assert_close(alone, layer(states), **near)


def test_small_layers_and_other_classes_are_left_alone():
    class Own(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(torch.nn.Linear(192, 512), Own(1024, 1024))
    pack_weights(model)
    assert [type(module) for module in model] == [torch.nn.Linear, Own]


def test_a_packed_weight_that_is_no_number_is_found():
    layer = torch.nn.Linear(1024, 1024, dtype=torch.bfloat16)
    model = torch.nn.Sequential(layer)
    pack_weights(model)
    assert "its weights are finite" in explain_nonfinite_logits(model)
    layer = torch.nn.Linear(1024, 1024, dtype=torch.bfloat16)
    layer.weight.data[7, 7] = torch.nan
    model = torch.nn.Sequential(layer)
    pack_weights(model)
    assert "its weights hold NaN" in explain_nonfinite_logits(model)


def test_a_tied_embedding_stays_plain():
    model = torch.nn.Sequential(torch.nn.Embedding(1024, 256), torch.nn.Linear(256, 1024, bias=False))
    model[1].weight = model[0].weight
    plain = model(ids := torch.tensor([[3, 1023]]))
    pack_weights(model)
    torch.testing.assert_close(model(ids), plain)
