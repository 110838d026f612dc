"""Section of params.yaml about the machine: what changes speed and no text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.config.engines import EngineParams, EnvPrefix
from stages.config.shared import Count, NotNegative, Positive, Section, Share

ACCELERATE = Path(__file__).parent / "accelerate"
"""Configs of `accelerate launch`, by name."""


class Server(Section):
    """How an OpenAI-compatible server is asked. Its address and key are in the environment (`engine.env_prefix`)."""

    at_once: Annotated[int, Field(ge=1, le=10_000)]
    """Most requests on their way at a time. How many there are follows what the server bears: up to 8 at first, more
    while that makes it faster, fewer when it refuses, breaks or keeps silent."""
    timeout_s: Positive
    """Longest wait for a whole answer, in seconds."""
    attempts: Annotated[int, Field(ge=1, le=100)]
    """Tries of one request when the server is busy, broken or silent, with growing pauses between them."""
    usd_per_million_prompt_tokens: NotNegative | None
    """Price of what is sent, so that a stage can say what it cost; null: unknown."""
    usd_per_million_completion_tokens: NotNegative | None
    """Price of what comes back; null: unknown."""


class Hardware(Section):
    """Tracked by no stage: a change here makes nothing anew."""

    device: Literal["auto", "cpu", "cuda"]
    """`auto` is the GPU where there is one."""
    threads: Annotated[int, Field(ge=0, le=4096)]
    """CPU threads of torch; 0 = all cores. Recorded in lineage."""
    gpu_memory: Share
    """Share of a GPU's memory that vLLM takes."""
    tensor_parallel: Count
    """GPUs that one model is spread over (vLLM)."""
    compile: bool
    """Train with layers fused by torch.compile: a minute before the first step, and then faster on a GPU (not on a
    CPU)."""
    kernels: Literal["liger"] | None = None
    """Train with Liger's kernels for norms and gated layers (CUDA, the extra liger); null: torch's own."""
    save_every_s: NotNegative | None
    """Seconds of training after which a checkpoint is saved, so that a killed training loses no more; 0: after each
    step, null: none. A checkpoint takes three times the weights in float32; the last one is kept until the model is
    trained."""
    report_to: Literal["tensorboard", "trackio", "wandb"] | None
    """Tracker that a training reports to beside our log and plots (an extra of the same name): tensorboard and trackio
    write into data/logs, wandb sends to its server unless WANDB_MODE is offline; null: none."""
    launch: str | None = None
    """Train on several processes of this machine, which `accelerate` starts, one for each GPU: `ddp`, `fsdp2`, `zero3`,
    or a config of your own, a path that ends in .yaml. A step has `batch` rows however many there are.
    null: one process, on one device."""
    workers: Count
    """Data parallel: copies of the model, each with GPUs of its own (Ray)."""
    server: Server
    """How a server is asked."""
    servers: dict[EnvPrefix, Server] = Field(default_factory=dict)
    """By `engine.env_prefix`: of a role that has a server of its own, used instead of `server`. It need not be
    written."""

    @field_validator("launch")
    @classmethod
    def _is_a_config(cls, launch: str | None) -> str | None:
        if launch and not launch.endswith(".yaml") and not (ACCELERATE / f"{launch}.yaml").is_file():
            names = ", ".join(sorted(file.stem for file in ACCELERATE.glob("*.yaml")))
            raise ValueError(f"expected {names}, or a path that ends in .yaml, seen {launch}")
        return launch

    def within(self, root: Path) -> Hardware:
        """The same, with the path of a `launch` of your own, which begins in the project's folder, from here."""
        own = self.launch if self.launch and self.launch.endswith(".yaml") else None
        return self.model_copy(update={"launch": str(root / own)}) if own else self

    @property
    def launch_config(self) -> Path:
        """File of `launch`, which is not null."""
        name = str(self.launch)
        return Path(name) if name.endswith(".yaml") else ACCELERATE / f"{name}.yaml"

    def server_of(self, engine: EngineParams) -> tuple[str, Server]:
        """How the server of `engine` is asked, with the name of the section that says so."""
        own = self.servers.get(engine.env_prefix)
        return (f"hardware.servers.{engine.env_prefix}", own) if own else ("hardware.server", self.server)
