"""A complete params.yaml for somebody's own model and data. Pure: what was seen of them and of the machine goes in;
sizes that follow from it come out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

GB = 1e9
JUDGE_TOKENS = 480
"""Of templates/judge.jinja without its fields, about, in a vocabulary of 32,000 and more."""
LEAST_CONTEXT = 2 * JUDGE_TOKENS
"""A judge prompt with its judgement: as much for what the template is filled with, and for what is written."""
CACHED_BYTES = 2**17
"""Keys and values of one token, of a model of some billions."""
PAPER = {"test_prompts": 256, "test_ranked": 190, "ift_valid": 100, "eft_prompts": 2000, "ift": 3200}
SMALL = {"test_prompts": 16, "test_ranked": 16, "ift_valid": 8, "eft_prompts": 40, "ift": 64}
SMALL_ANSWERS = {"test_ranked": 28, "eft_prompts": 84}
"""Ranked answers that a small run judges: each is read whole, which takes most of its time."""
SHARES = {"test_prompts": 0.15, "test_ranked": 0.12, "ift_valid": 0.05, "eft_prompts": 0.28}
"""Of prompts that are fewer than the paper's sizes ask for; IFT gets the rest."""
RANKED_SHARES = {"test_ranked": 0.3, "eft_prompts": 0.7}
"""Of the prompts with answers ranked apart, at most."""


class ModelFacts(NamedTuple):
    """Unknown is None."""

    parameters: int | None
    context: int | None
    has_chat_template: bool


LEAST_STEPS = 10
"""Of an epoch of SFT, if need be in smaller batches than the paper's 16: in three steps a model learns no form of a
judgement."""


class DataFacts(NamedTuple):
    """Prompts with ranked answers, of which `comparable` have answers ranked apart. Tokens: 95th percentiles."""

    prompts: int
    comparable: int
    answers: int
    prompt_tokens: int
    response_tokens: int


class Machine(NamedTuple):
    """Memory in bytes, `gpu_memory` of one GPU."""

    cores: int
    memory: float
    gpus: int
    gpu_memory: float
    has_vllm: bool
    has_ray: bool


def choose(model: ModelFacts, data: DataFacts, machine: Machine, *, small: bool) -> dict[str, Any]:
    """Dotted key -> value, over the profile gpu, for a model of at least LEAST_CONTEXT. `small` asks for a run of an
    hour or less, as does a machine without a GPU."""
    cpu = machine.gpus == 0
    small = small or cpu
    big = model.parameters is None or model.parameters >= 5e8
    vllm = machine.has_vllm and not cpu
    engine = "transformers" if not vllm else "ray" if machine.gpus > 1 and machine.has_ray else "vllm"
    context = model.context or 4096
    # an answer twice and a comparison, or a judge prompt with its judgement, must fit
    room = min(context // 4, (context - JUDGE_TOKENS) // 3)
    answer = _round_up(data.response_tokens, 32, min(64, room), min(room, 256 if small else 1024))
    asked = _round_up(data.prompt_tokens, 32, min(32, room), min(room, 64 if small else 256))
    judgement = min(room, 160 if small else 512)
    compared = min(room, 64 if small else 512)
    widest = JUDGE_TOKENS + answer + max(asked + judgement, answer + compared)
    longest = JUDGE_TOKENS + data.prompt_tokens + data.response_tokens + judgement
    length = _round_up(longest, 64, 256, min(context, 1536 if small else 4096))
    fits = (0.2 * machine.memory if cpu else 0.3 * machine.gpu_memory) / CACHED_BYTES
    sizes = _sizes(data, small)
    params: dict[str, Any] = {
        **{f"split_seed.{part}": size for part, size in sizes.items()},
        "aift.M1.prompts": 16 if small else 2000,
        "aift.M2.prompts": 16 if small else 4000,
        "engine.name": engine,
        "engine.inner": "vllm" if vllm else "transformers",
        "engine.dtype": "float32" if cpu else "bfloat16",
        "engine.max_context": _round_up(max(longest, widest), 256, 512, context),
        "engine.max_batch_tokens": 1 << max(12, min(14 if cpu else 17, int(fits).bit_length() - 1)),
        "hardware.threads": machine.cores if cpu else 0,
        "hardware.workers": machine.gpus if engine == "ray" else 1,
        "write_prompts.chat": model.has_chat_template,
        "write_prompts.ift_shots": min(6, sizes["ift"]),
        "write_prompts.max_tokens": asked,
        "sample_candidates.max_tokens": answer,
        "evaluate.max_tokens": answer,
        "evaluate.compare_max_tokens": compared,
        "evaluate.judge_max_tokens": judgement,
        "judge_seed.max_tokens": judgement,
        "judge_candidates.max_tokens": judgement,
        "train_sft.max_length": length,
        "train_dpo.max_length": min(length, _round_up(data.prompt_tokens + answer + 64, 64, 128, length)),
        "train_sft.warmup_steps": 2 if small else 10,
        "train_dpo.warmup_steps": 1 if small else 10,
    }
    rows = sizes["ift"] + sizes["eft_prompts"] * data.answers // max(1, data.prompts)
    params["train_sft.batch"] = 1 << max(1, min(4, (rows // LEAST_STEPS).bit_length() - 1))
    for training in ("train_sft", "train_dpo"):
        params[f"{training}.dtype"] = params["engine.dtype"]
        micro = 2 if cpu or big else 8
        params[f"{training}.micro_batch"] = min(micro, params.get(f"{training}.batch", micro))
        params[f"{training}.gradient_checkpointing"] = big
    if small:
        params |= {"write_prompts.round": 32, "write_prompts.max_rounds": 20, "train_sft.epochs": 1}
        params |= {"judge_seed.k": 2, "judge_candidates.k": 2, "evaluate.judge_k": 1}
    if not big:  # the paper's rates are for 70 B
        params |= {"train_sft.lr": 5.0e-5, "train_sft.lr_end": 1.0e-5}
        params |= {"train_dpo.lr": 5.0e-6, "train_dpo.lr_end": 5.0e-7}
    return params


def _sizes(data: DataFacts, small: bool) -> dict[str, int]:
    """How many prompts each part of the seed data gets."""
    most = dict(SMALL if small else PAPER)
    if small:
        most |= {part: max(4, answers * data.prompts // data.answers) for part, answers in SMALL_ANSWERS.items()}
    sizes = {part: min(most[part], int(share * data.prompts)) for part, share in SHARES.items()}
    sizes |= {part: min(sizes[part], int(share * data.comparable)) for part, share in RANKED_SHARES.items()}
    sizes = {part: max(1, size) for part, size in sizes.items()}
    return sizes | {"ift": max(1, min(most["ift"], data.prompts - sum(sizes.values())))}


def _round_up(tokens: int, step: int, low: int, high: int) -> int:
    """The next multiple of `step`, within bounds."""
    return min(high, max(low, -(-tokens // step) * step))


def apply(data: Any, params: dict[str, Any]) -> None:
    """Set dotted keys of a params.yaml that was read."""
    for key, value in params.items():
        *path, last = key.split(".")
        reduce(getitem, path, data)[last] = value


def write_profile(template: Path, params: dict[str, Any], head: Sequence[str]) -> str:
    """The text of `template` (a params.yaml) with `params` (dotted key -> value) in it and `head` as its comment."""
    yaml = YAML()
    yaml.width = 1000
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    data = yaml.load(template.read_text(encoding="utf-8"))
    apply(data, params)
    data.yaml_set_start_comment("\n".join(head))
    out = StringIO()
    yaml.dump(data, out)
    return out.getvalue()
