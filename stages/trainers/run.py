"""One training: the trainer runs under our progress, the model is saved with its log and lineage."""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.config.params import Params
from stages.console.errors import TrainingError
from stages.console.progress import progress
from stages.console.terminal import warn
from stages.trainers import trackers
from stages.trainers.adapters import packages
from stages.trainers.faults import check_step, of_the_device
from stages.trainers.figures import figures
from stages.trainers.launch import on_processes
from stages.trainers.masters import precision
from stages.trainers.references import Source
from stages.trainers.resume import Checkpoints, digest, save_checkpoints, step_of
from stages.trainers.rows import Prepared
from stages.trainers.saving import save_model
from stages.trainers.speed import Speed
from stages.trainers.validation import LOSS, Validation, candidates

SHOWN = {"loss": "loss"} | {
    name: f"rewards/{key}"
    for name, key in (("margin", "margins"), ("reward_chosen", "chosen"), ("reward_rejected", "rejected"))
}
"""What `srlm watch` draws step by step: its name -> what TRL calls it."""
Choose = Callable[[Mapping[int, Path]], tuple[int, dict[str, Any]]]
"""Model folders by the step that they are of -> the best one's step, and how it was chosen, for lineage."""


class Trained(NamedTuple):
    """What training did: the log (one row per optimizer step), and how many rows it used."""

    log: pl.DataFrame
    rows: int
    too_long: int
    """Left out as longer than `max_length` tokens: the parameter, or the model's context where that is less."""
    same_tokens: int
    """Pairs left out since both answers are the same tokens: nothing can be preferred."""
    max_length: int
    threads: int
    """CPU threads of torch: they change floating-point sums, so lineage records them."""
    figures: dict[str, Any]
    """Tokens, speed, memory and where a killed training continued, for the log of runs."""
    replayed: Mapping[str, Mapping[str, int]]
    """Of each dataset that was replayed: rows, and too_long."""
    processes: int = 1
    """They change sums, too."""


def new_model(
    run: Any,
    train: Callable[..., Trained],
    model: str,
    parent: str,
    rows: pl.DataFrame,
    params: Params,
    of: str,
    valid: pl.DataFrame | None = None,
    choose: Choose | None = None,
    notes: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Within a stage's `run` (store.run.Run): train `model` from `parent` with its lineage, log and metrics, and say
    what was done. `train` is `sft.train_sft` or `dpo.train_dpo`; `of` says in words where `rows` are from; `valid`,
    rows of IFT_VALID, are watched, and `choose` says which of the models on the way is the new one; `notes` go into
    the lineage; `more` is what else `train` takes."""
    section = train.__name__
    method, unit = (("SFT", "rows"), ("DPO", "pairs"))[section == "train_dpo"]
    p, start = getattr(params, section), run.model(parent)
    notes = {"seed": params.seed} | ({"reference": parent} if method == "DPO" else {}) | dict(notes or {})
    if method == "DPO":
        more |= {"references": Source(run.completion_cache, parent, run.hash_of(start))}
    lineage = {"parent": parent, "method": method.lower(), "params": p.model_dump(), "notes": notes}
    lineage["packages"] = packages(start, p.adapter, params.hardware.kernels)
    decides = {"parent": run.hash_of(start), "params": p.model_dump(), "seed": params.seed}
    hardware = params.hardware.within(run.root)
    decides |= {"compile": hardware.compile, "kernels": hardware.kernels}
    if valid is not None and (every := params.choose.every_steps):
        more |= {"validation": Validation(valid, every, choose is not None)}
        watched = digest([repr(valid.rows()).encode()])
        decides["valid"] = {"every_steps": every, "keep": choose is not None, "rows": watched}
    checkpoints = Checkpoints(run.training_cache / model, hardware.save_every_s, decides)
    trackers.set_up(hardware.report_to, run.root / "data/logs", f"{method} {model}")
    with run.new_model(model, **lineage) as folder:
        with run.computing(), of_the_device(section, p, checkpoints):
            options = {"seed": params.seed, "hardware": hardware, "checkpoints": checkpoints} | more
            options |= {"label": f"{method} {model}"}
            if hardware.launch:
                trained = Trained(**on_processes(train, start, folder, rows, p, **options))
                notes |= {"processes": trained.processes}
            else:
                trained = train(start, folder, rows, p, **options)
        notes |= {"threads": trained.threads, unit: trained.rows, "too_long": trained.too_long}
        if trained.same_tokens:
            notes["same_tokens"] = trained.same_tokens
        if trained.replayed:
            notes["replayed"] = trained.replayed
        if LOSS in trained.log.columns:
            notes[LOSS] = dict(trained.log.drop_nulls(LOSS).select("step", LOSS).iter_rows())
        if choose:
            steps = candidates(checkpoints.folder) | {len(trained.log): folder}
            engine = params.engine.model_dump(include={"name", "inner", "dtype", "quantization"})
            notes["chosen"] = choose_of(steps, folder, choose) | {"engine": engine}
    run.figures |= trained.figures
    run.write_plot(f"train_{model}", trained.log)
    left_out = {"too_long": trained.too_long, "same_tokens": trained.same_tokens}
    content = {"rows": trained.rows, "left_out": left_out, **figures(trained.log, notes.get("chosen"))}
    run.write_metrics("train", content, model)
    checkpoints.delete()
    chosen = notes.get("chosen")
    own = rows["max_length"].drop_nulls().unique().to_list() if "max_length" in rows.columns else []
    limits = " or ".join(str(limit) for limit in sorted({*own, trained.max_length}))
    print(
        f"{model}: {method} from {parent} on {trained.rows} {unit} ({of}), {trained.too_long} left out as longer than "
        f"{limits} tokens"
        + (f", {trained.same_tokens} as the same tokens twice" if trained.same_tokens else "")
        + (f"; chosen: step {chosen['step']} of {len(trained.log)}" if chosen else "")
    )
    if chosen and chosen["matches"] and not any(match["win"] or match["lose"] for match in chosen["matches"]):
        warn(
            f"{model}: {chosen['judge']} preferred no model on the way to another (orders that disagree are ties), so "
            f"the earliest, of step {chosen['step']}, is taken. Set choose.judge to one that can compare, or choose.by "
            f"to null"
        )
    shares = {unit: trained.too_long / len(rows)}
    for name, counts in trained.replayed.items():
        shares[f"rows of {name.upper()} to replay"] = counts["too_long"] / sum(counts.values())
    for what, share in shares.items():
        if share > params.warn.left_out:
            keys = f"{section}.max_length" + (f" or {section}.ift_max_length" if own and what == unit else "")
            raise_it = f"Raise {keys}, up to the model's context"
            warn(f"{model}: {share:.0%} of the {what} are left out. {raise_it}")


def choose_of(steps: Mapping[int, Path], out: Path, choose: Choose) -> dict[str, Any]:
    """Put the best of the models `steps` into `out`, where the last is; returns how it was chosen."""
    import torch

    gc.collect()  # of the trainer
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    step, how = choose(steps)
    if steps[step] != out:
        shutil.rmtree(out)
        shutil.copytree(steps[step], out)
    return {"step": step, "of": sorted(steps)} | how


def train(
    trainer: Any, ready: Prepared, label: str, speed: Speed, checkpoints: Checkpoints | None = None
) -> list[dict[str, float]]:
    """Run a TRL trainer under our progress, from the last of its checkpoints; returns what it logged, one mapping per
    optimizer step. Raises TrainingError as soon as the loss is no number or the gradient explodes, and when training
    changed nothing or left weights that are none."""
    from transformers import PrinterCallback, TrainerCallback

    of = checkpoints or Checkpoints(Path(trainer.args.output_dir))
    of.look(trainer, ready, label)
    save_checkpoints(trainer, of)

    class Show(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if "loss" not in (logs := kwargs["logs"]):
                return
            check_step(logs, trainer, ready, label, of)
            shown = {name: float(logs[key]) for name, key in SHOWN.items() if key in logs}
            advance(1, speed.step(logs), figures=shown)

    batches = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    total = int(trainer.args.num_train_epochs) * batches
    trainer.remove_callback(PrinterCallback)
    trackers.name_run(trainer.args, label)
    trainer.add_callback(Show())
    before = _fingerprint(trainer.model)
    with progress(label, total, "steps") as advance:
        if of.continued:
            done = step_of(of.continued)
            print(f"{label}: continued at step {done} of {total}")
            advance(done, for_free=True)
        trainer.train(resume_from_checkpoint=of.continued and str(of.continued))
    after = _fingerprint(trainer.model)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    if not all(map(math.isfinite, after)):
        raise TrainingError(f"{label}: the last of {len(steps)} steps left weights that are no numbers. Lower lr")
    if after == before:
        raise TrainingError(
            f"{label}: {len(steps)} steps changed no weight, so the new model would be the old one. Raise lr, seen "
            f"{trainer.args.learning_rate}"
        )
    return steps


def _fingerprint(model: Any) -> list[float]:
    """One sum per weight matrix: enough to see whether anything moved, without a second copy of the model."""
    trained = [getattr(weight, "master", weight) for weight in model.parameters() if weight.requires_grad]
    sums = [weight.detach().double().sum() for weight in trained]
    return [float(one.full_tensor() if hasattr(one, "full_tensor") else one) for one in sums]  # of all processes' parts


def finish(
    trainer: Any,
    ready: Prepared,
    out: Path,
    log: Mapping[str, str],
    label: str,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train, and save the model into `out`. `log`: column of the table (all Float64, after `step`, counted from 1) ->
    what TRL calls it."""
    import torch

    speed = Speed(ready, precision(trainer))
    steps = train(trainer, ready, label, speed, checkpoints)
    continued = checkpoints and checkpoints.continued
    save_model(trainer, ready, out)
    columns = {name: pl.Series([float(step[key]) for step in steps], dtype=pl.Float64) for name, key in log.items()}
    table = pl.DataFrame({"step": pl.Series(range(1, len(steps) + 1), dtype=pl.Int32), **columns})
    if losses := {entry["step"]: entry[LOSS] for entry in trainer.state.log_history if LOSS in entry}:
        table = table.with_columns(pl.Series(LOSS, [losses.get(step) for step in table["step"]], dtype=pl.Float64))
    counts = len(ready.rows["prompt_ids"]), ready.too_long, ready.same_tokens
    of_speed = speed.figures() | ({"continued_at": step_of(continued)} if continued else {})
    replayed = {
        name: {"rows": len(one.rows["prompt_ids"]), "too_long": one.too_long} for name, one in ready.replayed.items()
    }
    return Trained(table, *counts, ready.max_length, torch.get_num_threads(), of_speed, replayed)
