"""Evaluation fine-tuning data (paper 2.1): judgements whose order agrees with people's, thinned where one score is too
common."""

from __future__ import annotations

import math
from typing import Literal

import polars as pl

from stages.console.errors import TableError
from stages.store.tables import EFT
from stages.text.ids import content_id


def agreeing(ranked: pl.DataFrame, judgements: pl.DataFrame, agreement: Literal["strict", "weak"]) -> pl.DataFrame:
    """The judgements (JUDGEMENTS rows) of each prompt's first try k at which the judge's order agrees with people's.

    A try counts when all answers of the prompt were read in it. `strict`: an answer that people ranked above another
    has the higher score; answers of equal rank are free. `weak`: ties of score are allowed, inversions are not, nor one
    score for all. A prompt whose answers people ranked all alike shows no agreement, so it is left out. Raises
    TableError when a judgement's answer is not in `ranked`.
    """
    stray = judgements.join(ranked, on="candidate_id", how="anti", maintain_order="left")
    if len(stray):
        raise TableError(
            f"{len(stray)} judgements are of no ranked answer, the first of {stray['candidate_id'][0]!r}. Run "
            f"judge_seed again"
        )
    answers = ranked.group_by("prompt_id").agg(pl.len().alias("answers"))
    judged = judgements.join(ranked.select("candidate_id", "human_rank"), on="candidate_id")
    # Scores of each rank in a try, best rank first: if each rank agrees with the next, all ranks agree.
    ranks = judged.group_by("prompt_id", "k", "human_rank").agg(
        pl.col("score").min().alias("lowest"),
        pl.col("score").max().alias("highest"),
        pl.col("score").count().alias("read"),
    )
    lowest, highest_of_next = pl.col("lowest"), pl.col("highest").shift(-1)
    in_order = (
        lowest > highest_of_next if agreement == "strict" else lowest >= highest_of_next
    ).all()  # the last rank has no next: null, ignored
    tries = (
        ranks.sort("prompt_id", "k", "human_rank")
        .group_by("prompt_id", "k", maintain_order=True)
        .agg(
            pl.col("read").sum(),
            in_order.alias("in_order"),
            (pl.col("human_rank").n_unique() > 1).alias("ranked_apart"),
            (pl.col("highest").max() > pl.col("lowest").min()).alias("scored_apart"),
        )
        .join(answers, on="prompt_id", maintain_order="left")
        .filter(
            (pl.col("read") == pl.col("answers")) & pl.col("in_order") & pl.col("ranked_apart") & pl.col("scored_apart")
        )
        .group_by("prompt_id")
        .agg(pl.col("k").min())
    )
    return judgements.join(tries, on=["prompt_id", "k"], how="semi").sort("prompt_id", "candidate_id")


def thin(judgements: pl.DataFrame, to: float, seed: int) -> pl.DataFrame:
    """Drop judgements of the commonest score until it is at most the share `to` of what remains (paper: many 4s).

    Which ones stay is decided by a hash of `(seed, candidate_id)`. Of equally common scores the highest is thinned.
    Only that one score is thinned, once; where all judgements have one score nothing is dropped, since that could not
    spread them.
    """
    commonest = judgements["score"].value_counts().sort("count", "score", descending=True)
    if len(commonest) < 2:
        return judgements
    score, count = commonest.row(0)
    rest = len(judgements) - count
    keep = count if to >= 1 else min(count, math.floor(to * rest / (1 - to) + 1e-9))  # kept / (kept + rest) <= to
    ids = judgements.filter(pl.col("score") == score)["candidate_id"].to_list()
    dropped = sorted(ids, key=lambda candidate: content_id(seed, candidate))[keep:]
    return judgements.filter((pl.col("score") != score) | ~pl.col("candidate_id").is_in(dropped))


def eft_rows(ranked: pl.DataFrame, judgements: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """EFT rows, sorted by eft_id: the rendered judge prompt (`prompts`: candidate_id, text; see
    `judging.judge_prompts`) and the judgement to imitate."""
    joined = judgements.join(
        prompts.select("candidate_id", pl.col("text").alias("instruction")), on="candidate_id"
    ).join(ranked.select("candidate_id", "human_rank"), on="candidate_id")
    ids = [
        content_id(instruction, response) for instruction, response in joined.select("instruction", "text").iter_rows()
    ]
    rows = joined.with_columns(pl.Series("eft_id", ids, dtype=pl.String), pl.col("text").alias("response"))
    return rows.select(*EFT.schema).sort("eft_id")
