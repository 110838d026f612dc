"""check: what can be known to fail, before the first second of compute.

    srlm check

All of it at once: params.yaml, alone and in company; the files that it names; the templates, filled with marks; the
room on the disks. `srlm repro` begins with it. Before it stands what this machine can run.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from stages.commands import disk, machine
from stages.config import paths
from stages.config.finding import Finding, listing
from stages.config.load import PARAMS, START, examine
from stages.config.params import Params
from stages.console.errors import ParamsError, SeedDataError, TrainingError
from stages.console.terminal import stderr
from stages.method import template_check
from stages.method.formats import recognize
from stages.method.scale import Scale
from stages.method.score_line import score_line
from stages.store.rows import read_file
from stages.store.weights import file_faults

FIRST_ROWS = 1000


def findings(root: Path, file: str = PARAMS, *, on_disk: bool = True) -> tuple[Params, list[Finding]]:
    """The parameters, without sections that are wrong in themselves, and all that is wrong; `on_disk`: the room, too.
    Raises ParamsError when there is no params.yaml that could be looked at."""
    params, found = examine(root, file)
    found = [*found, *paths.faults(params, root), *template_check.faults(params, root)]
    faulty = {finding.key for finding in found}
    found += [*_model_faults(params, root, faulty), *_data_faults(params, root, faulty)]
    found += [*_launch_faults(params, root, faulty), *_kernel_faults(params)]
    if on_disk and not found:  # else what a run takes is not known
        found = [Finding("disk", line) for line in disk.look(root, params)]
    return params, found


def _model_faults(params: Params, root: Path, faulty: set[str]) -> list[Finding]:
    """Of the folders of local models, by names and headers; get_model looks at every weight."""
    local = {f"base.{name}.path": m.path for name, m in getattr(params, "base", {}).items() if m.source == "local"}
    return [
        Finding(key, f"{path}: {fault}")
        for key, path in local.items()
        if key not in faulty
        for fault in file_faults(root / path)
    ]


def _data_faults(params: Params, root: Path, faulty: set[str]) -> list[Finding]:
    """Of a seed file, by its first rows; split_seed looks at every row."""
    p = getattr(params, "split_seed", None)
    if p is None or p.source != "file" or "split_seed.path" in faulty:
        return []
    try:
        reading = recognize(read_file(root / p.path, FIRST_ROWS), p.path, p.format, p.columns)
    except SeedDataError as e:
        return [Finding("split_seed", str(e))]
    if reading.ranked:
        return []
    seen = f"{p.path}, {reading}, has no ranks: it makes IFT, and no EFT, of which M1 and all after it are made"
    fix = "Bring ranked answers (docs/data.md), or make IFT and SFT alone: dvc repro train_sft_baseline"
    return [Finding("split_seed.format", seen, fix)]


def _launch_faults(params: Params, root: Path, faulty: set[str]) -> list[Finding]:
    """Batches that the processes of a launch cannot share. A launch that cannot be here is told by the first training:
    the run may be for another machine."""
    hardware = getattr(params, "hardware", None)
    if not (hardware and hardware.launch) or "hardware.launch" in faulty:
        return []
    from stages.trainers.launch import accelerate, rows_of_each

    found: list[Finding] = []
    with suppress(TrainingError):
        _, processes = accelerate(hardware.within(root))
        for section in ("train_sft", "train_dpo"):
            try:
                if hasattr(params, section) and f"{section}.batch" not in faulty:
                    rows_of_each(getattr(params, section), processes)
            except TrainingError as e:
                found.append(Finding(f"{section}.batch", str(e)))
    return found


def _kernel_faults(params: Params) -> list[Finding]:
    """Kernels that the first training would not find, after hours of texts."""
    hardware = getattr(params, "hardware", None)
    if not (hardware and hardware.kernels):
        return []
    from stages.trainers.kernels import without_cuda

    seen = without_cuda(hardware)
    return [Finding("hardware.kernels", seen, "Set it to null")] if seen else []


def gate(root: Path) -> Params:
    """The parameters of a project in which nothing is wrong. Raises ParamsError with all findings."""
    params, found = findings(root)
    if found:
        raise ParamsError(f"{listing(found, PARAMS)}\nFix {PARAMS}, {START}")
    return params


def show(root: Path, *, as_json: bool = False) -> None:
    """What this machine can run, and one line that says what was checked, or every finding. Raises ParamsError when
    there is one."""
    here = machine.machine(root)
    if as_json:
        _, found = findings(root)
        content = {"ok": not found, "findings": [finding._asdict() for finding in found], "machine": here}
        print(json.dumps(content, ensure_ascii=False))
        if found:
            raise SystemExit(ParamsError.exit_code)
        return
    stderr.print("\n".join([*machine.lines(here), *filter(None, [machine.other_code(root)])]))
    params = gate(root)
    template = params.judge.template
    scale = Scale(**dict(params.judge.scale))
    line, _ = score_line((root / template).read_text(encoding="utf-8"), scale)
    asked = f"as {template} asks for it: {line}" if line else f"which {template} leaves to the judge's training"
    stderr.print(
        f"{PARAMS}: no fault in its keys, {len(params.input_models) + len(params.trained_models)} models, the files "
        f"and templates that they name, and the room on disk. A score is read from {template_check.wanted(scale)!r}, "
        f"{asked}"
    )
