"""Names in `params.yaml`: each model is made by one stage, nothing is written twice, what is needed is made before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from stages.config.finding import Finding, nearest
from stages.config.params import Params

TAKEN = {
    "ift": "a dataset",
    "eft": "a dataset",
    "aift": "a dataset",
    "test": "a dataset",
    "eval": "a folder of data",
    "head_to_head": "a folder of data",
    "seed": "the seed data's name in queries",
    "oracle": "the checker's name in verdicts",
    "people": "the name of people in judgements",
}


def unusable(p: Params) -> Iterator[Finding]:
    """Names that stand for something else already."""
    for section in ("base", "external", "models", "positive_only", "head_to_head"):
        for name in getattr(p, section):
            if what := TAKEN.get(name.casefold()):
                yield Finding(f"{section}.{name}", f"{name} is {what}", "Use another name")


def outputs(p: Params) -> Iterator[tuple[str, str]]:
    """(path, key of params.yaml or stage) of every file and folder that names decide; each model as if evaluated."""
    models = [
        *((name, f"{section}.{name}") for section in ("base", "external") for name in getattr(p, section)),
        *((name, f"dvc.yaml's train_sft of {name}") for name in ("SFT", "M1")),
        *((name, f"{section}.{name}") for section in ("models", "positive_only") for name in getattr(p, section)),
    ]
    for name, key in models:
        for path in (f"models/{name}", f"EVAL/{name}", f"metrics/{name}.json", f"plots/train_{name}.csv"):
            yield f"data/{path}", key
    yield "data/metrics/EFT.json", "dvc.yaml's build_eft"
    for name in p.aift:
        yield from ((f"data/{path}", f"aift.{name}") for path in (f"AIFT/{name}", f"metrics/AIFT-{name}.json"))
    for name in p.drift:
        yield f"data/metrics/drift-{name}.json", f"drift.{name}"
    for name in p.head_to_head:
        for path in (f"EVAL/head_to_head/{name}.parquet", f"metrics/{name}.json"):
            yield f"data/{path}", f"head_to_head.{name}"


def written_twice(p: Params) -> Iterator[Finding]:
    """Names of which two write one file, on some disks at least: not all tell capitals apart."""
    first: dict[str, str] = {}
    told = set()
    for path, key in outputs(p):
        other = first.setdefault(path.casefold(), key)
        if other != key and (key, other) not in told:
            told.add((key, other))
            yield Finding(key, f"writes {path}, as {other} does (capitals do not count)", "Rename one of them")


def unknown(p: Params) -> Iterator[Finding]:
    """Names of models and AIFTs that nothing makes."""
    models, aifts = {*p.input_models, *p.trained_models}, set(p.aift)
    if "M0" not in p.input_models:
        yield Finding("base", "base, or external, needs an entry M0", "The method starts from it")
    uses = [
        *((f"aift.{k}", k) for k in p.aift),
        *((f"aift.{k}.{role}", getattr(a, role)) for k, a in p.aift.items() for role in ("writer", "judge")),
        *((f"models.{k}.prev", step.prev) for k, step in p.models.items()),
        *((f"evaluated.{i}", name) for i, name in enumerate(p.evaluated)),
        ("evaluate.compare_with", p.evaluate.compare_with),
    ]
    for key, name in uses:
        if name not in models:
            near = nearest(name, models, cutoff=75)
            yield Finding(
                key,
                f"{name} is a model that nothing makes",
                f"Did you mean {near}?" if near else f"There are {', '.join(sorted(models))}",
            )
    trained_on = [
        *((f"models.{k}", f"is trained on AIFT({s.prev})", s.prev) for k, s in p.models.items()),
        *((f"positive_only.{k}", f"is trained on AIFT({v.aift})", v.aift) for k, v in p.positive_only.items()),
        *((f"drift.{k}", f"is about AIFT({x})", x) for k, d in p.drift.items() for x in (k, d.since)),
    ]
    for key, what, name in trained_on:
        if name not in aifts:
            yield Finding(key, what, f"Add {name} to aift")


def compared(p: Params) -> Iterator[Finding]:
    """Models that are evaluated or compared more than once, with themselves, or without having answered."""
    for name, times in Counter(p.evaluated).items():
        if times > 1:
            yield Finding("evaluated", f"{name} stands {times} times", "Name each model once")
    for name, match in p.head_to_head.items():
        if match.model == match.other:
            yield Finding(f"head_to_head.{name}", f"{match.model} against itself", "Name two models")
        for side in dict.fromkeys((match.model, match.other)):
            if side not in p.evaluated:
                yield Finding(
                    f"head_to_head.{name}", f"compares {side}, which is not in evaluated", f"Add {side} there"
                )
    for name, drift in p.drift.items():
        if name == drift.since:
            yield Finding(f"drift.{name}.since", f"AIFT({name}) is compared with itself", "Name an earlier one")


def cycles(p: Params) -> Iterator[Finding]:
    """What would have to be made before itself: all cycles, each at one of its keys."""
    needs: dict[str, dict[str, str]] = {"SFT": {"M0": ""}, "EFT": {"SFT": ""}, "M1": {"M0": "", "EFT": ""}}
    for name, step in p.models.items():
        key = f"models.{name}.prev"
        needs.setdefault(name, {}).update({step.prev: key, f"AIFT({step.prev})": key})
    for name, positive in p.positive_only.items():
        needs.setdefault(name, {}).update({"EFT": "", f"AIFT({positive.aift})": f"positive_only.{name}.aift"})
    for name, aift in p.aift.items():
        roles = {role: f"aift.{name}.{key}" for key, role in (("writer", aift.writer), ("judge", aift.judge))}
        needs[f"AIFT({name})"] = roles | {name: ""}
    while True:
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as e:
            ring: list[str] = e.args[1]  # each is needed by the next
            links = [(after, before) for before, after in pairwise(ring)]
            keyed = [link for link in links if needs[link[0]][link[1]]] or links
            after, before = min(keyed, key=lambda link: not needs[link[0]][link[1]].startswith("aift."))
            told = ", ".join(f"{after} needs {before}" for after, before in reversed(links))
            key = needs[after][before]
            needs[after] = {name: why for name, why in needs[after].items() if why != key}
            yield Finding(key or after, f"goes in a circle: {told}", "Name a model that is made before")
        else:
            return


RULES = (unusable, written_twice, unknown, compared, cycles)
