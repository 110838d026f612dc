"""The engine that params name: by name, so that none costs what another imports; made durable for a stage."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.config.params import Params
from stages.console.errors import EngineError
from stages.engines.base import BaseEngine, Stage

# name -> module, class; a module is imported when it is asked for, so that this file costs no torch
ENGINES = {
    "openai": ("stages.engines.backends.openai", "OpenAIEngine"),
    "ray": ("stages.engines.backends.ray", "RayEngine"),
    "scripted": ("stages.engines.backends.scripted", "ScriptedEngine"),
    "transformers": ("stages.engines.backends.transformers", "TransformersEngine"),
    "vllm": ("stages.engines.backends.vllm", "VllmEngine"),
}
EXTRAS = ("openai", "ray", "vllm")
"""Engines that need the extra of pyproject.toml that has their name."""


def make(
    engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int
) -> AbstractContextManager[BaseEngine]:
    """The engine itself; its module is imported here, since an engine whose work is all done needs none. Raises as
    `open_engine`."""
    module, cls = ENGINES[engine.name]
    try:
        made: AbstractContextManager[BaseEngine] = getattr(importlib.import_module(module), cls)(
            engine, hardware, model_dir, model=model, seed=seed
        )
    except ModuleNotFoundError as e:
        how = (
            f"pip install -c constraints.txt -e '.[{engine.name}]'"
            if engine.name in EXTRAS
            else f"pip install {e.name}"
        )
        raise EngineError(
            f"the engine {engine.name!r} needs the package {e.name}, which is not installed. Type: {how}"
        ) from None
    return made


def stage_engine(params: Params, verb: str, model: str, run: Stage) -> AbstractContextManager[BaseEngine]:
    """The engine that params name for `verb` and `model`, for a stage: finished batches are cached, and the model is
    loaded when something is left to generate. Raises as `open_engine`."""
    engine, folder = params.engine_for(verb, model), run.model(model)
    return open_engine(engine, params.hardware, folder, model=model, seed=params.seed, run=run)


@contextmanager
def open_engine(
    engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int, run: Stage | None = None
) -> Iterator[BaseEngine]:
    """The engine that `engine.name` names, with the model in `model_dir`; leaving the context frees the model.

    `model` is the model's name (M1), for progress and errors. With a `run`, every batch is kept when it is finished,
    what was kept is not generated again, and the model is loaded when it is first needed; without, at once. Raises
    EngineError for an unknown engine or a package that is not installed, ModelError for a folder that holds no usable
    model.
    """
    if engine.name not in ENGINES:
        near = difflib.get_close_matches(engine.name, ENGINES, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise EngineError(
            f"engine.name: unknown engine {engine.name!r}{hint} Known engines: {', '.join(sorted(ENGINES))}"
        )
    make_it = partial(make, engine, hardware, Path(model_dir), model=model, seed=seed)
    if run is None:
        with make_it() as opened:
            yield opened
        return
    from stages.engines.cached import CachedEngine

    with CachedEngine(make_it, engine, Path(model_dir), model=model, seed=seed, run=run) as durable:
        yield durable
