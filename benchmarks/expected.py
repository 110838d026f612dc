"""Sampled judgements beside expected scores, on the answers of a finished default run: cost, ties, pair yield,
agreement with held-out ranks.

    python -m benchmarks.expected RUN [--models M1 --models M2]      RUN: a folder in which `srlm repro` has run

Every candidate and every held-out ranked answer is judged again by the run's own judge, K times with the place of the
score probed. `sampled` reads the numbers that it wrote, `expected` takes its own probabilities of 0 to 5 there. `right
pairs`: the tiny world's checker, too, likes chosen better.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import typer

from stages.config.load import load_params
from stages.config.params import Params
from stages.engines.open import open_engine
from stages.engines.request import Sampling, ScoreLogprobs
from stages.method import judging, pairing
from stages.method.evaluation.judge import judge_metrics
from stages.store import catalog
from stages.store.tables import CANDIDATES, PROMPTS, RANKED_VALID
from stages.tinyworld.oracle import score

COLUMNS = (
    "AIFT",
    "score",
    "judgements",
    "ties %",
    "pair yield %",
    "right pairs %",
    "pairwise accuracy %",
    "tied ranks %",
    "Spearman",
)


def main(run: Path, models: Annotated[list[str], typer.Option()] = ["M1", "M2"]) -> None:  # noqa: B006  # typer's way
    """Print one row per model, kind of score and number of judgements, as Markdown."""
    params = load_params(run)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for model in models:
        candidates = catalog.read(CANDIDATES, run, model)
        prompts = catalog.read(PROMPTS, run, model)
        texts = prompts.select("prompt_id", "prompt")
        answers = judging.distinct(candidates).join(texts, on="prompt_id", maintain_order="left")
        ranked = catalog.read(RANKED_VALID, run)
        of_candidates, of_ranked = judged(run, params, model, answers, ranked)
        for kind, k in (("sampled", 3), ("sampled", 1), ("expected", 1), ("expected", 3)):
            rows = figures(params, prompts, candidates, of_candidates, ranked, of_ranked, kind, k)
            print(f"| {model} | {kind} | {k} | {' | '.join(rows)} |", flush=True)


def judged(run: Path, params: Params, model: str, *answers: pl.DataFrame) -> list[pl.DataFrame]:
    """JUDGEMENTS rows of each table of answers, with `score` and `expected`."""
    p, template = params.judge_candidates, (run / params.judge.template).read_text()
    sampling = Sampling(
        3, p.temperature, p.top_p, p.max_tokens, score_logprobs=ScoreLogprobs(*judging.OF_FIVE.score_logprobs)
    )
    with open_engine(
        params.engine, params.hardware, catalog.model_dir(run, model), model=model, seed=params.seed
    ) as engine:
        prompts = [judging.judge_prompts(template, some).select(id="candidate_id", prompt="text") for some in answers]
        return [
            judging.judgements(some, engine.complete(them, sampling), judge=model)
            for some, them in zip(answers, prompts, strict=True)
        ]


def figures(
    params: Params,
    prompts: pl.DataFrame,
    candidates: pl.DataFrame,
    of_candidates: pl.DataFrame,
    ranked: pl.DataFrame,
    of_ranked: pl.DataFrame,
    kind: Literal["sampled", "expected"],
    k: int,
) -> list[str]:
    """What the first `k` judgements of each answer come to."""

    def means(judgements: pl.DataFrame) -> pl.DataFrame:
        return judging.mean_scores(judgements.filter(pl.col("k") < k), kind)

    scores = pairing.fates(
        candidates,
        means(judging.pool(candidates, of_candidates)),
        min_margin=params.build_pairs.min_margin,
        rho=None,
        signal="judge",
        seed=params.seed,
    )
    pairs = pairing.pairs(prompts, candidates, scores)
    kept = prompts.filter(pl.col("dropped").is_null())
    ties = scores.filter(pl.col("fate") == "tied")["prompt_id"].n_unique()
    right = [
        points(row["prompt"], row["chosen"]) > points(row["prompt"], row["rejected"])
        for row in pairs.iter_rows(named=True)
    ]
    agreement = judge_metrics(ranked.join(means(of_ranked).drop("prompt_id"), on="candidate_id"), n=100)

    def percent(figure: Any) -> str:
        return f"{100 * figure['value']:.1f}"

    shares = [ties / len(kept), len(pairs) / len(kept), sum(right) / len(right)]
    return [
        *(f"{100 * share:.1f}" for share in shares),
        percent(agreement["pairwise_accuracy"]),
        percent(agreement["tie_share"]),
        f"{agreement['spearman']['value']:.3f}",
    ]


def points(prompt: str, answer: str) -> int:
    """The checker's; -1 for a prompt that is no task of the world, where all answers are alike to it."""
    given = score(prompt, answer)
    return -1 if given is None else given.total


if __name__ == "__main__":
    typer.run(main)
