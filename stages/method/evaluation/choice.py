"""Which of the models on the way of a training is the best: each head to head against the best before it, on prompts
that are neither trained nor tested (paper 3.1: early stopping)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from stages.config.sections import Choose
from stages.console.errors import EngineError
from stages.method.answers import Check, answers
from stages.method.evaluation.match import OUTCOMES, compare_prompts, model_verdicts, oracle_verdicts

TEMPLATE = "stages/templates/compare.jinja"


class Ask(Protocol):
    """Greedy completions of `prompts` (id, prompt) by `model`, or the weights of it in `folder`."""

    def __call__(
        self, prompts: pl.DataFrame, model: str, *, max_tokens: int, folder: Path | None = None
    ) -> pl.DataFrame: ...


def chooser(
    choose: Choose,
    model: str,
    valid: pl.DataFrame | None,
    ask: Ask,
    template: Callable[[str], str],
    check: Check | None = None,
) -> Callable[[Mapping[int, Path]], tuple[int, dict[str, Any]]] | None:
    """What chooses among the models on the way to `model`, by step, on the prompts of `valid` (IFT rows); None where
    the last is taken: without rows, without a judge, and where the judge is the oracle, for who has no `check`. It
    raises EngineError when no comparison could be read."""
    judge, compare_max_tokens = choose.judge, choose.compare_max_tokens
    if valid is None or choose.by is None or (choose.by == "oracle" and check is None):
        return None
    prompts = valid.select(prompt_id="ift_id", prompt="instruction")
    text = template(TEMPLATE) if choose.by == "model" else ""

    def write(folder: Path) -> pl.DataFrame:
        asked = prompts.select(id="prompt_id", prompt="prompt")
        completions = ask(asked, model, max_tokens=choose.max_tokens, folder=folder)
        return answers(completions, prompts, model=model, decoding="greedy", check=check)

    def compare(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
        if choose.by == "oracle":
            return oracle_verdicts(a, b)
        both = compare_prompts(text, prompts, a, b)
        completions = ask(both.select(id="id", prompt="text"), judge, max_tokens=compare_max_tokens)
        return model_verdicts(a, b, both, completions, judge=judge)

    def best(steps: Mapping[int, Path]) -> tuple[int, dict[str, Any]]:
        step, matches = best_of(steps, write, compare)
        who = judge if choose.by == "model" else "oracle"
        unreadable = sum(match["unreadable"] for match in matches)
        if matches and unreadable == len(matches) * len(prompts):
            raise EngineError(
                f"none of {unreadable} comparisons by {who} could be read, so no model on the way to {model} is the "
                f"best. Set choose.judge to another, or choose.by to null"
            )
        return step, {"judge": who, "matches": matches}

    return best


def best_of(
    steps: Mapping[int, Path],
    write: Callable[[Path], pl.DataFrame],
    compare: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame],
) -> tuple[int, list[dict[str, int]]]:
    """The best model's step, and each match: `step`, `against` (the best before it), `win`, `tie`, `lose`,
    `unreadable`. A later model takes the place of the best only where it wins more than it loses. `write`: a model's
    ANSWERS rows; `compare`: VERDICTS rows of the first against the second."""
    best, *later = sorted(steps)
    if not later:  # shorter than `every_steps`
        return best, []
    written, matches = write(steps[best]), []
    for step in later:
        new = write(steps[step])
        verdicts = compare(new, written)["verdict"]
        counts = {outcome: int((verdicts == outcome).sum()) for outcome in OUTCOMES}
        matches.append({"step": step, "against": best, **counts, "unreadable": verdicts.null_count()})
        if counts["win"] > counts["lose"]:
            best, written = step, new
    return best, matches
