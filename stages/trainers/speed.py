"""How fast a training is, by what TRL counts at each step: tokens that are no padding, prompts and answers."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from typing import Any

from stages.config.flops import ADAPTED, TRAINED, card_of, causal, shape_of
from stages.trainers.rows import Prepared


class Speed:
    """Of the rows in `ready`; a training that ends without a step has no figures."""

    def __init__(self, ready: Prepared, dtype: str) -> None:
        import torch

        self.shape = shape_of(ready.model.config.to_dict(), ready.model.num_parameters())
        prompts, *answers = ready.rows.values()
        heads, tails = [len(prompt) for prompt in prompts], [[len(a) for a in column] for column in answers]
        whole = [head + tail for column in tails for head, tail in zip(heads, column, strict=True)]
        # a prompt that two answers share is computed once, and counted in the tokens of both
        once = sum(whole) - (len(tails) - 1) * sum(heads)
        context = causal(whole) - (len(tails) - 1) * causal(heads)
        trainable = ready.model.num_parameters(only_trainable=True)
        passes = TRAINED if 2 * trainable > ready.model.num_parameters() else ADAPTED
        self.flops_per_token = self.shape.flops(once, context, passes) / sum(whole) if self.shape else None
        self.on_gpu = ready.model.device.type == "cuda" or (torch.cuda.is_available() and torch.cuda.is_initialized())
        self.device = torch.cuda.get_device_name() if self.on_gpu else "cpu"
        card, tf32 = card_of(self.device) if self.on_gpu else None, torch.backends.cuda.matmul.fp32_precision == "tf32"
        processes = int(os.environ.get("WORLD_SIZE", "1"))  # tokens are those of all, and each has a card
        self.peak = processes * card.peak(dtype, tf32=tf32) if card else None
        self.tokens = self.first_tokens = 0.0
        self.started = time.monotonic()
        self.first = self.last = 0.0
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def step(self, logs: Mapping[str, float]) -> str:
        """After a step: what stands beside the count of steps."""
        self.last, self.tokens = time.monotonic(), logs.get("num_tokens", 0.0)
        if not self.first:  # it warms up, and a graph is compiled in it
            self.first, self.first_tokens = self.last, self.tokens
        margin = f"margin {logs['rewards/margins']:.2f}" if "rewards/margins" in logs else ""
        rate, share = self.tokens_per_s(), self.share_of_peak()
        speed = f"{rate:,.0f} tokens/s" if rate else ""
        of_peak = f"{share:.0%} of peak" if share is not None else ""
        notes = (f"loss {logs['loss']:.3f}", margin, speed, of_peak, f"{self.memory() / 1e9:.1f} GB")
        return ", ".join(note for note in notes if note)

    def tokens_per_s(self) -> float | None:
        """After the first step; of a single step with all that goes before it."""
        if self.last > self.first:
            return (self.tokens - self.first_tokens) / (self.last - self.first)
        return self.tokens / (self.last - self.started) if self.first else None

    def share_of_peak(self) -> float | None:
        """Useful FLOPs of the most that the card can; None where that is not known."""
        rate = self.tokens_per_s()
        return rate * self.flops_per_token / self.peak if rate and self.flops_per_token and self.peak else None

    def memory(self) -> int:
        """Most bytes so far: of the GPU, else of the process."""
        import torch

        if self.on_gpu:
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def figures(self) -> dict[str, Any]:
        """For the log of runs."""
        rate, share = self.tokens_per_s(), self.share_of_peak()
        return {
            "device": self.device,
            "parameters": self.shape.parameters if self.shape else None,
            "tokens": round(self.tokens),
            "tokens_per_s": round(rate, 1) if rate else None,
            "flops": round(self.tokens * self.flops_per_token) if self.flops_per_token else None,
            "peak_share": round(share, 4) if share is not None else None,
            "gpu_peak_mb": round(self.memory() / 2**20) if self.on_gpu else None,
        }
