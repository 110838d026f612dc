"""What sections of params.yaml share: strictness, the kinds of numbers, and the groups of keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MODEL_NAME = r"^[A-Za-z][A-Za-z0-9_.-]*$"

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=MODEL_NAME)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Decoding(Section):
    temperature: Annotated[float, Field(ge=0)]
    """0 is greedy."""
    top_p: Share
    max_tokens: Count


class Training(Section):
    epochs: Count
    lr: Positive
    lr_end: Annotated[float, Field(ge=0)]
    """Where the cosine decay ends (paper: SFT 5.5e-6 to 1.1e-6, DPO 1e-6 to 1e-7)."""
    batch: Count
    micro_batch: Count
    """Rows per device per forward; `batch` is reached by accumulation. It changes floating point, so it is tracked."""
    warmup_steps: Annotated[int, Field(ge=0)]
    max_length: Count
    """Longer rows are left out and counted, never cut."""
    dropout: Fraction
    dtype: Literal["float32", "bfloat16"]
    gradient_checkpointing: bool
