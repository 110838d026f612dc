"""The model that a command asks to judge: named in params.yaml, reached through any engine."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from pydantic import ValidationError

from stages.config.engines import EngineParams
from stages.config.finding import nearest
from stages.config.params import Params
from stages.console.errors import ModelError, ParamsError
from stages.engines.base import BaseEngine
from stages.engines.open import ENGINES, open_engine
from stages.engines.request import Sampling
from stages.method import judging
from stages.method.scale import Scale
from stages.store import catalog
from stages.store.run import Run

CONSTANT_ANSWER = "stages/templates/constant_answer.txt"
"""What answers nothing and praises itself: no judge should prefer it."""


def open_judge(judge: str, stage: str, engine: str | None, params: Params, run: Run) -> BaseEngine:
    """The engine that asks `judge`: of the role `stage`, or `engine`. Raises ModelError, ParamsError, and as
    `open_engine`."""
    how = require(judge, stage, engine, params, run.root)
    return open_engine(how, params.hardware, run.model(judge), model=judge, seed=params.seed, run=run)


def require(judge: str, stage: str, engine: str | None, params: Params, root: Path) -> EngineParams:
    """The engine of `open_judge`, before anything that takes long. Raises ModelError, ParamsError."""
    there(judge, params, root)
    return engine_of(judge, stage, engine, params)


def engine_of(judge: str, stage: str, name: str | None, params: Params) -> EngineParams:
    """What asks the judge in the role of `stage`; a server for a server's model; or `name` instead."""
    engine = params.engine_for(stage, judge)
    if not name and getattr(params.external.get(judge), "source", None) == "server":
        name = "openai"
    try:
        return EngineParams.model_validate(engine.model_dump() | {"name": name or engine.name})
    except ValidationError:
        raise ParamsError(f"no engine {name!r}; there are {', '.join(ENGINES)}") from None


def scored(
    answers: pl.DataFrame, judge: str, asked: BaseEngine, sampling: Sampling, template: str, scale: Scale
) -> pl.DataFrame:
    """JUDGEMENTS of `answers` (candidate_id, prompt_id, prompt, response) by `judge`, as candidates are judged."""
    prompts = judging.judge_prompts(template, answers, scale)
    completions = asked.complete(prompts.select(id="candidate_id", prompt="text"), sampling)
    return judging.judgements(answers, completions, judge, scale)


def there(model: str, params: Params, root: Path) -> None:
    """Raises ModelError for a model that is not in data/models, and says whether params.yaml names it."""
    names = [*params.input_models, *params.trained_models]
    if model not in names and not catalog.model_dir(root, model).is_dir():
        near = nearest(model, names, cutoff=60)
        others = f"did you mean {near}?" if near else f"there are {', '.join(names)}"
        raise ModelError(f"no model {model!r}; {others}")
    catalog.there(root, model)
