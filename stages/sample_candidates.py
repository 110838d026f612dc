"""sample_candidates: Mt answers each new prompt N times (paper 2.2, step 2).

python -m stages.sample_candidates M1
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import load_params
from stages.console.command import command
from stages.engines.base import chat_requests
from stages.engines.open import open_engine
from stages.engines.request import Completion, Sampling
from stages.store.run import Run
from stages.store.tables import CANDIDATES, PROMPTS
from stages.text.ids import content_id


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/candidates.parquet."""
    params = load_params(root)
    p = params.sample_candidates
    with Run("sample_candidates", root, model) as run:
        prompts = run.read(PROMPTS, model).filter(pl.col("dropped").is_null())
        with open_engine(
            params.engine, params.hardware, run.model(model), model=model, seed=params.seed, run=run
        ) as engine:
            said = engine.generate(
                chat_requests(prompts, "prompt_id", "prompt"), Sampling(p.n, p.temperature, p.top_p, p.max_tokens)
            )
        run.write(CANDIDATES, candidates(said, model), model)
        print(f"AIFT({model}): {len(said)} candidates, {sum(c.finish_reason == 'length' for c in said)} cut off")


def candidates(said: list[Completion], model: str) -> pl.DataFrame:
    """CANDIDATES rows of completions whose id is a prompt_id."""
    rows = [(content_id(c.id, model, c.n), c.id, model, c.n, c.text.strip(), c.finish_reason, c.tokens) for c in said]
    return pl.DataFrame(rows, schema=CANDIDATES.schema, orient="row")


if __name__ == "__main__":
    command(main)
