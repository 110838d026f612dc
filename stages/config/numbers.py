"""Numbers in `params.yaml` that each may stand, and cannot be meant together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter

from stages.config.finding import Finding
from stages.config.params import Params

LEAST = (
    ("judge_seed.max_tokens", 8, "a judgement with its score line"),
    ("judge_candidates.max_tokens", 8, "a judgement with its score line"),
    ("evaluate.judge_max_tokens", 8, "a judgement with its score line"),
    ("evaluate.compare_max_tokens", 4, "a verdict, [[A]]"),
    ("write_prompts.max_tokens", 4, "a prompt of four words, the shortest that passes"),
)
"""Tokens that a text needs at least to say what it must."""
ALIKE = (
    ("judge_seed.k", "judge_seed.temperature"),
    ("judge_candidates.k", "judge_candidates.temperature"),
    ("evaluate.judge_k", "evaluate.judge_temperature"),
)
ROOMS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("judge_seed", "judge_seed.max_tokens", {}),
    ("write_prompts", "write_prompts.max_tokens", {}),
    ("sample_candidates", "sample_candidates.max_tokens", {"write_prompts.max_tokens": 1}),
    (
        "judge_candidates",
        "judge_candidates.max_tokens",
        {"write_prompts.max_tokens": 1, "sample_candidates.max_tokens": 1},
    ),
    ("evaluate", "evaluate.max_tokens", {}),
    ("evaluate", "evaluate.judge_max_tokens", {}),
    ("head_to_head", "evaluate.compare_max_tokens", {"evaluate.max_tokens": 2}),
)
"""Stage, the key of what it writes, and the texts that its prompt holds, with how many of each."""


def training(p: Params, key: str) -> Iterator[Finding]:
    t = attrgetter(key)(p)
    if t.lr_end > t.lr:
        yield Finding(f"{key}.lr_end", f"{t.lr_end:g} is above {key}.lr, {t.lr:g}: the rate would rise", "Set it lower")
    if t.batch % t.micro_batch:
        yield Finding(f"{key}.batch", f"{t.batch} is no multiple of {key}.micro_batch, {t.micro_batch}", "Change one")


def margin(p: Params) -> Iterator[Finding]:
    """Margins that no pair can have."""
    longest, least = p.build_pairs.signal == "longest", p.build_pairs.min_margin
    most, unit = (p.sample_candidates.max_tokens, "tokens") if longest else (5, "points")
    if least >= most:
        seen = f"{least:g}, and no two scores are more than {most} {unit} apart"
        yield Finding("build_pairs.min_margin", seen, f"Set it below {most}")


def alike(p: Params) -> Iterator[Finding]:
    """Answers that would all be the same."""
    if p.sample_candidates.temperature == 0:
        seen = f"0 makes all {p.sample_candidates.n} answers to a prompt the same, so that there are no pairs"
        yield Finding("sample_candidates.temperature", seen, "Set it above 0, as 0.7")


def judged_alike(p: Params, key: str, hot: str) -> Iterator[Finding]:
    """Judgements that would."""
    if (k := attrgetter(key)(p)) > 1 and attrgetter(hot)(p) == 0:
        yield Finding(key, f"{k} judgements at {hot} 0 are all the same", f"Set it to 1, or {hot} above 0")


def length(p: Params, key: str, least: int, what: str) -> Iterator[Finding]:
    """Texts that are too short to say what they must."""
    if (tokens := attrgetter(key)(p)) < least:
        yield Finding(key, f"{tokens} cannot hold {what}", f"Set it to {least} at least, and mostly much higher")


def context(p: Params, stage: str, key: str, held: dict[str, int]) -> Iterator[Finding]:
    """Texts that do not fit beside what their prompt holds."""
    if stage == "head_to_head" and p.evaluate.compare_by == "oracle":
        return
    where, engine = p.engine_of(stage)
    texts = {key: 1, **held}
    if sum(times * attrgetter(text)(p) for text, times in texts.items()) >= engine.max_context:
        told = " and ".join(f"{f'{n} times ' if n > 1 else ''}{attrgetter(x)(p)} of {x}" for x, n in texts.items())
        seen = f"{told} leave nothing of {where}.max_context, {engine.max_context}, for the rest of the prompt"
        yield Finding(key, seen, "Raise the context, or shorten the texts")


def prompts(p: Params) -> Iterator[Finding]:
    """Prompts that cannot be reached; demonstrations that are not there."""
    w, ift = p.write_prompts, p.split_seed.ift
    for name, aift in p.aift.items():
        if aift.prompts > w.round * w.max_rounds:
            seen = f"{aift.prompts} are more than {w.max_rounds} rounds of {w.round} can give"
            yield Finding(f"aift.{name}.prompts", seen, "Raise write_prompts.max_rounds")
    if w.ift_shots + w.new_shots == 0:
        yield Finding("write_prompts.ift_shots", "no demonstrations at all, for new_shots is 0 too", "The paper has 8")
    elif w.ift_shots > ift:
        seen = f"{w.ift_shots} demonstrations of only {ift} rows of IFT"
        yield Finding("write_prompts.ift_shots", seen, "Show fewer")


RULES: tuple[Callable[[Params], Iterator[Finding]], ...] = (
    margin,
    alike,
    prompts,
    *(partial(training, key=key) for key in ("train_sft", "train_dpo")),
    *(partial(judged_alike, key=key, hot=hot) for key, hot in ALIKE),
    *(partial(length, key=key, least=least, what=what) for key, least, what in LEAST),
    *(partial(context, stage=stage, key=key, held=held) for stage, key, held in ROOMS),
)
