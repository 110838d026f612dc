"""How the data were made, told from params.yaml alone: by whom, with which engines, in what order, and so what they may
be called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stages.config.engines import EngineParams
from stages.config.names import CHECKER
from stages.config.params import Params

DATA = {
    "prompts": "the new prompts",
    "answers": "the answers",
    "judgements": "their judgements",
    "EFT": "the judgements in EFT",
}
"""What engines write that is published, and what a card calls it."""


def generation_summary(params: Params) -> dict[str, Any]:
    """Who wrote, answered and judged each AIFT, and how model came of model. Of models that do so for themselves,
    `writers` and `judging` say nothing."""
    made = [{"model": model, **how.model_dump()} for model, how in params.aift.items()]
    judged: dict[str, list[str]] = {}
    for a in made:
        judged.setdefault(a["judge"], []).append(
            "its own answers" if a["judge"] == a["model"] else f"the answers in AIFT({a['model']})"
        )
    own = all(a["judge"] == a["model"] for a in made)
    rehearsed = [what for what in DATA if what in scripted(params) and (made or what == "EFT")]
    return {
        "made": made,
        "writers": "" if all(a["writer"] == a["model"] for a in made) else join_words(a["writer"] for a in made),
        "judging": "" if own else join_words(f"{judge} judged {join_words(whose)}" for judge, whose in judged.items()),
        "engines": {what: in_words(engine, params.engine) for what, engine in engines(params).items()},
        "scripted": rehearsed,
        "scripted_in_words": join_words(DATA[what] for what in rehearsed),
        "scripted_figures": "evaluation" in scripted(params),
        "self_rewarding": own and is_model_judged(params),
        "chains": chains(params),
    }


def engines(params: Params) -> dict[str, EngineParams]:
    """Of each part of a run that an engine makes; a role's own engine goes before the section `engine`."""
    usual = params.engine
    used = {
        "prompts": params.write_prompts.engine or usual,
        "answers": usual,
        "judgements": params.judge_candidates.engine or usual,
        "evaluation": usual,
    }
    if params.judge_seed.source == "model":
        used["EFT"] = usual
    if params.evaluate.compare_with != CHECKER:
        used["verdicts"] = params.evaluate.judge_engine or usual
    return used


def in_words(engine: EngineParams, usual: EngineParams) -> str:
    """Its name, and what differs from the section `engine`."""
    told, expected = engine.model_dump(), usual.model_dump()
    differs = [
        f"{key} {'null' if value is None else value}"
        for key, value in told.items()
        if key not in ("name", "inner") and value != expected[key]
    ]
    return ", ".join([engine.name, *([f"inner {engine.inner}"] if engine.name == "ray" else []), *differs])


def scripted(params: Params) -> set[str]:
    """Parts of a run whose texts come from a hash instead of a model."""
    return {what for what, engine in engines(params).items() if engine.worker == "scripted"}


def is_model_judged(params: Params) -> bool:
    """Whether the pairs, if there are any, show what a model thinks of a model's answers: not in a control, nor where a
    hash took a model's place."""
    return params.build_pairs.signal == "judge" and not scripted(params) & {"answers", "judgements"}


def dataset_tags(params: Params) -> list[str]:
    """What is true of the data that the parameters ask for; EFT is always among them."""
    rehearsed, method = scripted(params), generation_summary(params)
    preference = bool(method["made"]) and is_model_judged(params)
    judged = "EFT" not in rehearsed or (method["made"] and "judgements" not in rehearsed)
    return [
        *(["self-rewarding"] if preference and method["self_rewarding"] else []),
        *(["preference", "dpo", "rlaif"] if preference else []),
        *(["llm-as-a-judge"] if judged else []),
        "arxiv:2401.10020",
    ]


def chains(params: Params) -> list[str]:
    """How each model came of those before it, a line for each branch."""
    came = {"M1": "M0 → SFT on IFT + EFT → M1", "SFT": "M0 → SFT on IFT → SFT"}
    came |= {
        name: f"M0 → SFT on IFT + EFT + the perfect answers of AIFT({variant.aift}) → {name}"
        for name, variant in params.positive_only.items()
    }
    children: dict[str, list[str]] = {}
    for name, step in params.models.items():
        children.setdefault(step.prev, []).append(name)
    told, todo = (
        [],
        [
            (name, came.get(name, name))
            for name in dict.fromkeys(["M1", *children, *params.positive_only])
            if name not in params.models
        ],
    )
    while todo:
        name, line = todo.pop(0)
        while name in children:
            first, *others = children[name]
            trained = f" → DPO on AIFT({name}) → "
            todo += [(other, name + trained + other) for other in others]
            name, line = first, line + trained + first
        told.append(line)
    return told


def join_words(names: Iterable[str]) -> str:
    """Each once: `a, b and c`; nothing of none."""
    *first, last = dict.fromkeys(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last
