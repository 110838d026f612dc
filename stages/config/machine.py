"""Section of params.yaml about the machine: what changes speed and no text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.config.engines import EngineParams, EnvPrefix
from stages.config.shared import Count, Positive, Section, Share


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
    """By `engine.env_prefix`: of a role that has a server of its own, used instead of `server`. It need not be
    written."""

    def server_of(self, engine: EngineParams) -> tuple[str, Server]:
        """How the server of `engine` is asked, with the name of the section that says so."""
        own = self.servers.get(engine.env_prefix)
        return (f"hardware.servers.{engine.env_prefix}", own) if own else ("hardware.server", self.server)
