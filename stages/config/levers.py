"""What levers of AIFT (docs/levers.md) cannot mean: models that are not older, controls of what is off."""

from __future__ import annotations

from operator import attrgetter

from stages.config.finding import Finding
from stages.config.numbers import Findings, Rule, room
from stages.config.params import Params


def older(p: Params) -> Findings:
    """A model that is in no AIFT what it is named for."""
    for key, name, of, what in (
        ("build_pairs.rejected_from", p.build_pairs.rejected_from, p.rejected_from, "comes of"),
        (
            "judge_candidates.second_judge",
            p.judge_candidates.second_judge,
            p.second_judge,
            "comes of, beside its judge",
        ),
    ):
        if name and p.aift and not any(map(of, p.aift)):
            seen = f"{name} is no model that one of {', '.join(p.aift)} {what}"
            yield Finding(key, seen, "Name an older model, or previous; or set it to null")


def rejected(p: Params) -> Findings:
    pairs = p.build_pairs
    if pairs.rejected != "worst" and not pairs.rejected_from:
        seen = f"{pairs.rejected}, and build_pairs.rejected_from is null: no older model answers"
        yield Finding("build_pairs.rejected", seen, "Name one there, or set this to worst")
    if pairs.pairs_per_prompt > 1 and pairs.rejected != "worst":
        seen = f"{pairs.pairs_per_prompt}, and build_pairs.rejected {pairs.rejected} says whose one answer is rejected"
        yield Finding("build_pairs.pairs_per_prompt", seen, "Set it to 1, or rejected to worst")


def consistency(p: Params) -> Findings:
    pairs = p.build_pairs
    if pairs.consistency != "none" and not p.judge_candidates.second_judge:
        seen = f"{pairs.consistency}, and judge_candidates.second_judge is null: there is no tau"
        yield Finding("build_pairs.consistency", seen, "Name a second judge, as previous, or set this to none")
    if pairs.tau != "prompt" and pairs.consistency == "none":
        yield Finding(
            "build_pairs.tau", f"{pairs.tau}, and build_pairs.consistency none asks no tau", "Set it to prompt"
        )
    if pairs.tau == "mean" and pairs.consistency == "filter":
        yield Finding("build_pairs.tau", "mean would drop all prompts or none", "Set it to prompt or shuffled")


def judge_pairs(p: Params) -> Findings:
    known, weight = p.judge_pairs, p.train_dpo.replay.judge_pairs
    if not known.source:
        if known.order != "known":
            yield Finding("judge_pairs.order", f"{known.order}, and judge_pairs.source is null", "Set it to known")
        if weight:
            seen = f"{weight:g}, and judge_pairs.source is null: there are none"
            yield Finding("train_dpo.replay.judge_pairs", seen, "Set it to 0, or name a source")
        return
    if known.source == "meta_judge":
        texts = *["judge_candidates.max_tokens"] * 3, "write_prompts.max_tokens", "sample_candidates.max_tokens"
        yield from room("build_judge_pairs", *texts)(p)
    key = "judge_candidates.temperature" if known.temperature is None else "judge_pairs.temperature"
    temperature = attrgetter(key)(p)
    if known.n < 2 or temperature == 0:
        seen = f"{known.n} at {key} {temperature:g}: no two judgements of an answer differ"
        yield Finding("judge_pairs.n", seen, "Set both higher")


def pairwise(p: Params) -> Findings:
    """A judge that compares gives shares of wins: no scores that a model writes, none that is perfect."""
    how = p.judge_candidates
    if how.kind == "score":
        if how.comparisons:
            seen = f"{how.comparisons}, and judge_candidates.kind is score: nothing is compared"
            yield Finding("judge_candidates.comparisons", seen, "Set it to null, or kind to pairwise")
        return
    if how.score == "expected":
        seen = "expected, and judge_candidates.kind pairwise writes no scores"
        yield Finding("judge_candidates.score", seen, "Set it to sampled")
    if how.k > 1:
        seen = f"{how.k}, and judge_candidates.kind pairwise compares once, in both orders"
        yield Finding("judge_candidates.k", seen, "Set it to 1")
    for name in p.positive_only:
        seen = "picks answers with a perfect score, and judge_candidates.kind pairwise gives shares of wins"
        yield Finding(f"positive_only.{name}", seen, "Delete it, or set kind to score")


def replay(p: Params) -> Findings:
    if p.train_dpo.replay.order != "known" and not p.train_dpo.replay.eft:
        seen = f"{p.train_dpo.replay.order}, and train_dpo.replay.eft is 0: no scores are replayed"
        yield Finding("train_dpo.replay.order", seen, "Set it to known, or eft above 0")


LEVERS: tuple[Rule, ...] = (older, rejected, consistency, judge_pairs, pairwise, replay)
