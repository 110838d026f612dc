"""Each row of a step weighs the same, and each token in a mean over tokens, however many processes and micro-batches
share them. Trainer does most of it. Left are the last step of an epoch that the batch does not divide, which accelerate
fills up with rows of the epoch's beginning: they are cut off again; and the likelihood of chosen beside DPO, of which
TRL takes each micro-batch's mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object

PART, CHOSEN = "part", "chosen"
"""Under which a `Part`, and the weight of the mean over chosen's tokens, stand beside a micro-batch's tensors."""


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
    loss_types: list[str]
    loss_weights: list[float]
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
        if "sft" in getattr(self, "loss_types", ()):
            tokens = torch.tensor([_chosen_tokens(batch) for batch in batch_samples], device=device)
            mean = accelerator.gather(tokens.sum()[None]).sum().item() / (len(batch_samples) * processes)
            for batch, count in zip(batch_samples, tokens.tolist(), strict=True):
                batch[CHOSEN] = count / mean
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
        part, chosen, weights = inputs.pop(PART, None), inputs.pop(CHOSEN, 1.0), self.loss_weights
        of = {"sft": chosen} | dict.fromkeys({*self.loss_types} - {"sft"}, part.weight if part else 1.0)
        self.loss_weights = [weight * of[kind] for kind, weight in zip(self.loss_types, weights, strict=True)]
        try:
            with _of_real_rows(self.accelerator, part) if part else nullcontext():
                loss = trl._compute_loss(model, inputs, return_outputs)
        finally:
            self.loss_weights = weights
        for name, values in self._metrics["train"].items() if part else ():
            if name.startswith("rewards/"):
                values[-1] *= part.of_all
        return loss


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


def _chosen_tokens(batch: dict[str, Any]) -> int:
    """As TRL counts them: what follows a token of its row. The row that stands for none has none."""
    real = batch[PART].rows if PART in batch else None
    return int(batch["completion_mask"].chunk(2)[0][:real, 1:].sum())


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
