"""Constraints behind the prompts of a table."""

from __future__ import annotations

import random

import polars as pl

from stages.constraints.sentences import add, draw
from stages.text.ids import content_id


def constrain(prompts: pl.DataFrame, *, seed: int, share: float = 1.0) -> pl.DataFrame:
    """`prompts` (prompt_id, prompt; PROMPTS rows that were dropped stay as they are), a `share` of them with
    constraints.

    Which ones, and what they ask for, is decided by `(seed, prompt_id)`. A prompt with constraints has the id of its
    new text, also where it stands among `shots`.
    """
    fits = "dropped" not in prompts.columns or pl.col("dropped").is_null()
    texts: dict[str, str] = {}
    for prompt_id, prompt in prompts.filter(fits).select("prompt_id", "prompt").iter_rows():
        if random.Random(f"{seed}\x1f{prompt_id}").random() < share:
            texts[prompt_id] = add(prompt, draw(seed, prompt_id))
    ids = {prompt_id: content_id(text) for prompt_id, text in texts.items()}
    result = prompts.with_columns(
        pl.col("prompt_id").replace(ids),
        prompt=pl.struct("prompt_id", "prompt").map_elements(
            lambda row: texts.get(row["prompt_id"], row["prompt"]), return_dtype=pl.String
        ),
    )
    if "shots" in prompts.columns:
        result = result.with_columns(pl.col("shots").list.eval(pl.element().replace(ids)))
    return result
