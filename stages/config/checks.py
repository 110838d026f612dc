"""Do the sections of `params.yaml` hold together? All faults at once, none of them needing a file or a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from os.path import normpath

from stages.config import names, numbers
from stages.config.finding import Finding
from stages.config.params import ROLE_ENGINES, Params

OWN = "A whole profile for your model and data: srlm profile own --model DIR_OR_REPO --data FILE_OR_REPO"


Rule = Callable[[Params], Iterator[Finding]]


def faults(params: Params, *, partial: bool = False) -> list[Finding]:
    """What is wrong between keys. Of a `partial` object, whose faulty sections are absent, what needs none of those."""
    found: list[Finding] = []
    for rule in RULES:
        with suppress(*[AttributeError] * partial):
            found += rule(params)
    return found


def world(p: Params) -> Iterator[Finding]:
    """The tiny world's templates, checker and M0 know its own prompts alone."""
    source = p.split_seed.source
    needs = [f"base.{name}" for name, model in p.base.items() if model.source == "tinyworld"]
    if p.tinyworld is None and (source == "tinyworld" or needs):
        seen = f"null, and {', '.join([*needs, *['split_seed'] * (source == 'tinyworld')])} comes from there"
        yield Finding("tinyworld", seen, "Copy the section from: srlm profile tiny")
    if source == "tinyworld":
        return
    faults = [
        *(
            (key, path, f"Set stages/templates/{name}, or one of yours")
            for key, path, name in (
                ("judge.template", p.judge.template, "judge.jinja"),
                ("write_prompts.template", p.write_prompts.template, "write_prompt.jinja"),
            )
            if normpath(path).startswith("stages/tinyworld/")
        ),
        *([("evaluate.oracle", "its checker", "Set none")] * (p.evaluate.oracle == "tinyworld")),
        *([("evaluate.compare_by", "its checker", "Set model")] * (p.evaluate.compare_by == "oracle")),
        *([("judge_seed.source", "its demonstrators", "Set model")] * (p.judge_seed.source == "written")),
        *((f"base.{n}.source", "its M0", "Set local") for n, m in p.base.items() if m.source == "tinyworld"),
    ]
    for i, (key, what, fix) in enumerate(faults):
        seen = (
            f"split_seed.source is {source}, and this is the tiny world's ({what}), which knows its own prompts alone"
        )
        yield Finding(key, seen, fix if i else f"{fix}. {OWN}")


def oracle(p: Params) -> Iterator[Finding]:
    if p.evaluate.compare_by == "oracle" and p.evaluate.oracle == "none" and p.split_seed.source == "tinyworld":
        seen = "is oracle, and evaluate.oracle is none"
        yield Finding("evaluate.compare_by", seen, "Set model, and evaluate.compare_with the one that compares")


def perfect(p: Params) -> Iterator[Finding]:
    """Who is trained on perfect answers alone needs scores that can be perfect."""
    for name in p.positive_only:
        if p.judge_candidates.score == "expected":
            seen = "picks answers with a perfect mean, which an expected score hardly is"
            yield Finding(f"positive_only.{name}", seen, "Set judge_candidates.score to sampled")
        if p.build_pairs.signal == "longest":
            seen = "picks answers by the judge's score, and build_pairs.signal longest puts length in its place"
            yield Finding(f"positive_only.{name}", seen, "Set build_pairs.signal to judge")


def engines(p: Params) -> Iterator[Finding]:
    """What an engine would silently not do."""
    hardware, used = p.hardware, dict(map(p.engine_of, ("", *ROLE_ENGINES)))
    if hardware.tensor_parallel > 1 and "vllm" not in (engine.worker for engine in used.values()):
        seen = f"{hardware.tensor_parallel}, and no engine is vllm: only that spreads a model over GPUs"
        yield Finding("hardware.tensor_parallel", seen, "Set it to 1")
    if hardware.workers > 1 and "ray" not in (engine.name for engine in used.values()):
        seen = f"{hardware.workers}, and no engine is ray, which has them"
        yield Finding("hardware.workers", seen, "Set engine.name to ray, and inner to what it was")
    for key, engine in used.items():
        if engine.name == "vllm" and hardware.workers > 1:
            seen = f"vllm is one process, and hardware.workers is {hardware.workers}"
            yield Finding(f"{key}.name", seen, "Set it to ray, and inner to vllm")
        if engine.quantization and engine.worker != "vllm":
            seen = f"{engine.quantization} is something that {engine.worker} does not do"
            yield Finding(f"{key}.quantization", seen, "Set it to null, or use vllm")
        judges = key in ("engine", "judge_candidates.engine")  # evaluate judges with the first, where no server does
        if judges and p.judge_candidates.score == "expected" and engine.worker == "scripted":
            seen = f"expected, and {key} is scripted, which has no probabilities"
            yield Finding("judge_candidates.score", seen, "Set it to sampled, or use another engine")
    prefixes = {engine.env_prefix for engine in used.values() if engine.name == "openai"}
    for unused in sorted(hardware.servers.keys() - prefixes):
        there = ", ".join(sorted(prefixes)) or "none"
        yield Finding(f"hardware.servers.{unused}", f"no engine openai has this env_prefix; they have: {there}")


def servers(p: Params) -> Iterator[Finding]:
    """Models that only a server has, where they are to be loaded or trained here."""
    served = {name for name, model in p.external.items() if model.source == "server"}
    for key, name in [("external.M0", "M0"), *((f"models.{k}.prev", step.prev) for k, step in p.models.items())]:
        if name in served:
            seen = f"{name} is a server's model: only weights that are here can be trained"
            yield Finding(key, seen, "Give it a source that has weights")
    uses = [
        *((f"aift.{k}.writer", a.writer, "write_prompts") for k, a in p.aift.items()),
        *((f"aift.{k}.judge", a.judge, "judge_candidates") for k, a in p.aift.items()),
        *((f"aift.{k}", k, "sample_candidates") for k in p.aift),
        *(("evaluated", name, "judge_candidates") for name in p.evaluated),
        *([("evaluate.compare_with", p.evaluate.compare_with, "head_to_head")] * (p.evaluate.compare_by == "model")),
    ]
    for key, name, stage in uses:
        where, engine = p.engine_of(stage)
        if name in served and engine.name != "openai":
            role = ".".join(ROLE_ENGINES.get(stage, (where,)))
            seen = f"{name} is a server's model, and {engine.name} cannot ask a server"
            yield Finding(key, seen, f"Set {role}: {{name: openai}}")


RULES: tuple[Rule, ...] = (
    *names.RULES,
    *numbers.RULES,
    world,
    oracle,
    perfect,
    engines,
    servers,
)
