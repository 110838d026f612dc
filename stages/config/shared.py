"""What sections of params.yaml share: strictness, the kinds of numbers and names, and the groups of keys.

The line under a key is its documentation: there is no other.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MODEL_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"

Count = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[int, Field(ge=0, le=10**9)]
"""A count that may be 0."""
Tries = Annotated[int, Field(ge=1, le=1000)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Name = Annotated[
    str,
    Field(
        pattern=MODEL_NAME,
        description="a name of letters, digits, _ and -, beginning with a letter (a dot is a path to DVC)",
    ),
]
"""Of a model, a match or a mapping's entry. It becomes a file's name and a part of DVC's stage names."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Decoding(Section):
    temperature: Temperature
    """Of sampling; 0 is greedy, which makes all answers to one prompt the same."""
    top_p: Share
    """Nucleus sampling: only the likeliest tokens that add up to this share of probability are drawn; 1 draws from
    all."""
    max_tokens: Count
    """Longest text, in tokens of the model; what is longer is cut off and says so (`finish_reason` length)."""


class Training(Section):
    epochs: Annotated[int, Field(ge=1, le=1000)]
    """Passes over the rows."""
    lr: Rate
    """Highest learning rate, after the warm-up."""
    lr_end: Annotated[float, Field(ge=0, lt=1)]
    """Where the cosine decay ends, at most `lr` (paper: SFT 5.5e-6 to 1.1e-6, DPO 1e-6 to 1e-7)."""
    batch: Count
    """Rows per optimizer step, over all devices; a multiple of `micro_batch`."""
    micro_batch: Count
    """Rows per device per forward; `batch` is reached by accumulation. It changes floating point, so it is tracked."""
    warmup_steps: Number
    """Steps in which the rate rises to `lr`; of a short run at most half."""
    max_length: Annotated[int, Field(ge=8, le=10**9)]
    """Tokens of prompt and answer together; longer rows are left out and counted, never cut."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of activations that are zeroed in training."""
    dtype: Literal["float32", "bfloat16"]
    """Of the forward and backward passes; trained models are saved in float32."""
    gradient_checkpointing: bool
    """Compute activations again instead of keeping them: less memory, about a third more time."""
