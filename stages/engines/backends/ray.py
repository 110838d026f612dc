"""Texts from many copies of a model, on many GPUs and nodes: any other engine in the workers of a Ray cluster, through
Ray Data.

Requests are cut into blocks of `engine.requests_per_block` in the order given. A block is a row of a Ray dataset;
`hardware.workers` actors, each with the engine `engine.inner` and `hardware.threads` of its own, take one after
another, and what is finished comes back at once. Ray starts a worker that dies again where there is room, and its block
is written again. With RAY_ADDRESS set that cluster is joined, else a Ray of this machine is started. Every node must
see the model's folder under the same path and have the packages; our own code is sent to it. How to set up a cluster:
docs/ray.md.

Guarantee: that of the engine in the workers, given a block instead of all requests. What is decoded together follows
from the requests and `engine.requests_per_block`, a tracked parameter: not from how many workers there are, which of
them wrote a block, or how often one died.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

os.environ.setdefault(
    "RAY_ENABLE_AUTO_CONNECT", "0"
)  # else a thread that Ray Data leaves behind joins any Ray it finds
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console import errors
from stages.console.errors import EngineError, ModelError, SrlmError
from stages.engines.base import BaseEngine
from stages.engines.open import open_engine
from stages.engines.request import Completion, Request, Sampling

TRIES = 4
"""Workers that may die over one block. Ray itself would go on for ever."""
WAIT_S = 30.0
"""How long to wait for what workers of a stage before still hold."""
OUR_CODE = {"working_dir": str(Path(__file__).parents[3]), "excludes": ["/[!.]*", "/.?*", "!/stages", "!/stages/**"]}
"""The package `stages` and nothing beside it. As a working_dir it comes before a `stages` in the folder where a node's
Ray was started."""


class Tries:
    """How often each block was begun. An actor, as it must outlive the workers."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, block: int) -> int:
        self.begun[block] += 1
        return self.begun[block]


class Worker:
    """What an actor holds: the engine, opened for its first block. Errors travel in the row: Ray would wrap what is
    raised here in a hundred lines."""

    def __init__(
        self, open_inner: Callable[[], AbstractContextManager[BaseEngine]], sampling: Sampling, tries: Any
    ) -> None:
        self.open_inner, self.sampling, self.tries, self.stack = open_inner, sampling, tries, ExitStack()
        self.inner: BaseEngine | None = None

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        [block], [asked] = rows["block"], rows["asked"]
        try:
            said = self.write(int(block), [Request(*request) for request in json.loads(asked)])
        except Exception as e:
            message = str(e) if isinstance(e, SrlmError) else traceback.format_exc()
            said = {"error": [type(e).__name__, message, socket.gethostname()]}
        return {"block": [block], "said": [json.dumps(said)]}

    def write(self, block: int, requests: Sequence[Request]) -> dict[str, Any]:
        if ray.get(self.tries.begin.remote(block)) > TRIES:
            raise EngineError(
                f"{TRIES} Ray workers died over {len(requests)} requests, the first {requests[0].id!r}. If it was for "
                f"memory, lower engine.requests_per_block or "
                "engine.max_batch_tokens. Why, is in Ray's logs, /tmp/ray/session_latest/logs on the worker's node"
            )
        if self.inner is None:
            self.inner = self.stack.enter_context(self.open_inner())
        before = self.inner.prompt_tokens
        completions = [c for batch in self.inner.batches(requests, self.sampling) for c in batch]
        return {"completions": completions, "prompt_tokens": self.inner.prompt_tokens - before}


class RayEngine(BaseEngine):
    """Workers live as long as one call of `batches`: each call loads the model anew."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        self.name, self.hardware, self.block, self.model_dir = (
            model,
            hardware,
            engine.requests_per_block,
            model_dir.absolute(),
        )
        inner, alone = engine.model_copy(update={"name": engine.inner}), hardware.model_copy(update={"workers": 1})
        self.open_inner = partial(open_engine, inner, alone, self.model_dir, model=model, seed=seed)

    def __enter__(self) -> Self:
        """Raises EngineError when Ray cannot be had, or no worker what it needs."""
        with ExitStack() as stack:
            if not ray.is_initialized():
                stack.callback(ray.shutdown)
                _start(self.hardware.workers)
            self.gpus = _gpus(self.hardware)
            self.stack = stack.pop_all()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Block by block. Raises what the engine in a worker raised, and EngineError for a block that no worker
        survives or a cluster that is stuck."""
        rows = [
            {"block": i, "asked": json.dumps(requests[i : i + self.block])} for i in range(0, len(requests), self.block)
        ]
        if not rows:
            return
        tries = ray.remote(Tries).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        written = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                size=min(self.hardware.workers, len(rows)), max_tasks_in_flight_per_actor=1
            ),
            fn_constructor_args=(self.open_inner, sampling, tries),
            num_cpus=None if self.gpus else 1,
            num_gpus=self.gpus or None,
        )
        left = {row["block"] for row in rows}
        try:
            finished: Any = iter(written.iter_batches(batch_size=1, prefetch_batches=0))
            self.stack.callback(finished.close)  # an interrupted stage must stop Ray Data before Ray
            for row in finished:
                [block], [said] = row["block"].tolist(), row["said"]
                if block not in left:
                    raise EngineError(
                        f"Ray gave the block at request {block} twice: a bug. The same command goes on from what came "
                        f"before"
                    )
                left.remove(block)
                yield self._said(json.loads(said))
        except ExecutionTimeoutError:
            minutes = ray.data.DataContext.get_current().execution_no_progress_timeout_s / 60
            raise EngineError(
                f"no Ray worker finished a block in {minutes:.0f} minutes. Look with `ray status` whether a node is "
                f"gone: start it again, or lower "
                "hardware.workers. Are blocks that slow? Lower engine.requests_per_block, or raise "
                "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S"
            ) from None
        except RayError as e:
            raise EngineError(
                f"Ray failed: {_gist(e)}. Look with `ray status` and in /tmp/ray/session_latest/logs"
            ) from None
        if left:
            raise EngineError(
                f"Ray lost {len(left)} of {len(rows)} blocks: a bug. The same command goes on from the others"
            )

    def _said(self, said: dict[str, Any]) -> list[Completion]:
        if "error" in said:
            kind, message, host = said["error"]
            if kind == ModelError.__name__ and self.model_dir.is_dir():
                message += f" (said a Ray worker on {host}; this node sees the folder, so look whether that one does)"
            raise getattr(errors, kind, RuntimeError)(message)
        completions = [Completion(*c) for c in said["completions"]]
        self.prompt_tokens += said["prompt_tokens"]
        self.generated_tokens += sum(c.tokens for c in completions)
        return completions


def _start(workers: int) -> None:
    """Join the cluster at RAY_ADDRESS, or start a Ray of this machine with a CPU for each worker. Raises EngineError
    when that fails."""
    address = os.environ.get("RAY_ADDRESS")
    where: dict[str, Any] = (
        {"address": address}
        if address
        else {"address": "local", "num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    )
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, runtime_env=OUR_CODE, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as e:
        hint = (
            f"Does `ray status` see the cluster of RAY_ADDRESS={address}? See docs/ray.md, or unset RAY_ADDRESS"
            if address
            else "See docs/ray.md"
        )
        raise EngineError(f"Ray cannot be had: {_gist(e)}. {hint}") from None
    if signal.getsignal(signal.SIGTERM) is not on_sigterm:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends with another exit code


def _gpus(hardware: Hardware) -> int:
    """How many GPUs a worker takes; with none it takes a CPU. Raises EngineError when no node has as many, or others
    keep them."""
    gpus = hardware.device == "cuda" or (hardware.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    what, count = ("GPU", hardware.tensor_parallel) if gpus else ("CPU", 1)
    nodes = sorted((node["Resources"].get(what, 0) for node in ray.nodes() if node["Alive"]), reverse=True)
    there = f"Ray's nodes have {', '.join(f'{n:g}' for n in nodes)} {what}(s), and a worker wants {count} of one node"
    if nodes[0] < count:
        raise EngineError(
            f"{there}. Start a larger node, see docs/ray.md, or change hardware.device or hardware.tensor_parallel"
        )
    until = time.monotonic() + WAIT_S
    while ray.available_resources().get(what, 0) < count:
        if time.monotonic() > until:
            raise EngineError(
                f"{there}, but others have them: see `ray status`. Start another node, see docs/ray.md, or wait"
            )
        time.sleep(0.2)
    return count if gpus else 0


def _gist(error: Exception) -> str:
    """A Ray error on one line; of a long one the end, which says what happened."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 400 else f"... {text[-400:]}"
