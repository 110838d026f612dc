"""Pairs of judgements, of answers whose order is known without the judge.

A judgement is right where its score puts the answer on the right side of the mean score of the other one, and wrong
where on the wrong side; equal is neither. Of each answer a right judgement is chosen, a wrong one rejected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from stages.method.judging import mean_scores
from stages.method.likeness import Interned
from stages.method.pairing import CLOSE
from stages.method.scale import Scale
from stages.method.verdicts import alone
from stages.store.tables import JUDGE_PAIRS
from stages.text.ids import content_id

COUPLES = 4
"""Of answers, for each pair of judgements that is wanted: not every answer is judged both rightly and wrongly."""
COUPLE = ("prompt_id", "prompt", "better_id", "better", "worse_id", "worse")


def ranked_couples(ranked: pl.DataFrame) -> pl.DataFrame:
    """Two answers (RANKED rows) to one prompt that people ranked apart: columns COUPLE."""
    sides = {
        side: ranked.select(
            "prompt_id",
            "prompt",
            pl.col("candidate_id").alias(f"{side}_id"),
            pl.col("response").alias(side),
            pl.col("human_rank").alias(f"{side}_rank"),
        )
        for side in ("better", "worse")
    }
    couples = sides["better"].join(sides["worse"].drop("prompt"), on="prompt_id")
    return couples.filter(pl.col("better_rank") < pl.col("worse_rank")).select(COUPLE).sort("better_id", "worse_id")


def changed_prompt_couples(
    prompts: pl.DataFrame, candidates: pl.DataFrame, most: int, lang: str | None, seed: int
) -> pl.DataFrame:
    """An answer to a prompt x, and an answer to the prompt x' of `prompts` (prompt_id, prompt) that is the most like it
    by ROUGE-L, which cannot be the better answer to x; none that an answer to x equals. `most` prompts x, by a hash.
    Columns COUPLE."""
    rows = prompts.sort("prompt_id")
    ids, texts = rows["prompt_id"].to_list(), dict(rows.select("prompt_id", "prompt").iter_rows())
    answers: dict[str, list[tuple[str, str]]] = {}
    usable = candidates.filter(pl.col("finish_reason") != "length")
    hashes = pl.Series("hash", [content_id(seed, "x'", candidate) for candidate in usable["candidate_id"]], pl.String)
    for prompt, *answer in (
        usable.with_columns(hashes).sort("hash").select("prompt_id", "candidate_id", "response").iter_rows()
    ):
        answers.setdefault(prompt, []).append((answer[0], answer[1]))
    answered = [i for i, prompt in enumerate(ids) if prompt in answers]
    drawn = sorted(answered, key=lambda i: content_id(seed, "x", ids[i]))[:most]
    couples = []
    for i, like in zip(
        drawn, _likeness([texts[ids[i]] for i in drawn], [texts[prompt] for prompt in ids], lang), strict=True
    ):
        own, own_texts = answers[ids[i]][0], {text for _, text in answers[ids[i]]}
        for j in np.argsort(-like, kind="stable"):
            other = next((a for a in answers.get(ids[j], ()) if a[1] not in own_texts), None)
            if j != i and other:
                couples.append((ids[i], texts[ids[i]], *own, *other))
                break
    return pl.DataFrame(couples, schema=dict.fromkeys(COUPLE, pl.String), orient="row").sort("better_id", "worse_id")


def _likeness(some: list[str], texts: list[str], lang: str | None) -> np.ndarray:
    """ROUGE-L F-measure of each of `some` with each of `texts`."""
    from rapidfuzz import process
    from rapidfuzz.distance import LCSseq

    interned = Interned(lang)
    strings, queries = [interned.add(text) for text in texts], [interned.add(text) for text in some]
    lengths = np.array([len(q) for q in queries])[:, None] + np.array([len(s) for s in strings])[None, :]
    common: np.ndarray = process.cdist(queries, strings, scorer=LCSseq.similarity)
    alike: np.ndarray = 2 * common / np.maximum(lengths, 1)
    return alike


def shuffle(couples: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Control: each couple turned with probability 1/2, by a hash of its ids."""
    ids = couples.select("prompt_id", "better_id", "worse_id").iter_rows()
    turn = pl.Series([int(content_id(seed, "order", *row), 16) % 2 == 1 for row in ids], dtype=pl.Boolean)
    turned = {
        a: pl.when(turn).then(b).otherwise(a)
        for x, y in (("better", "worse"), ("better_id", "worse_id"))
        for a, b in ((x, y), (y, x))
    }
    return couples.with_columns(**turned)


def answers_of(couples: pl.DataFrame) -> pl.DataFrame:
    """What is judged, an answer under a prompt once: candidate_id (a hash of both), prompt_id, prompt, response."""
    sides = [
        couples.select("prompt_id", "prompt", answer_id=f"{side}_id", response=side) for side in ("better", "worse")
    ]
    rows = pl.concat(sides).unique(["prompt_id", "answer_id"]).sort("prompt_id", "answer_id")
    return rows.with_columns(candidate_id=_judged_id(rows, "answer_id"))


def _judged_id(rows: pl.DataFrame, column: str) -> pl.Series:
    ids = rows.select("prompt_id", column).iter_rows()
    return pl.Series([content_id(*row) for row in ids], dtype=pl.String)


def judge_pairs(
    couples: pl.DataFrame, judgements: pl.DataFrame, prompts: pl.DataFrame, source: str, seed: int
) -> pl.DataFrame:
    """JUDGE_PAIRS rows, one for each answer at most, in the order of a hash. `judgements` are of `answers_of`,
    `prompts` (candidate_id, text) what the judge was shown.

    Which of an answer's right and wrong judgements, and beside which other answer, a hash decides: the highest score
    would teach that all scores are extreme. As many are of couples whose better answer is the longer one (characters)
    as of those whose it is the shorter.
    """
    means = mean_scores(judgements).select("candidate_id", "score")
    sides = []
    for known, other in (("better", "worse"), ("worse", "better")):
        longer = (pl.col("better").str.len_chars().cast(pl.Int64) - pl.col("worse").str.len_chars()).sign()
        ids = couples.select(
            "prompt_id",
            "prompt",
            pl.col(f"{known}_id").alias("answer_id"),
            pl.col(f"{other}_id").alias("other_id"),
            longer=longer,
            known=pl.lit(known),
        )
        sides.append(ids)
    rows = pl.concat(sides)
    rows = rows.with_columns(judged=_judged_id(rows, "answer_id"), against=_judged_id(rows, "other_id"))
    rows = rows.join(means.rename({"candidate_id": "against", "score": "other_score"}), on="against").drop_nulls(
        "other_score"
    )
    tries = judgements.drop_nulls("score").select(
        "k",
        "score",
        "text",
        judged="candidate_id",
        hash=pl.Series(
            [content_id(seed, *row) for row in judgements.drop_nulls("score").select("candidate_id", "k").iter_rows()],
            dtype=pl.String,
        ),
    )
    joined = rows.join(tries, on="judged")
    side = pl.when(pl.col("known") == "better").then(1).otherwise(-1) * (pl.col("score") - pl.col("other_score"))
    key = ["answer_id", "other_id", "prompt_id"]

    def one(name: str, holds: pl.Expr) -> pl.DataFrame:
        few = joined.filter(holds).sort("hash").unique(key, keep="first", maintain_order=True)
        return few.select(*key, pl.col("text").alias(name), pl.col("score").alias(f"{name}_score"))

    right, wrong = one("chosen", side > CLOSE), one("rejected", side < -CLOSE)
    made = rows.join(right, on=key).join(wrong, on=key)
    hashes = [content_id(seed, *row) for row in made.select(key).iter_rows()]
    made = made.with_columns(hash=pl.Series(hashes, dtype=pl.String)).sort("hash")
    made = made.unique(["prompt_id", "answer_id"], keep="first", maintain_order=True)
    each = min(made.filter(longer=1).height, made.filter(longer=-1).height)
    nth = pl.int_range(pl.len()).over("longer")
    made = made.filter((pl.col("longer") == 0) | (nth < each))
    shown = made.drop("prompt").join(
        prompts.select(judged="candidate_id", prompt="text"), on="judged", maintain_order="left"
    )
    return shown.with_columns(source=pl.lit(source), candidate_id="answer_id").select(*JUDGE_PAIRS.schema)


def cap(pairs: pl.DataFrame, most: int, per_score: float) -> pl.DataFrame:
    """The first of `pairs`, `most` at most, of which at most the share `per_score` have one chosen_score; where there
    are too few scores for that, equally many of each."""
    sizes: list[int] = pairs["chosen_score"].value_counts()["count"].to_list()

    def fit(n: int) -> int:
        return min(most, sum(min(n, size) for size in sizes))

    reached = [n for n in range(1, max(sizes, default=0) + 1) if n <= per_score * fit(n) + CLOSE]
    limit = max(reached, default=min([max(most // max(len(sizes), 1), 1), *sizes]))
    fits = pl.int_range(pl.len()).over("chosen_score") < limit
    return pairs.filter(fits).head(most)


def score_lines(pairs: pl.DataFrame, share: float, scale: Scale, seed: int) -> tuple[pl.DataFrame, int]:
    """`pairs` (JUDGE_PAIRS rows) of which `share`, by a hash, are cut to the score line alone, and how many that is."""
    many = round(share * len(pairs))
    hashes = [content_id(seed, "score line", *row) for row in pairs.select("candidate_id", "prompt_id").iter_rows()]
    cut = pl.Series(hashes, dtype=pl.String).rank("ordinal") <= many

    def texts(side: str) -> pl.Series:
        rows = zip(pairs[side], cut, strict=True)
        return pl.Series([alone(text, scale) if short else text for text, short in rows], dtype=pl.String)

    return pairs.with_columns(chosen=texts("chosen"), rejected=texts("rejected")), many


def figures(couples: pl.DataFrame, judgements: pl.DataFrame) -> dict[str, Any]:
    """For the metrics: couples; right, the share that the mean scores put in the known order, a tie as one half;
    judgements and those that could not be read."""
    means = mean_scores(judgements).select("candidate_id", "score")
    rows = couples.with_columns(b=_judged_id(couples, "better_id"), w=_judged_id(couples, "worse_id"))
    for side in ("b", "w"):
        rows = rows.join(means.rename({"candidate_id": side, "score": f"score_{side}"}), on=side)
    order = (rows["score_b"] - rows["score_w"]).drop_nulls()
    right = ((order > CLOSE) + 0.5 * (order.abs() <= CLOSE)).mean() if len(order) else None
    return {
        "couples": len(couples),
        "right": right,
        "judgements": len(judgements),
        "unparsed": judgements["score"].null_count(),
    }
