"""What a training came to, for its file of metrics: of its log alone, so that equal trainings give equal files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from stages.trainers.validation import LOSS

DIGITS = 6
"""Further digits may differ between machines; a metrics file should not."""


def figures(log: pl.DataFrame, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a log with a row per step. `final_loss`, and of DPO `reward_margin` and `reward_accuracy`: means of the last
    tenth of the steps, of one at least, for single steps are noisy. `valid_loss`: IFT_VALID's under the weights that
    were saved, those of `chosen_step` or else the last; null where it was not measured. `chosen`: how one of the models
    on the way was chosen; `matches_won` counts those in which it won more prompts than it lost."""
    last = log.tail(max(len(log) // 10, 1))
    means = {"final_loss": "loss"}
    if "margin" in log.columns:
        means |= {"reward_margin": "margin", "reward_accuracy": "accuracy"}
    step = chosen["step"] if chosen else None
    saved = log.filter(pl.col("step") == (step or len(log)))
    numbers = {"first_loss": log["loss"][0]} | {name: last[column].mean() for name, column in means.items()}
    numbers |= {LOSS: saved[LOSS][0] if LOSS in log.columns else None}
    return {
        "steps": len(log),
        "tokens": round(log["tokens"][-1]),
        **{name: value if value is None else round(value, DIGITS) for name, value in numbers.items()},
        "chosen_step": step,
        "matches_won": sum(won(match, step) for match in chosen["matches"]) if chosen else None,
    }


def won(match: Mapping[str, int], step: int | None) -> bool:
    """Whether the model of `step` took part and won."""
    sides = {"step": match["win"] - match["lose"], "against": match["lose"] - match["win"]}
    return any(match[side] == step and ahead > 0 for side, ahead in sides.items())
