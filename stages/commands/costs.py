"""What each stage of a run costs: FLOPs, seconds, memory, money; and what that is in sum."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.filesize import decimal

from stages.commands import disk, speeds
from stages.commands.speeds import Machine, Speed
from stages.commands.workload import TRAINED, WRITTEN, Work, facts_of, people_of, works
from stages.config.flops import ADAPTED, BYTES, READ, Shape, causal, continued, shape_like, shape_of
from stages.config.flops import TRAINED as TRAINED_PASSES
from stages.config.params import Base, Params
from stages.models.model_files import json_object
from stages.store.catalog import model_dir
from stages.text.chat import Chat

IN_NAME = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z])", re.IGNORECASE)
"""A model's size in its name: Llama-2-70b-hf, SmolLM2-135M."""
CHARS_PER_TOKEN = 4
"""Of a vocabulary of 32,000 and more, about."""
LIBRARIES = 600_000_000
"""Bytes of memory that torch and what goes with it take."""
FITS = 0.9
"""Share of a memory that a stage may fill."""


class Row(NamedTuple):
    """A stage, or a part of one, and its costs; None where unknown."""

    work: Work
    flops: float | None
    seconds: float | None
    memory: float | None
    """Of a training: on each of its GPUs."""
    usd: float | None
    """Of a server."""
    speed: str
    start: float = 0.0
    """Of `seconds`, until the process computes."""
    states: float = 0.0
    """Bytes that a training spread over GPUs divides among them: weights, gradients and moments."""
    gpus: int = 1
    """Among which a training has divided them."""

    def as_json(self) -> dict[str, Any]:
        w = self.work
        return {
            "stage": w.stage,
            "part": w.role,
            "model": w.model,
            "texts": round(w.texts),
            "passes": w.passes,
            "tokens_in": round(w.passes * w.texts * w.read),
            "tokens_out": round(w.texts * w.written),
            "tokens_out_most": round(w.texts * w.most),
            "flops": self.flops,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "memory_bytes": None if self.memory is None else round(self.memory),
            "server_usd": self.usd,
            "lengths_from": w.lengths or None,
            "speed_from": self.speed or None,
        }


def forecast(
    params: Params, root: Path, machine: Machine, space: Path, *, begun: bool, parameters: float | None = None
) -> tuple[list[Row], Mapping[str, Shape | None]]:
    """The stages with their costs, and the models' shapes. In `space` a small model may be tried."""
    people, why = people_of(params, root, begun=begun)
    sizes, folder = shapes(params, root, parameters)
    known = speeds.earlier(root, params, sizes["M0"])
    on_cpu = machine.here and not machine.gpus and params.engine.name == "transformers" and people is not None
    world = getattr(params.base.get("M0"), "source", "") == "tinyworld"
    if on_cpu and not {"sft", "dpo", "answers", "judgements"} <= known.keys():
        tried: dict[str, Speed] = {}
        if world and folder is None:
            folder, tried["pretrain"] = speeds.pretrained(params, space)
            sizes |= dict.fromkeys(("M0", *params.trained_models), _shape(folder))
        if folder and people is not None and (shape := sizes["M0"]) and shape.parameters <= speeds.SMALL:
            known = tried | speeds.tried(params, root, folder, people) | known
    facts = facts_of(params, root, people, why, counter(folder), markup(folder), begun=begun)
    rows = [cost(work, params, machine, sizes.get(work.model or ""), known) for work in works(params, facts)]
    return [_goes_on(row, before) for row, before in zip(rows, [None, *rows], strict=False)], sizes


def _goes_on(row: Row, before: Row | None) -> Row:
    """A second part of a stage starts no process."""
    goes_on = before is not None and before.work.stage == row.work.stage and row.seconds is not None
    return row._replace(seconds=row.seconds - row.start) if goes_on and row.seconds is not None else row


def shapes(params: Params, root: Path, parameters: float | None) -> tuple[dict[str, Shape | None], Path | None]:
    """Of each model, and M0's folder where it is here: from its config.json, or from its size. `parameters`: of all
    that are not here."""
    sizes: dict[str, Shape | None] = {}
    here: Path | None = None
    for name, model in params.input_models.items():
        own, local = model_dir(root, name), root / model.path if isinstance(model, Base) else None
        folder = own if disk.is_of(model, own) else local if model.source == "local" else None
        sizes[name] = _shape(folder) if folder else None
        here = folder if name == "M0" and sizes[name] else here
        if not sizes[name] and model.source != "server":
            known = None if parameters else disk.size_of(model, own, root)
            size = parameters or (known and known.weights) or in_name(str(getattr(model, "repo", "")))
            sizes[name] = shape_like(size) if size else None
    return sizes | dict.fromkeys(params.trained_models, sizes["M0"]), here


def _shape(folder: Path) -> Shape | None:
    return shape_of(json_object(folder / "config.json"), disk.on_disk(folder).weights or None)


def in_name(name: str) -> float | None:
    """Parameters, where the name tells them."""
    found = IN_NAME.findall(name)
    times, size, unit = found[-1] if found else ("", "", "")
    return int(times or 1) * float(size) * {"b": 1e9, "m": 1e6}[unit.lower()] if found else None


def counter(folder: Path | None) -> Callable[[str], float]:
    """Tokens of a text."""
    if folder and (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
    return lambda text: len(text) / CHARS_PER_TOKEN


def markup(folder: Path | None) -> float | None:
    """Tokens that M0's chat template writes around a prompt and its answer; None where that is not at hand."""
    if folder is None:
        return None
    from transformers import AutoTokenizer

    with suppress(Exception):  # a template is a program; what trains says what is wrong with it
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        ((head, tail),) = Chat(tokenizer).encode(["a"], ["a"])
        return len(head) + len(tail) - 2 * len(tokenizer("a", add_special_tokens=False)["input_ids"])
    return None


def cost(work: Work, params: Params, machine: Machine, shape: Shape | None, known: Mapping[str, Speed]) -> Row:
    """Of one stage, by the speed of the same stage, of the same kind of work, or an assumed one."""
    served = getattr(params.external.get(work.model or ""), "source", "") == "server"
    scripted = work.role in WRITTEN and params.engine.worker == "scripted"
    if served:
        server, tokens = params.hardware.server, (work.texts * work.read, work.texts * work.written)
        prices = server.usd_per_million_prompt_tokens, server.usd_per_million_completion_tokens
        usd = None if None in prices else sum(n * (p or 0) for n, p in zip(tokens, prices, strict=True)) / 1e6
        return Row(work, None, None, None, usd, "server")
    kind = "trained" if work.role in TRAINED else "written" if work.role in WRITTEN else work.role
    start = known.get(f"start {kind}", Speed("", speeds.START_S[kind])).per_text
    if kind in ("rows", "copy") or scripted:
        return Row(work, None, start, None, None, "")
    chooses = work.role in WRITTEN and work.stage.startswith("train_")  # its log tells the speed of its training
    exact = None if chooses else known.get(work.stage)
    speed = exact or known.get(work.role) or speeds.assumed(params, machine, shape, work)
    if shape is None:
        return Row(work, None, speed and start + speed.seconds(work), None, None, speed.source if speed else "")
    if kind == "trained":
        texts = 2 if work.role == "dpo" else 1  # whose shared prompt is computed once
        context: float = texts * causal([round(work.read / texts)]) - causal([round(work.shared)])
        p = params.train_dpo if work.stage.startswith("train_dpo@") else params.train_sft  # what is replayed, too
        adapter = p.adapter if work.role != "pretrain" else None
        passes = ADAPTED if adapter else TRAINED_PASSES
        flops = work.passes * work.texts * shape.flops(work.read - work.shared, context, passes)
        launch = speeds.launch_of(params, machine)
        step = math.ceil(min(p.micro_batch, max(1, p.batch // launch.gpus)) * work.read)
        how: dict[str, Any] = {"dtype": p.dtype, "checkpointing": p.gradient_checkpointing}
        how |= {"rank": adapter.r if adapter else None, "four_bit": bool(adapter and adapter.quantize)}
        states, gpus = shape.training_bytes(0, **how), launch.gpus if launch.spread else 1
        memory = shape.training_bytes(step, **how) - states + states // gpus
    else:
        states, gpus = 0, 1
        context = continued(work.read, work.written)
        flops = work.texts * shape.flops(work.read + work.written, context, READ)
        together = min(params.engine.max_batch_tokens, work.texts * (work.read + work.most))
        memory = shape.parameters * BYTES[params.engine.dtype] + round(together * shape.kv_bytes(params.engine.dtype))
    seconds = start + speed.seconds(work) if speed else None
    memory += 0 if machine.gpus else LIBRARIES
    return Row(work, flops, seconds, memory, None, speed.source if speed else "", start, states, gpus)


def totals(rows: list[Row], machine: Machine, price: float | None) -> dict[str, Any]:
    """Sums of what is known; `unknown_time` names the stages whose time is not."""
    seconds = sum(row.seconds or 0 for row in rows)
    device_hours = seconds / 3600 * max(1, machine.gpus)
    servers = sum(row.usd or 0 for row in rows)
    return {
        "tokens_in": round(sum(r.work.passes * r.work.texts * r.work.read for r in rows)),
        "tokens_out": round(sum(r.work.texts * r.work.written for r in rows)),
        "flops": sum(row.flops or 0 for row in rows),
        "seconds": round(seconds, 1),
        "gpu_hours": round(device_hours, 4) if machine.gpus else 0.0,
        "usd": None if price is None else round(price * device_hours + servers, 2),
        "server_usd": round(servers, 2),
        "unknown_time": [row.work.stage for row in rows if row.seconds is None],
    }


def too_large(rows: list[Row], machine: Machine) -> list[str]:
    """A sentence for each kind of work that the memory does not hold: of one GPU in training, of all in writing."""
    most = {row.work.role: row for row in sorted(rows, key=lambda row: row.memory or 0)}
    return [line for row in most.values() if row.memory and (line := _too_large(row, row.memory, machine))]


def _too_large(row: Row, memory: float, machine: Machine) -> str | None:
    one, gpus = FITS * machine.memory, 1 if row.work.role in TRAINED else max(1, machine.gpus)
    if memory <= (room := gpus * one) or not room:
        return None
    needs = f"{row.work.stage} needs about {decimal(round(memory))} of memory"
    if not machine.gpus:
        return f"{needs}, and {machine.name} has {decimal(round(room))}"
    if row.work.role not in TRAINED:
        enough = math.ceil(memory / one)
        return f"{needs}, and {gpus} x {machine.name} have {decimal(round(room))}; {enough} of these GPUs would do"
    left = one - (memory - row.states / row.gpus)  # beside what every GPU holds of a step
    fsdp2 = "" if row.gpus > 1 else " with hardware.launch: fsdp2"
    would = f"{math.ceil(row.states / left)} of these GPUs would do{fsdp2}" if left > 0 else "lower micro_batch"
    return f"{needs} on each GPU that trains, and {machine.name} has {decimal(round(room))}; {would}"
