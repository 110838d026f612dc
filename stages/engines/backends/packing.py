"""Weights in the order in which oneDNN multiplies them.

torch's float32 product on a CPU reads a matrix as it lies in memory: with the rows of a decode step it reaches half to
nine tenths of what the hardware can. oneDNN lays the matrix out once, and a row's sums then hardly depend on how many
rows stand beside it.
"""

from __future__ import annotations

from functools import partial

import torch

SMALLEST = 2**18
"""Numbers in a matrix from which packing pays; smaller ones lie in a core's cache anyhow."""
LARGEST = 2**30
"""Numbers in a model to which packing goes: the plain weights stay beside the packed ones."""
ROWS = 96
"""Rows that the layout is made for; others are computed too."""


def pack_weights(model: torch.nn.Module) -> None:
    """Let the plain linear layers of a model on a CPU use packed copies of their weights."""
    dtypes = {torch.float32} if torch.backends.mkldnn.is_available() else set()
    if dtypes and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.add(torch.bfloat16)
    if sum(weight.numel() for weight in model.parameters()) > LARGEST:
        return
    for module in model.modules():
        if type(module) is not torch.nn.Linear or module.weight.numel() < SMALLEST:
            continue
        if module.weight.device.type == "cpu" and module.weight.dtype in dtypes:
            packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), ROWS)
            module.forward = partial(_multiply, packed, module.bias)


def _multiply(weight: torch.Tensor, bias: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return product
