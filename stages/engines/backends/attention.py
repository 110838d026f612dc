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
BLOCK = 16
"""Tokens that a cache grows by."""
READ_AT_ONCE = 2**22
"""Numbers in the hidden states of prompts that are read together: rows x tokens x hidden size."""


class BlockLayer(DynamicLayer):
    """Keys and values [rows, heads, room, width], copied once in BLOCK tokens instead of at every token.

    Attention reads the room behind the newest token, too, and the mask leaves it out: what is read without gaps is read
    twice as fast (heads of 20 numbers on an AMD EPYC)."""

    is_croppable = False

    def __init__(self) -> None:
        super().__init__()
        self.cumulative_length = 0  # the name that `reset` knows

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length, room = self.cumulative_length, self._room(key_states.shape[-2])
        self.keys, self.values = (
            _put(self.keys, key_states, length, room),
            _put(self.values, value_states, length, room),
        )
        self.cumulative_length += key_states.shape[-2]
        return self.keys, self.values

    def put_rows(self, first: int, of: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """What some rows have read becomes the rows from `first` on, of `of` in all; the first rows come first."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(keys, values)
            self.keys, self.values = (x.new_empty((of, *x.shape[1:])) for x in (keys, values))
            self.cumulative_length = keys.shape[-2]
        self.keys[first : first + len(keys)], self.values[first : first + len(keys)] = keys, values

    def _room(self, count: int) -> int:
        """Tokens that the buffers have room for once `count` more are in; a prompt has what it needs."""
        length = self.cumulative_length + count
        room = length if self.keys is None or not self.cumulative_length else self.keys.shape[-2]
        return room if length <= room else -(-length // BLOCK) * BLOCK

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._room(query_length), 0

    def get_seq_length(self) -> int:
        return self.cumulative_length


def _put(buffer: torch.Tensor | None, new: torch.Tensor, length: int, room: int) -> torch.Tensor:
    """`new` [rows, heads, tokens, width] behind the first `length` tokens of the buffer, or of a larger one."""
    if buffer is None or not length:
        return new.contiguous()
    if buffer.shape[-2] < room:
        buffer = torch.nn.functional.pad(buffer[:, :, :length], (0, 0, 0, room - length))
    buffer[:, :, length : length + new.shape[-2]] = new
    return buffer


def new_cache(model: PreTrainedModel) -> Cache | None:
    """An empty cache for the model; None where a layer keeps more than keys and values (recurrent and hybrid models),
    which is not what `batch_repeat_interleave` repeats. Only attention that takes transformers' masks may see room."""
    cache = DynamicCache(config=model.config)
    kinds = {type(layer) for layer in cache.layers}
    if not kinds or kinds - {DynamicLayer, DynamicSlidingWindowLayer} or getattr(model, "_is_stateful", False):
        return None
    if model.config._attn_implementation == NAME:
        cache.layers = [BlockLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def read(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, cache: Cache) -> None:
    """Keys and values of prompts [rows, tokens] into an empty cache, some rows at a time: what the layers compute on
    the way takes more memory than what is kept, and leaves holes in it."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    layers = [layer for layer in cache.layers if isinstance(layer, BlockLayer)]
    each = rows_at_once(model, ids.shape[1]) if len(layers) == len(cache.layers) else len(ids)
    for first in range(0, len(ids), each):
        some = slice(first, first + each)
        part: Any = cache if len(ids) <= each else DynamicCache(config=model.config)
        model.base_model(
            ids[some], attention_mask=mask[some], position_ids=positions[some], past_key_values=part, use_cache=True
        )
        if part is not cache:
            for layer, done in zip(layers, part.layers, strict=True):
                layer.put_rows(first, len(ids), done.keys, done.values)


def rows_at_once(model: PreTrainedModel, tokens: int) -> int:
    """How many prompts of so many tokens are read together."""
    return max(1, READ_AT_ONCE // (model.config.get_text_config().hidden_size * tokens))


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


def mask_room(
    *, q_length: int, kv_length: int, q_offset: int, kv_offset: int, allow_is_causal_skip: bool, **kwargs: Any
) -> torch.Tensor | None:
    """transformers' mask for `sdpa`, which is left out where nothing is padded and there is no room to be hidden."""
    mask: torch.Tensor | None = sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        allow_is_causal_skip=allow_is_causal_skip and kv_offset + kv_length <= q_offset + q_length,
        **kwargs,
    )
    return mask


AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, mask_room)
