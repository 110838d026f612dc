"""How fast this machine, or a named card, does what a run does: from the log of earlier runs, from a few seconds of
the real code with a small model, or assumed from peaks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import psutil
from ruamel.yaml import YAML, YAMLError

from stages.commands.workload import TRAINED, WRITTEN, Work
from stages.config.flops import ADAPTED, BYTES, READ, Card, Shape, card_of, continued
from stages.config.flops import TRAINED as TRAINED_PASSES
from stages.config.params import Params
from stages.engines.request import Sampling
from stages.method.template import render
from stages.store.files import read_lines
from stages.store.run import LOG

CLOCK = time.monotonic
LOGGED, TRIED, ASSUMED = "log", "tried", "assumed"
SHARE, BANDWIDTH, CPU_SHARE = 0.35, 0.5, 0.6
"""Of a card's peak in matrices and of its bandwidth, and of what a CPU's large matrices reach, that is reached where
nothing was measured."""
STEP_S = 0.008
"""Of an engine beside the card, for each token that its texts get together: vLLM wrote 21,300 tokens/s with a model of
135 M on an H200 (docs/benchmarks)."""
AT_ONCE = 256
"""Texts that an engine decodes together, at most."""
SMALL = 5_000_000
"""Parameters of a model that the real code is tried with."""
STEPS, PRETRAINED, TEXTS, WRITTEN_TOKENS = 6, 10, 240, 32
"""Of what is tried: steps of a training, of the pretraining (and four times as many), texts and their tokens."""
START_S = {"rows": 1.2, "copy": 2.0, "written": 5.0, "trained": 6.0}
"""Of a process with its libraries, about."""
LIKE = 0.2
"""How far another model's size may be from that of the earlier run."""


class Speed(NamedTuple):
    """Seconds by what a stage does."""

    source: str
    per_text: float = 0.0
    per_read: float = 0.0
    per_written: float = 0.0

    def seconds(self, work: Work) -> float:
        passes = work.passes + (1 / 3 if work.role == "dpo" else 0)  # the reference's forward
        return passes * work.texts * (self.per_text + self.per_read * work.read + self.per_written * work.written)


class Machine(NamedTuple):
    card: Card | None
    gpus: int
    memory: float
    """Of one GPU, or of the machine where there is none."""
    name: str
    here: bool
    """False for a card that was only named."""


def machine_of(params: Params, gpu: str | None, gpus: int | None) -> Machine:
    """This one, or `gpus` cards of the name `gpu`; for vLLM on a machine without one, a card that is assumed."""
    import torch

    asked = params.hardware.tensor_parallel * params.hardware.workers
    there = torch.cuda.device_count() if torch.cuda.is_available() and params.hardware.device != "cpu" else 0
    if gpu is None and there:
        name = torch.cuda.get_device_name()
        memory = torch.cuda.get_device_properties(0).total_memory
        return Machine(card_of(name), gpus or there, memory, name, here=True)
    if gpu is None and params.engine.worker != "vllm":
        return Machine(None, 0, psutil.virtual_memory().total, "this machine's CPU", here=True)
    card = card_of(gpu or "H100")
    if card is None:
        return Machine(None, gpus or asked, 0, str(gpu), here=False)
    return Machine(card, gpus or asked, card.memory, card.name, here=False)


class Launch(NamedTuple):
    """How a training uses the GPUs of a machine."""

    gpus: int
    spread: bool
    """Whether weights, gradients and moments are divided among them, or each holds all."""


def launch_of(params: Params, machine: Machine) -> Launch:
    """By hardware.launch; one without it, whatever the machine has."""
    if not params.hardware.launch or machine.gpus < 2:
        return Launch(1, False)
    config: Any = {}
    with suppress(OSError, YAMLError):  # srlm check says what is wrong with it
        config = YAML(typ="safe").load(params.hardware.launch_config) or {}
    own = config.get("num_processes") if isinstance(config, dict) else None
    gpus = min(own, machine.gpus) if isinstance(own, int) and own > 0 else machine.gpus
    return Launch(gpus, isinstance(config, dict) and config.get("distributed_type") in ("FSDP", "DEEPSPEED"))


def earlier(root: Path, params: Params, shape: Shape | None) -> dict[str, Speed]:
    """By stage and by role, from the last whole run of each stage in the log; none of another size of model."""
    verbs = {"write_prompts": "prompts", "sample_candidates": "answers", "judge_candidates": "judgements"}
    verbs |= {"judge_seed": "judgements", "train_sft": "sft", "train_dpo": "dpo", "train_positive": "sft"}
    done = {str(e.get("stage")): e for e in read_lines(root / LOG) if e.get("outcome") == "done"}
    sizes = [e["parameters"] for e in done.values() if isinstance(e.get("parameters"), int)]
    if not shape or not sizes or abs(sizes[-1] - shape.parameters) > LIKE * shape.parameters:
        return {}
    speeds, starts = dict[str, Speed](), dict[str, list[float]]()
    for stage, entry in done.items():
        seconds, compute = float(entry.get("seconds", 0)), float(entry.get("compute_s", 0))
        role, why = verbs.get(stage.partition("@")[0]), LOGGED
        if role in TRAINED and (rate := entry.get("tokens_per_s")):
            found = Speed(why, per_read=1 / rate)
            if not entry.get("tokens_written"):  # it did not choose
                starts.setdefault("trained", []).append(max(0.0, seconds - entry["tokens"] / rate))
        elif role in WRITTEN and entry.get("tokens_written") and compute:
            found = Speed(why, per_written=compute / entry["tokens_written"])
            starts.setdefault("written", []).append(seconds - compute)
        elif stage.startswith("get_model@") and compute and params.tinyworld:
            role, found = "pretrain", Speed(why, compute / (params.world.steps * params.world.docs_per_step))
        else:
            if not compute:
                starts.setdefault("rows", []).append(seconds)
            continue
        speeds |= {stage: found, role: found}
    return speeds | {f"start {kind}": Speed(LOGGED, median(each)) for kind, each in starts.items()}


def tried(params: Params, root: Path, folder: Path, people: pl.DataFrame) -> dict[str, Speed]:
    """Some steps and texts of the real code on this machine, with the model in `folder`. `people`: prompt and
    response."""
    with redirect_stdout(sys.stderr):
        started = CLOCK()
        from stages.engines.backends.transformers import TransformersEngine
        from stages.trainers.dpo import train_dpo
        from stages.trainers.sft import train_sft

        imports, speeds = CLOCK() - started, dict[str, Speed]()
        people = people.head(TEXTS)
        rows = people.rename({"prompt": "instruction"})
        longer = rows.with_columns(pl.concat_str(*["response"] * 3, separator=" "))
        pairs = people.select("prompt", chosen="response", rejected=pl.col("response").reverse())
        first, second = (_step(train_sft, params, folder, each) for each in (rows, longer))
        both = _step(train_dpo, params, folder, pairs)
        more = second.tokens - first.tokens
        per_token = max(0.0, (second.row_s - first.row_s) / more) if more > 0 else first.row_s / first.tokens
        speeds["sft"] = Speed(TRIED, max(0.0, first.row_s - per_token * first.tokens), per_token)
        speeds["dpo"] = Speed(TRIED, per_read=both.row_s / both.tokens)
        started = CLOCK()
        with TransformersEngine(params.engine, params.hardware, folder, model="M0", seed=params.seed) as engine:
            load = CLOCK() - started
            template = (root / params.judge.template).read_text(encoding="utf-8")
            judged = [render(template, prompt=p, response=r) for p, r in people.select("prompt", "response").rows()]
            unique = people["prompt"].unique(maintain_order=True).to_list()
            for role, prompts, n, p in (
                ("answers", unique, params.sample_candidates.n, params.sample_candidates),
                ("judgements", judged, params.judge_candidates.k, params.judge_candidates),
            ):
                limit = min(p.max_tokens, WRITTEN_TOKENS)
                asked = pl.DataFrame({"id": [str(i) for i in range(len(prompts))], "prompt": prompts})
                before, started = engine.generated_tokens, CLOCK()
                engine.complete(asked, Sampling(n, p.temperature or 1.0, p.top_p, limit))
                speeds[role] = Speed(TRIED, per_written=(CLOCK() - started) / (engine.generated_tokens - before))
        speeds["prompts"] = speeds["answers"]
        for kind, seconds in (("written", load), ("trained", first.start_s)):
            # torch was imported before
            speeds[f"start {kind}"] = Speed(TRIED, max(START_S[kind], START_S["rows"] + imports + seconds))
    return speeds


class Step(NamedTuple):
    tokens: float
    """Of a row."""
    row_s: float
    start_s: float
    """All that is no step."""


def _step(train: Callable[..., Any], params: Params, folder: Path, rows: pl.DataFrame) -> Step:
    """A row's cost in STEPS steps of `train`."""
    p = getattr(params, train.__name__).model_copy(update={"epochs": 1})
    some = pl.concat([rows] * -(-STEPS * p.batch // len(rows))).head(STEPS * p.batch)
    with TemporaryDirectory(prefix="srlm-plan-") as out:
        started = CLOCK()
        done = train(folder, Path(out), some, p, seed=params.seed, hardware=params.hardware, label="a try")
    tokens = done.figures["tokens"] / done.rows
    row_s = tokens / done.figures["tokens_per_s"]
    return Step(tokens, row_s, max(0.0, CLOCK() - started - row_s * done.rows))


def pretrained(params: Params, space: Path) -> tuple[Path, Speed]:
    """The tiny world's M0 after a few steps, and what a document of its pretraining costs."""
    from stages.tinyworld.pretrain import pretrain

    times = []
    for steps in (PRETRAINED, 4 * PRETRAINED):
        (folder := space / str(steps)).mkdir()
        started, world = CLOCK(), params.world.model_copy(update={"steps": steps})
        with redirect_stdout(sys.stderr):
            pretrain(folder, seed=params.seed, world=world, threads=params.hardware.threads)
        times.append(CLOCK() - started)
    return folder, Speed(TRIED, (times[1] - times[0]) / (3 * PRETRAINED * params.world.docs_per_step))


def assumed(params: Params, machine: Machine, shape: Shape | None, work: Work) -> Speed | None:
    """From peaks: SHARE of them in training and reading; a text is written at BANDWIDTH of what the memory can send:
    weights once for all that are decoded together, and each text's keys and values. None where no peak is known."""
    if shape is None or work.role not in (*TRAINED, *WRITTEN):
        return None
    training = params.train_dpo if work.stage.startswith("train_dpo@") else params.train_sft  # what is replayed, too
    dtype = training.dtype if work.role in TRAINED else params.engine.dtype
    tokens = work.read + work.written
    if machine.card is not None:
        gpus = launch_of(params, machine).gpus if work.role in TRAINED else machine.gpus
        peak = SHARE * machine.card.peak(dtype) * gpus
    elif machine.here and not machine.gpus:
        peak = CPU_SHARE * multiplied_per_s(params.hardware.threads)
    else:
        return None
    if work.role in TRAINED:
        passes = TRAINED_PASSES if training.adapter is None else ADAPTED
        return Speed(ASSUMED, per_read=shape.flops(1, (work.read + 1) / 2, passes) / peak)
    if machine.card is None:
        return Speed(ASSUMED, shape.flops(tokens, continued(work.read, work.written), READ) / peak)
    weights, kv = shape.parameters * BYTES[dtype], shape.kv_bytes(dtype) * tokens
    room = machine.gpus * machine.memory * params.hardware.gpu_memory - weights
    together = max(1.0, min(AT_ONCE, work.texts, room / kv if room > 0 else 1))
    step = STEP_S + (weights + together * kv) / (BANDWIDTH * machine.card.bandwidth * machine.gpus)
    read = shape.flops(1, (work.read + 1) / 2, READ) / peak
    return Speed(ASSUMED, 0, read, step / together)


@cache
def multiplied_per_s(threads: int) -> float:
    """FLOPs a second of this CPU in large float32 matrices, measured in a moment."""
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    a, done, started = torch.ones(1024, 1024), 0, CLOCK()
    while CLOCK() - started < 0.3 or not done:
        a @ a
        done += 1
    return done * 2 * 1024**3 / (CLOCK() - started)
