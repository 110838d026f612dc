"""Durable work: what keeping a million completions costs, and how long it takes to find that everything is done.

    python -m benchmarks.cache [--completions 1000000] [--n 4] [--folder DIR]

The texts are those of the scripted engine. The last figure is the share that keeping would take of a run that generates
10,000 tokens a second.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table

from stages.config.load import load_params
from stages.console.terminal import Console
from stages.engines.cache import CompletionCache
from stages.engines.open import open_engine
from stages.engines.request import Request, Sampling

TOKENS_PER_S = 10_000
PARAMS = load_params(Path(__file__).parents[1] / "stages/config/profiles", "scripted.yaml")


class Stage:
    """A stage with nothing but a place for what it finishes, and a clock around the engine's own work."""

    def __init__(self, folder: Path) -> None:
        self.stage, self.completion_cache, self.generating = "benchmark", folder / "completions.sqlite", 0.0

    def model(self, name: str) -> Path:
        return Path(name)

    def hash_of(self, path: Path) -> str:
        return "0" * 32 + ".dir"

    def check_inputs(self) -> None:
        pass

    @contextmanager
    def computing(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.generating += time.monotonic() - started


def main(
    completions: Annotated[int, typer.Option()] = 1_000_000,
    n: Annotated[int, typer.Option(help="completions of a request")] = 4,
    folder: Annotated[Path | None, typer.Option(help="on the disk to be measured")] = None,
) -> None:
    """Generate and keep, ask again in another process, read with the database alone."""
    place: AbstractContextManager[str] = nullcontext(str(folder)) if folder else TemporaryDirectory()
    with place as name:
        stage = Stage(Path(name))
        tokens, making, first = generate(stage, completions, n)
        keeping, generating = first - stage.generating, stage.generating
        with get_context("spawn").Pool(1) as another:  # as a stage is that goes on: a process of its own
            _, _, again = another.apply(generate, (Stage(Path(name)), completions, n))
        with CompletionCache(stage.completion_cache) as cache:
            keys = {key.hex(): key for (key,) in cache.connection.execute("SELECT DISTINCT key FROM texts")}
            started = time.monotonic()
            found = len(cache.get(keys, range(n)))
            reading = time.monotonic() - started
        size = stage.completion_cache.stat().st_size
    shown = Table("what", "seconds", "microseconds a completion", box=None)
    for what, seconds in (
        ("making the requests, which a stage does by itself", making),
        ("generating, the scripted engine alone", generating),
        ("keys, keeping, order", keeping),
        ("asking again: everything is done", again),
        ("reading all by key", reading),
    ):
        shown.add_row(what, f"{seconds:.1f}", f"{seconds / completions * 1e6:.1f}")
    console = Console()
    console.print(shown)
    share = keeping / (tokens / TOKENS_PER_S)
    sizes = f"{found:,} completions, {tokens:,} tokens, {size / 1e6:.0f} MB"
    console.print(f"{sizes}; at {TOKENS_PER_S:,} tokens/s keeping would take {share:.2%} of the time")
    console.print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f} GB")


def generate(stage: Stage, completions: int, n: int) -> tuple[int, float, float]:
    """Tokens of all texts, kept or not; seconds for making the requests, and for asking the engine."""
    started = time.monotonic()
    requests = [
        Request(f"r{i}", [{"role": "user", "content": f"What is {i} good for? Answer in some sentences, please."}])
        for i in range(completions // n)
    ]
    made = time.monotonic()
    with open_engine(PARAMS.engine, PARAMS.hardware, Path(), model="M1", seed=1, run=stage) as engine:
        said = engine.generate(requests, Sampling(n, 0.7, 0.9, 200))
    return sum(c.tokens or 0 for c in said), made - started, time.monotonic() - made


if __name__ == "__main__":
    typer.run(main)
