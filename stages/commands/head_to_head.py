"""head-to-head: any models, each against each other, by any judge; one strength for each, and a constant answer that no
judge should prefer.

    srlm head-to-head                              the models in `evaluated`, judged as params.yaml says
    srlm head-to-head M1 M3 M0 --judge gpt --engine openai

The answers are those of `evaluate`; a model that is not evaluated answers now, greedily. Each comparison is made in
both orders; where they disagree it is a tie. Texts are cached: what was compared before costs nothing.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import polars as pl

from stages.commands.figures import aside, keep, show
from stages.commands.judges import CONSTANT_ANSWER, open_judge, require, there
from stages.commands.results import tournaments
from stages.config.load import load_params
from stages.config.params import Params
from stages.console.errors import EngineError, ModelError, ParamsError, SrlmError
from stages.console.terminal import stderr, warn
from stages.engines.base import BaseEngine
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method.answers import answers
from stages.method.evaluation.match import compare_prompts, model_verdicts, oracle_verdicts
from stages.method.evaluation.tournament import CONSTANT, constant_answers, tournament
from stages.store import catalog, metrics
from stages.store.run import Run
from stages.store.tables import ANSWERS, TEST_PROMPTS, TOURNAMENT

COMPARE = "stages/templates/compare.jinja"
ORACLE = "oracle"
"""The judge that is no model: the higher checker's score wins."""
KIND = "tournament"


def play(
    models: list[str],
    *,
    judge: str | None = None,
    engine: str | None = None,
    sampled: bool = False,
    canary: bool = True,
    as_json: bool = False,
    root: Path = Path(),
) -> None:
    """Write data/EVAL/tournament/JUDGE.parquet and data/metrics/tournament/JUDGE.json, and show the figures. Raises
    SrlmError for fewer than two models, ParamsError for a judge or engine that is not there, EngineError when no
    comparison could be read."""
    params = load_params(root)
    judge = judge or (ORACLE if params.evaluate.compare_by == ORACLE else params.evaluate.compare_with)
    names = list(dict.fromkeys(models or params.evaluated))
    if len(names) < 2:
        raise SrlmError(f"a match needs two models, named: {' '.join(names)}. Type: srlm head-to-head M1 M2")
    if judge == ORACLE and engine:
        raise ParamsError("--engine is a model's: the oracle asks none. Name the model: --judge")
    if judge != ORACLE:
        require(judge, "head_to_head", engine, params, root)
    for name in names:
        may_play(name, params, sampled, judge, root)
    with aside(), Run(KIND, root, judge) as run:
        written = {name: written_by(name, params, run, sampled) for name in names}
        matches = list(combinations(reversed(names), 2))  # M3 against M1, as params.yaml has them
        if judge == ORACLE:
            verdicts, asked = pl.concat(oracle_verdicts(written[a], written[b]) for a, b in matches), None
        else:
            if canary:
                written[CONSTANT] = constant_answers(written[names[0]], run.template(CONSTANT_ANSWER).strip())
                matches += [(CONSTANT, name) for name in names]
            verdicts, asked = compared(matches, written, judge, engine, params, run)
        if not verdicts["verdict"].count():
            why = "the checker knows no prompt" if judge == ORACLE else f"{judge} wrote no [[A]], [[B]] or [[C]]"
            raise EngineError(f"none of {len(verdicts)} comparisons could be read: {why}. Name another judge: --judge")
        share = params.warn.unreadable
        figures = tournament(verdicts, n=params.evaluate.bootstrap, seed=params.seed, unreadable=share)
        figures = {"judge": judge, **figures}
        run.write(TOURNAMENT, verdicts, judge, asked)
    keep(KIND, judge, figures, root, catalog.table_path(TOURNAMENT, root, judge))
    show(figures, [tournaments({judge: metrics.without_empty_claims(figures)})], as_json=as_json)
    for warning in figures["warned"]:
        warn(f"{judge}: {warning}")


def may_play(model: str, params: Params, sampled: bool, judge: str, root: Path) -> None:
    """Raises ModelError where `model` is neither evaluated nor able to answer now what the judge needs."""
    if catalog.table_path(ANSWERS, root, model).is_file():
        return
    there(model, params, root)
    if judge == ORACLE or sampled:
        why = "so the checker has no score of it" if judge == ORACLE else "so there are no sampled answers"
        raise ModelError(f"{model} is not evaluated, {why}. Add it to evaluated, then: srlm repro evaluate@{model}")


def written_by(model: str, params: Params, run: Run, sampled: bool) -> pl.DataFrame:
    """ANSWERS rows of `model`, those of `evaluate` where they are there."""
    if catalog.table_path(ANSWERS, run.root, model).is_file():
        rows = run.read(ANSWERS, model)
        return rows if sampled else rows.filter(decoding="greedy")
    prompts = run.read(TEST_PROMPTS)
    stderr.print(f"{model} is not evaluated: it answers {len(prompts):,} held-out prompts now", markup=False)
    with stage_engine(params, "evaluate", model, run) as engine:
        sampling = Sampling(1, 0.0, params.evaluate.top_p, params.evaluate.max_tokens)
        completions = engine.complete(prompts.select(id="prompt_id", prompt="prompt"), sampling)
    return answers(completions, prompts, model=model, decoding="greedy", check=None)


def compared(
    matches: list[tuple[str, str]],
    written: dict[str, pl.DataFrame],
    judge: str,
    engine: str | None,
    params: Params,
    run: Run,
) -> tuple[pl.DataFrame, BaseEngine]:
    """VERDICTS rows of all matches by a model, and the engine that asked it."""
    template, prompts = run.template(COMPARE), run.read(TEST_PROMPTS)
    sampling = Sampling(1, 0.0, 1.0, params.evaluate.compare_max_tokens)
    asked = open_judge(judge, "head_to_head", engine, params, run)
    stderr.print(
        f"{judge} compares: {len(matches)} matches of {len(next(iter(written.values()))):,} answers, in both orders",
        markup=False,
    )
    rows = []
    with asked:
        for a, b in matches:
            both = compare_prompts(template, prompts, written[a], written[b])
            completions = asked.complete(both.select(id="id", prompt="text"), sampling)
            rows.append(model_verdicts(written[a], written[b], both, completions, judge=judge))
    return pl.concat(rows), asked
