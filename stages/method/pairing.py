"""Preference pairs (paper 2.2, step 4): one score and one fate per candidate, best against worst per prompt. Whole
columns at a time.

A null score neither wins nor loses. Fates are decided in this order, so that every candidate has exactly one: `cut_off`
(by the length limit), `duplicate` (an earlier candidate of the prompt has the same text), `unreadable` (no score),
and for the rest `chosen`, `rejected`, `between`, or `tied` where the prompt gives no pair.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl

from stages.console.errors import TableError
from stages.method.judging import BEST, distinct, same_text
from stages.store.tables import FATES, PAIRS, SCORES

CLOSE = 1e-9  # scores this near are equal: a band's edge is a product of floats, a mean of thirds is one


def fates(
    candidates: pl.DataFrame,
    judged: pl.DataFrame,
    *,
    min_margin: float,
    rho: float | None,
    signal: Literal["judge", "shuffled", "longest"],
    seed: int,
) -> pl.DataFrame:
    """SCORES rows, sorted by prompt_id, then n. `judged`: `mean_scores` of the pooled judgements (`judging.pool`).

    A prompt gives a pair when chosen_score - rejected_score is above `min_margin` (scores, not rounded). `rho` null:
    highest against lowest score, the lowest n among equals. `rho` >= 0 is the length control of Meta-Rewarding: chosen
    is the shortest candidate (tokens) whose score is in the top share `rho` of the prompt's range, rejected the longest
    in the bottom share; equals go by score (further out first), then the lowest variance of the judgements, then n. At
    rho = 0 the bands are points, so variance decides before length.

    `signal` `shuffled` (control): score, spread and variance are dealt out anew among the prompt's scored texts, by
    `seed`; the table holds what was dealt. `longest` (control): the score of a readable candidate is its length in
    tokens, margin included, without length control. A duplicate has the score of its text, a cut-off answer none.
    Raises TableError when something was judged that takes no part, or when length decides and is not known.
    """
    if (rho is not None or signal == "longest") and candidates["tokens"].has_nulls():
        raise TableError(
            "length decides which answers make a pair, and the lengths of some candidates in tokens are not known: "
            "the server that wrote them told none. Switch length off, or sample the candidates with another engine"
        )
    texts = distinct(candidates)
    stray = judged.join(texts, on="candidate_id", how="anti", maintain_order="left")
    if len(stray):
        raise TableError(
            f"{len(stray)} judged answers are no candidates, or repeat another's text; the first is "
            f"{stray['candidate_id'][0]!r}. Run: dvc repro"
        )
    rows = texts.join(judged.drop("prompt_id"), on="candidate_id", how="left").sort("prompt_id", "n", "candidate_id")
    rows = rows.with_columns(
        pl.col("parsed").fill_null(0), fate=pl.when(pl.col("score").is_null()).then(pl.lit("unreadable"))
    )
    if signal == "shuffled":
        rows = _shuffle_scores(rows, seed)
    elif signal == "longest":
        rows, rho = (
            rows.with_columns(score=pl.when(pl.col("score").is_not_null()).then(pl.col("tokens").cast(pl.Float64))),
            None,
        )
    ends = _best_and_worst(rows.filter(pl.col("fate").is_null()), min_margin, rho)
    fate = (
        pl.when(pl.col("fate").is_not_null())
        .then("fate")
        .when(pl.col("chosen_id").is_null())
        .then(pl.lit("tied"))
        .when(pl.col("candidate_id") == pl.col("chosen_id"))
        .then(pl.lit("chosen"))
        .when(pl.col("candidate_id") == pl.col("rejected_id"))
        .then(pl.lit("rejected"))
        .otherwise(pl.lit("between"))
    )
    decided = rows.join(ends, on="prompt_id", how="left", maintain_order="left").select(
        pl.col("candidate_id").alias("text_id"), "score", "spread", "parsed", fate=fate
    )
    whole = pl.col("finish_reason") != "length"
    everyone = candidates.sort("prompt_id", "n", "candidate_id").join(
        same_text(candidates), on="candidate_id", how="left", maintain_order="left"
    )
    return (
        everyone.join(decided, on="text_id", how="left", maintain_order="left")
        .with_columns(
            pl.col("parsed").fill_null(0),
            fate=pl.when(~whole)
            .then(pl.lit("cut_off"))
            .when(pl.col("candidate_id") != pl.col("text_id"))
            .then(pl.lit("duplicate"))
            .otherwise("fate"),
        )
        .select(*SCORES.schema)
    )


def _shuffle_scores(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Deal score, spread, variance and parsed out anew among the candidates of a prompt that have no fate yet. Draws go
    by the sorted ids."""
    live = rows.filter(pl.col("fate").is_null()).sort("prompt_id", "candidate_id")
    drawn = live.with_columns(draw=pl.Series(np.random.default_rng(seed).random(len(live)), dtype=pl.Float64)).sort(
        "prompt_id", "draw", "candidate_id"
    )
    what = ("score", "spread", "variance", "parsed")
    dealt = live.select("candidate_id").hstack(
        drawn.select(what)
    )  # both are sorted by prompt: each prompt's block meets its own
    others = rows.filter(pl.col("fate").is_not_null())
    anew = live.drop(what).join(dealt, on="candidate_id").select(rows.columns)
    return pl.concat([others, anew]).sort("prompt_id", "n", "candidate_id")


def _best_and_worst(live: pl.DataFrame, min_margin: float, rho: float | None) -> pl.DataFrame:
    """prompt_id, chosen_id, rejected_id of the prompts that give a pair."""
    score = pl.col("score")
    high, low = score.max().over("prompt_id"), score.min().over("prompt_id")
    band = (rho or 0.0) * (high - low) + CLOSE
    low_variance, short, long = (pl.col("variance"), False), (pl.col("tokens"), False), (pl.col("tokens"), True)
    best: list[tuple[pl.Expr, bool]] = []
    worst: list[tuple[pl.Expr, bool]] = []
    if rho == 0:
        best, worst = [low_variance, short], [low_variance, long]
    elif rho is not None:
        best, worst = [short, (score, True), low_variance], [long, (score, False), low_variance]

    def first(rows: pl.DataFrame, order: list[tuple[pl.Expr, bool]], name: str) -> pl.DataFrame:
        by = [pl.col("prompt_id"), *(e for e, _ in order), pl.col("n"), pl.col("candidate_id")]
        ordered = rows.sort(by, descending=[False, *(d for _, d in order), False, False])
        return ordered.group_by("prompt_id", maintain_order=True).agg(
            pl.col("candidate_id").first().alias(f"{name}_id"), score.first().alias(f"{name}_score")
        )

    chosen, rejected = (
        first(live.filter(score >= high - band), best, "chosen"),
        first(live.filter(score <= low + band), worst, "rejected"),
    )
    apart = pl.col("chosen_score") - pl.col("rejected_score")
    both = chosen.join(rejected, on="prompt_id").filter(apart > min_margin + CLOSE)
    return both.select("prompt_id", "chosen_id", "rejected_id")


def pairs(prompts: pl.DataFrame, candidates: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """PAIRS rows, sorted by prompt_id: the `chosen` and the `rejected` candidate of each prompt that has them."""
    texts = scores.join(candidates.select("candidate_id", "response"), on="candidate_id")
    sides = {
        side: texts.filter(pl.col("fate") == side).select(
            "prompt_id",
            "model",
            pl.col("response").alias(side),
            pl.col("candidate_id").alias(f"{side}_id"),
            pl.col("score").alias(f"{side}_score"),
        )
        for side in ("chosen", "rejected")
    }
    joined = (
        sides["chosen"]
        .join(sides["rejected"].drop("model"), on="prompt_id")
        .join(prompts.select("prompt_id", "prompt"), on="prompt_id")
    )
    return joined.select(*PAIRS.schema).sort("prompt_id")


def perfect(prompts: pl.DataFrame, candidates: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Columns instruction, response, in the order of `scores`: the answers with a perfect mean score, for SFT without
    rejected ones (paper 2.3).

    An answer that was cut off or stands already is none, whatever its score.
    """
    best = scores.filter(pl.col("score") >= BEST - CLOSE, ~pl.col("fate").is_in(["cut_off", "duplicate"]))
    texts = best.join(candidates.select("candidate_id", "response"), on="candidate_id", maintain_order="left")
    joined = texts.join(
        prompts.select("prompt_id", pl.col("prompt").alias("instruction")), on="prompt_id", maintain_order="left"
    )
    return joined.select("instruction", "response")


def counts(
    prompts: pl.DataFrame,
    candidates: pl.DataFrame,
    judgements: pl.DataFrame,
    judged: pl.DataFrame,
    scores: pl.DataFrame,
    pairs: pl.DataFrame,
    kind: Literal["sampled", "expected"] = "sampled",
) -> dict[str, Any]:
    """Figures of one AIFT for its metrics file. `judged`: rows of `mean_scores`. A share or mean of nothing is null.

    prompts: accepted ones; ties: prompts with readable candidates and no pair; mean_score: of the judge, per judged
    text, whatever the signal; unparsed: judgements without a score of the `kind` that is used; score_histogram: single
    readable judgements by written score; chosen_tokens, rejected_tokens: mean lengths.
    """
    accepted = prompts.filter(pl.col("dropped").is_null())
    dropped = prompts.drop_nulls("dropped").group_by("dropped").len().sort("dropped")
    readable = judgements["score"].drop_nulls()
    unread = judgements["score" if kind == "sampled" else "expected"].null_count()
    histogram = {f"{half / 2:g}": int((readable == half / 2).sum()) for half in range(11)}
    fate_counts = {fate: int((scores["fate"] == fate).sum()) for fate in FATES}
    tokens = scores.join(candidates.select("candidate_id", "tokens"), on="candidate_id", maintain_order="left")

    def mean(values: pl.Series) -> float | None:
        return float(values.mean()) if values.count() else None  # type: ignore[arg-type]

    return {
        "prompts": len(accepted),
        "dropped": {str(why): int(n) for why, n in dropped.iter_rows()},
        "candidates": len(candidates),
        "judgements": len(judgements),
        "unparsed": unread,
        "fates": fate_counts,
        "ties": scores.filter(pl.col("fate") == "tied")["prompt_id"].n_unique(),
        "pairs": len(pairs),
        "pair_yield": len(pairs) / len(accepted) if len(accepted) else None,
        "mean_score": mean(judged["score"]),
        "mean_margin": mean(pairs["chosen_score"] - pairs["rejected_score"]),
        "score_histogram": histogram,
        "commonest_score_share": max(histogram.values()) / len(readable) if len(readable) else None,
        "unreadable_share": unread / len(judgements) if len(judgements) else None,
        "candidate_tokens": mean(candidates["tokens"]),
        "distinct_share": 1 - fate_counts["duplicate"] / len(candidates) if len(candidates) else None,
        "chosen_tokens": mean(tokens.filter(pl.col("fate") == "chosen")["tokens"]),
        "rejected_tokens": mean(tokens.filter(pl.col("fate") == "rejected")["tokens"]),
    }


def warnings(
    counts: dict[str, Any], *, commonest_score: float, unreadable: float, pair_yield: float, distinct: float
) -> list[str]:
    """What is suspicious in `counts`, a sentence each: a saturated judge, an unreadable one, too few pairs, answers all
    alike. Limits are shares."""
    sentences = []
    if (share := counts["commonest_score_share"]) is not None and share > commonest_score:
        score = max(counts["score_histogram"], key=counts["score_histogram"].__getitem__)
        sentences.append(
            f"the judge is saturated: {share:.0%} of its readable scores are {score} (warned above "
            f"{commonest_score:.0%})"
        )
    if (share := counts["unreadable_share"]) is not None and share > unreadable:
        sentences.append(f"{share:.0%} of the judgements could not be read (warned above {unreadable:.0%})")
    if (share := counts["pair_yield"]) is not None and share < pair_yield:
        sentences.append(f"only {share:.0%} of the prompts give a pair (warned below {pair_yield:.0%})")
    if (share := counts["distinct_share"]) is not None and share < distinct:
        sentences.append(
            f"the answers collapse: only {share:.0%} of the candidates of a prompt are different texts (warned below "
            f"{distinct:.0%})"
        )
    return sentences


def lost(prompts: pl.DataFrame, scores: pl.DataFrame) -> str:
    """What became of the prompts that gave no pair: `of 64 prompts, 41 had no readable score and 23 were ties.`"""
    accepted = prompts.filter(pl.col("dropped").is_null()).select("prompt_id")
    has = {fate: (pl.col("fate") == fate).any() for fate in FATES}
    why = (
        pl.when(has["chosen"])
        .then(None)
        .when(has["tied"])
        .then(pl.lit("were ties"))
        .when(has["unreadable"])
        .then(pl.lit("had no readable score"))
    )
    seen = scores.group_by("prompt_id").agg(why.otherwise(pl.lit("had only cut-off answers")).alias("why"))
    all_lost = accepted.join(scores, on="prompt_id", how="anti").select("prompt_id", why=pl.lit("had no answers"))
    lost = (
        pl.concat([accepted.join(seen, on="prompt_id"), all_lost])
        .drop_nulls("why")
        .group_by("why")
        .len()
        .sort("len", "why", descending=[True, False])
    )
    reasons = [f"{n} {reason}" for reason, n in lost.iter_rows()]
    return (
        f"of {len(accepted)} prompts, "
        + (" and ".join([", ".join(reasons[:-1]), reasons[-1]] if len(reasons) > 1 else reasons) or "none was lost")
        + "."
    )
