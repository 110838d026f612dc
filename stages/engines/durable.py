"""Any engine, made durable: each batch is kept when it is finished, and what is kept is never generated again.

A batch is kept whole or not at all. Where an engine cuts the requests that are left into the same batches as before (`Engine.batches`), a stage that
was killed and run again writes the bytes of an uninterrupted one; vLLM and servers decode what is left in other company, and say what that means.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from stages.config.machine import EngineParams
from stages.console.command import Interrupted
from stages.console.errors import EngineError
from stages.console.progress import err
from stages.engines.base import Batching, Stage
from stages.engines.finished import Finished
from stages.engines.request import Completion, Request, Sampling

HERE = Path(__file__).parent
DECIDES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openai": (("openai.py", "probing.py", "refusals.py", "request.py", "server.py", "../console/text.py"), ()),
    "ray": (("ray.py", "request.py"), ()),
    "scripted": (("request.py", "scripted.py"), ()),
    "transformers": (
        ("probing.py", "prompts.py", "request.py", "seeded.py", "transformers.py", "../console/text.py"),
        ("jinja2", "numpy", "peft", "tokenizers", "torch", "transformers"),
    ),
    "vllm": (
        ("probing.py", "prompts.py", "request.py", "vllm.py", "../console/text.py"),
        ("jinja2", "tokenizers", "torch", "transformers", "vllm"),
    ),
}
"""Our code and the packages that decide an engine's texts besides its model: a change of either begins anew."""


READS = {
    "openai": (),
    "ray": ("inner", "block"),
    "scripted": ("max_context", "chunk"),
    "transformers": ("dtype", "max_context", "chunk"),
    "vllm": ("dtype", "quantization", "max_context"),
}
"""Entries of `engine` that decide an engine's texts."""


class DurableEngine(Batching):
    """The engine that `make` opens, which is when something is left to generate."""

    def __init__(
        self, make: Callable[[], AbstractContextManager[Batching]], engine: EngineParams, model_dir: Path, *, model: str, seed: int, run: Stage
    ) -> None:
        self.name, self.seed, self.run, self.make = model, seed, run, make
        works = [engine.name, engine.inner] if engine.name == "ray" else [engine.name]
        decides: dict[str, Any] = {
            "engine": {"name": engine.name} | engine.model_dump(include={field for name in works for field in READS[name]}),
            "model": model,
            "files": run.hash_of(model_dir),
            "code": [hashlib.sha256((HERE / file).read_bytes()).hexdigest() for name in works for file in DECIDES[name][0]],
            "versions": {package: version(package) for name in works for package in DECIDES[name][1]},
        }
        run.packages |= {name: number for name, number in decides["versions"].items() if number}
        if "vllm" in works and (invariant := os.environ.get("VLLM_BATCH_INVARIANT")):
            decides["batch_invariant"] = invariant  # other kernels, other texts
        self.at_a_server = engine.name == "openai"  # what one refuses for its settings, another, or the same one started anew, may take
        if self.at_a_server:
            from stages.engines.server import server_address, server_identity

            run.servers[model] = decides["server"] = server_identity(server_address(f"{engine.env_prefix}_BASE_URL"), model_dir, model)
        self.identity = json.dumps(decides, sort_keys=True).encode()
        self.new = 0
        self.stack = ExitStack()
        self.inner: Batching | None = None

    def __enter__(self) -> Self:
        self.finished = self.stack.enter_context(Finished(self.run.finished))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if not kind and self.asked:
            print(self.summary())
        self.stack.close()
        if kind and issubclass(kind, (KeyboardInterrupt, Interrupted, EngineError)) and self.new:
            err.print(f"{self.new:,} texts that {self.name} wrote in this run are kept: the same command goes on from there", markup=False)

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """First what is kept, in one batch, then what is left."""
        with many_objects():
            keys, wanted = self.keys(requests, sampling), sampling.numbers
            kept = self.finished.find(keys, wanted)
        self.kept += len(kept)
        if kept:
            yield kept
        if len(kept) == len(keys) * len(wanted):
            return
        for numbers, group in gaps(requests, sampling, {(c.id, c.n) for c in kept}):
            part = sampling._replace(first=numbers.start, n=len(numbers))
            inner = self.opened()
            inner.kept = len(kept)  # a server that refuses all that is left has not refused everything
            written: Any = inner.batches(group, part)
            with closing(written):  # before the engine, whatever happens
                while True:
                    with self.run.computing():
                        batch = next(written, None)
                    if batch is None:
                        break
                    lasting = [c for c in batch if c.text or c.tokens or c.finish_reason == "stop" or not self.at_a_server]
                    self.finished.keep(by_request(lasting, keys), model=self.name, stage=self.run.stage)
                    self.new += len(lasting)
                    self.prompt_tokens = self.inner.prompt_tokens if self.inner else 0
                    self.generated_tokens += sum(c.tokens for c in batch)
                    yield batch

    def keys(self, requests: Sequence[Request], sampling: Sampling) -> dict[str, bytes]:
        """Of each request, by id: a hash of what decides its texts, all but their number.

        Seed and id are in it for greedy texts too: prompts that are equal stay apart, else a resumed call would be cut into other batches.
        """
        asked = (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop, sampling.probe, self.seed)
        same = hashlib.sha256(self.identity + repr(asked).encode())
        keys = {}
        for request in requests:
            key = same.copy()
            key.update(repr((request.id, request.prompt)).encode())  # of strings and lists of them: exact, escapes surrogates, and cheaper than JSON
            keys[request.id] = key.digest()
        return keys

    def opened(self) -> Batching:
        """The engine itself, its model loaded."""
        if self.inner is None:
            self.inner = self.stack.enter_context(self.make())
            self.run.check_inputs()  # the model that was loaded is the one that was hashed
        return self.inner

    def cost(self) -> str:
        return self.inner.cost() if self.inner else ""


@contextmanager
def many_objects() -> Iterator[None]:
    """Makes a million small objects that stay: Python's collector would go through them again and again, and find nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def version(package: str) -> str | None:
    """Of an installed package, None without it; vLLM's CPU build has a name of its own."""
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def by_request(batch: Sequence[Completion], keys: dict[str, bytes]) -> Iterator[tuple[bytes, list[Completion]]]:
    """The completions of each request, which stand together (`Engine.batches`), with its key."""
    for request_id, said in groupby(batch, key=lambda c: c.id):
        yield keys[request_id], list(said)


def gaps(requests: Sequence[Request], sampling: Sampling, have: Container[tuple[str, int]]) -> Iterator[tuple[range, list[Request]]]:
    """Runs of completion numbers that requests lack, each with the requests, in their order: a greater n is asked for beside what is there."""
    lack: dict[range, list[Request]] = {}
    for request in requests:
        missing = [n for n in sampling.numbers if (request.id, n) not in have]
        while missing:
            run = next(i for i in range(1, len(missing) + 1) if i == len(missing) or missing[i] != missing[0] + i)
            lack.setdefault(range(missing[0], missing[0] + run), []).append(request)
            missing = missing[run:]
    yield from lack.items()
