"""A training that was killed continues from its last checkpoint to the weights and the log of one that was not.

transformers' Trainer writes and reads checkpoints: weights, optimizer, learning rate, random states, log. What is ours:
there is one at a time, whole or absent; it belongs to one run; and what Trainer would lose (tokens counted so far, the
experts' weights, which it renames when it saves and does not find again).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.console.errors import TrainingError
from stages.console.terminal import warn
from stages.trainers.adapters import packages
from stages.trainers.rows import Prepared

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object  # the import takes seconds, and the class is only mixed into one

MARK = "run.json"
"""Written last into a checkpoint: what it belongs to, and the size of each file. Without it there is no checkpoint."""
UNFINISHED = "unfinished.partial"
CANDIDATES = "candidates"
"""Folder of the models that one is chosen from when training ends (validation.py)."""
PACKAGES = ("torch", "transformers", "trl", "accelerate")
ROUNDING_ON_GPU = ("params.micro_batch", "params.gradient_checkpointing", "compile", "kernels")
"""How a batch is computed, not what: on a GPU, whose sums are not the same twice anyway, they may be lowered between
two parts of a training."""


class Checkpoints:
    """Of one training, in `folder`; the last one is kept. `of`: what else than rows, code and machine decides it."""

    def __init__(self, folder: Path, every_s: float | None = None, of: Mapping[str, Any] | None = None) -> None:
        self.folder, self.every_s, self.of = folder, every_s, of or {}
        self.continued: Path | None = None
        """The checkpoint that training continues from."""
        self.looked = False

    @property
    def last(self) -> Path | None:
        """The newest whole checkpoint, of whatever run."""
        whole = [path for path in self.folder.glob("checkpoint-*") if is_whole(path)]
        return max(whole, key=step_of, default=None)

    def look(self, trainer: Any, ready: Prepared, label: str) -> None:
        """Find what this training continues from. Another run's checkpoint is refused in words, and stays until this
        run has one of its own."""
        self.of, self.looked = flat(dict(self.of) | environment(trainer, ready)), True
        if trainer.args.device.type != "cpu":
            self.of = {name: value for name, value in self.of.items() if name not in ROUNDING_ON_GPU}
        if not (last := self.last):
            return
        if differs := self.differs(last):
            warn(
                f"{label}: the checkpoint of step {step_of(last)} in {self.folder} is of another run "
                f"({', '.join(differs)}); training begins anew"
            )
        else:
            self.continued = last

    def differs(self, checkpoint: Path) -> list[str]:
        return differences(json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["run"], self.of)

    @property
    def own(self) -> Path | None:
        """The last, where it is not known to be of another run."""
        return last if (last := self.last) and not (self.looked and self.differs(last)) else None

    def keep(self, written: Path) -> None:
        """`written` becomes the one checkpoint: first it is whole on the disk, then in place, then the others go."""
        files = {path.relative_to(written).as_posix(): path for path in written.rglob("*") if path.is_file()}
        sizes = {name: path.stat().st_size for name, path in sorted(files.items())}
        mark = written / MARK
        mark.write_text(json.dumps({"run": self.of, "files": sizes}, indent=2), encoding="utf-8")
        for path in (*files.values(), mark, written):
            sync(path)
        place = self.folder / written.name
        shutil.rmtree(place, ignore_errors=True)
        written.rename(place)
        sync(self.folder)
        for other in self.folder.iterdir():
            if other not in (place, self.folder / CANDIDATES):
                shutil.rmtree(other, ignore_errors=True)

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def next_time(self) -> str:
        """What the same command will do, in words."""
        return f"the same command continues at step {step_of(last)}" if (last := self.own) else "training begins anew"


class Resumable(Trainer):
    """To be mixed in before TRL's trainer."""

    checkpoints: Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        import transformers

        folder, state = self.checkpoints.folder, self.state
        self.args.output_dir = str(folder / UNFINISHED)
        try:
            transformers.Trainer._save_checkpoint(self, model, trial)  # not TRL's, which adds a model card
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                self.checkpoints.keep(folder / UNFINISHED / f"checkpoint-{state.global_step}")
        except Exception as e:  # OSError, RuntimeError of torch, SafetensorError of Rust
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
            raise TrainingError(
                f"the checkpoint of step {state.global_step} of {state.max_steps} could not be written into {folder} "
                f"({free(folder)}): {e}. Nothing is half-written. Make room (srlm cache says what takes it), or set "
                f"hardware.save_every_s to null; {self.checkpoints.next_time}"
            ) from None
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The weights, named as they are in memory: those of experts, named as published, would not be loaded. Of
        adapters the trained one: beside another, TRL's of the reference, it would not be loaded either."""
        model = self.accelerator.unwrap_model(self.model)
        adapted = hasattr(model, "peft_config")
        how: dict[str, Any] = {"selected_adapters": ["default"]} if adapted else {"save_original_format": False}
        model.save_pretrained(output_dir, state_dict=state_dict, **how)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raises TrainingError where Trainer would train on with weights that no checkpoint gave."""
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        if lost := sorted({*load_result.missing_keys} - tied | {*load_result.unexpected_keys}):
            raise TrainingError(
                f"the checkpoint {self.checkpoints.continued} does not fit the model, first {lost[0]}. Delete it: "
                f"srlm cache --prune --model {self.checkpoints.folder.name}"
            )


def save_checkpoints(trainer: Any, checkpoints: Checkpoints) -> None:
    """Have `trainer`, a Resumable, save checkpoints in time, and continue from the one that was found."""
    import torch
    from transformers import TrainerCallback

    class Save(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.saved = time.monotonic()
            if state.global_step:  # TRL counts tokens from 0 again
                trainer._total_train_tokens = state.log_history[-1]["num_tokens"]

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if checkpoints.every_s is None or state.global_step == state.max_steps:
                return
            due = [time.monotonic() - self.saved >= checkpoints.every_s]
            if trainer.accelerator.num_processes > 1:  # one clock for all
                torch.distributed.broadcast_object_list(due)
            control.should_save = due[0]

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.saved = time.monotonic()

    trainer.checkpoints = checkpoints
    trainer.add_callback(Save())
    if checkpoints.continued:
        trainer.args.eval_on_start = False  # the reference was checked before the first step


def environment(trainer: Any, ready: Prepared) -> dict[str, Any]:
    """What decides a training beside its parent and parameters: rows in tokens, our code, packages, machine."""
    import torch

    code = sorted(Path(__file__).parent.rglob("*.py"))
    used = (*PACKAGES, *packages(ready.folder, ready.adapter))
    device = trainer.args.device.type
    rows = (one.rows for one in (ready, *ready.replayed.values()))
    return {
        "rows": digest(repr(row).encode() for part in rows for name in sorted(part) for row in (name, *part[name])),
        "code": digest(path.read_bytes() for path in code),
        "versions": {name: importlib.metadata.version(name) for name in used},
        "processes": trainer.accelerator.num_processes,
        "distributed": trainer.accelerator.distributed_type.value,  # FSDP and DeepSpeed have files of their own
        "device": device,
        "threads": torch.get_num_threads() if device == "cpu" else None,
    }


def digest(parts: Iterable[bytes]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(part)
    return total.hexdigest()


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}, as JSON gives it back."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
        out |= inner
    return dict(json.loads(json.dumps(out, default=str)))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted({name for name in before.keys() | now.keys() if before.get(name) != now.get(name)})
    hashes = {"parent", "rows", "code"}
    return [f"other {n}" if n in hashes else f"{n} {before.get(n)}, now {now.get(n)}" for n in names]


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def is_whole(checkpoint: Path) -> bool:
    """Whether the mark is there, and each file as long as it says."""
    try:
        sizes = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def free(folder: Path) -> str:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return f"{shutil.disk_usage(nearest).free / 1e6:.0f} MB free"


def sync(path: Path) -> None:
    """Onto the disk itself, so that a power cut leaves it whole."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
