"""A model's answers to the prompts of a benchmark: by the engine of params.yaml, through the completion cache of the
loop, so that a killed export goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stages.config.load import load_params
from stages.console.errors import ModelError
from stages.console.terminal import stderr, warn
from stages.engines.open import open_engine
from stages.engines.request import Completion, Request, Sampling
from stages.store import catalog
from stages.store.run import Run
from stages.text import thoughts

MAX_TOKENS = 2048


class Answer(NamedTuple):
    text: str
    """Without the thought that it may begin with."""
    tokens: int | None
    cut_off: bool


Answerer = Callable[[Sequence[Request], float], list[Answer]]
"""Requests and a temperature to an answer each."""


@contextmanager
def answerer(verb: str, model: str, root: Path, *, max_tokens: int, top_p: float = 1.0) -> Iterator[Answerer]:
    """What answers for `model`: a model in data/models, or a folder. At the end it tells what was cut off or left
    empty: no row is lost. Raises ModelError, EngineError."""
    params, written = load_params(root), list[Answer]()
    name = Path(model).name
    with Run(verb, root, name) as run:
        folder, _ = model_folder(run, model, root)
        engine = params.engine_for("evaluate", name)
        with open_engine(engine, params.hardware, folder, model=name, seed=params.seed, run=run) as opened:

            def write(requests: Sequence[Request], temperature: float) -> list[Answer]:
                sampling = Sampling(1, temperature, top_p, max_tokens)
                answers = [_answer(completion) for completion in opened.generate(requests, sampling)]
                written.extend(answers)
                return answers

            yield write
    cut_off, empty = sum(a.cut_off for a in written), sum(not a.text.strip() for a in written)
    stderr.print(f"{len(written):,} answers; {cut_off:,} cut off at {max_tokens:,} tokens or the context's end")
    if empty:
        warn(f"{empty:,} of {len(written):,} answers are empty; they are written as they are")


def _answer(completion: Completion) -> Answer:
    text = thoughts.answer(completion.text).strip()
    return Answer(text, completion.tokens, completion.finish_reason == "length")


def model_folder(run: Run, model: str, root: Path) -> tuple[Path, str | None]:
    """The folder of `model`, hashed, and its name in data/models; None for a folder elsewhere. Raises ModelError."""
    folder, name = find_model(model, root)
    return run.watch(folder), name


def find_model(model: str, root: Path) -> tuple[Path, str | None]:
    """As `model_folder`, before anything that takes long."""
    outside = Path(model)
    if "/" not in model and (root / "data/models" / model).is_dir():
        return catalog.there(root, model), model
    if (outside / "config.json").is_file():
        return outside, None
    here = sorted(p.parent.name for name in ("config.json", "server.json") for p in root.glob(f"data/models/*/{name}"))
    there = f"there are {', '.join(here)}" if here else "there is none yet; run: srlm repro"
    raise ModelError(f"no model {model!r}: expected one of data/models ({there}), or a folder with config.json")
