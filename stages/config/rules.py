"""What cannot be meant in `params.yaml`, though each key may stand: names, circles, engines, sources whose templates
are not theirs; numbers in company are in `numbers`. A rule yields findings; none needs a file or a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from os.path import normpath

from stages.config.finding import Finding, nearest
from stages.config.levers import LEVERS
from stages.config.numbers import NUMBERS, Findings, Rule
from stages.config.params import PREVIOUS, ROLE_ENGINES, Params
from stages.text.language import is_english

TAKEN = ("ift", "eft", "aift", "test", "seed", "head_to_head", "oracle", "people", "ranks", "constant", PREVIOUS)
"""Names that stand for datasets, folders and judges that are no models."""
TRAINED = "training"


def faults(params: Params, *, partial: bool = False) -> list[Finding]:
    """What is wrong between keys. Of a `partial` object, whose faulty sections are absent, what needs none of those."""
    findings: list[Finding] = []
    for rule in RULES:
        with suppress(*[AttributeError] * partial):
            findings += rule(params)
    return findings


# --- Names ---


def names(p: Params) -> Findings:
    """Each model is made by one stage, on disks that do not tell capitals apart, too."""
    owner = dict.fromkeys(("sft", "m1"), "train_sft")
    for section in ("base", "external", "models", "positive_only"):
        for name in getattr(p, section):
            key, folded = f"{section}.{name}", name.casefold()
            if folded in TAKEN:
                yield Finding(key, f"{name} is no name for a model: it stands for something else", "Use another")
            if folded in owner:
                seen = f"writes data/models/{name}, as {owner[folded]} does (capitals do not count)"
                yield Finding(key, seen, "Rename one of them")
            owner[folded] = key


def uses(p: Params) -> Iterator[tuple[str, str, str]]:
    """(key, model, the stage whose engine asks it, `TRAINED` or none), wherever a model is named."""
    yield ("external.M0" if "M0" in p.external else "base.M0"), "M0", TRAINED
    for name, aift in p.aift.items():
        yield f"aift.{name}", name, "sample_candidates"
        yield f"aift.{name}.writer", aift.writer, "write_prompts"
        yield f"aift.{name}.judge", aift.judge, "judge_candidates"
    for key, older, stage in (
        ("build_pairs.rejected_from", p.build_pairs.rejected_from, "sample_candidates"),
        ("judge_candidates.second_judge", p.judge_candidates.second_judge, "judge_candidates"),
    ):
        if older and older != PREVIOUS:
            yield key, older, stage
    if p.judge_seed.source == "judge" and p.judge_seed.judge:
        yield "judge_seed.judge", p.judge_seed.judge, "judge_seed"
    for name, step in p.models.items():
        yield f"models.{name}.prev", step.prev, TRAINED
    for i, name in enumerate(p.evaluated):  # with the judge's engine, where only a server has the model
        yield f"evaluated.{i}", name, "judge_candidates"
    yield "choose.judge", p.choose.judge, "choose" if p.choose.by == "model" and p.choose.every_steps else ""
    yield "evaluate.compare_with", p.evaluate.compare_with, "head_to_head" if p.evaluate.compare_by == "model" else ""


def models(p: Params) -> Findings:
    """Models that nothing makes; models that only a server has, where they are to be trained or loaded here."""
    there = {*p.input_models, *p.trained_models}
    served = {name for name, model in p.external.items() if model.source == "server"}
    for key, name, stage in uses(p):
        if name not in there:
            near = nearest(name, there, cutoff=75)
            fix = (
                f"Did you mean {near}?" if near else f"Add it to base or external; there are {', '.join(sorted(there))}"
            )
            yield Finding(key, f"{name} is a model that nothing makes", fix)
        elif name in served and stage == TRAINED:
            seen = f"{name} is a server's model: only weights that are here can be trained"
            yield Finding(key, seen, "Give it a source that has weights")
        elif name in served and stage and (asked := p.engine_of(stage))[1].name != "openai":
            role = ".".join(ROLE_ENGINES.get(stage, asked[:1]))
            seen = f"{name} is a server's model, and {asked[1].name} cannot ask a server"
            yield Finding(key, seen, f"Set {role}: {{name: openai}}")


def trained_on(p: Params) -> Findings:
    """AIFTs that nothing makes."""
    needs = [
        *((f"models.{k}", f"is trained on AIFT({s.prev})", s.prev) for k, s in p.models.items()),
        *((f"positive_only.{k}", f"is trained on AIFT({v.aift})", v.aift) for k, v in p.positive_only.items()),
        *((f"drift.{k}", f"is about AIFT({name})", name) for k, d in p.drift.items() for name in (k, d.since)),
    ]
    for key, seen, name in needs:
        if name not in p.aift:
            yield Finding(key, seen, f"Add {name} to aift")


def compared(p: Params) -> Findings:
    """What is compared twice, with itself, or without having answered."""
    for name, times in Counter(p.evaluated).items():
        if times > 1:
            yield Finding("evaluated", f"{name} stands {times} times", "Name each model once")
    pairs: dict[frozenset[str], str] = {}
    for name, match in p.head_to_head.items():
        pair = frozenset((match.model, match.other))
        if len(pair) == 1:
            yield Finding(f"head_to_head.{name}", f"{match.model} against itself", "Name two models")
        if pair in pairs:
            yield Finding(f"head_to_head.{name}", f"compares the same two models as {pairs[pair]}", "Delete one")
        pairs.setdefault(pair, name)
        for side in sorted({match.model, match.other} - {*p.evaluated}):
            yield Finding(f"head_to_head.{name}", f"compares {side}, which is not in evaluated", f"Add {side} there")
    for name, drift in p.drift.items():
        if name == drift.since:
            yield Finding(f"drift.{name}.since", f"AIFT({name}) is compared with itself", "Name an earlier one")
        elif name in p.ancestors(drift.since):
            yield Finding(f"drift.{name}.since", f"AIFT({drift.since}) is later than AIFT({name})", "Turn them")


def circles(p: Params) -> Findings:
    """What would have to be made before itself: the first circle, at one of its keys."""
    keys: dict[tuple[str, str], str] = {}  # (what is made, what it needs) -> where
    for name, aift in p.aift.items():
        roles = {aift.writer: f"aift.{name}.writer", aift.judge: f"aift.{name}.judge"}
        keys |= {(f"AIFT({name})", model): key for model, key in roles.items() if model != name}
    for name, step in p.models.items():
        keys |= dict.fromkeys([(name, step.prev), (name, f"AIFT({step.prev})")], f"models.{name}.prev")
    for name, positive in p.positive_only.items():
        keys[name, f"AIFT({positive.aift})"] = f"positive_only.{name}.aift"
    if judge := p.judge_seed.model:
        keys["EFT", judge] = "judge_seed.judge"
    needs = {"SFT": ["M0"], "M1": ["M0", "EFT"], **{f"AIFT({name})": [name] for name in p.aift}}
    for after, before in keys:
        needs.setdefault(after, []).append(before)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as e:
        links = [(after, before) for before, after in pairwise(e.args[1])][::-1]
        told = ", ".join(f"{after} needs {before}" for after, before in links)
        at = sorted(keys[link] for link in links if link in keys)
        yield Finding(at[0], f"goes in a circle: {told}", "Name a model that is made before")


# --- Sources, scores, engines ---


def seed_judge(p: Params) -> Findings:
    """Who judges the seed's answers, and what DVC watches of it."""
    seed, path = p.judge_seed, normpath(p.judge_seed.path)
    if seed.source == "judge" and not seed.judge:
        seen = "null, and judge_seed.source is judge: no model is named"
        yield Finding("judge_seed.judge", seen, f"Name one of base or external: {', '.join(p.input_models)}")
    elif seed.source != "judge" and seed.judge:
        seen = f"{seed.judge} would judge nothing: judge_seed.source is {seed.source}"
        yield Finding("judge_seed.judge", seen, "Set judge_seed.source to judge, or this to null")
    elif seed.model and path != f"data/models/{seed.model}":
        yield Finding("judge_seed.path", f"{path}, and {seed.model} judges", f"Set data/models/{seed.model}")
    elif not seed.model and path.startswith("data/"):
        wanted = {"ranks": "stages/templates/judge_by_rank.jinja", "written": "stages/tinyworld/reviews.py"}
        seen = f"{path}, and judge_seed.source {seed.source} asks no model"
        yield Finding("judge_seed.path", seen, f"Set {wanted[seed.source]}")


def chooser(p: Params) -> Findings:
    """Who compares the models on the way of a training. DVC wants `judge` before any, whether it is asked or not."""
    if p.choose.judge in p.trained_models:
        seen = f"{p.choose.judge} is not there before the first training"
        yield Finding("choose.judge", seen, f"Name one of base or external: {', '.join(p.input_models)}")
    if p.choose.every_steps and p.choose.by == "oracle" and p.split_seed.source != "tinyworld":
        yield Finding("choose.by", "oracle is the tiny world's checker", "Set model, or null")


def world(p: Params) -> Findings:
    """The tiny world's templates, checker and M0 know its own prompts alone."""
    source = p.split_seed.source
    its_own = [f"base.{name}" for name, model in p.base.items() if model.source == "tinyworld"]
    if p.tinyworld is None and (its_own or source == "tinyworld"):
        yield Finding(
            "tinyworld", f"null, and {(*its_own, 'split_seed')[0]} comes from there", "Copy it from: srlm profile tiny"
        )
    if source == "tinyworld":
        if p.evaluate.compare_by == "oracle" and p.evaluate.oracle == "none":
            yield Finding("evaluate.compare_by", "is oracle, and evaluate.oracle is none", "Set one of them otherwise")
        return
    strangers = [
        *(
            (f"{section}.template", f"Set stages/templates/{name}, or one of yours")
            for section, name in (("judge", "judge.jinja"), ("write_prompts", "write_prompt.jinja"))
            if normpath(getattr(p, section).template).startswith("stages/tinyworld/")
        ),
        *([("evaluate.oracle", "Set none, or constraints")] * (p.evaluate.oracle == "tinyworld")),
        *(
            [("evaluate.compare_by", "Set model")]
            * (p.evaluate.compare_by == "oracle" and p.evaluate.oracle != "constraints")
        ),
        *([("judge_seed.source", "Set model")] * (p.judge_seed.source == "written")),
        *((f"{key}.source", "Set local") for key in its_own),
    ]
    if strangers:
        yield Finding(
            "split_seed.source",
            f"{source}, and keys below name what is the tiny world's, which knows its own prompts alone",
            "A whole profile for your model and data: srlm profile own --model DIR_OR_REPO --data FILE_OR_REPO",
        )
    for key, fix in strangers:
        yield Finding(key, "is the tiny world's", fix)


def perfect(p: Params) -> Findings:
    """Who is trained on perfect answers alone needs scores that can be perfect."""
    for name in p.positive_only:
        if p.judge_candidates.score == "expected":
            seen = "picks answers with a perfect mean, which an expected score hardly is"
            yield Finding(f"positive_only.{name}", seen, "Set judge_candidates.score to sampled")
        if p.build_pairs.signal == "longest":
            seen = "picks answers by the judge's score, and build_pairs.signal longest puts length in its place"
            yield Finding(f"positive_only.{name}", seen, "Set build_pairs.signal to judge")


def expected(p: Params) -> Findings:
    """An expected score compares the tokens that could stand in the place of the score: each must be one."""
    if p.judge_candidates.score == "expected" and p.judge.scale.max > 9 and not p.judge.scale.letters:
        seen = f"expected, and {p.judge.scale.max} of judge.scale is more than one token of many models"
        yield Finding("judge_candidates.score", seen, "Set it to sampled, or judge.scale.max to 9 at most")


def written(p: Params) -> Findings:
    """What people of the tiny world wrote is on their scale."""
    if p.judge_seed.source == "written" and dict(p.judge.scale) != {"min": 0, "max": 5, "letters": None}:
        yield Finding("judge.scale", "judge_seed.source written has judgements of 0 to 5", "Set it to 0 to 5")


def engines(p: Params) -> Findings:
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


def english(p: Params) -> Findings:
    """Constraints are English sentences."""
    lang = p.split_seed.lang
    if lang is None or is_english(lang):
        return
    for key, adds, off in (
        ("split_seed.eft_constraints", p.split_seed.eft_constraints > 0, "0"),
        ("write_prompts.constraints", p.write_prompts.constraints > 0, "0"),
        ("evaluate.oracle", p.evaluate.oracle == "constraints", "none"),
    ):
        if adds:
            seen = f"puts English sentences behind prompts, and split_seed.lang is {lang}"
            yield Finding(key, seen, f"Set it to {off}")


RULES: tuple[Rule, ...] = (
    names,
    models,
    trained_on,
    compared,
    circles,
    seed_judge,
    chooser,
    world,
    perfect,
    expected,
    written,
    engines,
    english,
    *NUMBERS,
    *LEVERS,
)
"""Each for itself: one that needs a faulty section hides no other."""
