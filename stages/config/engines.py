"""Section of params.yaml that says what texts are generated with, and which engine does the work."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.config.shared import Count, Section, matches

EnvPrefix = Annotated[
    str, matches("^[A-Z][A-Z0-9_]{0,63}$", "a name of capital letters, digits and _, beginning with a letter")
]


class EngineParams(Section):
    name: Literal["transformers", "vllm", "ray", "openai", "scripted"]
    """`transformers`: here, on CPU or GPU. `vllm`: GPUs of this machine. `ray`: many workers. `openai`: an
    OpenAI-compatible server. `scripted`: texts from a hash, to try the pipeline."""
    inner: Literal["transformers", "vllm", "scripted"]
    """The engine in each Ray worker; for the name `ray` only."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Of the weights when texts are generated."""
    quantization: str | None
    """vLLM's name of a quantization method, as fp8 or awq; null: as the weights are. For vLLM only."""
    max_context: Annotated[int, Field(ge=16, le=10**9)]
    """Tokens of prompt and answer together."""
    max_batch_tokens: Count
    """Tokens that are decoded together, prompts and the room for their answers. Floating-point sums depend on it, so it
    is tracked, not under `hardware`."""
    requests_per_block: Count
    """Requests that are handed to a Ray worker at a time."""
    env_prefix: EnvPrefix
    """Of the variables that hold a server's address and key: OPENAI says OPENAI_BASE_URL and OPENAI_API_KEY. For the
    name `openai` only."""

    @property
    def worker(self) -> str:
        """The engine that does the work, where another hands it out."""
        return self.inner if self.name == "ray" else self.name
