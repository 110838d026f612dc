"""evaluate: one model as writer on held-out prompts, and as judge against held-out human ranks (paper 3.1).

    python -m stages.evaluate M1

As a writer it answers greedily and sampled; where the world has an oracle (the tiny world's checker) each answer gets
its points. As a judge it scores the held-out ranked answers as it scores candidates. Rows stay in data/EVAL, means with
95 % bootstrap intervals go to data/metrics.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.command import command
from stages.engines.base import BaseEngine
from stages.engines.open import stage_engine
from stages.engines.request import Sampling, ScoreLogprobs
from stages.method import judging
from stages.method.evaluation.judge import judge_metrics
from stages.method.evaluation.writer import writer_metrics
from stages.store.run import Run
from stages.store.tables import ANSWERS, JUDGED, RANKED_VALID, TEST_PROMPTS


def main(model: str, root: Path = Path()) -> None:
    """Write data/EVAL/MODEL and data/metrics/EVAL/MODEL.json."""
    params = load_params(root)
    with Run("evaluate", root, model) as run:
        prompts, ranked, template = run.read(TEST_PROMPTS), run.read(RANKED_VALID), run.template(params.judge.template)
        with stage_engine(params, "evaluate", model, run) as engine:
            answers = answer(engine, prompts, model, params)
            judged = judge(engine, ranked, template, model, params)
        run.write(ANSWERS, answers, model, engine)
        run.write(JUDGED, judged, model, engine)
        n, seed = params.evaluate.bootstrap, params.seed
        as_writer, as_judge = (
            writer_metrics(answers, n=n, seed=seed),
            judge_metrics(judged, n=n, seed=seed),
        )
        run.write_metrics("EVAL", {"writer": as_writer, "judge": as_judge}, model)


def answer(engine: BaseEngine, prompts: pl.DataFrame, model: str, params: Params) -> pl.DataFrame:
    """ANSWERS rows, greedy and sampled."""
    p = params.evaluate
    texts = dict(prompts.select("prompt_id", "prompt").iter_rows())
    rows = []
    for decoding, temperature in (("greedy", 0.0), ("sampled", p.temperature)):
        sampling = Sampling(1, temperature, p.top_p, p.max_tokens)
        completions = engine.complete(prompts.select(id="prompt_id", prompt="prompt"), sampling)
        for prompt_id, _, text, finish_reason, tokens, _ in completions.iter_rows():
            given = points(texts[prompt_id], text.strip(), p.oracle)
            rows.append((prompt_id, model, decoding, text.strip(), finish_reason, tokens, *given))
    return pl.DataFrame(rows, schema=ANSWERS.schema, orient="row")


def points(prompt: str, answer: str, oracle: str) -> tuple[float | None, list[str] | None]:
    """The checker's score and the names of its points; unknown (null) where there is no checker or it does not know the
    task."""
    if oracle == "none":
        return None, None
    from stages.tinyworld.oracle import score

    given = score(prompt, answer)
    return (None, None) if given is None else (float(given.total), list(given.given))


def judge(engine: BaseEngine, ranked: pl.DataFrame, template: str, model: str, params: Params) -> pl.DataFrame:
    """JUDGED rows: the model's mean score of every held-out ranked answer."""
    p = params.evaluate
    prompts = judging.judge_prompts(template, ranked).select(id="candidate_id", prompt="text")
    kind = params.judge_candidates.score
    probe = ScoreLogprobs(*judging.SCORE_LOGPROBS) if kind == "expected" else None
    completions = engine.complete(
        prompts, Sampling(p.judge_k, p.judge_temperature, p.top_p, p.judge_max_tokens, score_logprobs=probe)
    )
    scores = judging.mean_scores(judging.judgements(ranked, completions, judge=model), kind)
    return (
        ranked.join(scores.drop("prompt_id"), on="candidate_id", maintain_order="left")
        .with_columns(judge=pl.lit(model))
        .select(list(JUDGED.schema))
    )


if __name__ == "__main__":
    command(main)
