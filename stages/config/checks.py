"""Do the loops of `params.yaml` hold together? Every model that is named must be made by exactly one stage, and every
AIFT that is trained on be made."""

from __future__ import annotations

from stages.config.params import Params

CHECKER = "stages/tinyworld/oracle.py"


def check_loops(params: Params) -> None:
    """Raises ValueError at the first name that is made nowhere, or twice."""
    if twice := params.base.keys() & params.external.keys():
        raise ValueError(f"{min(twice)} is in base and in external: one of them makes it")
    if "M0" not in params.input_models:
        raise ValueError("base, or external, needs an entry M0")
    seeds = {*params.input_models, "SFT", "M1"}
    made = {*seeds, *params.models, *params.positive_only}
    for name, step in params.models.items():
        if name in seeds or name == step.prev:
            raise ValueError(
                f"models.{name} cannot be trained from {step.prev}: "
                f"{'it is itself' if name == step.prev else f'{name} is made by another stage'}"
            )
        if step.prev not in params.aift:
            raise ValueError(f"models.{name} is trained on AIFT({step.prev}): add {step.prev} to aift")
    for name, variant in params.positive_only.items():
        if name in {*seeds, *params.models}:
            raise ValueError(f"positive_only.{name}: {name} is made by another stage")
        if variant.aift not in params.aift:
            raise ValueError(f"positive_only.{name} is trained on AIFT({variant.aift}): add {variant.aift} to aift")
        if params.judge_candidates.score == "expected":
            raise ValueError(
                f"positive_only.{name} picks answers with a perfect mean, which an expected score hardly is: use "
                f"judge_candidates.score sampled"
            )
        if params.build_pairs.signal == "longest":
            raise ValueError(
                f"positive_only.{name} picks answers by the judge's score, and build_pairs.signal longest puts length "
                f"in its place"
            )
    for name, compared in params.drift.items():
        for one in (name, compared.since):
            if one not in params.aift:
                raise ValueError(f"drift.{name} compares AIFT({compared.since}) with AIFT({name}): add {one} to aift")
    for where, name in [
        *((f"aift.{k}.writer", a.writer) for k, a in params.aift.items()),
        *((f"aift.{k}.judge", a.judge) for k, a in params.aift.items()),
        *((f"aift.{k}", k) for k in params.aift),
        *(("evaluated", e) for e in params.evaluated),
        *((f"head_to_head.{k}", x) for k, m in params.head_to_head.items() for x in (m.model, m.other)),
    ]:
        if name not in made:
            raise ValueError(f"{where} names {name}, which nothing makes; known models: {', '.join(sorted(made))}")
    for name, match in params.head_to_head.items():
        if name in made:
            raise ValueError(f"head_to_head.{name} has the name of a model, and so of its metrics file")
        for side in (match.model, match.other):
            if side not in params.evaluated:
                raise ValueError(f"head_to_head.{name} compares {side}, which is not in evaluated")
    check_engines(params)
    check_servers(params)
    judge = params.evaluate.compare_with
    if judge not in {CHECKER, *(f"data/models/{name}" for name in made)}:
        raise ValueError(
            f"evaluate.compare_with is {judge}; wanted {CHECKER}, or data/models/ and one of {', '.join(sorted(made))}"
        )
    if judge == CHECKER and params.evaluate.oracle == "none":
        raise ValueError(
            "evaluate.compare_with is the checker, and evaluate.oracle is none: name a model that compares"
        )
    compares, where = (
        params.engine_for("head_to_head"),
        "evaluate.judge_engine" if params.evaluate.judge_engine else "engine",
    )
    if judge != CHECKER and 2 * params.evaluate.max_tokens + params.evaluate.compare_max_tokens >= compares.max_context:
        raise ValueError(
            f"two answers of evaluate.max_tokens {params.evaluate.max_tokens} and evaluate.compare_max_tokens "
            f"{params.evaluate.compare_max_tokens} do not fit "
            f"into {where}.max_context {compares.max_context}: long answers could not be compared"
        )


def check_engines(params: Params) -> None:
    """Raises ValueError for what an engine would silently not do."""
    engines = {
        "engine": params.engine,
        "write_prompts.engine": params.write_prompts.engine,
        "judge_candidates.engine": params.judge_candidates.engine,
        "evaluate.judge_engine": params.evaluate.judge_engine,
    }
    hardware, used = params.hardware, {where: engine for where, engine in engines.items() if engine}
    if hardware.tensor_parallel > 1 and "vllm" not in (engine.worker for engine in used.values()):
        raise ValueError(
            f"hardware.tensor_parallel is {hardware.tensor_parallel}, and no engine is vllm: only that spreads a model "
            f"over GPUs"
        )
    if params.judge_candidates.score == "expected":
        for where in (
            "engine",
            "judge_candidates.engine",
        ):  # evaluate judges with the first, if no server has the model
            if where in used and used[where].worker == "scripted":
                raise ValueError(
                    f"judge_candidates.score is expected, and {where} is scripted, which has no probabilities: use "
                    f"sampled, or another engine"
                )
    for where, engine in used.items():
        if engine.name == "vllm" and hardware.workers > 1:
            raise ValueError(
                f"hardware.workers is {hardware.workers}, and {where} is vllm, one process: set its name to ray, and "
                f"inner to vllm"
            )
        if engine.quantization and engine.worker != "vllm":
            raise ValueError(
                f"{where}.quantization is {engine.quantization}, which {engine.worker} does not do: set it to null, or "
                f"use vllm"
            )
    prefixes = {engine.env_prefix for engine in used.values() if engine.name == "openai"}
    if unused := sorted(hardware.servers.keys() - prefixes):
        known = ", ".join(sorted(prefixes)) or "none"
        raise ValueError(
            f"hardware.servers.{unused[0]}: no engine openai has env_prefix {unused[0]}; they have: {known}"
        )
    if hardware.workers > 1 and "ray" not in (engine.name for engine in used.values()):
        raise ValueError(
            f"hardware.workers is {hardware.workers}, and no engine is ray, which has them: set engine.name to ray, "
            f"and inner to what it was"
        )


def check_servers(params: Params) -> None:
    """Raises ValueError where a model that only a server has is to be loaded or trained here."""
    served = {name for name, model in params.external.items() if model.source == "server"}
    engine = params.engine
    asked = [
        *(
            (f"aift.{k}.writer", a.writer, "write_prompts.engine", params.engine_for("write_prompts"))
            for k, a in params.aift.items()
        ),
        *(
            (f"aift.{k}.judge", a.judge, "judge_candidates.engine", params.engine_for("judge_candidates"))
            for k, a in params.aift.items()
        ),
        (
            "evaluate.compare_with",
            params.evaluate.compare_with.removeprefix("data/models/"),
            "evaluate.judge_engine",
            params.engine_for("head_to_head"),
        ),
        *((f"aift.{k}", k, "engine", engine) for k in params.aift),
        *(
            ("evaluated", name, "judge_candidates.engine", params.engine_for("evaluate", name))
            for name in params.evaluated
        ),
    ]
    if "M0" in served:
        raise ValueError("external.M0 is a server's model, and M0 is trained: give it a source that has weights")
    for name, step in params.models.items():
        if step.prev in served:
            raise ValueError(
                f"models.{name} is to be trained from {step.prev}, a server's model: only weights that are here can be "
                f"trained"
            )
    for where, name, key, used in asked:
        if name in served and used.name != "openai":
            raise ValueError(
                f"{where} is {name}, a server's model, and {key} is {used.name}: only the engine openai can ask a "
                f"server"
            )
