"""FLOPs and bytes of a model, and what cards can do: one convention for progress, `srlm plan` and benchmarks.

A token that is trained costs 6 N FLOPs (4 N under LoRA), one that is read or written 2 N, where N are the parameters
that it is multiplied with: the input embedding only where it is the output's too, of experts those that are asked.
Attention costs 12 (LoRA: 8, read or written: 4) * layers * width of the heads * the tokens attended to: a causal text
of L tokens has a mean context of (L + 1) / 2. Padding, a reference's forward and what gradient checkpointing computes
again (a third more) take time and are no useful FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

TRAINED, ADAPTED, READ = 3, 2, 1
"""Passes over the weights: forward, and twice as much backward; backward through weights that stay as they are (LoRA);
forward alone."""
BYTES = {"float32": 4, "bfloat16": 2, "bfloat16_weights": 2, "float16": 2}
TRAINED_BYTES = 16
"""Of a parameter in training: float32 weights 4, gradient 4, and AdamW's two moments 8."""


class Shape(NamedTuple):
    """A causal language model, as its costs go."""

    parameters: int
    multiplied: int
    """Parameters that each token is multiplied with: N."""
    layers: int
    hidden: int
    width: int
    """Of all heads together."""
    kv_width: int
    """Of the heads that keys, and values, have."""
    vocabulary: int

    def flops(self, tokens: float, context: float, passes: int = TRAINED) -> float:
        """Of `tokens` that attend to `context` tokens in sum."""
        return passes * (2 * self.multiplied * tokens + 4 * self.layers * self.width * context)

    def kv_bytes(self, dtype: str) -> int:
        """Of one token in the cache of keys and values."""
        return 2 * self.layers * self.kv_width * BYTES[dtype]

    def training_bytes(
        self, tokens: int, *, dtype: str, checkpointing: bool, rank: int | None = None, four_bit: bool = False
    ) -> int:
        """At most, about, in a step over `tokens` on one device: weights, gradients and moments; a copy of the weights
        in bfloat16; what each layer keeps for its gradient (about 18 vectors, or its input alone); logits, their
        softmax and its gradient in float32. With LoRA of a `rank` the gradients and moments are those of matrices
        beside each linear layer, and the weights, in `dtype`, may be in 4 bits."""
        kept = self.layers * (1 if checkpointing else 18) + 18 * checkpointing
        logits = 3 * self.vocabulary * 4
        cast = 0 if dtype == "float32" else BYTES[dtype]
        adapter = 22 * self.layers * self.hidden * (rank or 0)
        frozen = 0.5 if four_bit else BYTES[dtype]
        weights = (TRAINED_BYTES + cast) * self.parameters
        if rank:
            weights = round(frozen * self.parameters) + TRAINED_BYTES * adapter
        return weights + tokens * (kept * self.hidden * BYTES[dtype] + logits)


def causal(lengths: Iterable[int]) -> int:
    """Tokens attended to, in sum, in texts of so many tokens."""
    return sum(length * (length + 1) // 2 for length in lengths)


def continued(read: float, written: float) -> float:
    """Tokens attended to, in sum, where `written` tokens continue `read` ones."""
    return read * (read + 1) / 2 + written * (read + (written + 1) / 2)


def shape_of(config: Mapping[str, Any], parameters: int | None = None) -> Shape | None:
    """From a config.json of transformers, or None where it says too little. `parameters`: counted, where they are;
    else those of gated layers without biases, as Llama, Qwen and Mistral have."""
    text: Any = config.get("text_config") or config

    def number(*names: str, default: int | None = None) -> int | None:
        value = next((text[name] for name in names if type(text.get(name)) is int and text[name] > 0), default)
        return value

    hidden, layers = number("hidden_size", "n_embd", "d_model"), number("num_hidden_layers", "n_layer")
    heads, vocabulary = number("num_attention_heads", "n_head"), number("vocab_size")
    if not (hidden and layers and heads and vocabulary):
        return None
    inner = number("moe_intermediate_size", "intermediate_size", "n_inner", default=4 * hidden) or 0
    head = number("head_dim", default=hidden // heads) or 0
    width, kv_width = heads * head, (number("num_key_value_heads", default=heads) or heads) * head
    experts = number("num_local_experts", "num_experts", default=1) or 1
    asked = min(experts, number("num_experts_per_tok", default=1) or 1)
    embedding = vocabulary * hidden
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))
    one = 3 * hidden * inner
    router = experts * hidden if experts > 1 else 0
    layer = hidden * (2 * width + 2 * kv_width) + experts * one + router + 2 * hidden
    count = parameters or layers * layer + embedding * (1 if tied else 2) + hidden
    multiplied = count - layers * (experts - asked) * one - (0 if tied else embedding)
    return Shape(count, max(multiplied, 1), layers, hidden, width, kv_width, vocabulary)


def shape_like(parameters: float) -> Shape:
    """A usual model of so many parameters of which no config is at hand: its width 128 times its depth, keys and values
    of an eighth of the heads, 32 k words, the output apart from the input."""
    layers = max(2, round((parameters / (12 * 128**2)) ** (1 / 3)))
    hidden, vocabulary = 128 * layers, 32_000
    multiplied = int(max(parameters - vocabulary * hidden, 0.9 * parameters))
    return Shape(int(parameters), multiplied, layers, hidden, hidden, max(128, hidden // 8), vocabulary)


class Card(NamedTuple):
    """A GPU, by its maker's data sheet: dense operations a second, bytes a second, bytes."""

    name: str
    bfloat16: float
    float32: float
    """Of its plain cores; on its tensor cores (TF32) it is half of bfloat16."""
    bandwidth: float
    memory: float

    def peak(self, dtype: str, *, tf32: bool = False) -> float:
        return self.bfloat16 / 2 if dtype == "float32" and tf32 else getattr(self, dtype, self.bfloat16)


CARDS = tuple(
    Card(name, bf16 * 1e12, fp32 * 1e12, bandwidth * 1e12, memory * 1e9)
    for name, bf16, fp32, bandwidth, memory in (
        ("B200", 2250, 75, 8.0, 180),
        ("H200", 989, 67, 4.8, 141),
        ("H100 NVL", 835, 60, 3.9, 94),
        ("H100 PCIe", 756, 51, 2.0, 80),
        ("H100", 989, 67, 3.35, 80),
        ("A100", 312, 19.5, 2.0, 80),
        ("L40S", 362, 91.6, 0.864, 48),
        ("L4", 121, 30.3, 0.3, 24),
        ("RTX 4090", 165, 82.6, 1.008, 24),
        ("MI300X", 1307, 163, 5.3, 192),
    )
)


def card_of(name: str) -> Card | None:
    """The card that torch, or a user, calls `name` (NVIDIA H100 80GB HBM3); None where it is not known: no peak is
    guessed, nor that of a CPU."""
    words = name.upper().replace("-", " ").split()
    spelled = f" {' '.join(words)} "
    return next((card for card in CARDS if f" {card.name.upper()} " in spelled), None)
