"""A complete params.yaml for somebody's own model and data: what was seen of both and of the machine, and the sizes
that follow from it.

Pure: facts in, a profile out. `commands/profile.py` gathers the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

GB = 1e9
CHAT_JUDGE_TOKENS = 480
"""Tokens of templates/judge.jinja without its fields, about, in a vocabulary of 32,000 and more."""
PAPER = {"ift": 3200, "eft_prompts": 2000, "test_prompts": 256, "test_ranked": 190, "ift_valid": 100}
SMALL = {"ift": 64, "eft_prompts": 40, "test_prompts": 16, "test_ranked": 16, "ift_valid": 8}
SMALL_ANSWERS = {"eft_prompts": 84, "test_ranked": 28}
"""Ranked answers that a small run judges: each is read whole, which takes most of its time."""
SHARES = {"test_prompts": 0.15, "test_ranked": 0.12, "ift_valid": 0.05, "eft_prompts": 0.28}
"""Of prompts that are fewer than the paper's sizes ask for; IFT gets the rest."""


class ModelFacts(NamedTuple):
    """`source` is `local` (`place` is its folder) or `hub` (`place` is its repository at `revision`)."""

    source: str
    place: str
    revision: str | None
    architecture: str
    parameters: int | None
    context: int | None
    cache_bytes_per_token: int | None
    """Keys and values of one token, in float32."""
    has_chat_template: bool


class DataFacts(NamedTuple):
    """`prompts` with ranked answers in `lang`; of `comparable` ones people ranked two answers apart. Lengths in
    tokens."""

    source: str
    place: str
    revision: str | None
    lang: str
    prompts: int
    comparable: int
    answers: int
    prompt_tokens: int
    response_tokens: int
    """95th percentiles."""


class Machine(NamedTuple):
    cores: int
    memory: float
    gpus: int
    gpu_memory: float
    """Bytes, as `memory`: of one GPU."""
    has_vllm: bool
    has_ray: bool


class Profile(NamedTuple):
    """`params`: dotted key -> value, over the profile gpu. `reasons`: what was chosen and why, a line each."""

    params: dict[str, Any]
    reasons: list[str]


def round_up(tokens: float, step: int, low: int, high: int) -> int:
    """The next multiple of `step`, within bounds."""
    return int(min(high, max(low, -(-int(tokens) // step) * step)))


def choose(model: ModelFacts, data: DataFacts, machine: Machine, *, small: bool) -> Profile:
    """The profile for these facts; `small` asks for a run of an hour or less, as does a machine without a GPU."""
    cpu = machine.gpus == 0
    small = small or cpu
    big = model.parameters is None or model.parameters >= 5e8
    params, reasons = _sizes(data, small)
    context = model.context or 4096
    room = context // 4  # an answer twice and a comparison, or a judge prompt with its judgement, must fit
    answer = round_up(data.response_tokens, 32, min(64, room), min(room, 256 if small else 1024))
    judgement = min(room, 160 if small else 512)
    asked = round_up(data.prompt_tokens, 32, min(32, room), min(room, 64 if small else 256))
    compared = min(room, 64 if small else 512)
    widest = CHAT_JUDGE_TOKENS + answer + max(asked + judgement, answer + compared)
    longest = CHAT_JUDGE_TOKENS + data.prompt_tokens + data.response_tokens + judgement
    length = round_up(longest, 64, 256, min(context, 1536 if small else 4096))
    reasons.append(
        f"answers of up to {answer} tokens (95 % of people's have at most {data.response_tokens}), judgements of up to "
        f"{judgement}; "
        f"training rows of up to {length} tokens, a judge prompt with its answer and judgement among them"
    )
    if cpu:
        engine, why = "transformers", "no GPU"
    elif machine.gpus > 1 and machine.has_vllm and machine.has_ray:
        engine, why = "ray", f"{machine.gpus} GPUs, vLLM and Ray"
    elif machine.has_vllm:
        engine, why = "vllm", "a GPU and vLLM"
    else:
        engine, why = (
            "transformers",
            "a GPU, but no vLLM (pip install -c constraints.txt -e '.[vllm]' makes texts several times as fast)",
        )
    dtype = "float32" if cpu else "bfloat16"
    reasons.append(f"engine {engine}, {dtype}: {why}")
    tokens = (0.2 * machine.memory if cpu else 0.3 * machine.gpu_memory) / (model.cache_bytes_per_token or 2**17)
    batch_tokens = 1 << max(12, min(14 if cpu else 17, int(tokens).bit_length() - 1))
    micro = 2 if cpu or big else 8
    params |= {
        "engine.name": engine,
        "engine.inner": "vllm" if machine.has_vllm and not cpu else "transformers",
        "engine.dtype": dtype,
        "engine.max_context": min(context, round_up(max(longest, widest), 256, 512, context)),
        "engine.max_batch_tokens": batch_tokens,
        "hardware.threads": machine.cores if cpu else 0,
        "hardware.workers": machine.gpus if engine == "ray" else 1,
        "train_sft.max_length": length,
        "train_dpo.max_length": min(length, round_up(data.prompt_tokens + answer + 64, 64, 128, length)),
        "train_sft.dtype": dtype,
        "train_dpo.dtype": dtype,
        "train_sft.micro_batch": micro,
        "train_dpo.micro_batch": micro,
        "train_sft.gradient_checkpointing": big,
        "train_dpo.gradient_checkpointing": big,
        "train_sft.warmup_steps": 2 if small else 10,
        "train_dpo.warmup_steps": 1 if small else 10,
        "sample_candidates.max_tokens": answer,
        "evaluate.max_tokens": answer,
        "evaluate.compare_max_tokens": compared,
        **dict.fromkeys(
            ("judge_seed.max_tokens", "judge_candidates.max_tokens", "evaluate.judge_max_tokens"), judgement
        ),
        "write_prompts.chat": model.has_chat_template,
        "write_prompts.max_tokens": asked,
    }
    if not big:  # the paper's rates are for 70 B; a model of a few hundred million takes more
        params |= {
            "train_sft.lr": 5.0e-5,
            "train_sft.lr_end": 1.0e-5,
            "train_dpo.lr": 5.0e-6,
            "train_dpo.lr_end": 5.0e-7,
        }
        reasons.append("learning rates for a small model: SFT 5e-5, DPO 5e-6 (the paper's, at 70 B: 5.5e-6 and 1e-6)")
    return Profile(_loop(model, data) | params, reasons)


def _sizes(data: DataFacts, small: bool) -> tuple[dict[str, Any], list[str]]:
    """How many prompts each part of the seed data gets, and how many are written."""
    most = dict(SMALL if small else PAPER)
    if small:
        most |= {part: max(4, answers * data.prompts // data.answers) for part, answers in SMALL_ANSWERS.items()}
    sizes = {part: max(1, min(most[part], int(share * data.prompts))) for part, share in SHARES.items()}
    sizes |= {
        part: max(1, min(sizes[part], int(data.comparable * share)))
        for part, share in (("eft_prompts", 0.7), ("test_ranked", 0.3))
    }
    sizes["ift"] = max(1, min(most["ift"], data.prompts - sum(sizes.values())))
    prompts = (16, 16) if small else (2000, 4000)
    params: dict[str, Any] = {f"split_seed.{part}": size for part, size in sizes.items()}
    if sizes["ift"] < 6:
        params["write_prompts.ift_shots"] = sizes["ift"]
    params |= {f"aift.{name}.prompts": count for name, count in zip(("M1", "M2"), prompts, strict=True)}
    if small:
        params |= {"write_prompts.round": 32, "write_prompts.max_rounds": 20, "train_sft.epochs": 1}
        params |= {"judge_seed.k": 2, "judge_candidates.k": 2, "evaluate.judge_k": 1}
    parts = ", ".join(f"{part} {size}" for part, size in sizes.items())
    return params, [f"of {data.prompts} prompts: {parts}; new prompts per iteration: {prompts[0]} and {prompts[1]}"]


def _loop(model: ModelFacts, data: DataFacts) -> dict[str, Any]:
    hub = {"source": "hub", "repo": model.place, "revision": model.revision}
    return {
        "base": {"M0": {"source": "local", "path": model.place}} if model.source == "local" else {},
        "external": {} if model.source == "local" else {"M0": hub},
        "aift.M1.writer": "M0",
        "aift.M2.writer": "M0",
        "tinyworld": None,
        "split_seed.source": data.source,
        "split_seed.path": data.place if data.source == "file" else "stages/method/seeds.py",
        "split_seed.repo": data.place if data.source == "hub" else None,
        "split_seed.revision": data.revision,
        "split_seed.lang": data.lang,
        "evaluate.compare_with": "M0",
        "publish.data_license": "other",
        "publish.model_license": "other",
    }


def apply(data: Any, params: dict[str, Any]) -> None:
    """Set dotted keys of a params.yaml that was read."""
    for key, value in params.items():
        *path, last = key.split(".")
        section = data
        for part in path:
            section = section[part]
        section[last] = value


def write_profile(template: Path, params: dict[str, Any], head: Sequence[str]) -> str:
    """The text of `template` (a params.yaml) with `params` (dotted key -> value) in it and `head` as its first
    comment."""
    yaml = YAML()
    yaml.width = 1000
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    data = yaml.load(template.read_text(encoding="utf-8"))
    apply(data, params)
    data.yaml_set_start_comment("\n".join(head))
    out = StringIO()
    yaml.dump(data, out)
    return out.getvalue()
