"""Evaluation fine-tuning data (paper 2.1): judgements whose order agrees with people's, thinned where one score is too
common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
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
    K chances (see `chance`). `mean`: the mean scores of the K tries must agree, one chance; taken is of each answer the
    judgement whose score is nearest to its mean, of equally near ones by a hash of `(seed, candidate_id, k)`.
    """
    require_answers(judgements, ranked, "ranked answer")
    lowest, next_highest = pl.col("lowest"), pl.col("highest").shift(-1)
    # Scores of each rank, best rank first: if each rank agrees with the next, all do. The last has no next: null.
    in_order = (lowest > next_highest if agreement == "strict" else lowest >= next_highest).all()
    agreed = (
        _attempts(ranked, judgements, tries)
        .group_by("prompt_id", "k", "human_rank")
        .agg(pl.col("score").min().alias("lowest"), pl.col("score").max().alias("highest"))
        .sort("prompt_id", "k", "human_rank")
        .group_by("prompt_id", "k", maintain_order=True)
        .agg(in_order.alias("in_order"), apart=pl.col("highest").max() > pl.col("lowest").min(), ranks=pl.len())
        .filter(pl.col("in_order") & pl.col("apart") & (pl.col("ranks") > 1))
        .group_by("prompt_id")
        .agg(pl.col("k").min())
    )
    if tries == "first":
        taken = judgements.join(agreed, on=["prompt_id", "k"], how="semi")
    else:
        readable = judgements.drop_nulls("score").join(agreed, on="prompt_id", how="semi")
        hashes = [content_id(seed, *row) for row in readable.select("candidate_id", "k").iter_rows()]
        far = (pl.col("score") - pl.col("score").mean().over("candidate_id")).abs()
        nearest = readable.with_columns(pl.Series("hash", hashes, pl.String), far=far).sort("far", "hash")
        taken = nearest.unique("candidate_id", keep="first", maintain_order=True).select(judgements.columns)
    return taken.sort("prompt_id", "candidate_id")


def _attempts(ranked: pl.DataFrame, judgements: pl.DataFrame, tries: Tries) -> pl.DataFrame:
    """prompt_id, k, human_rank, score: what may agree with people, all answers of a prompt read. Each try is one; with
    `mean` their means are the only one, k = 0."""
    if tries == "mean":
        judgements = mean_scores(judgements).with_columns(k=pl.lit(0, pl.Int32))
    answers = ranked.select("candidate_id", "human_rank", answers=pl.len().over("prompt_id"))
    scored = judgements.join(answers, on="candidate_id")
    return scored.filter(pl.col("score").count().over("prompt_id", "k") == pl.col("answers")).select(
        "prompt_id", "k", "human_rank", "score"
    )


def chance(ranked: pl.DataFrame, judgements: pl.DataFrame, agreement: Agreement, tries: Tries = "first") -> float:
    """How many prompts a judge would agree on that gives these very scores to answers at random: the probability under
    all permutations of each attempt's scores, exact, summed over prompts."""
    misses: dict[str, float] = {}
    attempts = _attempts(ranked, judgements, tries).group_by("prompt_id", "k").agg("human_rank", "score")
    for prompt, _, ranks, scores in attempts.sort("prompt_id", "k").iter_rows():
        misses[prompt] = misses.get(prompt, 1.0) * (1 - permuted(ranks, scores, agreement))
    return sum(1 - miss for miss in misses.values())


def permuted(ranks: Sequence[int], scores: Sequence[float], agreement: Agreement) -> float:
    """The share of the permutations of `scores` over the answers of `ranks` that agree.

    In one that agrees, the sorted scores fill the ranks block by block. A block's answers may be permuted, and answers
    of one score be dealt to the blocks that it reaches into: never under `strict`, where no score may reach over a
    border.
    """
    if len(set(ranks)) < 2 or len(set(scores)) < 2:
        return 0.0
    blocks = list(zip(sorted(ranks), sorted(scores, reverse=True), strict=True))
    if agreement == "strict" and len({score for _, score in set(blocks)}) < len(set(blocks)):
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
