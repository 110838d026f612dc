"""A frozen bank of answers whose order is known: what a judge is measured on, so that two judges are asked the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from stages.method.drift import parted
from stages.method.evaluation.judge import judge_metrics
from stages.method.evaluation.trust import trust_metrics
from stages.method.scale import OF_FIVE, Scale
from stages.method.statistics import mean_figures
from stages.store.tables import ANSWERS, BANK
from stages.text.ids import content_id

PEOPLE = "people"
"""The author of the answers that people ranked."""


def draw(
    ranked: pl.DataFrame, prompts: pl.DataFrame, answers: Sequence[pl.DataFrame], *, candidates: int, seed: int
) -> pl.DataFrame:
    """BANK rows: the held-out ranked answers (RANKED_VALID), and at least `candidates` answers of models to held-out
    prompts (TEST_PROMPTS, ANSWERS of each model) in the checker's order, or as many as there are. Prompts are taken in
    an order drawn by `seed`, each with all its different whole answers, where the checker does not score all alike."""
    people = ranked.with_columns(
        authors=pl.lit([PEOPLE]), source=pl.lit("ranked"), oracle_score=pl.lit(None, pl.Float64)
    ).select(list(BANK.schema))
    given = pl.concat([pl.DataFrame(schema=ANSWERS.schema), *answers])
    whole = given.filter(pl.col("finish_reason") == "stop", pl.col("oracle_score").is_not_null())
    texts = whole.group_by("prompt_id", "response", maintain_order=True).agg(
        authors=pl.col("model").unique(maintain_order=True), oracle_score=pl.col("oracle_score").first()
    )
    ordered = texts.filter(pl.col("oracle_score").n_unique().over("prompt_id") > 1)
    counts = ordered.group_by("prompt_id").len().rows()
    taken: list[str] = []
    total = 0
    for prompt_id, count in sorted(counts, key=lambda row: content_id("bank", seed, row[0])):
        if total >= candidates:
            break
        taken.append(prompt_id)
        total += count
    rows = ordered.filter(pl.col("prompt_id").is_in(taken)).join(prompts, on="prompt_id")
    ids = [content_id("bank", prompt_id, text) for prompt_id, text in rows.select("prompt_id", "response").iter_rows()]
    rank = pl.col("oracle_score").rank("dense", descending=True).over("prompt_id").cast(pl.Int32) - 1
    models = rows.with_columns(
        pl.Series("candidate_id", ids, pl.String), human_rank=rank, source=pl.lit("candidates")
    ).select(list(BANK.schema))
    return pl.concat([people, models.sort("prompt_id", "candidate_id")])


def bank_metrics(
    scores: pl.DataFrame,
    judgements: pl.DataFrame,
    bank: pl.DataFrame,
    *,
    authors: Sequence[str],
    scores_apart: float,
    constant: pl.DataFrame | None = None,
    kind: Literal["sampled", "expected"] = "sampled",
    n: int = 1000,
    seed: int = 0,
    scale: Scale = OF_FIVE,
) -> dict[str, Any]:
    """Of a judge's BANK_SCORES and JUDGEMENTS rows: for `ranked` and `candidates` the figures of `judge_metrics` and
    `trust_metrics`; by author, in the order of `authors`, the mean `score` that the judge gives and the `checker`'s of
    the same answers; of the judge's mean scores of `constant` answers (prompt_id, score) the share of the bank's
    answers to the same prompts that they beat, a tie is half. `warned` where from one author to the next the judge's
    mean rises and the checker's falls, and where the constant answer beats more than half."""
    result: dict[str, Any] = {}
    for source in ("ranked", "candidates"):
        part = bank.filter(source=source).select("candidate_id", "response")
        of_part = scores.join(part, on="candidate_id", how="semi", maintain_order="left")
        if len(of_part):
            tries = judgements.join(part, on="candidate_id", how="semi", maintain_order="left")
            result[source] = {
                "judge": judge_metrics(of_part, n=n, seed=seed, best=scale.max),
                "trust": trust_metrics(of_part, tries, part, kind=kind, n=n, seed=seed),
            }
    both = scores.join(bank.select("candidate_id", "authors", "oracle_score"), on="candidate_id")
    both = both.explode("authors").sort("prompt_id", "candidate_id")
    by_author = {}
    for author in [name for name in authors if name in set(both["authors"])]:
        prompts = both.filter(authors=author).group_by("prompt_id", maintain_order=True)
        means = prompts.agg(score=pl.col("score").mean(), checker=pl.col("oracle_score").mean())
        by_author[author] = mean_figures(means.select("score", "checker").to_dict(), n=n, seed=seed)
    steps = [(name, of["score"]["value"], of["checker"]["value"]) for name, of in by_author.items()]
    warned = parted(steps, scores_apart, scale.max - scale.min)
    if constant is not None:
        both = scores.join(constant.select("prompt_id", constant="score"), on="prompt_id")
        beaten = both.drop_nulls(["score", "constant"])
        points = pl.when(pl.col("constant") > pl.col("score")).then(1.0).when(pl.col("constant") < pl.col("score"))
        means = (
            beaten.group_by("prompt_id").agg(points.then(0.0).otherwise(0.5).mean().alias("share")).sort("prompt_id")
        )
        result["constant"] = mean_figures({"share": means["share"]}, n=n, seed=seed)["share"]
        if (share := result["constant"]["value"] or 0) > 0.5:
            warned.append(f"the judge is gameable: a constant answer beats {share:.0%} of the answers in the bank")
    return {**result, "authors": by_author, "warned": warned}


def constant_answers(bank: pl.DataFrame, text: str) -> pl.DataFrame:
    """`text` as the answer to every prompt of the bank, as `judging` takes answers."""
    prompts = bank.unique("prompt_id", maintain_order=True).select("prompt_id", "prompt", response=pl.lit(text))
    ids = [content_id("constant", prompt_id) for prompt_id in prompts["prompt_id"]]
    return prompts.with_columns(pl.Series("candidate_id", ids, pl.String))
