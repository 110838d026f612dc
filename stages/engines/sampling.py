"""Sampling whose every draw is fixed beforehand: one uniform number per completion and step, turned into a token by the
inverse CDF.

`torch.multinomial` draws from one stream for a whole batch, so that a text would depend on its neighbours. Here row r
uses its own numbers, made from `completion_seed`, and a token is the one in whose slice of the cumulative probability
the number falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor

HEAD = 8
"""Most likely tokens that are looked at first. A trained model's nucleus is rarely wider, and finding a few is far
cheaper than sorting a vocabulary."""


def uniforms(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """(len(seeds), steps) float64 numbers in [0, 1), row r from `PCG64(seeds[r])` alone."""
    drawn = np.stack([np.random.Generator(np.random.PCG64(s)).random(steps) for s in seeds])
    return torch.from_numpy(np.minimum(drawn, 1 - 2**-32))  # so that u * total stays below total in float64


def nucleus(probs: torch.Tensor, top_p: float, head: int = HEAD) -> tuple[torch.Tensor, torch.Tensor]:
    """Most likely tokens whose probabilities add up to `top_p`, as `transformers.TopPLogitsWarper` keeps them.

    probs (rows, vocabulary) -> (probabilities, tokens), each (rows, width): falling, and 0 outside the nucleus. A token
    stays when those more likely than it add up to less than `top_p`, so the first always stays. A row's result depends
    on that row only.
    """
    p, tokens = probs.topk(min(head, probs.shape[-1]))
    wide = p.sum(-1) < top_p
    inside = p.cumsum(-1) - p < top_p
    inside[:, 0] = True  # also when `top_p` is 0 in the dtype of `probs`
    p = p * inside
    if head < probs.shape[-1] and wide.any():  # these rows' nucleus is broader than `head`
        wider_p, wider_tokens = nucleus(probs[wide], top_p, 8 * head)
        p, tokens = (torch.nn.functional.pad(x, (0, wider_p.shape[-1] - x.shape[-1])) for x in (p, tokens))
        p[wide], tokens[wide] = wider_p, wider_tokens
    return p, tokens


def choose(logits: torch.Tensor, u: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """One token per row: logits (rows, vocabulary), u (rows,) in [0, 1) -> (rows, 1) token ids, never one of
    probability 0.

    A temperature that is 0 in the logits' dtype takes the most likely. Logits that hold NaN give some token: `Finite`
    tells, once the batch is over."""
    temperature = max(temperature, torch.finfo(logits.dtype).tiny)
    probs = torch.softmax((logits - logits.amax(-1, keepdim=True)) / temperature, dim=-1)
    p, tokens = nucleus(probs, top_p) if top_p < 1 else (probs, None)
    cdf = p.double().cumsum(-1)  # float32 loses the tail of a large vocabulary
    at = torch.searchsorted(cdf, (u * cdf[:, -1])[:, None], right=True)
    at = at.clamp(max=cdf.shape[-1] - 1)  # NaN is beyond the last, and a GPU is lost after an index out of bounds
    return at if tokens is None else tokens.gather(-1, at)


@dataclass
class Live:
    """Which rows of a batch still write, and how long its padded prompts are."""

    rows: torch.Tensor
    width: int

    def at(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Where in a table (rows, steps) the next tokens of `input_ids` stand."""
        return self.rows, input_ids.shape[1] - self.width


class Finite(LogitsProcessor):
    """Records the largest logit of every row and step, which is NaN when one is: one reduction a step, and nothing is
    read before the batch is over."""

    def __init__(self, live: Live, steps: int) -> None:
        self.live, self.largest = live, torch.zeros((len(live.rows), steps), device=live.rows.device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.largest[self.live.at(input_ids)] = scores.amax(-1)
        return scores

    def read(self) -> list[list[bool]]:
        """For each row, whether each step chose among numbers."""
        steps: list[list[bool]] = self.largest.isfinite().tolist()
        return steps


def explain_nonfinite_logits(model: torch.nn.Module) -> str:
    """Why a model does not choose among numbers, and what to do; to be read behind its name."""
    weights = list(model.parameters())
    dtype = str(weights[0].dtype).removeprefix("torch.")
    if all(w.to_dense().isfinite().all() for w in weights) and dtype != "float32":  # dense: some may be packed
        return (
            f"gives NaN or infinity where logits should be (its weights are finite, its sums are not). Set "
            f"engine.dtype, which is {dtype}, to float32"
        )
    return (
        "gives NaN or infinity where logits should be (its weights hold NaN or infinity, or lead to it). Train the "
        "model again with a smaller lr, or with dtype float32"
    )


class SeededSampling(LogitsProcessor):
    """Leaves one token per row finite, so that `generate(do_sample=False)` takes it."""

    def __init__(self, seeds: Sequence[int], live: Live, steps: int, temperature: float, top_p: float) -> None:
        self.u, self.live = uniforms(seeds, steps).to(live.rows.device), live
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = choose(scores, self.u[self.live.at(input_ids)], self.temperature, self.top_p)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens, 0.0)
