"""What a model answered: completions as rows of CANDIDATES and ANSWERS. White space around a text is no part of it, and
what the model thought before the answer stands beside it."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from stages.store.tables import ANSWERS, CANDIDATES
from stages.text.ids import content_id
from stages.text.thoughts import split

Check = Callable[[str, str], tuple[float, list[str]] | None]
"""A world's checker: the score of an answer to a prompt, 0 to 5, and the names of the points that it gives; None for a
prompt that it does not know."""


def candidates(completions: pl.DataFrame, model: str) -> pl.DataFrame:
    """CANDIDATES rows of completions (id, n, text, finish_reason, tokens) whose id is a prompt_id."""
    rows = []
    for prompt_id, n, text, finish_reason, tokens in _columns(completions):
        thought, response = split(text.strip())
        rows.append((content_id(prompt_id, model, n), prompt_id, model, n, response, finish_reason, tokens, thought))
    return pl.DataFrame(rows, schema=CANDIDATES.schema, orient="row")


def answers(
    completions: pl.DataFrame, prompts: pl.DataFrame, *, model: str, decoding: str, check: Check | None
) -> pl.DataFrame:
    """ANSWERS rows of completions whose id is a prompt_id of `prompts` (prompt_id, prompt). Without a `check`, the
    checker's score and points are unknown: null."""
    texts = dict(prompts.select("prompt_id", "prompt").iter_rows())
    rows = []
    for prompt_id, _, text, finish_reason, tokens in _columns(completions):
        thought, answer = split(text.strip())
        score, points = (check(texts[prompt_id], answer) if check else None) or (None, None)
        rows.append((prompt_id, model, decoding, answer, finish_reason, tokens, score, points, thought))
    return pl.DataFrame(rows, schema=ANSWERS.schema, orient="row")


def _columns(completions: pl.DataFrame) -> list[tuple[str, int, str, str, int]]:
    return completions.select("id", "n", "text", "finish_reason", "tokens").rows()
