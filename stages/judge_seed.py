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
            completions = judging.as_completions(ranked, written(ranked, params.split_seed.source))
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


def written(ranked: pl.DataFrame, source: str) -> list[str]:
    """The judgements that people wrote, one per answer."""
    if source != "tinyworld":
        raise ParamsError(
            f"judge_seed.source: written needs people who wrote judgements, and split_seed.source {source} has none. "
            "Use judge_seed.source: model"
        )
    from stages.tinyworld.reviews import review

    return [review(prompt, response) for prompt, response in ranked.select("prompt", "response").iter_rows()]


if __name__ == "__main__":
    command(main)
