"""Preference pairs (paper 2.2, step 4): one score and one fate per candidate, best against worst per prompt.

A null score neither wins nor loses. Fates are decided in this order, so that every candidate has exactly one: `cut_off`
(by the length limit), `duplicate` (an earlier candidate of the prompt has the same text), `unreadable` (no score),
and for the rest `chosen`, `rejected`, `between`, or `tied` where the prompt gives no pair.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl

from stages.console.errors import TableError
from stages.method.judging import distinct, same_text
from stages.method.scale import OF_FIVE
from stages.store.tables import FATES, PAIRS, SCORES
from stages.text import thoughts

CLOSE = 1e-9  # scores this near are equal: a band's edge is a product of floats, a mean of thirds is one
_THOUGHT, _ANSWER = (pl.col(name).str.len_chars().cast(pl.Float64) for name in ("thought", "response"))
ANSWER_TOKENS = (
    pl.when(_THOUGHT.is_null())
    .then("tokens")
    .otherwise((pl.col("tokens") * _ANSWER / (_THOUGHT + _ANSWER)).round().cast(pl.Int32))
)


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

    `signal` `shuffled` (control): score, spread, variance and parsed are dealt out anew among the prompt's scored
    texts, by `seed`. `longest` (control): the score of a scored text is its length in tokens, margin included, without
    length control. The length of an answer behind a thought is its share of the tokens by characters, since no judge
    saw the thought. A duplicate has the score of its text, a cut-off answer none. Raises TableError when length decides
    and is not known.
    """
    if (rho is not None or signal == "longest") and candidates["tokens"].has_nulls():
        raise TableError(
            "length decides which answers make a pair, and the lengths of some candidates in tokens are not known: "
            "the server that wrote them told none. Switch length off, or sample the candidates with another engine"
        )
    scored = (
        distinct(candidates)
        .join(judged.drop("prompt_id"), on="candidate_id")
        .drop_nulls("score")
        .with_columns(tokens=ANSWER_TOKENS)
        .sort("prompt_id", "candidate_id")
    )
    if signal == "shuffled":
        draw = pl.Series("draw", np.random.default_rng(seed).random(len(scored)), pl.Float64)
        dealt = pl.col("score", "spread", "variance", "parsed").sort_by("draw", "candidate_id").over("prompt_id")
        scored = scored.with_columns(draw).with_columns(dealt)
    elif signal == "longest":
        scored, rho = scored.with_columns(score=pl.col("tokens").cast(pl.Float64)), None

    texts = scored.select(pl.col("candidate_id").alias("text_id"), "score", "spread", "parsed")
    rows = (
        candidates.sort("prompt_id", "n", "candidate_id")
        .join(same_text(candidates), on="candidate_id", how="left", maintain_order="left")
        .join(texts, on="text_id", how="left", maintain_order="left")
        .join(_best_and_worst(scored, min_margin, rho), on="prompt_id", how="left", maintain_order="left")
    )
    candidate = pl.col("candidate_id")
    rules = {
        "cut_off": pl.col("text_id").is_null(),
        "duplicate": candidate != pl.col("text_id"),
        "unreadable": pl.col("score").is_null(),
        "tied": pl.col("chosen_id").is_null(),
        "chosen": candidate == pl.col("chosen_id"),
        "rejected": candidate == pl.col("rejected_id"),
    }
    fate = pl.coalesce(*(pl.when(holds).then(pl.lit(name)) for name, holds in rules.items()), pl.lit("between"))
    return rows.with_columns(pl.col("parsed").fill_null(0), fate=fate).select(*SCORES.schema)


def _best_and_worst(scored: pl.DataFrame, min_margin: float, rho: float | None) -> pl.DataFrame:
    """prompt_id, chosen_id, rejected_id of the prompts that give a pair."""
    score, variance, tokens = pl.col("score"), pl.col("variance"), pl.col("tokens").cast(pl.Int64)
    high, low = score.max().over("prompt_id"), score.min().over("prompt_id")
    band = (rho or 0.0) * (high - low) + CLOSE
    best: list[pl.Expr] = []
    worst: list[pl.Expr] = []
    if rho == 0:
        best, worst = [variance, tokens], [variance, -tokens]
    elif rho is not None:
        best, worst = [tokens, -score, variance], [-tokens, score, variance]

    def first(side: str, in_band: pl.Expr, order: list[pl.Expr]) -> pl.DataFrame:
        rows = scored.filter(in_band).sort("prompt_id", *order, "n", "candidate_id")
        rows = rows.unique("prompt_id", keep="first", maintain_order=True)
        return rows.select("prompt_id", candidate_id.alias(f"{side}_id"), score.alias(f"{side}_score"))

    candidate_id = pl.col("candidate_id")
    ends = first("chosen", score >= high - band, best).join(
        first("rejected", score <= low + band, worst), on="prompt_id"
    )
    apart = pl.col("chosen_score") - pl.col("rejected_score") > min_margin + CLOSE
    return ends.filter(apart).select("prompt_id", "chosen_id", "rejected_id")


def pairs(prompts: pl.DataFrame, candidates: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """PAIRS rows, sorted by prompt_id: the `chosen` and the `rejected` candidate of each prompt that has them."""
    texts = scores.join(candidates.select("candidate_id", "response", "thought"), on="candidate_id")
    chosen, rejected = (
        texts.filter(fate=side).select(
            "prompt_id",
            "model",
            pl.col("response").alias(side),
            pl.col("thought").alias(f"{side}_thought"),
            pl.col("candidate_id").alias(f"{side}_id"),
            pl.col("score").alias(f"{side}_score"),
        )
        for side in ("chosen", "rejected")
    )
    joined = chosen.join(rejected.drop("model"), on="prompt_id").join(prompts, on="prompt_id")
    return joined.select(*PAIRS.schema).sort("prompt_id")


def perfect(
    prompts: pl.DataFrame, candidates: pl.DataFrame, scores: pl.DataFrame, best: float = OF_FIVE.max
) -> pl.DataFrame:
    """Columns id (candidate_id), instruction, response, in the order of `scores`: the answers whose mean score is
    the `best`, each behind its thought, for SFT without rejected ones (paper 2.3); none that was cut off or is a
    duplicate."""
    chosen = scores.filter(pl.col("score") >= best - CLOSE, ~pl.col("fate").is_in(["cut_off", "duplicate"]))
    texts = candidates.select("candidate_id", "thought", "response")
    joined = chosen.join(texts, on="candidate_id", maintain_order="left")
    joined = joined.join(prompts.select("prompt_id", "prompt"), on="prompt_id", maintain_order="left")
    whole = [thoughts.joined(*row) for row in joined.select("thought", "response").iter_rows()]
    return joined.select(id="candidate_id", instruction="prompt", response=pl.Series(whole, dtype=pl.String))


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
    accepted, readable = prompts["dropped"].null_count(), judgements["score"].drop_nulls()
    unread = judgements["score" if kind == "sampled" else "expected"].null_count()
    histogram = {f"{half / 2:g}": int((readable == half / 2).sum()) for half in range(11)}
    by_fate = {fate: int((scores["fate"] == fate).sum()) for fate in FATES}
    tokens = scores.join(candidates.select("candidate_id", "tokens"), on="candidate_id", maintain_order="left")

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "prompts": accepted,
        "dropped": dict(prompts.drop_nulls("dropped").group_by("dropped").len().sort("dropped").iter_rows()),
        "candidates": len(candidates),
        "judgements": len(judgements),
        "unparsed": unread,
        "fates": by_fate,
        "ties": scores.filter(fate="tied")["prompt_id"].n_unique(),
        "pairs": len(pairs),
        "pair_yield": share(len(pairs), accepted),
        "mean_score": judged["score"].mean(),
        "mean_margin": (pairs["chosen_score"] - pairs["rejected_score"]).mean(),
        "score_histogram": histogram,
        "commonest_score_share": share(max(histogram.values()), len(readable)),
        "unreadable_share": share(unread, len(judgements)),
        "candidate_tokens": candidates["tokens"].mean(),
        "distinct_share": 1 - by_fate["duplicate"] / len(candidates) if len(candidates) else None,
        "chosen_tokens": tokens.filter(fate="chosen")["tokens"].mean(),
        "rejected_tokens": tokens.filter(fate="rejected")["tokens"].mean(),
    }


def warnings(
    counts: dict[str, Any], *, commonest_score: float, unreadable: float, pair_yield: float, distinct: float
) -> list[str]:
    """What is suspicious in `counts`, a sentence each. Limits are shares."""
    commonest = max(histogram, key=histogram.__getitem__) if (histogram := counts.get("score_histogram")) else ""
    above, below = "{share:.0%} {what} (warned above {limit:.0%})", "only {share:.0%} {what} (warned below {limit:.0%})"
    rules = (
        (
            "commonest_score_share",
            commonest_score,
            f"the judge is saturated: {above}",
            f"of its readable scores are {commonest}",
        ),
        ("unreadable_share", unreadable, above, "of the judgements could not be read"),
        ("pair_yield", pair_yield, below, "of the prompts give a pair"),
        (
            "distinct_share",
            distinct,
            f"the answers collapse: {below}",
            "of the candidates of a prompt are different texts",
        ),
    )
    return [
        sentence.format(share=share, what=what, limit=limit)
        for figure, limit, sentence, what in rules
        if (share := counts[figure]) is not None and (share < limit if below in sentence else share > limit)
    ]
