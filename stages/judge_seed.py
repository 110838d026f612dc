"""judge_seed: judgements of the human-ranked answers, from which EFT is chosen (paper 2.1).

    python -m stages.judge_seed

`source: model` is the paper's way: the SFT baseline judges every answer K times; with `judge` another model does. Where
none can, `ranks` turns people's ranks into judgements. `written` takes judgements that people wrote; only the tiny
world has such people.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import ParamsError, TableError
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method import judging, seed_judging
from stages.method.scale import Scale
from stages.method.score_line import score_line
from stages.store.run import Run
from stages.store.tables import RANKED, SEED_JUDGEMENTS


def main(root: Path = Path()) -> None:
    """Write data/EFT/judgements.parquet."""
    params = load_params(root)
    p = params.judge_seed
    with Run("judge_seed", root) as run:
        ranked = run.read(RANKED)
        if ranked.is_empty():
            raise TableError(
                "no answers to judge: the seed data have no ranks, so that they make IFT and no EFT. Bring ranked "
                "answers (docs/data.md), or stop at the SFT baseline: dvc repro train_sft_baseline"
            )
        answers = seed_judging.draw(ranked, p.answers_per_prompt, params.seed)
        template, engine, scale = run.template(params.judge.template), None, Scale(**dict(params.judge.scale))
        if judge := p.model:
            prompts = judging.judge_prompts(template, answers, scale)
            with stage_engine(params, "judge_seed", judge, run) as engine:
                completions = engine.complete(
                    prompts.select(id="candidate_id", prompt="text"),
                    Sampling(p.k, p.temperature, p.top_p, p.max_tokens),
                )
        elif p.source == "ranks":
            judge, line = "ranks", score_line(template, scale)[0] or f"Score: {scale.example}"
            halves = params.judge_candidates.score == "sampled"  # an expected score is of whole ones
            texts = seed_judging.by_rank(ranked, run.template(p.path), line, params.seed, halves=halves, scale=scale)
            everyone = judging.as_completions(ranked, texts)
            completions = everyone.filter(pl.col("id").is_in(answers["candidate_id"].implode()))
        else:
            judge, completions = "people", judging.as_completions(answers, written(answers, params.split_seed.source))
        judgements = judging.judgements(answers, completions, judge, scale)
        run.write(SEED_JUDGEMENTS, judgements, engine=engine)
        print(
            f"seed judgements by {judge}: {len(judgements)} of {len(answers)} answers, of which "
            f"{judgements['score'].null_count()} could not be read"
        )


def written(ranked: pl.DataFrame, source: str) -> list[str]:
    """The judgements that people wrote, one per answer."""
    if source != "tinyworld":
        raise ParamsError(
            f"judge_seed.source: written needs people who wrote judgements, and split_seed.source {source} has none. "
            "Use judge_seed.source: model, judge or ranks"
        )
    from stages.tinyworld.reviews import review

    return [review(prompt, response) for prompt, response in ranked.select("prompt", "response").iter_rows()]


if __name__ == "__main__":
    command(main)
