"""The last step of an epoch that the batch does not divide. accelerate fills it up with rows of the epoch's beginning,
so that all processes have as many. Here they are cut off again, and each row of the step weighs the same, however many
processes and micro-batches share them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object

PART = "part"
"""Under which a `Part` stands beside a micro-batch's tensors."""


@dataclass(frozen=True)  # no tuple: Trainer looks for tensors in those
class Part:
    """A process's micro-batch of a short step."""

    rows: int
    """That are no filling."""
    weight: float
    """Of its mean, where the mean over all micro-batches and processes is to be that of the step's rows."""
    of_all: float
    """The same of the micro-batches of all processes."""


def parts_of(rows: int, micro: int, processes: int, batches: range) -> list[list[Part]]:
    """By micro-batch, of which `batches` (counted from the epoch's first) are a step, and by process; `rows` are an
    epoch's. As accelerate deals them out: full ones in turn, and then what is left."""

    def there(batch: int, process: int) -> int:
        return min(max(rows - (batch * processes + process) * micro, 0), micro)

    counts = [[there(batch, process) for process in range(processes)] for batch in batches]
    mean = sum(map(sum, counts)) / len(batches)
    return [[Part(n, n * processes / mean, sum(each) / mean) for n in each] for each in counts]


class ShortSteps(Trainer):
    """To be mixed in right before TRL's trainer."""

    train_dataset: Any
    _metrics: dict[str, Any]

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> Any:
        """Trainer's count of a step's labels, before which all of its micro-batches are in its hands."""
        accelerator, rows = self.accelerator, len(self.train_dataset)
        micro, processes = self.args.per_device_train_batch_size, accelerator.num_processes
        steps = math.ceil(math.ceil(rows / (micro * processes)) / self.args.gradient_accumulation_steps)
        first = self.state.global_step % steps * self.args.gradient_accumulation_steps
        if (first + len(batch_samples)) * micro * processes > rows:
            parts = parts_of(rows, micro, processes, range(first, first + len(batch_samples)))
            for batch, each in zip(batch_samples, parts, strict=True):
                _cut(batch, each[accelerator.process_index])
        return super()._get_num_items_in_batch(batch_samples, device)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        trl: Any = super()
        if "completion_mask" in inputs or not (part := inputs.pop(PART, None)):
            return trl.compute_loss(model, inputs, *args, **options)
        with _of_real_rows(self.accelerator, part):
            return trl.compute_loss(model, inputs, *args, **options)  # per label of the step: weighed by their count

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """DPO's."""
        trl: Any = super()
        if not (part := inputs.pop(PART, None)):
            return trl._compute_loss(model, inputs, return_outputs)
        with _of_real_rows(self.accelerator, part):
            loss = trl._compute_loss(model, inputs, return_outputs)
        for name, values in self._metrics["train"].items():
            if name.startswith("rewards/"):
                values[-1] *= part.of_all
        return loss * part.weight


def _cut(batch: dict[str, Any], part: Part) -> None:
    """Leave the rows of `part`; where it has none, one that counts nothing, for no process may wait for another."""
    rows = max(part.rows, 1)
    pairs = "completion_mask" in batch
    for name, x in batch.items():
        two = pairs and not name.startswith("ref_")  # chosen, and behind them rejected
        batch[name] = torch.cat([half[:rows] for half in x.chunk(2)]) if two else x[:rows]
    if not part.rows and not pairs:
        batch["labels"] = torch.full_like(batch["labels"], -100)
    batch[PART] = part


@contextmanager
def _of_real_rows(accelerator: Any, part: Part) -> Iterator[None]:
    """Within, TRL's metrics are of the rows that are there: it gathers vectors with a value for each, and sums. (At an
    epoch's end accelerate would cut off what it takes for filling, of sums as well.)"""

    def gather(x: torch.Tensor) -> torch.Tensor:
        mine = x[: part.rows] if x.dim() else x[None] * bool(part.rows)
        return torch.cat([one.to(x.device) for one in gather_object([mine.detach().cpu()])])

    accelerator.gather = accelerator.gather_for_metrics = gather
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics
