"""What sections of params.yaml share: strictness, the kinds of numbers and names, and the groups of keys.

The line under a key is its documentation: there is no other.
"""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MODEL_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"


def matches(pattern: str, kind: str) -> AfterValidator:
    """Refuses other names, and says the nearest that could be used."""

    def check(name: str) -> str:
        if not re.fullmatch(pattern, name):
            near = re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("0123456789_-")[:64].rstrip("_")
            usable = [one for one in (near, near.upper().replace("-", "_")) if re.fullmatch(pattern, one)]
            seen = json.dumps(name, ensure_ascii=False)
            raise ValueError(f"expected {kind}, seen {seen}" + (f". Use {usable[0]}" if usable else ""))
        return name

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[int, Field(ge=0, le=10**9)]
"""A count that may be 0."""
Tokens = Annotated[int, Field(ge=8, le=10**9)]
"""Room for a judgement's score line, or a prompt of four words."""
Tries = Annotated[int, Field(ge=1, le=1000)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=1e-9, le=0.1)]


def _not_nearly_greedy(temperature: float) -> float:
    if 0 < temperature < 0.01:
        raise ValueError(f"expected 0 (greedy) or at least 0.01, seen {temperature:g}: logits divided by it overflow")
    return temperature


def _is_a_day(day: str) -> str:
    try:
        date.fromisoformat(day)
    except ValueError:
        raise ValueError(f"expected a day as '2026-01-31', seen {day!r}") from None
    return day


Day = Annotated[str, AfterValidator(_is_a_day)]
Temperature = Annotated[float, Field(ge=0, le=2), AfterValidator(_not_nearly_greedy)]
Name = Annotated[
    str,
    matches(MODEL_NAME, "a name of letters, digits, _ and -, beginning with a letter (a dot is a path to DVC)"),
]
"""Of a model, a match or a mapping's entry. It becomes a file's name and a part of DVC's stage names."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Source(Section):
    """Where something comes from. A Hub repository is pinned, so that a run can be repeated."""

    source: str
    """Who has it."""
    repo: str | None
    """ORG/NAME on the Hub; null for other sources."""
    revision: str | None
    """A commit hash or tag of it."""

    @model_validator(mode="after")
    def _is_pinned(self) -> Source:
        if self.source == "hub" and not (self.repo and self.revision):
            raise ValueError("source hub needs repo and revision (a commit hash or tag), so that a run can be repeated")
        if self.source == "server" and not self.repo:
            raise ValueError("source server needs repo, the name that the server gives the model")
        if self.source not in ("hub", "server") and (self.repo or self.revision):
            seen = self.repo or self.revision
            raise ValueError(f"source {self.source} reads no repo, seen {seen}. Set source to hub, or both to null")
        if self.source == "hub" and re.search(r"://|\s", str(self.repo)):
            raise ValueError(f"repo is a name on the Hub, ORG/NAME, seen {self.repo}")
        return self


class Decoding(Section):
    temperature: Temperature
    """Of sampling; 0 is greedy, which makes all answers to one prompt the same."""
    top_p: Annotated[float, Field(ge=0.001, le=1)]
    """Nucleus sampling: only the likeliest tokens that add up to this share of probability are drawn; 1 draws from
    all."""
    max_tokens: Tokens
    """Longest text, in tokens of the model; what is longer is cut off and says so (`finish_reason` length)."""


class Adapter(Section):
    """LoRA: small matrices are trained over weights that stay as they are."""

    r: Annotated[int, Field(ge=1, le=4096)]
    """Rank: inner size of the matrices. vLLM generates with up to 512."""
    alpha: Positive
    """What the matrices give is scaled by alpha / r."""
    dropout: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Share of the adapter's inputs that are zeroed in training."""
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """Which of the model's linear layers get one: all but the output layer, or by name: [q_proj, v_proj]."""
    quantize: Literal["nf4"] | None = None
    """Hold the frozen weights in 4 bits while training (QLoRA; CUDA, the extra qlora); what is saved is not
    quantized."""
    save: Literal["merge", "keep"] = "merge"
    """`merge`: into the weights, so that the new model is like any other. `keep`: the weights stay those trained over,
    with the adapter in the folder `adapter/` beside them."""
    parent_adapter: Literal["continue", "stack"] = "continue"
    """Where training starts from a model with an adapter: train that one on, or a new one over both; saved by `keep`,
    both become one of the ranks' sum."""


class Training(Section):
    epochs: Annotated[int, Field(ge=1, le=1000)]
    """Passes over the rows."""
    lr: Rate
    """Highest learning rate, after the warm-up."""
    lr_end: Annotated[float, Field(ge=0, le=0.1)]
    """Where the cosine decay ends, at most `lr` (paper: SFT 5.5e-6 to 1.1e-6, DPO 1e-6 to 1e-7)."""
    batch: Annotated[int, Field(ge=1, le=10**6)]
    """Rows per optimizer step, over all devices; a multiple of `micro_batch`."""
    micro_batch: Annotated[int, Field(ge=1, le=10**6)]
    """Rows per device per forward; `batch` is reached by accumulation. It changes floating point, so it is tracked."""
    warmup_steps: Number
    """Steps in which the rate rises to `lr`; of a short run at most half."""
    max_length: Annotated[int, Field(ge=8, le=10**9)]
    """Tokens of prompt and answer together; longer rows are left out and counted, never cut."""
    dropout: Annotated[float, Field(ge=0, le=0.9)]
    """Share of activations that are zeroed in training."""
    dtype: Literal["float32", "bfloat16", "bfloat16_weights"]
    """Of the forward and backward passes; trained models are saved in float32. `bfloat16`: autocast over float32
    weights. `bfloat16_weights`: weights and gradients too, over masters in float32 that AdamW moves; a model that came
    in bfloat16 is saved in it."""
    gradient_checkpointing: bool
    """Compute activations again instead of keeping them: less memory, about a third more time."""
    adapter: Adapter | None = None
    """Train a LoRA adapter: {r: 16, alpha: 32}; null trains every weight."""
