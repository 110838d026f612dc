"""What every engine is: requests in, completions out. Knows nothing of prompts, judges or files.

Guarantee of every engine that runs here, tested by one suite (`tests/engines/test_every_engine.py`; Ray and servers
have their own): completions come ordered by request, then n; the randomness of completion n of a request is decided by
`(seed, request id, n)` alone, so another request in the batch, or another order of the requests, never changes the
random numbers that a completion is drawn with. What floating point adds to that is stated by each engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import polars as pl

from stages.console.errors import EngineError
from stages.console.progress import progress
from stages.console.terminal import stderr
from stages.engines.request import Completion, Request, Sampling

TYPES = (pl.String, pl.Int32, pl.String, pl.String, pl.Int32, pl.List(pl.Float64))
SCHEMA: dict[str, Any] = dict(zip(Completion._fields, TYPES, strict=True))


class Stage(Protocol):
    """What an engine must know of the stage that it works for, to cache what it finishes."""

    stage: str
    completion_cache: Path
    """The database of cached completions."""

    def model(self, name: str) -> Path:
        """Folder of an input model, its content hashed."""
        ...

    def hash_of(self, path: Path) -> str:
        """Content hash of an input."""
        ...

    def check_inputs(self) -> None:
        """Raises StaleInputError when an input moved since it was hashed."""
        ...

    def computing(self) -> AbstractContextManager[None]:
        """Time spent here is the model's own."""
        ...


class BaseEngine(ABC):
    """What engines share: batches become completions in the order of the requests, with progress. The figures add up
    over calls."""

    name: str
    packages: Mapping[str, str] = MappingProxyType({})
    """Versions of the packages that decide the texts."""
    served_by: Mapping[str, str | None] | None = None
    """`url`, `model` and `revision` there, where a server writes the texts."""
    requested: int = 0
    cached: int = 0
    """Completions that were asked for, and those of them that were found finished."""
    prompt_tokens: int = 0
    """Read: computed, not found in a cache of prefixes."""
    generated_tokens: int = 0
    seconds: float = 0.0
    prompts_too_long: int = 0
    """Prompts that filled the context."""

    @abstractmethod
    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Completions as they are finished: all that was asked of a request together, ordered by n, requests in any
        order.

        Engines whose texts depend on what is decoded together cut batches so that the requests left when some whole
        batches are taken away fall into the others as before. vLLM and servers cannot: each says what that means.
        """

    def complete(self, prompts: pl.DataFrame, sampling: Sampling, *, chat: bool = True) -> pl.DataFrame:
        """Completions of `prompts` (id String, prompt String), ordered as they are, then by n: id String, n Int32, text
        String, finish_reason String, tokens Int32, probs List(Float64)?.

        With `chat` each prompt is a user's message, else a text to continue. Raises as `generate`.
        """
        requests = [
            Request(i, [{"role": "user", "content": text}] if chat else text)
            for i, text in prompts.select("id", "prompt").iter_rows()
        ]
        return pl.DataFrame(self.generate(requests, sampling), schema=SCHEMA, orient="row")

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """All completions, ordered by request, then n.

        Raises EngineError for duplicate ids, for messages that cannot be templated, and where not one of several
        prompts gets a text.
        """
        check_requests(requests)
        started, total, cached = time.monotonic(), len(requests) * sampling.n, self.cached
        self.requested += total
        place = {request.id: i * sampling.n for i, request in enumerate(requests)}
        done: dict[int, Completion] = {}
        number = sampling.numbers.index
        batches: Any = self.batches(requests, sampling)
        with progress(f"{self.name} writes", total, "texts") as advance, closing(batches):
            for batch in batches:
                done.update({place[c.id] + number(c.n): c for c in batch})
                advance(len(batch), self.note(self.seconds + time.monotonic() - started), for_free=self.cached > cached)
                cached = self.cached
        self.seconds += time.monotonic() - started
        prompts_too_long = sum(
            c.n == sampling.first and c.finish_reason == "length" and c.tokens == 0 for c in done.values()
        )
        if 1 < prompts_too_long == len(requests):
            raise EngineError(f"{self.name} has no text for any of {len(requests):,} prompts: {self.why_no_text()}")
        if prompts_too_long:
            stderr.print(
                f"{self.name}: {prompts_too_long} of {len(requests)} prompts do not fit the context (or were refused): "
                f"empty completion, finish_reason=length",
            )
        self.prompts_too_long += prompts_too_long
        return [done[i] for i in range(total)]

    def note(self, seconds: float) -> str:
        """What stands beside the count: speed, share of what was cached, cost. `seconds`: since the first request."""
        speed = f"{self.generated_tokens / seconds:,.0f} tokens/s" if seconds and self.generated_tokens else ""
        cached = f"{self.cached:,} cached ({self.cached / self.requested:.0%})" if self.cached else ""
        return ", ".join(part for part in (speed, cached, self.cost()) if part)

    def why_no_text(self) -> str:
        """Of prompts that got none: the reason, and what to do."""
        return "they fill the context. Raise engine.max_context, where the model allows it, or shorten the prompts"

    def cost(self) -> str:
        """What was paid, in words; nothing for an engine that costs nothing."""
        return ""

    def summary(self) -> str:
        """All calls together, in one line."""
        read = f", {self.prompt_tokens:,} prompt tokens read" if self.prompt_tokens else ""
        notes = f"; {note}" if (note := self.note(self.seconds)) else ""
        return (
            f"{self.name}: {self.requested:,} texts in {self.seconds:.0f} s; {self.generated_tokens:,} tokens "
            f"written{read}{notes}"
        )


def check_requests(requests: Sequence[Request]) -> None:
    """Raises EngineError when two requests share an id: their completions could not be told apart."""
    if len({r.id for r in requests}) < len(requests):
        twice = [i for i, count in Counter(r.id for r in requests).items() if count > 1]
        raise EngineError(
            f"{len(twice)} request id(s) occur more than once, first {twice[0]!r}: completions join on the id, so make "
            f"it unique per call"
        )


def prompt_text(request: Request) -> str:
    """The request's prompt as one string, roles shown; for engines and caches that need no tokens."""
    if isinstance(request.prompt, str):
        return request.prompt
    return "\n".join(f"{m['role']}: {m['content']}" for m in request.prompt)
