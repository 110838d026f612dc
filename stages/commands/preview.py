"""preview: some records of a stage, made for real before a whole run pays for them, and what the whole would take.

    srlm preview judge_seed                    can this model judge?
    srlm preview sample_candidates@M1 -n 10    answers to ten prompts

The stage itself runs, in a temporary project with a few rows of its inputs; what nobody has made yet, the stages before
it make there, as little. Only the project's completion cache keeps what came of it: the run does not pay twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from stages.commands import preview_judge, preview_price
from stages.commands.preview_records import (
    Record,
    counts,
    of_evaluation,
    of_prompts,
    of_seed,
    percent,
    shares,
    show,
)
from stages.commands.preview_space import NEEDS, Space, models_of, sandbox
from stages.commands.preview_space import name as name_of
from stages.config.finding import nearest
from stages.config.load import entry, load_params, read_mapping
from stages.config.params import Params
from stages.console.errors import SrlmError
from stages.console.terminal import Console, stderr
from stages.store.tables import RANKED_VALID, TEST_PROMPTS

OF_AIFT = ("write_prompts", *NEEDS)
PREVIEWED = ("judge_seed", "build_eft", *OF_AIFT, "evaluate")
RECORDS, ANSWERS_JUDGED = 10, 20
"""Prompts of a preview; of judge_seed answers."""


def preview(target: str, n: int | None = None, root: Path = Path(), *, as_json: bool = False) -> None:
    """Run the stage `target` (`sample_candidates@M1`) on `n` records, show what came of it and what the whole would
    take. Raises SrlmError for a stage without a preview, and where it fails."""
    stage, model = named(target, root)
    params = load_params(root)
    model = checked_model(stage, model, params)
    n = n or (ANSWERS_JUDGED if stage == "judge_seed" else RECORDS)
    with sandbox(root, params, n) as space:
        sizes = preview_price.sizes_of(space, stage)
        content: dict[str, Any] = {"stage": stage, "model": model}
        failed: SrlmError | None = None
        if stage == "judge_seed":
            content["judge"] = preview_judge.verdict(preview_judge.judge_seed(space), params)
        else:
            try:
                make(space, stage, model)
            except SrlmError as e:  # what was made until then explains it
                if not stage.startswith("build_"):
                    raise
                failed = e
        found = records(space, stage, model)
        content |= {"records": found, "fates": counts(found), "shares": shares(found, stage)}
        content["stand_ins"] = space.stand_ins
        content["price"] = preview_price.price(space, stage, model, sizes) if failed is None else None
        content["before"] = before(space, stage, model, sizes)
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        tell(content)
    if failed:
        raise failed


def tell(content: dict[str, Any]) -> None:
    console = Console()
    show(content["records"], console)
    if content["fates"]:
        console.print(", ".join(f"{n} {fate.replace('_', ' ')}" for fate, n in content["fates"].items()))
    for name, figure in content["shares"].items():
        console.print(f"{name}: {percent(figure, 'prompts')}")
    if judge := content.get("judge"):
        preview_judge.tell(judge, console)
    for name, price in content["before"].items():
        console.print(preview_price.line(name, price), soft_wrap=True)
    if content["price"]:
        console.print(preview_price.line(name_of(content["stage"], content["model"]), content["price"]), soft_wrap=True)


def named(target: str, root: Path) -> tuple[str, str | None]:
    """The stage of dvc.yaml and the model behind its `@`. Raises SrlmError for one that is unknown or has no
    preview."""
    stage, at, model = target.partition("@")
    stages = (read_mapping(root / "dvc.yaml") or {}).get("stages")
    known = [*stages] if isinstance(stages, dict) else [*PREVIEWED]
    if stage not in known:
        near = nearest(stage, known)
        raise SrlmError(
            f"no stage {stage!r}" + (f"; did you mean {near}?" if near else f"; there are previews of {_all()}")
        )
    if stage.startswith("train_"):
        raise SrlmError(f"{stage} trains a model, of which there is no preview. What it takes: srlm plan")
    if stage not in PREVIEWED:
        raise SrlmError(f"{stage} has no preview; there are previews of {_all()}")
    if at and stage in ("judge_seed", "build_eft"):
        raise SrlmError(f"a run has one {stage}, of no model: srlm preview {stage}")
    return stage, model or None


def _all() -> str:
    return ", ".join(PREVIEWED)


def checked_model(stage: str, model: str | None, params: Params) -> str | None:
    """The model of the stage, the first by default. Raises ParamsError for one that params.yaml does not have, and
    SrlmError where the stage is off."""
    if stage in ("judge_seed", "build_eft"):
        return None
    if stage == "build_judge_pairs" and not params.judge_pairs.source:
        raise SrlmError("judge_pairs.source is null, so that build_judge_pairs makes nothing (docs/levers.md)")
    section, names = ("aift", [*params.aift]) if stage in OF_AIFT else ("evaluated", [*params.evaluated])
    if model is None and not names:
        raise SrlmError(f"{section} in params.yaml is empty, so that there is no {stage}")
    model = model or names[0]
    entry(dict.fromkeys(names), section, model)
    return model


def make(space: Space, stage: str, model: str | None) -> None:
    """Run the stage in its temporary project, behind what it needs."""
    if stage == "write_prompts" and model:
        space.write_prompts(model)
    elif stage == "build_eft":
        space.judged_seed()
        space.stage(stage)
    elif stage == "evaluate" and model:
        held_out(space)
        space.stage(stage, model)
    elif model:
        space.prepare(stage, model)
        _say(space, stage, model)
        space.stage(stage, model)


def _say(space: Space, stage: str, model: str) -> None:
    if models := models_of(space.params, stage, model):
        stderr.print(f"{stage}@{model}: {' and '.join(models)}, {space.n} prompts")


def held_out(space: Space) -> None:
    """`n` held-out prompts, and the same share of the ranked answers, of whole prompts."""
    space.seed()
    prompts, ranked = space.read(TEST_PROMPTS), space.read(RANKED_VALID)
    if prompts is None or ranked is None:
        return
    wanted = max(2, round(len(ranked) * space.n / max(1, len(prompts))))
    ranked = ranked.sort("prompt_id", maintain_order=True)
    before = (
        ranked.group_by("prompt_id", maintain_order=True).len().with_columns(pl.col("len").cum_sum() - pl.col("len"))
    )
    few = before.filter(pl.col("len") < wanted)["prompt_id"]
    space.write(TEST_PROMPTS, prompts.head(space.n))
    space.write(RANKED_VALID, ranked.filter(pl.col("prompt_id").is_in(few.implode())))


def before(space: Space, stage: str, model: str | None, sizes: dict[str, int]) -> dict[str, Any]:
    """The prices of the stages of this model that ran here to make what `stage` reads."""
    prices = {}
    for each in dict.fromkeys(space.made):
        verb, _, of = each.partition("@")
        if verb in PREVIEWED and verb != stage and (of or None) == model and verb != "build_pairs":
            prices[each] = preview_price.price(space, verb, model, sizes)
    return prices


def records(space: Space, stage: str, model: str | None) -> list[Record]:
    if model is None:
        return of_seed(space)
    return of_evaluation(space, model) if stage == "evaluate" else of_prompts(space, stage, model)
