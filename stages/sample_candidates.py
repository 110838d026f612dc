"""sample_candidates: Mt answers each new prompt N times (paper 2.2, step 2).

    python -m stages.sample_candidates M1

With `build_pairs.rejected_from` an older model answers them as often, behind it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method.answers import candidates
from stages.store.run import Run
from stages.store.tables import CANDIDATES, PROMPTS


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/candidates.parquet."""
    params = load_params(root)
    entry(params.aift, "aift", model)
    p = params.sample_candidates
    with Run("sample_candidates", root, model) as run:
        prompts = run.read(PROMPTS, model).filter(pl.col("dropped").is_null())
        sampling = Sampling(p.n, p.temperature, p.top_p, p.max_tokens)
        with stage_engine(params, "sample_candidates", model, run) as engine:
            completions = engine.complete(prompts.select(id="prompt_id", prompt="prompt"), sampling)
        rows = candidates(completions, model)
        if older := params.rejected_from(model):
            with stage_engine(params, "sample_candidates", older, run) as other:
                completions = other.complete(prompts.select(id="prompt_id", prompt="prompt"), sampling)
            rows = pl.concat([rows, candidates(completions.with_columns(pl.col("n") + p.n), older)])
        run.write(CANDIDATES, rows, model, engine)
        print(f"AIFT({model}): {len(rows)} candidates, {rows.filter(finish_reason='length').height} cut off")


if __name__ == "__main__":
    command(main)
