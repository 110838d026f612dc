"""How much disk a run takes, from `params.yaml` and the sizes of the models that it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stages.config.params import Params

BYTES_OF_TOKEN = 4
"""Of text, about; tables are compressed, so what they take is mostly less."""
BYTES_OF_WEIGHT = 4
"""Trained models are saved in float32, whatever `dtype` they are trained in."""
RANKED = 4
"""Answers to a prompt of the seed data that people ranked, about."""


class Model(NamedTuple):
    """A model that the method does not train."""

    weights: int
    bytes: int


class Forecast(NamedTuple):
    """Bytes of one copy of each kind that a run from nothing to the end leaves, at most: every text as long as it may
    get."""

    given: int
    """Models that the method does not train."""
    trained: int | None
    """None where the size of M0, after which they all are, is not known."""
    tables: int
    finished: int
    """Cached completions."""


def forecast(params: Params, given: Mapping[str, Model]) -> Forecast:
    """`given`: each model of `base` and `external`. SFT and M1 are trained beside those of `models` and
    `positive_only`, all as large as M0."""
    trained = 2 + len(params.models) + len(params.positive_only)
    tokens = params.split_seed.eft_prompts * RANKED * params.judge_seed.k * params.judge_seed.max_tokens
    pairs = 0
    for aift in params.aift.values():
        answers = aift.prompts * params.sample_candidates.n
        tokens += aift.prompts * params.write_prompts.max_tokens + answers * params.sample_candidates.max_tokens
        tokens += answers * params.judge_candidates.k * params.judge_candidates.max_tokens
        pairs += 2 * aift.prompts * params.sample_candidates.max_tokens
    of = params.evaluate
    for_one = (
        2 * params.split_seed.test_prompts * of.max_tokens
        + params.split_seed.test_ranked * RANKED * of.judge_k * of.judge_max_tokens
    )
    in_both_orders = 0 if of.compare_by == "oracle" else 2 * of.compare_max_tokens
    tokens += (
        len(params.evaluated) * for_one + len(params.head_to_head) * 2 * params.split_seed.test_prompts * in_both_orders
    )
    return Forecast(
        given=sum(model.bytes for model in given.values()),
        trained=trained * given["M0"].weights * BYTES_OF_WEIGHT if "M0" in given else None,
        tables=(tokens + pairs) * BYTES_OF_TOKEN,
        finished=tokens * BYTES_OF_TOKEN,
    )
