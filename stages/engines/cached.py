"""Any engine with a cache: each batch is written when it is finished, and what is cached is never generated again.

A batch is cached whole or not at all. Where an engine cuts the requests that are left into the same batches as before
(`BaseEngine.batches`), a stage that was killed and run again writes the bytes of an uninterrupted one; vLLM and servers
decode what is left in a different batch, and say what that means.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from stages.config.engines import EngineParams
from stages.console.command import Interrupted
from stages.console.errors import EngineError
from stages.console.terminal import stderr
from stages.engines.base import BaseEngine, Batches, Stage
from stages.engines.cache import CompletionCache
from stages.engines.request import Request, Sampling
from stages.engines.versions import PACKAGES, VERSIONS

KEY_FIELDS = {
    "openai": (),
    "ray": ("inner", "requests_per_block"),
    "scripted": ("max_context", "max_batch_tokens"),
    "transformers": ("dtype", "max_context", "max_batch_tokens"),
    "vllm": ("dtype", "quantization", "max_context"),
}
"""Entries of `engine` that decide an engine's texts."""
TOKENIZED = ("transformers", "vllm")
"""Engines whose requests become text here, by the tokenizer in the model's folder."""


class CachedEngine(BaseEngine):
    """The engine that `make` opens, which is when something is left to generate."""

    def __init__(
        self,
        make: Callable[[], BaseEngine],
        engine: EngineParams,
        model_dir: Path,
        *,
        model: str,
        seed: int,
        run: Stage,
    ) -> None:
        self.name, self.seed, self.run, self.make = model, seed, run, make
        names = [engine.name, engine.inner] if engine.name == "ray" else [engine.name]
        versions = {package: version(package) for name in names for package in PACKAGES[name]}
        self.packages = {name: number for name, number in versions.items() if number}
        decides: dict[str, Any] = {
            "engine": {"name": engine.name}
            | engine.model_dump(include={field for name in names for field in KEY_FIELDS[name]}),
            "model": model,
            "code": {name: VERSIONS[name] for name in names},
            "versions": versions,
        }
        if "vllm" in names and (invariant := os.environ.get("VLLM_BATCH_INVARIANT")):
            decides["batch_invariant"] = invariant  # other kernels, other texts
        self.at_a_server = engine.name == "openai"
        if self.at_a_server:  # neither its address nor what else is in the folder: a cluster gives a new one every day
            from stages.engines.backends.server import markup, public_url, served_model, server_address

            served = served_model(model_dir, model)
            decides |= {"server": served, "special_tokens": markup(model_dir)[0]}
            self.served_by = {"url": public_url(server_address(f"{engine.env_prefix}_BASE_URL"))} | served
        else:
            decides["files"] = run.hash_of(model_dir)
        self.fingerprint = json.dumps(decides, sort_keys=True).encode()
        self.tokenized, self.model_dir = engine.worker in TOKENIZED, model_dir
        self.tokenizer: Any = None
        self.inner: BaseEngine | None = None
        self.new = 0
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        self.cache = self.stack.enter_context(CompletionCache(self.run.completion_cache))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if not kind and self.requested:
            print(self.summary())
        if self.new:  # what was computed, beside its seconds: what plans reckon with
            spent = {"texts": self.new, "tokens_read": self.prompt_tokens, "tokens_written": self.generated_tokens}
            self.run.figures |= {key: self.run.figures.get(key, 0) + count for key, count in spent.items()}
        self.stack.close()
        if kind and issubclass(kind, (KeyboardInterrupt, Interrupted, EngineError)) and self.new:
            stderr.print(f"{self.new:,} texts that {self.name} wrote are cached: the same command goes on from there")

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        """First what is cached, in one batch, then what is left."""
        requests = self.rendered(requests)
        keys = self.keys(requests, sampling)
        how = self._how(sampling).digest()
        self._note_left_out(how)
        cached = self.cache.get(keys, sampling.numbers)
        self.cached += len(cached)
        if cached:
            yield cached
        missing = gaps([r.id for r in requests], sampling.numbers, {(c.id, c.n) for c in cached})
        for (first, n), ids in missing.items():
            lacking = [r for r in requests if r.id in ids]
            with closing(self.opened().batches(lacking, sampling._replace(first=first, n=n))) as written:
                while True:
                    with self.run.computing():
                        batch = next(written, None)
                    if batch is None:
                        break
                    # a server may have more room, or a milder filter, another time
                    cacheable = [c for c in batch if not (self.at_a_server and c.no_room)]
                    self.cache.put([(keys[c.id], c) for c in cacheable], model=self.name, stage=self.run.stage)
                    self.new += len(cacheable)
                    self.prompt_tokens = self.opened().prompt_tokens
                    self.generated_tokens += sum(c.tokens or 0 for c in batch)
                    self.uncounted = self.opened().uncounted
                    if self.opened().left_out:
                        self._note_left_out(how, self.opened().left_out)
                    yield batch

    def keys(self, requests: Sequence[Request], sampling: Sampling) -> dict[str, bytes]:
        """Of each request, by id: a hash of what decides its texts, all but their number. Equal prompts stay apart,
        else a resumed call would be cut into different batches."""
        same, keys = self._how(sampling), {}
        for request in requests:
            key = same.copy()  # repr of strings and lists of them: exact, escapes surrogates, and cheaper than JSON
            text = request.prompt if request.rendered is None else request.rendered
            key.update(repr((request.id, isinstance(request.prompt, str), text)).encode())
            keys[request.id] = key.digest()
        return keys

    def _how(self, sampling: Sampling) -> Any:
        """Hash of what decides the texts besides the request and their number."""
        return hashlib.sha256(self.fingerprint + repr((sampling._replace(n=0, first=0), self.seed)).encode())

    def _note_left_out(self, how: bytes, fields: Sequence[str] = ()) -> None:
        """Texts that a server wrote without some fields are such texts in each later run, too."""
        if self.at_a_server and not (fields and set(fields) <= set(self.left_out)):
            self.left_out = sorted({*self.left_out, *self.cache.left_out(how, fields)})
            self.served_by = {**(self.served_by or {}), **({"left_out": self.left_out} if self.left_out else {})}

    def rendered(self, requests: Sequence[Request]) -> Sequence[Request]:
        if not self.tokenized or not requests:
            return requests
        if self.tokenizer is None:
            # by name, as engines are: that its text changes is told by a number in versions.py, not by its source
            self.tokenizer = importlib.import_module("stages.engines.tokenization").ModelTokenizer(self.model_dir)
        rendered: Sequence[Request] = self.tokenizer.render(requests)
        return rendered

    def opened(self) -> BaseEngine:
        if self.inner is None:
            self.inner = self.stack.enter_context(self.make())
            self.run.check_inputs()  # the model that was loaded is the one that was hashed
        return self.inner

    def cost(self) -> str:
        return self.inner.cost() if self.inner else ""

    def details(self) -> str:
        return self.inner.details() if self.inner else ""

    def why_no_text(self) -> str:
        return self.inner.why_no_text() if self.inner else super().why_no_text()


def version(package: str) -> str | None:
    """Of an installed package, None without it; vLLM's CPU build has a name of its own."""
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def gaps(
    ids: Iterable[str], numbers: Iterable[int], have: Container[tuple[str, int]]
) -> dict[tuple[int, int], set[str]]:
    """Requests by the runs of completion numbers that they lack, (first, how many): a greater n is asked for beside
    what is there."""
    lack = defaultdict(set)
    for i in ids:
        missing = [n for n in numbers if (i, n) not in have]
        for _, run in groupby(enumerate(missing), key=lambda at_n: at_n[1] - at_n[0]):
            ns = [n for _, n in run]
            lack[ns[0], len(ns)].add(i)
    return dict(lack)
