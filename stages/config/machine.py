"""Sections of params.yaml that say what texts are generated with: an engine, the machine under it, a server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.config.shared import Count, Positive, Section, Share

EnvPrefix = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]


class EngineParams(Section):
    name: Literal["transformers", "vllm", "ray", "openai", "scripted"]
    inner: Literal["transformers", "vllm", "scripted"]
    """The engine in each Ray worker; for the name `ray` only."""
    dtype: Literal["float32", "bfloat16", "float16"]
    quantization: str | None
    """vLLM's name of a quantization method, as fp8 or awq; null: as the weights are. For vLLM only."""
    max_context: Count
    """Tokens of prompt and answer together."""
    chunk: Count
    """Tokens that are decoded together, prompts and the room for their answers. Floating-point sums depend on it, so it is tracked, not under `hardware`."""
    block: Count
    """Requests that are handed to a Ray worker at a time."""
    env_prefix: EnvPrefix
    """Of the variables that hold a server's address and key: OPENAI says OPENAI_BASE_URL and OPENAI_API_KEY. For the name `openai` only."""


class Server(Section):
    """How an OpenAI-compatible server is asked. Its address and key are in the environment (`engine.env_prefix`)."""

    at_once: Count
    """Requests on their way at a time."""
    timeout_s: Positive
    """Longest wait for a whole answer."""
    attempts: Count
    """Tries of one request when the server is busy, broken or silent, with growing pauses between them."""
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] | None
    usd_per_million_completion_tokens: Annotated[float, Field(ge=0)] | None
    """Prices, so that a stage can say what it cost; null: not known."""


class Hardware(Section):
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=0)]
    """CPU threads of torch; 0 = all cores. Recorded in lineage."""
    gpu_memory: Share
    """Share of a GPU's memory that vLLM takes."""
    tensor_parallel: Count
    """GPUs that one model is spread over (vLLM)."""
    workers: Count
    """Data parallel: copies of the model, each with GPUs of its own (Ray)."""
    server: Server
    servers: dict[EnvPrefix, Server] = Field(default_factory=dict)
    """By `engine.env_prefix`: of a role that has a server of its own, used instead of `server`. It need not be written."""

    def server_of(self, engine: EngineParams) -> tuple[str, Server]:
        """How the server of `engine` is asked, with the name of the section that says so."""
        own = self.servers.get(engine.env_prefix)
        return (f"hardware.servers.{engine.env_prefix}", own) if own else ("hardware.server", self.server)
