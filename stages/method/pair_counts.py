"""Figures of one AIFT, for its metrics, and what is suspicious in them."""

from __future__ import annotations

from typing import Any, Literal

import polars as pl

from stages.method.scale import OF_FIVE, SHARES, Scale
from stages.store.tables import FATES, OF_LEVERS


def counts(
    prompts: pl.DataFrame,
    candidates: pl.DataFrame,
    judgements: pl.DataFrame,
    judged: pl.DataFrame,
    scores: pl.DataFrame,
    pairs: pl.DataFrame,
    kind: Literal["sampled", "expected"] = "sampled",
    scale: Scale = OF_FIVE,
) -> dict[str, Any]:
    """Figures of one AIFT for its metrics file. `judged`: rows of `mean_scores`. A share or mean of nothing is null.

    prompts: accepted ones; ties: prompts with readable candidates and no pair; mean_score: of the judge, per judged
    text, whatever the signal, null for shares of wins, whose mean is a half whatever the answers are; unparsed:
    judgements without a score of the `kind` that is used; score_histogram: single readable judgements by written score;
    chosen_tokens, rejected_tokens: mean lengths.
    mean_score, score_histogram, candidate_tokens and distinct_share are of Mt's own answers; older_mean_score and
    older_histogram of the texts that an older model alone wrote. Figures of levers (docs/levers.md) are absent where
    those are off.
    """
    accepted = prompts["dropped"].null_count()
    unread = judgements["score" if kind == "sampled" else "expected"].null_count()
    by_fate = {fate: int((scores["fate"] == fate).sum()) for fate in FATES}
    by_fate = {fate: n for fate, n in by_fate.items() if n or fate not in OF_LEVERS}
    own = candidates.filter(pl.col("model").is_in(prompts["model"].implode()))
    theirs = candidates.join(own, on="candidate_id", how="anti")
    (mean_score, histogram), (older_mean, older_histogram) = (
        _of_scores(judged, judgements, wrote, scale) for wrote in (own, theirs)
    )
    repeated = scores.join(own, on="candidate_id", how="semi").filter(fate="duplicate").height
    tokens = scores.join(candidates.select("candidate_id", "tokens"), on="candidate_id", maintain_order="left")

    known = scores.unique("prompt_id", maintain_order=True)["tau"]
    of_levers = {
        "older_mean_score": older_mean,
        "older_histogram": older_histogram if len(theirs) else None,
        "rejected_by_older": pairs["rejected_by"].count() or None,
        "reversed": int(pairs["reversed"].sum()) or None,
        "mean_tau": known.mean(),
        "prompts_with_tau": known.count() or None,
    }

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
        "pair_yield": share(pairs["prompt_id"].n_unique(), accepted),
        "mean_score": None if scale == SHARES else mean_score,
        "mean_margin": (pairs["chosen_score"] - pairs["rejected_score"]).mean(),
        "score_histogram": histogram,
        "commonest_score_share": share(max(histogram.values()), sum(histogram.values())),
        "unreadable_share": share(unread, len(judgements)),
        "candidate_tokens": own["tokens"].mean(),
        "distinct_share": 1 - repeated / len(own) if len(own) else None,
        "chosen_tokens": tokens.filter(fate="chosen")["tokens"].mean(),
        "rejected_tokens": tokens.filter(fate="rejected")["tokens"].mean(),
    } | {name: n for name, n in of_levers.items() if n is not None}


def _of_scores(
    judged: pl.DataFrame, judgements: pl.DataFrame, candidates: pl.DataFrame, scale: Scale
) -> tuple[Any, dict[str, int]]:
    """Of what was judged of `candidates`: mean score of a text, and how many judgements have each written score."""
    mean, written = (
        rows.join(candidates, on="candidate_id", how="semi", maintain_order="left")["score"]
        for rows in (judged, judgements)
    )
    halves = range(2 * scale.min, 2 * scale.max + 1)
    return mean.mean(), {f"{half / 2:g}": int((written == half / 2).sum()) for half in halves}


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
