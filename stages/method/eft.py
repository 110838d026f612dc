"""Evaluation fine-tuning data (paper 2.1): judgements whose order agrees with people's, thinned where one score is too
common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise, permutations
from operator import itemgetter
from typing import Literal, get_args

import numpy as np
import polars as pl

from stages.method.judging import mean_scores, require_answers
from stages.store.tables import EFT
from stages.text.ids import content_id

Agreement = Literal["strict", "weak"] | float
"""What counts as people's order; a number is the least Kendall's tau-b."""
Tries = Literal["first", "mean"]
TRIES: tuple[Tries, ...] = get_args(Tries)
ENUMERATED = 7
"""Answers whose 5,040 orders are all looked at; of more answers `DRAWN` orders are drawn."""
DRAWN = 10_000
ROUNDING = 1e-9


def agreeing(
    ranked: pl.DataFrame, judgements: pl.DataFrame, agreement: Agreement, tries: Tries = "first", seed: int = 0
) -> pl.DataFrame:
    """The judgements (JUDGEMENTS rows), one per answer, of the prompts whose judge orders the answers as people do (see
    `agrees`). Raises TableError when a judgement's answer is not in `ranked`.

    `tries` `first`: taken is the first try k that agrees, of those in which all answers were read; a random judge has
    K chances (see `chance`). `mean`: the mean scores of the K tries must agree, and so must what is taken, which is of
    each answer the judgement whose score is nearest to its mean, of equally near ones by a hash of
    `(seed, candidate_id, k)`: one chance.
    """
    require_answers(judgements, ranked, "ranked answer")
    attempts, first = attempts_of(ranked, judgements, tries, seed), dict[str, int]()
    for prompt, attempt, ranks, *scores in scores_of(attempts):
        if prompt not in first and all(agrees(ranks, numbers, agreement) for numbers in scores):
            first[prompt] = attempt
    agreed = pl.DataFrame([*first.items()], attempts.select("prompt_id", "attempt").schema, orient="row")
    taken = attempts.join(agreed, on=["prompt_id", "attempt"], how="semi")
    return judgements.join(taken, on=["candidate_id", "k"], how="semi").sort("prompt_id", "candidate_id")


def agrees(ranks: Sequence[int], scores: Sequence[float], agreement: Agreement) -> bool:
    """Whether `scores` put answers in the order of people's `ranks`, 0 best.

    `strict`: an answer that people ranked above another has the higher score; answers of equal rank are free. `weak`:
    ties of score are allowed, inversions are not. A number: Kendall's tau-b is at least that. One rank or one score for
    all shows no agreement.
    """
    if len(set(ranks)) < 2 or len(set(scores)) < 2:
        return False
    if not isinstance(agreement, str):
        return bool(taus(ranks, [scores])[0] > agreement - ROUNDING)
    rows = sorted(zip(ranks, scores, strict=True))
    by_rank = [[score for _, score in block] for _, block in groupby(rows, key=itemgetter(0))]
    pairs = [(min(better), max(worse)) for better, worse in pairwise(by_rank)]
    return all(low > high if agreement == "strict" else low >= high for low, high in pairs)


def taus(ranks: Sequence[int], scores: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each row of `scores` with people's order, as `scipy.stats.kendalltau`, for thousands of rows
    at once; NaN for one rank or one score."""
    rows, (one, other) = np.asarray(scores, float), np.triu_indices(len(ranks), 1)
    order = np.sign(np.take(ranks, other) - np.take(ranks, one))
    judged = np.sign(rows[:, one] - rows[:, other])
    with np.errstate(invalid="ignore"):
        tau: np.ndarray = judged @ order / np.sqrt(np.count_nonzero(order) * np.count_nonzero(judged, axis=1))
    return tau


def attempts_of(ranked: pl.DataFrame, judgements: pl.DataFrame, tries: Tries, seed: int) -> pl.DataFrame:
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


def scores_of(attempts: pl.DataFrame) -> Iterator[tuple[str, int, list[int], list[float], list[float]]]:
    """prompt_id, attempt, ranks, mean scores, scores of each attempt, in this order."""
    each = attempts.group_by("prompt_id", "attempt").agg(pl.col("human_rank", "mean", "score").sort_by("candidate_id"))
    yield from each.sort("prompt_id", "attempt").iter_rows()


def chance(
    ranked: pl.DataFrame, judgements: pl.DataFrame, agreement: Agreement, tries: Tries = "first", seed: int = 0
) -> float:
    """How many prompts a judge would agree on that gives these very scores to answers at random: the probability under
    all permutations of each attempt's scores, summed over prompts; exact but for tau with more than `ENUMERATED`
    answers."""
    misses: dict[str, float] = {}
    for prompt, _, ranks, *scores in scores_of(attempts_of(ranked, judgements, tries, seed)):
        order = (tuple(sorted({*numbers}).index(n) for n in numbers) for numbers in scores)  # few patterns, one cache
        dealt = permuted(tuple(sorted(ranks)), tuple(sorted(zip(*order, strict=True))), agreement, seed)
        misses[prompt] = misses.get(prompt, 1.0) * (1 - dealt)
    return sum(1 - miss for miss in misses.values())


@lru_cache(maxsize=4096)
def permuted(
    ranks: tuple[int, ...], scores: tuple[tuple[float, ...], ...], agreement: Agreement, seed: int = 0
) -> float:
    """The share of the permutations of `scores` over the answers of `ranks` that agree, in each of the numbers that an
    answer has.

    For tau they are looked at one by one, or `DRAWN` of them, by a hash of the arguments. Else, in one that agrees, the
    sorted scores fill the ranks block by block. A block's answers may be permuted, and answers of one score be dealt to
    the blocks that it reaches into: never under `strict`, where no score may reach over a border.
    """
    blocks = list(zip(sorted(ranks), sorted(scores, reverse=True), strict=True))
    if len(set(ranks)) < 2 or any(len(set(numbers)) < 2 for numbers in zip(*scores, strict=True)):
        return 0.0
    if not isinstance(agreement, str):
        key = content_id(seed, *ranks, repr(scores)) if len(ranks) > ENUMERATED else ""
        dealt = np.asarray(scores)[_orders(len(ranks), key)]
        agree = [taus(ranks, dealt[..., number]) > agreement - ROUNDING for number in range(dealt.shape[-1])]
        return float(np.all(agree, axis=0).mean())
    by_rank = [[score for _, score in block] for _, block in groupby(blocks, key=itemgetter(0))]
    for better, worse in pairwise(by_rank):
        for low, high in zip(map(min, zip(*better, strict=True)), map(max, zip(*worse, strict=True)), strict=True):
            if low < high or (agreement == "strict" and low == high):
                return 0.0

    def arrangements(items: Iterable[Hashable]) -> int:
        return math.prod(map(math.factorial, Counter(items).values()))

    return arrangements(ranks) * arrangements(scores) / arrangements(blocks) / math.factorial(len(ranks))


@lru_cache(maxsize=16)
def _orders(n: int, key: str) -> np.ndarray:
    """Indices of all orders of n answers, a row each; with a `key`, of orders drawn by it."""
    if not key:
        return np.array(list(permutations(range(n))))
    rng = np.random.default_rng(int(key, 16))
    return rng.permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)


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
