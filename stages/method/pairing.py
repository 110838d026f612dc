"""Preference pairs (paper 2.2, step 4): one score and one fate per candidate, best against worst per prompt.

A null score neither wins nor loses. Fates are decided in this order, so that every candidate has exactly one: `cut_off`
(by the length limit), `duplicate` (an earlier candidate of the prompt has the same text), `chosen`, `rejected`,
`unjudged` (an older model's, which nobody judged), `unreadable` (no score), `tied` where the prompt gives no pair, and
`between`. Where a rule leaves out a prompt that gives a pair, `inconsistent` or `capped` takes the place of the last.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from stages.console.errors import TableError
from stages.method.judging import distinct, same_text
from stages.method.scale import OF_FIVE
from stages.store.tables import PAIRS, SCORES
from stages.text import thoughts
from stages.text.ids import content_id

CLOSE = 1e-9  # scores this near are equal: a band's edge is a product of floats, a mean of thirds is one
_THOUGHT, _ANSWER = (pl.col(name).str.len_chars().cast(pl.Float64) for name in ("thought", "response"))
ANSWER_TOKENS = (
    pl.when(_THOUGHT.is_null())
    .then("tokens")
    .otherwise((pl.col("tokens") * _ANSWER / (_THOUGHT + _ANSWER)).round().cast(pl.Int32))
)
Rejected = Literal["worst", "older", "half", "unjudged"]
PAIRED = pl.col("fate").is_in(["chosen", "rejected", "between"])


def fates(
    candidates: pl.DataFrame,
    judged: pl.DataFrame,
    *,
    min_margin: float,
    rho: float | None,
    signal: Literal["judge", "shuffled", "longest"],
    seed: int,
    older: str | None = None,
    rejected: Rejected = "worst",
) -> pl.DataFrame:
    """SCORES rows, sorted by prompt_id, then n. `judged`: `mean_scores` of the pooled judgements (`judging.pool`).

    A prompt gives a pair when chosen_score - rejected_score is above `min_margin` (scores, not rounded). `rho` null:
    highest against lowest score, the lowest n among equals. `rho` >= 0 is the length control of Meta-Rewarding: chosen
    is the shortest candidate (tokens) whose score is in the top share `rho` of the prompt's range, rejected the longest
    in the bottom share; equals go by score (further out first), then the lowest variance of the judgements, then n. At
    rho = 0 the bands are points, so variance decides before length.

    `older`: candidates of this model are never chosen. `rejected` says whose text is: `worst`, any; `older`, one that
    it wrote; `half`, one that it wrote for half of the prompts, by a hash of `(seed, prompt_id)`, for the others one
    that Mt wrote; `unjudged`, one that it alone wrote, by a hash of `(seed, candidate_id)`, whatever its score. Without
    `older` all are `worst`.

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
    rejected = rejected if older else "worst"
    text_of = same_text(candidates)
    wrote = text_of.join(candidates.select("candidate_id", theirs=pl.col("model") == (older or "")), on="candidate_id")
    wrote = wrote.group_by(candidate_id="text_id").agg(pl.col("theirs").any(), (~pl.col("theirs")).any().alias("own"))
    texts = distinct(candidates).join(wrote, on="candidate_id").with_columns(tokens=ANSWER_TOKENS)
    scored = texts.join(judged.drop("prompt_id"), on="candidate_id").drop_nulls("score")
    scored = scored.sort("prompt_id", "candidate_id")
    if signal == "shuffled":
        draw = pl.Series("draw", np.random.default_rng(seed).random(len(scored)), pl.Float64)
        dealt = pl.col("score", "spread", "variance", "parsed").sort_by("draw", "candidate_id").over("prompt_id")
        scored = scored.with_columns(draw).with_columns(dealt)
    elif signal == "longest":
        scored, rho = scored.with_columns(score=pl.col("tokens").cast(pl.Float64)), None

    if rejected == "unjudged":
        ends = _best_and_any(scored.filter("own"), texts.filter(~pl.col("own")), rho, seed)
    else:
        whose: dict[str, pl.Expr | pl.Series] = {"worst": pl.lit(True), "older": pl.col("theirs")}
        may_lose = _half(scored, seed) if rejected == "half" else whose[rejected]
        ends = _best_and_worst(scored.with_columns(may_lose=may_lose), min_margin, rho)
    figures = scored.select(pl.col("candidate_id").alias("text_id"), "score", "spread", "parsed")
    rows = (
        candidates.sort("prompt_id", "n", "candidate_id")
        .join(text_of, on="candidate_id", how="left", maintain_order="left")
        .join(figures, on="text_id", how="left", maintain_order="left")
        .join(ends, on="prompt_id", how="left", maintain_order="left")
    )
    candidate = pl.col("candidate_id")
    rules = {
        "cut_off": pl.col("text_id").is_null(),
        "duplicate": candidate != pl.col("text_id"),
        "chosen": candidate == pl.col("chosen_id"),
        "rejected": candidate == pl.col("rejected_id"),
        "unjudged": pl.lit(rejected == "unjudged") & (pl.col("model") == (older or "")),
        "unreadable": pl.col("score").is_null(),
        "tied": pl.col("chosen_id").is_null(),
    }
    fate = pl.coalesce(*(pl.when(holds).then(pl.lit(name)) for name, holds in rules.items()), pl.lit("between"))
    rows = rows.with_columns(pl.col("parsed").fill_null(0), fate=fate, tau=pl.lit(None, pl.Float64))
    return rows.select(*SCORES.schema)


def _half(scored: pl.DataFrame, seed: int) -> pl.Series:
    """Whether each text may lose: for half of the prompts the older model's, for the others Mt's own."""
    theirs = {prompt: int(content_id(seed, prompt), 16) % 2 == 0 for prompt in scored["prompt_id"].unique()}
    rows = scored.select("prompt_id", "theirs", "own").iter_rows()
    return pl.Series([their if theirs[prompt] else own for prompt, their, own in rows], dtype=pl.Boolean)


def _best_and_any(own: pl.DataFrame, other: pl.DataFrame, rho: float | None, seed: int) -> pl.DataFrame:
    """As `_best_and_worst`, with one of the `other` texts of each prompt, by a hash, as the rejected one."""
    hashes = pl.Series("hash", [content_id(seed, candidate) for candidate in other["candidate_id"]], pl.String)
    drawn = other.with_columns(hashes).sort("prompt_id", "hash").unique("prompt_id", keep="first")
    best = _ends(own.with_columns(may_lose=pl.lit(True)), rho)[0]
    return best.join(drawn.select("prompt_id", rejected_id="candidate_id"), on="prompt_id").drop("chosen_score")


def _best_and_worst(scored: pl.DataFrame, min_margin: float, rho: float | None) -> pl.DataFrame:
    """prompt_id, chosen_id, rejected_id of the prompts that give a pair."""
    best, worst = _ends(scored, rho)
    apart = pl.col("chosen_score") - pl.col("rejected_score") > min_margin + CLOSE
    return best.join(worst, on="prompt_id").filter(apart).select("prompt_id", "chosen_id", "rejected_id")


def _ends(scored: pl.DataFrame, rho: float | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of each prompt the best of its `own` texts and the worst of those that `may_lose`: prompt_id, id, score."""
    score, variance, tokens = pl.col("score"), pl.col("variance"), pl.col("tokens").cast(pl.Int64)
    own, may_lose = pl.col("own"), pl.col("may_lose")
    high, low = score.filter(own).max().over("prompt_id"), score.filter(may_lose).min().over("prompt_id")
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
        return rows.select("prompt_id", pl.col("candidate_id").alias(f"{side}_id"), score.alias(f"{side}_score"))

    return first("chosen", own & (score >= high - band), best), first(
        "rejected", may_lose & (score <= low + band), worst
    )


def pairs(
    prompts: pl.DataFrame,
    candidates: pl.DataFrame,
    scores: pl.DataFrame,
    *,
    per_prompt: int = 1,
    min_margin: float = 0.0,
    older: str | None = None,
) -> pl.DataFrame:
    """PAIRS rows, sorted by prompt_id: the `chosen` and the `rejected` candidate of each prompt that has them, and
    after those, up to `per_prompt`, its other pairs of scores more than `min_margin` apart, the widest first. What
    `older` wrote is never chosen."""
    texts = scores.filter(PAIRED).join(candidates.select("candidate_id", "response", "thought"), on="candidate_id")
    sides = {
        side: texts.select(
            "prompt_id",
            "model",
            pl.col("response").alias(side),
            pl.col("thought").alias(f"{side}_thought"),
            pl.col("candidate_id").alias(f"{side}_id"),
            pl.col("score").alias(f"{side}_score"),
            pl.col("fate").alias(f"{side}_fate"),
        )
        for side in ("chosen", "rejected")
    }
    best_and_worst = (pl.col("chosen_fate") == "chosen") & (pl.col("rejected_fate") == "rejected")
    margin = pl.col("chosen_score") - pl.col("rejected_score")
    own = sides["chosen"].filter(pl.col("model") != (older or ""))
    by = pl.when(pl.col("model") == (older or "")).then("model").alias("rejected_by")
    couples = own.join(sides["rejected"].select(pl.exclude("model"), by), on="prompt_id")
    couples = (
        couples.filter(best_and_worst if per_prompt == 1 else best_and_worst | (margin > min_margin + CLOSE))
        .sort("prompt_id", ~best_and_worst, -margin, "chosen_id", "rejected_id")
        .filter(pl.int_range(pl.len()).over("prompt_id") < per_prompt)
    )
    joined = couples.join(prompts, on="prompt_id", maintain_order="left")
    return joined.with_columns(reversed=pl.lit(None, pl.Int32)).select(*PAIRS.schema)


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
