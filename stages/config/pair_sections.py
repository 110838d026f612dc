"""Sections of params.yaml that decide which pairs train Mt+1; what is no paper's is a lever (docs/levers.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.config.shared import Count, Name, NotNegative, Section, Share, Temperature, Tries


class BuildPairs(Section):
    signal: Literal["judge", "shuffled", "longest"]
    """`judge` is the method. The others are controls: judged scores dealt out at random, or length instead of score."""
    min_margin: NotNegative
    """A pair is kept when chosen_score - rejected_score is above this: points below 5, or tokens with `longest`."""
    rejected_from: Name | None
    """Anchored rejection: a model that Mt comes of, or `previous` for M(t-1), answers the same prompts as often as Mt,
    and its answers may be rejected, never chosen. AIFTs of models that do not come of it have none. null: none has."""
    rejected: Literal["worst", "older", "half", "unjudged"]
    """With `rejected_from`, which is rejected. `worst`: the worst of all answers. `older`: the worst of the older
    model's. Controls: `half`, of half of the prompts, by seed, the older model's worst, else Mt's own; `unjudged`, an
    answer of the older model by seed, which nobody judges (SPIN)."""
    consistency: Literal["none", "filter", "smooth"]
    """What Kendall's tau with the second judge decides (CREAM). `filter`: prompts below `min_tau` give no pair.
    `smooth`: each pair is trained the other way round with probability 1 - C by seed, C = (tau + 1) / 2."""
    tau: Literal["prompt", "mean", "shuffled"]
    """Which tau that is: each prompt's own. Controls: `mean`, the mean for all, as in CREAM; `shuffled`, another
    prompt's by seed."""
    min_tau: Annotated[float, Field(ge=-1, le=1)]
    """With `filter`: a prompt gives no pair below this. A tau that is not known, since a judge scored all answers the
    same, counts as 0; in an AIFT without a second judge, as AIFT(M1), `consistency` does nothing."""
    pairs_per_prompt: Count
    """1: best against worst (the paper). More: also the other pairs whose scores are more than `min_margin` apart, the
    widest first, whatever the length control."""
    prompts_per_cluster: Count | None
    """At most so many prompts of one cluster give pairs, by seed; null: all."""
    cluster: Annotated[float, Field(ge=0.1, le=1)]
    """Prompts with a ROUGE-L F-measure above this, directly or over others, are one cluster; 1: same texts alone."""
    reviews: bool
    """Whether pairs follow what people said of them in `srlm watch` (data/REVIEW): pairs that they swapped are trained
    the other way round, those that they dropped, or are not of one mind about, are left out. It is counted and
    warned of, and stands in the lineage of what the pairs train."""


class MetaJudge(Section):
    """How Mt compares its own judgements, and when it may: with `judge_pairs.source` meta_judge."""

    template: str
    """The file that Mt is shown with two judgements; a jinja template with the fields `task`, `judgement_a` and
    `judgement_b`."""
    max_chars: Count | None
    """A chosen judgement with more characters gives no pair (Meta-Rewarding: 1100, then 1000); null: any length."""
    higher: Annotated[float, Field(ge=0.5, le=1)]
    """The gate: no pairs where the higher score wins more than this share of the decided comparisons of two scores."""
    first: Annotated[float, Field(ge=0.5, le=1)]
    """The gate: no pairs where the judgement shown first wins more than this share of the decided comparisons."""


class JudgePairs(Section):
    """Pairs of judgements, trained beside the pairs of answers; decoded as `judge_candidates`."""

    source: Literal["changed_prompt", "eft", "meta_judge"] | None
    """Whose order is known without the judge. `changed_prompt`: an answer to a prompt is better than one to the prompt
    of the same AIFT that is the most like it. `eft`: the ranked answers from which EFT is made. `meta_judge`: no
    one's; Mt compares its judgements of its own answers two by two (Meta-Rewarding). null: no such pairs."""
    n: Tries
    """Judgements of each of these answers by Mt, of which those that put it on the right side of the other one are
    chosen, and those on the wrong side rejected."""
    temperature: Temperature | None
    """Of these judgements; null: that of `judge_candidates`."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """At most this share of all pairs that train Mt+1 are of judgements."""
    per_score_cap: Share
    """Of at most this share of them the chosen judgement gives the same score."""
    score_line: Annotated[float, Field(ge=0, le=1)]
    """Of this share of the pairs, by seed, both judgements are the score line alone: what is learnt is the number, not
    the words before it."""
    order: Literal["known", "shuffled"]
    """Control: `shuffled` turns each couple of answers with probability 1/2, by seed; with `meta_judge` each pair."""
    meta_judge: MetaJudge
