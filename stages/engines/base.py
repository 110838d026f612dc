"""What every engine is: requests in, completions out. It knows nothing of prompts, judges or files.

Guarantee of every engine that runs here, tested by one suite (`tests/engines/test_every_engine.py`; Ray and servers
have their own): completions come ordered by request, then n; the randomness of completion n of a request is decided by
`(seed, request id, n)` alone, so another request in the batch, or another order of the requests, never changes the
random numbers that a completion is drawn with. What floating point adds to that is stated by each engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self

import polars as pl

from stages.console.errors import EngineError
from stages.console.live import TEXTS
from stages.console.progress import progress
from stages.console.terminal import stderr
from stages.engines.request import Completion, Request, Sampling

TYPES = (pl.String, pl.Int32, pl.String, pl.String, pl.Int32, pl.List(pl.Float64))
SCHEMA: dict[str, Any] = dict(zip(Completion._fields, TYPES, strict=True))

Batches = Generator[list[Completion], None, None]


class Stage(Protocol):
    """What an engine must know of the stage that it works for, to cache what it finishes."""

    stage: str
    completion_cache: Path
    figures: dict[str, Any]
    """For the log of runs."""

    def model(self, name: str) -> Path:
        """Folder of an input model, its content hashed."""
        ...

    def hash_of(self, path: Path) -> str: ...

    def passing(self, path: Path) -> AbstractContextManager[Path]:
        """An input for now only, its content hashed."""
        ...

    def check_inputs(self) -> None:
        """Raises StaleInputError when an input moved since it was hashed."""
        ...

    def computing(self) -> AbstractContextManager[None]:
        """Time spent here is the model's own."""
        ...


class BaseEngine(ABC):
    """What engines share. A context: leaving it frees the model. The figures add up over calls."""

    name: str
    packages: Mapping[str, str] = MappingProxyType({})
    """Versions of the packages that decide the texts."""
    served_by: Mapping[str, Any] | None = None
    """`url`, `model` and `revision` there, where a server writes the texts, and what was `left_out` of requests."""
    left_out: Sequence[str] = ()
    """Fields of requests that the server does not take."""
    requested: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    """Read: computed, not found in a cache of prefixes."""
    generated_tokens: int = 0
    uncounted: int = 0
    """Texts whose tokens a server did not count: the sums lack them."""
    seconds: float = 0.0
    prompts_too_long: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - not every engine holds something
        """Frees the model."""

    @abstractmethod
    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        """Completions as they are finished, in any order.

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
        """All completions, ordered by request, then n; greedy ones are one text, which is generated once.

        Raises EngineError for duplicate ids, for messages that cannot be templated, and where not one of several
        prompts gets a text.
        """
        if twice := [i for i, count in Counter(r.id for r in requests).items() if count > 1]:
            raise EngineError(
                f"{len(twice)} request id(s) occur more than once, first {twice[0]!r}: completions join on the id, so "
                f"make it unique per call"
            )
        numbers = sampling.numbers
        if sampling.temperature == 0:
            sampling = sampling._replace(n=1)
        started, total, cached = time.monotonic(), len(requests) * sampling.n, self.cached
        self.requested += total
        done: dict[tuple[str, int], Completion] = {}
        with (
            progress(f"{self.name} writes", total, "texts") as advance,
            closing(self.batches(requests, sampling)) as batches,
        ):
            for batch in batches:
                done.update({(c.id, c.n): c for c in batch})
                note, free = self.note(self.seconds + time.monotonic() - started), self.cached > cached
                advance(len(batch), note, for_free=free, texts=((c.id, c.n, c.text) for c in batch[-TEXTS:]))
                cached = self.cached
        self.seconds += time.monotonic() - started
        self._count_too_long([done[r.id, sampling.first] for r in requests])
        if sampling.temperature == 0:
            return [done[r.id, sampling.first]._replace(n=n) for r in requests for n in numbers]
        return [done[r.id, n] for r in requests for n in numbers]

    def _count_too_long(self, firsts: Sequence[Completion]) -> None:
        """`firsts`: the first completion of each prompt."""
        without = sum(c.no_room for c in firsts)
        if 1 < without == len(firsts):
            raise EngineError(f"{self.name} has no text for any of {without:,} prompts: {self.why_no_text()}")
        if without:
            stderr.print(
                f"{self.name}: {without} of {len(firsts)} prompts do not fit the context (or were refused): "
                f"empty completion, finish_reason=length",
            )
        self.prompts_too_long += without

    def note(self, seconds: float) -> str:
        """What stands beside the count: speed, share of what was cached, cost. `seconds`: since the first request."""
        speed = (
            f"{self.generated_tokens / seconds:,.0f} tokens/s"
            if seconds and self.generated_tokens and not self.uncounted
            else ""
        )
        cached = f"{self.cached:,} cached ({self.cached / self.requested:.0%})" if self.cached else ""
        return ", ".join(part for part in (speed, cached, self.cost()) if part)

    def why_no_text(self) -> str:
        return "they fill the context. Raise engine.max_context, where the model allows it, or shorten the prompts"

    def cost(self) -> str:
        """What was paid, in words."""
        return ""

    def details(self) -> str:
        """What else there is to say when all is written."""
        return ""

    def summary(self) -> str:
        """All calls together, in one line."""
        read = f", {self.prompt_tokens:,} prompt tokens read" if self.prompt_tokens else ""
        counted = f"{self.generated_tokens:,} tokens written" if self.generated_tokens or not self.uncounted else ""
        uncounted = f"tokens of {self.uncounted:,} texts unknown" if self.uncounted else ""
        written = ", ".join(part for part in (counted, uncounted) if part)
        notes = "".join(f"; {note}" for note in (self.note(self.seconds), self.details()) if note)
        return f"{self.name}: {self.requested:,} texts in {self.seconds:.0f} s; {written}{read}{notes}"
