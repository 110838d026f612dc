"""Texts from many copies of a model, on many GPUs and nodes: any other engine in the actors of a Ray cluster.

Requests are cut into blocks of `engine.requests_per_block` in the order given. `hardware.workers` actors, each with the
engine `engine.inner` and `hardware.threads` of its own, take one block after another, and what is finished comes back
at once. They live as long as the stage, so each loads the model once. For a worker that dies another is started, where
there is room, and its block is written again. With RAY_ADDRESS set that cluster is joined, else a Ray of this machine
is started. Every node must see the model's folder under the same path and have the packages; our own code is sent to
it. How to set up a cluster: docs/ray.md.

Guarantee: that of the engine in the workers, given a block instead of all requests. What is decoded together follows
from the requests and `engine.requests_per_block`, a tracked parameter: not from how many workers there are, which of
them wrote a block, or how often one died.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # nothing of ours joins any Ray that it finds
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, WorkerCrashedError

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console import errors
from stages.console.errors import EngineError, ModelError, SrlmError
from stages.engines.base import BaseEngine, Batches
from stages.engines.open import open_engine
from stages.engines.request import Completion, Request, Sampling

TRIES = 4
"""Workers that may die over one block, or in a row before they are ready."""
WAIT_S = 30.0
"""How long to wait for what workers of a stage before still hold."""
NO_PROGRESS_S = 1800.0
"""How long to wait for the next block."""
DIED = (RayActorError, NodeDiedError, OutOfMemoryError, WorkerCrashedError)
OUR_CODE = {"working_dir": str(Path(__file__).parents[3]), "excludes": ["/[!.]*", "/.?*", "!/stages", "!/stages/**"]}
"""The package `stages` and nothing beside it. As a working_dir it comes before a `stages` in the folder where a node's
Ray was started."""


class Written(NamedTuple):
    """What a worker gives back. Errors are returned: Ray would wrap what is raised there in a hundred lines."""

    completions: list[Completion]
    prompt_tokens: int
    error: tuple[str, str, str] | None = None
    """Class, message and host."""


class Worker:
    """What an actor holds: the engine, opened for its first block and used for all that follow."""

    def __init__(self, open_inner: Callable[[], BaseEngine]) -> None:
        self.open_inner, self.stack = open_inner, ExitStack()
        self.inner: BaseEngine | None = None

    def ready(self) -> None:
        """Answers when the actor has its place."""

    def write(self, requests: list[Request], sampling: Sampling) -> Written:
        try:
            if self.inner is None:
                self.inner = self.stack.enter_context(self.open_inner())
            before = self.inner.prompt_tokens
            completions = [c for batch in self.inner.batches(requests, sampling) for c in batch]
        except Exception as e:
            message = str(e) if isinstance(e, SrlmError) else traceback.format_exc()
            return Written([], 0, (type(e).__name__, message, socket.gethostname()))
        return Written(completions, self.inner.prompt_tokens - before)


class RayEngine(BaseEngine):
    """Workers are started when there are blocks for them, and end with the engine."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        self.name, self.hardware, self.model_dir = model, hardware, model_dir.absolute()
        self.block = engine.requests_per_block
        inner, alone = engine.model_copy(update={"name": engine.inner}), hardware.model_copy(update={"workers": 1})
        self.open_inner = partial(open_engine, inner, alone, self.model_dir, model=model, seed=seed)
        self.pending: dict[Any, tuple[Any, int | None]] = {}
        """By the future of its answer: an actor and the number of its block, None while it waits for its place."""
        self.idle: list[Any] = []

    def __enter__(self) -> Self:
        """Raises EngineError when Ray cannot be started or joined, or no node has what a worker needs."""
        with ExitStack() as stack:
            if not ray.is_initialized():
                stack.callback(ray.shutdown)
                _start(self.hardware.workers)
            self.gpus = _gpus(self.hardware)
            stack.callback(self._end_workers)
            self.stack = stack.pop_all()
        return self

    def close(self) -> None:
        self.stack.close()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        """Block by block. Raises what the engine in a worker raised, and EngineError for a block that no worker
        survives or a cluster that is stuck."""
        blocks = [list(requests[i : i + self.block]) for i in range(0, len(requests), self.block)]
        waiting, deaths, left = deque(range(len(blocks))), Counter[int | None](), len(blocks)
        until = time.monotonic() + NO_PROGRESS_S
        self.idle = [worker for worker in self.idle if _alive(worker)]  # since the last call a node may have died
        try:
            while left:
                while waiting and self.idle:
                    worker, block = self.idle.pop(), waiting.popleft()
                    self.pending[worker.write.remote(blocks[block], sampling)] = worker, block
                while len(self.pending) + len(self.idle) < min(self.hardware.workers, left):
                    self._start_worker()
                done, _ = ray.wait([*self.pending], timeout=max(0.0, until - time.monotonic()))
                if not done:
                    raise EngineError(
                        f"no Ray worker finished a block in {NO_PROGRESS_S / 60:.0f} minutes. Look with `ray status` "
                        f"whether a node is gone: start it again, or lower hardware.workers. Are blocks that slow? "
                        f"Lower engine.requests_per_block"
                    )
                worker, number = self.pending.pop(done[0])
                try:
                    written = ray.get(done[0])
                except DIED as e:
                    ray.kill(worker)
                    deaths[number] += 1
                    if deaths[number] == TRIES:
                        over = "before they were ready"
                        if number is not None:
                            over = f"over {len(blocks[number])} requests, the first {blocks[number][0].id!r}"
                        raise EngineError(
                            f"{TRIES} Ray workers died {over}: {_gist(e)}. If it was for memory, lower "
                            f"engine.requests_per_block or engine.max_batch_tokens. Why, is in Ray's logs, "
                            f"/tmp/ray/session_latest/logs on the worker's node"
                        ) from None
                    if number is not None:
                        waiting.appendleft(number)
                    continue
                self.idle.append(worker)
                if number is None:
                    deaths[None] = 0
                    continue
                left, until = left - 1, time.monotonic() + NO_PROGRESS_S
                yield self._read(written)
        except RayError as e:
            raise EngineError(
                f"Ray failed: {_gist(e)}. Look with `ray status` and in /tmp/ray/session_latest/logs"
            ) from None
        finally:  # an interrupted call: what they write is not wanted
            for future, (worker, number) in list(self.pending.items()):
                if number is not None:
                    ray.kill(worker)
                    del self.pending[future]

    def _start_worker(self) -> None:
        actor: Any = ray.remote(Worker)
        worker = actor.options(num_cpus=0 if self.gpus else 1, num_gpus=self.gpus).remote(self.open_inner)
        self.pending[worker.ready.remote()] = worker, None

    def _end_workers(self) -> None:
        for worker in (*self.idle, *(worker for worker, _ in self.pending.values())):
            ray.kill(worker)
        self.idle, self.pending = [], {}

    def _read(self, written: Written) -> list[Completion]:
        if written.error:
            kind, message, host = written.error
            if kind == ModelError.__name__ and self.model_dir.is_dir():
                message += f" (said a Ray worker on {host}; this node sees the folder, so look whether that one does)"
            raise getattr(errors, kind, RuntimeError)(message)
        self.prompt_tokens += written.prompt_tokens
        self.generated_tokens += sum(c.tokens or 0 for c in written.completions)
        return written.completions


def _start(workers: int) -> None:
    """Join the cluster at RAY_ADDRESS, or start a Ray of this machine with a CPU for each worker. Raises EngineError
    when that fails."""
    address = os.environ.get("RAY_ADDRESS")
    where: dict[str, Any] = {"address": address}
    if not address:
        where = {"address": "local", "num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, runtime_env=OUR_CODE, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as e:
        hint = f"Does `ray status` see the cluster of RAY_ADDRESS={address}? " if address else ""
        raise EngineError(f"Could not start or connect to Ray: {_gist(e)}. {hint}See docs/ray.md") from None
    if signal.getsignal(signal.SIGTERM) is not on_sigterm:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends with another exit code


def _gpus(hardware: Hardware) -> int:
    """How many GPUs a worker takes; with none it takes a CPU. Raises EngineError when no node has as many, or others
    keep them."""
    gpus = hardware.device == "cuda" or (hardware.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    what, count = ("GPU", hardware.tensor_parallel) if gpus else ("CPU", 1)
    nodes = sorted((node["Resources"].get(what, 0) for node in ray.nodes() if node["Alive"]), reverse=True)
    until = time.monotonic() + WAIT_S
    while nodes[0] < count or ray.available_resources().get(what, 0) < count:
        if nodes[0] < count or time.monotonic() > until:
            raise EngineError(
                f"Ray's nodes have {', '.join(f'{n:g}' for n in nodes)} {what}(s), some perhaps in use (see `ray "
                f"status`), and a worker wants {count} of one node. Start a larger node or another one, see "
                f"docs/ray.md, or change hardware.device or hardware.tensor_parallel"
            )
        time.sleep(0.2)
    return count if gpus else 0


def _alive(worker: Any) -> bool:
    try:
        ray.get(worker.ready.remote())
    except DIED:
        return False
    return True


def _gist(error: Exception) -> str:
    """A Ray error on one line; of a long one the end, which says what happened."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 400 else f"... {text[-400:]}"
