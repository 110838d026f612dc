"""evaluate: one model as writer on held-out prompts, and as judge against held-out human ranks (paper 3.1).

    python -m stages.evaluate M1

As a writer it answers greedily and sampled; where there is an oracle (the tiny world's checker, or the checker of
constraints in the prompts) each answer gets its points. As a judge it scores the held-out ranked answers as it scores
candidates. Rows stay in data/EVAL, means with 95 % bootstrap intervals go to data/metrics.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.config.params import Params
from stages.console.command import command
from stages.engines.base import BaseEngine
from stages.engines.open import stage_engine
from stages.engines.request import Sampling, ScoreLogprobs
from stages.method import judging
from stages.method.answers import Check, answers
from stages.method.evaluation.judge import judge_metrics
from stages.method.evaluation.trust import calibration, trust_metrics
from stages.method.evaluation.writer import Oracle, writer_metrics
from stages.method.scale import Scale
from stages.store.run import Run
from stages.store.tables import ANSWERS, JUDGED, RANKED_VALID, TEST_JUDGEMENTS, TEST_PROMPTS


def main(model: str, root: Path = Path()) -> None:
    """Write data/EVAL/MODEL and data/metrics/EVAL/MODEL.json."""
    params = load_params(root)
    entry(dict.fromkeys(params.evaluated), "evaluated", model)
    oracle = open_oracle(params.evaluate.oracle)
    with Run("evaluate", root, model) as run:
        prompts, ranked, template = run.read(TEST_PROMPTS), run.read(RANKED_VALID), run.template(params.judge.template)
        with stage_engine(params, "evaluate", model, run) as engine:
            written = answer(engine, prompts, model, oracle.check, params)
            judged, judgements = judge(engine, ranked, template, model, params)
        run.write(ANSWERS, written, model, engine)
        run.write(JUDGED, judged, model, engine)
        run.write(TEST_JUDGEMENTS, judgements, model, engine)
        n, seed, kind = params.evaluate.bootstrap, params.seed, params.judge_candidates.score
        figures = {
            "writer": writer_metrics(written, prompts, oracle, n=n, seed=seed),
            "judge": judge_metrics(judged, n=n, seed=seed, best=params.judge.scale.max),
            "trust": trust_metrics(judged, judgements, ranked, kind=kind, n=n, seed=seed),
            "calibration": calibration(judged, n=n, seed=seed),
        }
        run.write_metrics("EVAL", figures, model)


def open_oracle(name: str) -> Oracle:
    """The oracle that `evaluate.oracle` names. Raises SrlmError where its checkers are not installed."""
    if name == "tinyworld":
        from stages.tinyworld.oracle import SHARES, check

        return Oracle(check, SHARES)
    if name == "constraints":
        from stages.constraints import oracle

        oracle.checkers()  # before anything is written
        return Oracle(oracle.check, oracle.SHARES, oracle.POOLED, oracle.possible)
    return Oracle()


def answer(engine: BaseEngine, prompts: pl.DataFrame, model: str, check: Check | None, params: Params) -> pl.DataFrame:
    """ANSWERS rows, greedy and sampled."""
    p, asked = params.evaluate, prompts.select(id="prompt_id", prompt="prompt")
    return pl.concat(
        answers(
            engine.complete(asked, Sampling(1, temperature, p.top_p, p.max_tokens)),
            prompts,
            model=model,
            decoding=decoding,
            check=check,
        )
        for decoding, temperature in (("greedy", 0.0), ("sampled", p.temperature))
    )


def judge(
    engine: BaseEngine, ranked: pl.DataFrame, template: str, model: str, params: Params
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """JUDGED rows, the model's mean score of every held-out ranked answer; and the JUDGEMENTS rows behind them."""
    p = params.evaluate
    scale = Scale(**dict(params.judge.scale))
    prompts = judging.judge_prompts(template, ranked, scale).select(id="candidate_id", prompt="text")
    kind = params.judge_candidates.score
    probe = ScoreLogprobs(*scale.score_logprobs) if kind == "expected" else None
    completions = engine.complete(
        prompts, Sampling(p.judge_k, p.judge_temperature, p.top_p, p.judge_max_tokens, score_logprobs=probe)
    )
    judgements = judging.judgements(ranked, completions, model, scale)
    scores = judging.mean_scores(judgements, kind)
    judged = ranked.join(scores.drop("prompt_id"), on="candidate_id", maintain_order="left")
    return judged.with_columns(judge=pl.lit(model)).select(list(JUDGED.schema)), judgements


if __name__ == "__main__":
    command(main)
