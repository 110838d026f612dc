"""preview judge_seed: can this model judge? Some answers that people ranked, of few prompts the best and the worst
first, each judged once, and what to change where it cannot."""

from __future__ import annotations

import time
from typing import Any

import polars as pl

from stages.commands.preview_records import Record, of_seed, percent, share
from stages.commands.preview_space import Space
from stages.config.params import Params
from stages.console.errors import SrlmError
from stages.console.terminal import Console, stderr
from stages.method.evaluation.judge import judge_metrics
from stages.store import catalog
from stages.store.tables import RANKED, SEED_JUDGEMENTS

FIRST = 8
"""Answers that are judged, however long it takes; more of them in what is left of `SECONDS`."""
SECONDS = 60


def judge_seed(space: Space) -> pl.DataFrame:
    """The answers (RANKED columns) with score (null where it could not be read), text and finish_reason of one
    judgement each. Raises SrlmError where no model judges."""
    params = space.params
    judge = params.judge_seed.model
    if judge is None:
        raise SrlmError(f"no model judges where judge_seed.source is {params.judge_seed.source}. Next: srlm repro")
    answers = few_answers(space.ranked(), space.n)
    if answers.is_empty():
        raise SrlmError("no answers to judge: the seed data have no ranks (docs/data.md)")
    weights = space.place(judge)
    space.set(**{"judge_seed.k": 1, "judge_seed.answers_per_prompt": None})
    first, started = answers.head(FIRST), time.monotonic()
    stderr.print(f"{weights} judges {len(first)} ranked answers to {first['prompt_id'].n_unique()} prompts")
    judged, took = _judged(first, space), time.monotonic() - started
    more = answers.head(FIRST + int(FIRST * (SECONDS - took) / took)) if took < SECONDS else first
    if len(more) > len(first):
        judged = _judged(more, space)  # the first are in the cache
    if len(judged) < len(answers):
        stderr.print(f"{len(judged)} of {len(answers)} answers: more would take over {SECONDS} seconds here")
    return judged


def few_answers(ranked: pl.DataFrame, n: int) -> pl.DataFrame:
    """RANKED rows of the prompts with the shortest answers: of each prompt the best and the worst first."""
    place = pl.int_range(pl.len())
    return (
        ranked.sort("prompt_id", "human_rank", "candidate_id")
        .with_columns(
            from_an_end=pl.min_horizontal(place, pl.len() - 1 - place).over("prompt_id"),
            length=pl.col("response").str.len_chars().max().over("prompt_id"),
        )
        .filter(pl.struct("length", "prompt_id").rank("dense") <= max(1, n // 2))
        .sort("from_an_end", "length", "prompt_id", "human_rank")
        .head(n)
        .select(*RANKED.schema)
    )


def _judged(answers: pl.DataFrame, space: Space) -> pl.DataFrame:
    space.write(RANKED, answers.sort("candidate_id"))
    space.run("judge_seed")
    judgements = catalog.read(SEED_JUDGEMENTS, space.path).select("candidate_id", "score", "text", "finish_reason")
    return answers.join(judgements, on="candidate_id", maintain_order="left")


def verdict(judged: pl.DataFrame, params: Params) -> dict[str, Any]:
    """`readable` and `judgements`, the `readable_share` and `agreement` with people (value, low, high, n), `advice`."""
    pairs = judge_metrics(judged)["pairwise_accuracy"]
    return {
        "readable": judged["score"].count(),
        "judgements": len(judged),
        "readable_share": share(judged["score"].is_not_null().to_list()),
        "agreement": pairs,
        "advice": advice(judged, pairs, params),
    }


def tell(of: dict[str, Any], console: Console) -> None:
    console.print(f"readable: {percent(of['readable_share'], 'judgements')}")
    pairs = of["agreement"]
    agreement = f"{percent(pairs, 'pairs')} in people's order; chance: 50%, a tie is half"
    console.print(f"agreement: {agreement if pairs['n'] else 'no pair has two readable scores'}")
    for line in of["advice"]:
        console.print(f"- {line}", soft_wrap=True)


def records(space: Space) -> list[Record]:
    return of_seed(space)


def advice(judged: pl.DataFrame, pairs: Any, params: Params) -> list[str]:
    """What to change when it cannot judge, from what was counted; `pairs` is a figure with its value and n."""
    unread, cut = judged["score"].null_count(), (judged["finish_reason"] == "length").sum()
    lines = []
    if unread > len(judged) / 4:
        lines.append(
            f"{unread} of {len(judged)} judgements have no score line: this model does not do what "
            f"{params.judge.template} asks. Take a larger instruction-tuned model, a shorter judge.template, or for "
            "EFT another judge or people's ranks (judge_seed.source: judge, ranks)"
        )
    if cut:
        lines.append(
            f"{cut} were cut off at judge_seed.max_tokens, {params.judge_seed.max_tokens}: raise it, unless they only "
            "repeat themselves"
        )
    if not lines and pairs["n"] and pairs["value"] <= 0.55:
        lines.append("its scores hardly agree with people: take a larger model, or more tries (judge_seed.k)")
    if not lines and (pairs["low"] or 0) <= 0.5:
        lines.append(
            f"{pairs['n']} pairs are too few to tell its agreement from chance: more of them by -n {3 * len(judged)}"
        )
    return lines or ["this model can judge. Next: srlm repro"]
