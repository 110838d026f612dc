"""Evaluation fine-tuning data (paper 2.1): judgements whose order agrees with people's, thinned where one score is too
common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Literal

import polars as pl

from stages.method.judging import mean_scores, require_answers
from stages.store.tables import EFT
from stages.text.ids import content_id

Agreement = Literal["strict", "weak"]
Tries = Literal["first", "mean"]


def agreeing(
    ranked: pl.DataFrame, judgements: pl.DataFrame, agreement: Agreement, tries: Tries = "first", seed: int = 0
) -> pl.DataFrame:
    """The judgements (JUDGEMENTS rows), one per answer, of the prompts whose judge orders the answers as people do.

    `strict`: an answer that people ranked above another has the higher score; answers of equal rank are free. `weak`:
    ties of score are allowed, inversions are not, nor one score for all. A prompt whose answers people ranked all alike
    shows no agreement. Raises TableError when a judgement's answer is not in `ranked`.

    `tries` `first`: taken is the first try k that agrees, of those in which all answers were read; a random judge has
    K chances (see `chance`). `mean`: the mean scores of the K tries must agree, and so must what is taken, which is of
    each answer the judgement whose score is nearest to its mean, of equally near ones by a hash of
    `(seed, candidate_id, k)`: one chance.
    """
    require_answers(judgements, ranked, "ranked answer")
    agrees = pl.all_horizontal(_in_order("score", agreement), _in_order("mean", agreement))
    attempts = _attempts(ranked, judgements, tries, seed)
    agreed = (
        attempts.group_by("prompt_id", "attempt", "human_rank")
        .agg(*(getattr(pl.col(c), end)().alias(f"{end}_{c}") for c in ("score", "mean") for end in ("min", "max")))
        .sort("prompt_id", "attempt", "human_rank")
        .group_by("prompt_id", "attempt", maintain_order=True)
        .agg(agrees.alias("agrees"), ranks=pl.len())
        .filter(pl.col("agrees") & (pl.col("ranks") > 1))
        .group_by("prompt_id")
        .agg(pl.col("attempt").min())
    )
    taken = attempts.join(agreed, on=["prompt_id", "attempt"], how="semi")
    return judgements.join(taken, on=["candidate_id", "k"], how="semi").sort("prompt_id", "candidate_id")


def _in_order(score: str, agreement: Agreement) -> pl.Expr:
    """Whether the ranks of an attempt, best first, have falling scores, not all one. If each rank agrees with the next,
    all do; the last has no next: null."""
    lowest, highest = pl.col(f"min_{score}"), pl.col(f"max_{score}")
    each = lowest > highest.shift(-1) if agreement == "strict" else lowest >= highest.shift(-1)
    return each.all() & (highest.max() > lowest.min())


def _attempts(ranked: pl.DataFrame, judgements: pl.DataFrame, tries: Tries, seed: int) -> pl.DataFrame:
    """prompt_id, attempt, human_rank, candidate_id, k, score, mean: the judgements that may be taken together, where
    all answers of a prompt were read. Each try is an attempt, whose mean is its score; with `mean` there is one."""
    read = judgements.drop_nulls("score").with_columns(attempt="k", mean="score")
    if tries == "mean":
        hashes = [content_id(seed, *row) for row in read.select("candidate_id", "k").iter_rows()]
        means = mean_scores(judgements).select("candidate_id", mean="score")
        read = (
            read.drop("mean")
            .join(means, on="candidate_id")
            .with_columns(attempt=pl.lit(0, pl.Int32), hash=pl.Series(hashes, dtype=pl.String))
            .sort((pl.col("score") - pl.col("mean")).abs(), "hash")
            .unique("candidate_id", keep="first", maintain_order=True)
        )
    answers = ranked.select("candidate_id", "human_rank", answers=pl.len().over("prompt_id"))
    complete = pl.col("score").count().over("prompt_id", "attempt") == pl.col("answers")
    return (
        read.join(answers, on="candidate_id")
        .filter(complete)
        .select("prompt_id", "attempt", "human_rank", "candidate_id", "k", "score", "mean")
    )


def chance(
    ranked: pl.DataFrame, judgements: pl.DataFrame, agreement: Agreement, tries: Tries = "first", seed: int = 0
) -> float:
    """How many prompts a judge would agree on that gives these very scores to answers at random: the probability under
    all permutations of each attempt's scores, exact, summed over prompts."""
    misses: dict[str, float] = {}
    attempts = _attempts(ranked, judgements, tries, seed).group_by("prompt_id", "attempt")
    for prompt, _, ranks, *scores in (
        attempts.agg("human_rank", "mean", "score").sort("prompt_id", "attempt").iter_rows()
    ):
        misses[prompt] = misses.get(prompt, 1.0) * (1 - permuted(ranks, list(zip(*scores, strict=True)), agreement))
    return sum(1 - miss for miss in misses.values())


def permuted(ranks: Sequence[int], scores: Sequence[tuple[float, ...]], agreement: Agreement) -> float:
    """The share of the permutations of `scores` over the answers of `ranks` that agree, in each of the numbers that an
    answer has.

    In one that agrees, the sorted scores fill the ranks block by block. A block's answers may be permuted, and answers
    of one score be dealt to the blocks that it reaches into: never under `strict`, where no score may reach over a
    border.
    """
    blocks = list(zip(sorted(ranks), sorted(scores, reverse=True), strict=True))
    if len(set(ranks)) < 2 or any(len(set(numbers)) < 2 for numbers in zip(*scores, strict=True)):
        return 0.0
    by_rank = [[score for _, score in block] for _, block in groupby(blocks, key=itemgetter(0))]
    for better, worse in pairwise(by_rank):
        for low, high in zip(map(min, zip(*better, strict=True)), map(max, zip(*worse, strict=True)), strict=True):
            if low < high or (agreement == "strict" and low == high):
                return 0.0

    def arrangements(items: Iterable[Hashable]) -> int:
        return math.prod(map(math.factorial, Counter(items).values()))

    return arrangements(ranks) * arrangements(scores) / arrangements(blocks) / math.factorial(len(ranks))


def thin(judgements: pl.DataFrame, to: float, seed: int) -> pl.DataFrame:
    """Drop judgements of the commonest score until it is at most the share `to` of what remains (paper: many 4s); which
    ones stay is decided by a hash of `(seed, candidate_id)`. Of equally common scores the highest is thinned. Where all
    judgements have one score nothing is dropped, since that could not spread them."""
    commonest = judgements["score"].value_counts().sort("count", "score", descending=True)
    if len(commonest) < 2:
        return judgements
    score, count = commonest.row(0)
    rest = len(judgements) - count
    left = count if to >= 1 else min(count, math.floor(to * rest / (1 - to) + 1e-9))  # left / (left + rest) <= to
    ids = judgements.filter(score=score)["candidate_id"].to_list()
    dropped = sorted(ids, key=lambda candidate: content_id(seed, candidate))[left:]
    return judgements.filter((pl.col("score") != score) | ~pl.col("candidate_id").is_in(dropped))


def eft_rows(ranked: pl.DataFrame, judgements: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """EFT rows, sorted by eft_id: the rendered judge prompt (`prompts`: candidate_id, text; see
    `judging.judge_prompts`) and the judgement to imitate."""
    rows = (
        judgements.rename({"text": "response"})
        .join(prompts.select("candidate_id", instruction="text"), on="candidate_id")
        .join(ranked.select("candidate_id", "human_rank"), on="candidate_id")
    )
    ids = [content_id(*row) for row in rows.select("instruction", "response").iter_rows()]
    return rows.with_columns(pl.Series("eft_id", ids, pl.String)).select(*EFT.schema).sort("eft_id")


def counts(
    ranked: pl.DataFrame, judgements: pl.DataFrame, agreeing: pl.DataFrame, by_chance: float, rows: pl.DataFrame
) -> dict[str, Any]:
    """Figures of EFT for its metrics file: `agreeing_share` of the ranked prompts agree, `chance_share` would by
    chance; unparsed: judgements without a score; thinned: dropped from the agreeing ones."""
    prompts, agreeing_prompts = ranked["prompt_id"].n_unique(), agreeing["prompt_id"].n_unique()
    return {
        "ranked_prompts": prompts,
        "ranked_answers": len(ranked),
        "judgements": len(judgements),
        "unparsed": judgements["score"].null_count(),
        "agreeing_prompts": agreeing_prompts,
        "agreeing_share": round(agreeing_prompts / prompts, 6) if prompts else None,
        "chance_share": round(by_chance / prompts, 6) if prompts else None,
        "agreeing": len(agreeing),
        "thinned": len(agreeing) - len(rows),
        "eft": len(rows),
        "score_histogram": {f"{s:g}": n for s, n in rows["score"].value_counts().sort("score").iter_rows()},
    }
