"""Weights in the order in which oneDNN multiplies them.

torch's float32 product on a CPU reads a matrix as it lies in memory: with the rows of a decode step it reaches half to
nine tenths of what the hardware can. oneDNN lays the matrix out once, in place of the plain one.
"""

from __future__ import annotations

import torch

SMALLEST = 2**18
"""Numbers in a matrix from which packing pays; smaller ones lie in a core's cache anyhow."""
ROWS = 96
"""Rows that the layout is made for; others are computed too."""


class PackedLinear(torch.nn.Linear):
    """A linear layer whose `weight` lies as oneDNN wants it (`to_dense` gives it plain)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


def pack_weights(model: torch.nn.Module) -> None:
    """Pack the plain linear layers of a model on a CPU. A head that shares the embedding's matrix gets its own."""
    dtypes = {torch.float32} if torch.backends.mkldnn.is_available() else set()
    if dtypes and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.add(torch.bfloat16)
    for module in model.modules():
        if type(module) is not torch.nn.Linear or module.weight.numel() < SMALLEST:
            continue
        if module.weight.device.type == "cpu" and module.weight.dtype in dtypes:
            packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), ROWS)
            module.weight = torch.nn.Parameter(packed, requires_grad=False)
            module.__class__ = PackedLinear
