"""Rules of numbers in company: margins and sizes that cannot be reached, texts that do not fit into a context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

from stages.config.finding import Finding
from stages.config.params import Params

Findings = Iterator[Finding]
Rule = Callable[[Params], Findings]


def margin(p: Params) -> Findings:
    """Margins that no pair can have."""
    longest, least = p.build_pairs.signal == "longest", p.build_pairs.min_margin
    most, unit = (p.sample_candidates.max_tokens, "tokens") if longest else (p.score_points, "points")
    if least >= most:
        seen = f"{least:g}, and no two scores are more than {most} {unit} apart"
        yield Finding("build_pairs.min_margin", seen, f"Set it below {most}")


def prompts(p: Params) -> Findings:
    """Prompts that cannot be reached; demonstrations that are not there."""
    w = p.write_prompts
    if w.ift_shots + w.new_shots == 0:
        yield Finding("write_prompts.ift_shots", "no demonstrations at all, for new_shots is 0 too", "The paper has 8")
    if w.ift_shots > p.split_seed.ift:
        seen = f"{w.ift_shots} demonstrations of only {p.split_seed.ift} rows of IFT"
        yield Finding("write_prompts.ift_shots", seen, "Show fewer")
    for name, aift in p.aift.items():
        if aift.prompts > w.round * w.max_rounds:
            seen = f"{aift.prompts} are more than {w.max_rounds} rounds of {w.round} can give"
            yield Finding(f"aift.{name}.prompts", seen, "Raise write_prompts.max_rounds")


def alike(p: Params) -> Findings:
    if p.sample_candidates.temperature == 0:
        seen = f"0 makes all {p.sample_candidates.n} answers to a prompt the same, so that there are no pairs"
        yield Finding("sample_candidates.temperature", seen, "Set it above 0, as 0.7")


def room(stage: str, *texts: str) -> Rule:
    """The first of `texts`, which `stage` writes, must fit into its engine's context beside those that its prompt
    holds."""

    def rule(p: Params) -> Findings:
        if stage == "head_to_head" and p.evaluate.compare_by == "oracle":
            return
        if stage == "judge_seed" and not p.judge_seed.model:
            return
        if stage == "choose" and not (p.choose.every_steps and p.choose.by == "model"):
            return
        where, engine = p.engine_of(stage)
        tokens = sum(attrgetter(text)(p) for text in texts)
        if tokens >= engine.max_context:
            seen = f"{' + '.join(texts)} = {tokens} tokens leave nothing of {where}.max_context, {engine.max_context}"
            yield Finding(texts[0], seen, "Raise the context, or shorten the texts")

    return rule


def chosen_from(p: Params) -> Findings:
    """Whoever compares them, the models on the way of a training answer by the section `engine`."""
    if p.choose.every_steps and p.choose.by:
        yield from room("", "choose.max_tokens")(p)


def training(key: str) -> Rule:
    def rule(p: Params) -> Findings:
        t = attrgetter(key)(p)
        if t.lr_end > t.lr:
            seen = f"{t.lr_end:g} is above {key}.lr, {t.lr:g}: the rate would rise"
            yield Finding(f"{key}.lr_end", seen, "Set it lower")
        if t.batch % t.micro_batch:
            yield Finding(
                f"{key}.batch", f"{t.batch} is no multiple of {key}.micro_batch, {t.micro_batch}", "Change one"
            )

    return rule


def smoothing(p: Params) -> Findings:
    """Smoothing that a loss would not do, and a loss that is nothing without it."""
    loss, share = p.train_dpo.loss, p.train_dpo.label_smoothing
    if share and loss in ("sigmoid_norm", "ipo"):
        seen = f"{share:g}, and train_dpo.loss {loss} has no smoothing"
        yield Finding("train_dpo.label_smoothing", seen, "Set it to 0, or the loss to sigmoid or robust")
    if loss == "robust" and not share:
        seen = "robust, and train_dpo.label_smoothing is 0: that is sigmoid"
        yield Finding("train_dpo.loss", seen, "Set sigmoid, or label_smoothing above 0")


def replay(p: Params) -> Findings:
    """Each micro-batch of a step has its part of what is replayed."""
    t, parts = p.train_dpo, p.train_dpo.batch // p.train_dpo.micro_batch
    if t.replay.weights and t.replay.rows < parts:
        seen = f"{t.replay.rows}, and a step has {parts} micro-batches: some would have no row"
        yield Finding("train_dpo.replay.rows", seen, f"Set at least {parts}, or raise train_dpo.micro_batch")


def adapters(p: Params) -> Findings:
    """An adapter that DPO is to train on, of another shape than the one that SFT keeps."""
    kept, dpo = p.train_sft.adapter, p.train_dpo.adapter
    if kept and dpo and (kept.save, dpo.parent_adapter) == ("keep", "continue"):
        for key in ("r", "alpha", "target_modules"):
            if (before := getattr(kept, key)) != (asked := getattr(dpo, key)):
                seen = f"{asked}, and the adapter that it continues has {before} (train_sft.adapter)"
                yield Finding(f"train_dpo.adapter.{key}", seen, "Set them alike, or parent_adapter to stack")


def judged_alike(key: str, temperature: str) -> Rule:
    def rule(p: Params) -> Findings:
        if (k := attrgetter(key)(p)) > 1 and attrgetter(temperature)(p) == 0:
            seen = f"{k} judgements at {temperature} 0 are all the same"
            yield Finding(key, seen, f"Set it to 1, or {temperature} above 0")

    return rule


NUMBERS: tuple[Rule, ...] = (
    margin,
    prompts,
    training("train_sft"),
    training("train_dpo"),
    smoothing,
    replay,
    adapters,
    alike,
    judged_alike("judge_seed.k", "judge_seed.temperature"),
    judged_alike("judge_candidates.k", "judge_candidates.temperature"),
    judged_alike("evaluate.judge_k", "evaluate.judge_temperature"),
    room("judge_seed", "judge_seed.max_tokens"),
    room("write_prompts", "write_prompts.max_tokens"),
    room("sample_candidates", "sample_candidates.max_tokens", "write_prompts.max_tokens"),
    room("judge_candidates", "judge_candidates.max_tokens", "write_prompts.max_tokens", "sample_candidates.max_tokens"),
    room("evaluate", "evaluate.max_tokens"),
    room("evaluate", "evaluate.judge_max_tokens"),
    chosen_from,
    room("choose", "choose.compare_max_tokens", "choose.max_tokens", "choose.max_tokens"),
    room("head_to_head", "evaluate.compare_max_tokens", "evaluate.max_tokens", "evaluate.max_tokens"),
)
