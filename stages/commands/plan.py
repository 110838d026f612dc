"""plan: what a run will read, write, compute, take and cost, before anything runs.

    srlm plan
    srlm plan --profile paper --gpu H100 --gpus 16 --price 2.5

As if everything had to be made anew. Beside each number stands where it is from.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.filesize import decimal

from stages.commands import disk, speeds
from stages.commands.costs import Row, forecast, too_large, totals
from stages.commands.profile import PROFILES
from stages.commands.speeds import Machine
from stages.commands.workload import Facts
from stages.config.load import load_params
from stages.config.params import Params
from stages.console.errors import ParamsError, TrainingError
from stages.console.sheets import UNKNOWN, Sheet, to_terminal
from stages.trainers.launch import rows_of_each

WORDS = {
    "tables": "tables of this run",
    "cache": "cached completions of this run",
    "metrics": "metrics of this run",
    "people": "people's texts in the seed data",
    "log": "earlier runs on this machine (data/logs/runs.jsonl)",
    "tried": "some steps and texts of the real code, just now",
    "size": "no config.json is at hand: a usual model of the size that its name, the Hub or --parameters tells",
}


def plan(
    root: Path = Path(),
    *,
    profile: str | None = None,
    price: float | None = None,
    gpu: str | None = None,
    gpus: int | None = None,
    parameters: float | None = None,
    as_json: bool = False,
) -> None:
    """Print it. Raises ParamsError for an unknown profile or faulty parameters, SrlmError for what cannot be read."""
    shipped = sorted(p.stem for p in PROFILES.glob("*.yaml"))
    if profile and profile not in shipped:
        raise ParamsError(f"no profile {profile}; there are {', '.join(shipped)}")
    params = load_params(PROFILES, f"{profile}.yaml") if profile else load_params(root)
    params = params.model_copy(update={"hardware": params.hardware.within(root)})
    machine = speeds.machine_of(params, gpu, gpus)
    with TemporaryDirectory(prefix="srlm-plan-") as space:
        rows, sizes = forecast(params, root, machine, Path(space), begun=profile is None, parameters=parameters)
    models = {
        name: disk.Model(shape.parameters, 2 * shape.parameters)
        for name, shape in sizes.items()
        if shape and name in params.input_models
    }
    content = {
        "profile": profile,
        "machine": {"name": machine.name, "gpus": machine.gpus, "here": machine.here},
        "stages": [row.as_json() for row in rows],
        "totals": totals(rows, machine, price) | {"disk_bytes": sum(disk.needed(root, params, models).values())},
        "does_not_fit": too_large(rows, machine) + undealt(params, machine),
    }
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        show(content, rows, machine, price)


def undealt(params: Params, machine: Machine) -> list[str]:
    """A sentence for each training whose batch its processes cannot share."""
    lines = []
    for training in (params.train_sft, params.train_dpo):
        try:
            rows_of_each(training, speeds.launch_of(params, machine).gpus)
        except TrainingError as e:
            lines.append(str(e))
    return list(dict.fromkeys(lines))


def show(content: Mapping[str, Any], rows: list[Row], machine: Machine, price: float | None) -> None:
    """One table, and what stands behind its numbers."""
    columns = ("stage", "texts", "tokens in", "tokens out", "at most", "FLOPs", "time", "memory", "lengths", "speed")
    to_terminal(Sheet(columns, [_cells(row) for row in rows if row.work.role != "rows" or row.work.texts]), sys.stdout)
    total = content["totals"]
    hours = f", {total['gpu_hours']:,.2f} GPU-hours" if machine.gpus else ""
    money = f", {total['usd']:,.2f} USD at {price:g} an hour" if price is not None else ""
    servers = f", {total['server_usd']:,.2f} USD for servers" if total["server_usd"] else ""
    where = f"{machine.gpus} x {machine.name}" if machine.gpus else machine.name
    print(
        f"total on {where}{'' if machine.here else ' (not this machine)'}: {duration(total['seconds'])}{hours}{money}"
        f"{servers}, {si(total['flops'])}FLOPs, disk up to {decimal(total['disk_bytes'])}"
    )
    if total["unknown_time"]:
        print(f"not in it, since nothing tells their speed: {', '.join(total['unknown_time'])}")
    for line in content["does_not_fit"]:
        print(textwrap.fill(f"does not fit: {line}", 118, subsequent_indent="  "))
    used = {row.work.lengths for row in rows} | {row.speed for row in rows}
    for word, meaning in legend(machine).items():
        if word in used:
            print(textwrap.fill(f"{word}: {meaning}", 118, subsequent_indent="  "))


def legend(machine: Machine) -> dict[str, str]:
    f = Facts()
    lengths = (
        f"people's prompts and answers of {f.prompt:g} and {f.answer:g} tokens, half of the most in judgements; "
        f"{f.accepted:.0%} of new prompts accepted, {f.agreeing:.0%} of judgements agree, {f.pairs:.0%} of prompts "
        f"give a pair"
    )
    if machine.card:
        speed = f"{speeds.SHARE:.0%} of the peak in matrices, {speeds.BANDWIDTH:.0%} of the bandwidth in writing"
    else:
        speed = f"{speeds.CPU_SHARE:.0%} of what large matrices reach on this CPU, just now"
    return WORDS | {"assumed": f"{lengths}; speed: {speed}"}


def _cells(row: Row) -> tuple[str, ...]:
    w = row.work
    own = {"train_sft": "sft", "train_dpo": "dpo", "train_positive": "sft", "evaluate": ""}
    name = w.stage if own.get(w.stage.partition("@")[0], w.role) == w.role else f"{w.stage} {w.role}"
    if not row.flops and not w.read:
        return name, si(w.texts), *[""] * 4, duration(row.seconds), *[""] * 3
    most = w.texts * w.most
    return (
        name,
        si(w.texts) + (f"x{w.passes}" if w.passes > 1 else ""),
        si(w.passes * w.texts * w.read),
        si(w.texts * w.written) if w.written else "",
        si(most) if most else "",
        UNKNOWN if row.flops is None else si(row.flops),
        duration(row.seconds),
        UNKNOWN if row.memory is None else decimal(round(row.memory)),
        w.lengths,
        row.speed,
    )


def si(value: float) -> str:
    """1.5 M: three digits at most, with the prefix of a unit."""
    for prefix, size in zip("YZEPTGMk", (10.0 ** (3 * i) for i in range(8, 0, -1)), strict=True):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} " if value else ""


def duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
