"""judge_seed: judgements of the human-ranked answers, from which EFT is chosen (paper 2.1).

    python -m stages.judge_seed

`source: model` is the paper's way: the SFT baseline judges every answer K times. `source: written` takes judgements
that people wrote; only the tiny world has such people.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import ParamsError
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method import judging
from stages.store.run import Run
from stages.store.tables import RANKED, SEED_JUDGEMENTS

JUDGE = "SFT"


def main(root: Path = Path()) -> None:
    """Write data/EFT/judgements.parquet."""
    params = load_params(root)
    p = params.judge_seed
    with Run("judge_seed", root) as run:
        ranked = run.read(RANKED)
        if p.source == "written":
            judge, engine = "people", None
            completions = written(ranked, params.split_seed.source)
        else:
            judge, prompts = JUDGE, judging.judge_prompts(run.template(params.judge.template), ranked)
            with stage_engine(params, "judge_seed", judge, run) as engine:
                completions = engine.complete(
                    prompts.select(id="candidate_id", prompt="text"),
                    Sampling(p.k, p.temperature, p.top_p, p.max_tokens),
                )
        judgements = judging.judgements(ranked, completions, judge=judge)
        run.write(SEED_JUDGEMENTS, judgements, engine=engine)
        print(f"seed judgements: {len(judgements)}, of which {judgements['score'].null_count()} could not be read")


def written(ranked: pl.DataFrame, source: str) -> pl.DataFrame:
    """One judgement per answer, as completions (id, n, text, finish_reason, tokens)."""
    if source != "tinyworld":
        raise ParamsError(
            f"judge_seed.source: written needs people who wrote judgements; split_seed.source {source} has none. Use "
            f"judge_seed.source: model"
        )
    from stages.tinyworld.reviews import review

    texts = [review(row["prompt"], row["response"]) for row in ranked.iter_rows(named=True)]
    return ranked.select(
        pl.col("candidate_id").alias("id"),
        pl.lit(0, pl.Int32).alias("n"),
        pl.Series("text", texts, pl.String),
        pl.lit("stop").alias("finish_reason"),
        pl.Series("tokens", [len(t.split()) for t in texts], pl.Int32),
        pl.lit(None, pl.List(pl.Float64)).alias("probs"),
    )


if __name__ == "__main__":
    command(main)
