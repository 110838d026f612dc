"""Decoding without copies: a cache of keys and values with room to grow, and attention that reads grouped heads as they
are.

transformers' own cache concatenates every key and value anew at each step, and its attention repeats them for every
query head where padding needs a mask: on a CPU that was three quarters of the decoding time of a model of 135 M
parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_grouped"
BLOCK = 64
"""Tokens that a cache grows by."""


class BlockLayer(DynamicLayer):
    """Keys and values [rows, heads, tokens, width], views of buffers that are copied once in BLOCK tokens instead of at
    every token."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = _append(self.keys, key_states), _append(self.values, value_states)
        return self.keys, self.values


def _append(states: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    """`new` [rows, heads, tokens, width] behind `states`, which is the beginning of its buffer. Whoever puts other
    tensors into a layer (rows repeated, tokens cropped) puts in such a beginning, with or without room behind it."""
    rows, heads, count, width = new.shape
    states = new.new_empty(0) if states is None else states
    length = states.shape[-2] if states.numel() else 0
    room = states.untyped_storage().nbytes() // max(1, states.element_size() * rows * heads * width)
    if length + count > room:
        room = -(-(length + count + BLOCK) // BLOCK) * BLOCK
        buffer = new.new_empty((rows, heads, room, width))
        if length:
            buffer[:, :, :length] = states
    else:
        buffer = states.as_strided((rows, heads, room, width), (heads * room * width, room * width, width, 1), 0)
    buffer[:, :, length : length + count] = new
    return buffer[:, :, : length + count]


def new_cache(model: PreTrainedModel) -> Cache | None:
    """An empty cache for the model; None where a layer keeps more than keys and values (recurrent and hybrid models),
    which is not what `batch_repeat_interleave` repeats."""
    cache = DynamicCache(config=model.config)
    kinds = {type(layer) for layer in cache.layers}
    if not kinds or kinds - {DynamicLayer, DynamicSlidingWindowLayer} or getattr(model, "_is_stateful", False):
        return None
    cache.layers = [BlockLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def group_heads(model: PreTrainedModel) -> None:
    """Let the model read its grouped heads as they are, where it would use transformers' `sdpa`."""
    if model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' `sdpa`; where one token is decoded, the query heads that share a key head stand as if they were as
    many tokens, so that nothing is repeated."""
    rows, heads, count, width = query.shape
    kv_heads = key.shape[1]
    of_each_head = attention_mask is not None and attention_mask.shape[1] > 1
    if count > 1 or heads == kv_heads or of_each_head or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    grouped = query.reshape(rows, kv_heads, heads // kv_heads, width)
    out = torch.nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return out.reshape(rows, 1, heads, -1), None


AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
