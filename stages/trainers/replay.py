"""Replay beside DPO: in every step the negative log-likelihood of some rows that Mt learnt before, so that training on
answers does not cost the judge. Added to the loss are, for EFT and IFT, weight times the mean over the tokens of the
step's responses, whatever the micro-batch and however many processes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from stages.config.sections import Replay
from stages.trainers.rows import Prepared

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object


class Replaying(Trainer):
    """To be mixed in before TRL's DPOTrainer."""

    replay: Replay
    replayed: Mapping[str, Prepared]
    """Rows of `eft` and `ift`, those that have a weight."""
    _metrics: dict[str, Any]
    _total_train_tokens: int
    _step, _nth = -1, 0

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        trl: Any = super()
        if not self.replayed or not model.training:
            return trl._compute_loss(model, inputs, return_outputs)
        self._nth = self._nth + 1 if self._step == self.state.global_step else 0
        self._step = self.state.global_step
        losses = {name: self._nll(model, name) for name in self.replayed}  # first: TRL logs the tokens so far
        loss = trl._compute_loss(model, inputs, return_outputs)
        for name, value in ({"dpo_loss": loss} | {f"replay/{name}": nll for name, nll in losses.items()}).items():
            self._metrics["train"][name].append(self.accelerator.gather(value.detach()).mean().item())
        return loss + sum(getattr(self.replay, name) * nll for name, nll in losses.items())

    def _nll(self, model: Any, name: str) -> Any:
        """This micro-batch's part of the step's mean, scaled so that the mean of all parts, over micro-batches and
        processes, is the step's."""
        ids = self.replayed[name].rows
        rows = [*zip(ids["prompt_ids"], ids["response_ids"], strict=True)]
        step = rows_of_step(self.state.global_step, self.replay.rows, len(rows), f"{self.args.seed}\x1f{name}")
        parts = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        mine = step[self._nth * self.accelerator.num_processes + self.accelerator.process_index :: parts]
        tokenizer: Any = self.processing_class
        batch = self._prepare_inputs(in_a_batch([rows[i] for i in mine], tokenizer.pad_token_id))
        if not self._nth:
            self._total_train_tokens += sum(map(len, chain.from_iterable(rows[i] for i in step)))
        log_probs = model(**batch, use_cache=False, fused_lm_head=True).log_probs  # 0 where there is no label
        return -parts * log_probs.sum() / sum(len(rows[i][1]) for i in step)


def in_a_batch(rows: list[tuple[list[int], list[int]]], pad: int) -> dict[str, Any]:
    """Prompts and responses in tokens, with padding on the right; labels are the responses alone."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(lines: list[list[int]], value: int) -> Any:
        return pad_sequence([torch.tensor(line) for line in lines], batch_first=True, padding_value=value)

    return {
        "input_ids": padded([prompt + response for prompt, response in rows], pad),
        "attention_mask": padded([[1] * (len(prompt) + len(response)) for prompt, response in rows], 0),
        "labels": padded([[-100] * len(prompt) + response for prompt, response in rows], -100),
    }


def rows_of_step(step: int, rows: int, count: int, seed: str) -> list[int]:
    """Indexes of the `rows` of `count` that are replayed in a step (from 0): drawn without replacement until all were
    used, then anew. A function of the step, so that a training that continues draws the same."""
    return [_order(count, f"{seed}\x1f{i // count}")[i % count] for i in range(step * rows, (step + 1) * rows)]


@lru_cache(maxsize=8)
def _order(count: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), count)
