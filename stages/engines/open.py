"""The engine that params name: by name, so that none costs what another imports; with a cache for a stage."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path

import polars as pl

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.config.params import Params
from stages.console.errors import EngineError
from stages.engines.base import BaseEngine, Stage
from stages.engines.request import Sampling

# name -> module, class; a module is imported when it is asked for, so that this file costs no torch
ENGINES = {
    "openai": ("stages.engines.backends.openai", "OpenAIEngine"),
    "ray": ("stages.engines.backends.ray", "RayEngine"),
    "scripted": ("stages.engines.backends.scripted", "ScriptedEngine"),
    "transformers": ("stages.engines.backends.transformers", "TransformersEngine"),
    "vllm": ("stages.engines.backends.vllm", "VllmEngine"),
}


def stage_engine(params: Params, verb: str, model: str, run: Stage) -> BaseEngine:
    """The engine that params name for `verb` and `model`, for a stage. Raises as `open_engine`."""
    engine, folder = params.engine_for(verb, model), run.model(model)
    return open_engine(engine, params.hardware, folder, model=model, seed=params.seed, run=run)


def ask(
    params: Params, run: Stage, prompts: pl.DataFrame, model: str, *, max_tokens: int, folder: Path | None = None
) -> pl.DataFrame:
    """Greedy completions of `prompts` (id, prompt), for the choice of a model: by the judge `model`, or by those
    weights on the way to `model` that are in `folder`, for now."""
    sampling = Sampling(1, 0.0, 1.0, max_tokens)
    if folder is None:
        with stage_engine(params, "choose", model, run) as engine:
            return engine.complete(prompts, sampling)
    how = params.engine, params.hardware, folder
    with run.passing(folder), open_engine(*how, model=model, seed=params.seed, run=run) as engine:
        return engine.complete(prompts, sampling)


def open_engine(
    engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int, run: Stage | None = None
) -> BaseEngine:
    """The engine that `engine.name` names, with the model in `model_dir`: a context, and leaving it frees the model.

    `model` is the model's name (M1), for progress and errors. With a `run`, every finished batch is cached, what is
    cached is not generated again, and the model is loaded when it is first needed; without, at once. Raises EngineError
    for a package that is not installed, ModelError for a folder that holds no usable model.
    """
    make = partial(_make, engine, hardware, Path(model_dir), model=model, seed=seed)
    if run is None:
        return make()
    from stages.engines.cached import CachedEngine

    return CachedEngine(make, engine, Path(model_dir), model=model, seed=seed, run=run)


def _make(engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> BaseEngine:
    module, cls = ENGINES[engine.name]
    try:
        opened: BaseEngine = getattr(importlib.import_module(module), cls)(
            engine, hardware, model_dir, model=model, seed=seed
        )
    except ModuleNotFoundError as e:
        extra = engine.name in ("openai", "ray", "vllm")  # of pyproject.toml
        how = f"pip install -c constraints.txt -e '.[{engine.name}]'" if extra else f"pip install {e.name}"
        raise EngineError(
            f"the engine {engine.name!r} needs the package {e.name}, which is not installed. Type: {how}"
        ) from None
    return opened
