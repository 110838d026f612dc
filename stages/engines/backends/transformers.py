"""Texts from a local model by transformers' batched `generate`, on CPU or CUDA.

Guarantee: the random numbers of a completion depend on `(seed, request id, n)` alone. Floating point sums depend a
little on what a batch is padded to, so a text can differ between batches only where two tokens are equal to the last
digits. Batches are cut from the requests and `engine.max_batch_tokens`, never from the hardware: prompts of like length
together, so that little is padding and memory has a bound. What completions of one prompt share is computed once;
recurrent and hybrid models read the prompt for each. Rows that have ended leave the batch: `generate` goes on with the
others from the same cache.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console.errors import EngineError, ModelError
from stages.console.memory import keep_freed_memory
from stages.engines.backends import attention
from stages.engines.backends.packing import pack_weights
from stages.engines.base import BaseEngine, Batches
from stages.engines.request import Completion, Request, Sampling, completion_seed
from stages.engines.sampling import Finite, Live, SeededSampling, explain_nonfinite_logits
from stages.engines.tokenization import ADAPTER, ModelTokenizer

SHARE = 8
"""A batch goes on without its ended rows once one in so many has."""


class _Prompt(NamedTuple):
    """A request in tokens; `room`: how many tokens a completion may have."""

    id: str
    ids: list[int]
    room: int


class Ended(StoppingCriteria):
    """Which rows have ended: by an end token, one of the stop strings (only the tail of a text is decoded: a string of
    b bytes spans at most b tokens) or `longest`, the tokens that a row may have, its prompt's and padding included.
    `early` stops all once one in SHARE has ended, so that the others go on without them."""

    def __init__(
        self, prompts: ModelTokenizer, longest: torch.Tensor, strings: Sequence[str], width: int, early: bool
    ) -> None:
        self.prompts, self.longest, self.strings, self.width = prompts, longest, strings, width
        self.ends = torch.tensor(sorted(prompts.end_ids), device=longest.device, dtype=torch.long)
        self.tail = max((len(s.encode()) for s in strings), default=0) + 2
        self.rows = torch.zeros_like(longest, dtype=torch.bool)
        self.enough = -(-len(longest) // SHARE) if early else len(longest)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        self.rows |= torch.isin(input_ids[:, -1], self.ends) | (self.longest <= input_ids.shape[1])
        if self.strings:
            tails = input_ids[:, self.width :][:, -self.tail :].tolist()
            for row in (~self.rows).nonzero()[:, 0].tolist():
                self.rows[row] = any(map(self.prompts.text(tails[row]).count, self.strings))
        return self.rows | (self.rows.sum() >= self.enough)


class RecordLogprobs(LogitsProcessor):
    """Records the probabilities of some tokens at every step, before anything is cut or chosen."""

    def __init__(self, tokens: Sequence[int], live: Live, steps: int) -> None:
        self.tokens, self.live = list(tokens), live
        self.recorded = live.rows.new_zeros((len(live.rows), steps, len(self.tokens)), dtype=torch.float64)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        p = (scores[:, self.tokens].double() - scores.double().logsumexp(-1, keepdim=True)).exp()
        self.recorded[self.live.at(input_ids)] = p
        return scores

    def at(self, row: int, step: int) -> dict[int, float]:
        return dict(zip(self.tokens, self.recorded[row, step].tolist(), strict=True))


class TransformersEngine(BaseEngine):
    """One model in memory."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        if hardware.device == "cuda" and not torch.cuda.is_available():
            raise EngineError(
                "hardware.device is cuda, and torch sees no CUDA device. Set hardware.device to auto or cpu"
            )
        if engine.quantization:
            raise EngineError(
                f"engine.quantization is {engine.quantization}, which the engine transformers does not do. Set it to "
                f"null, or use vllm"
            )
        if hardware.threads > 0:
            torch.set_num_threads(hardware.threads)
        keep_freed_memory()
        # torch's default; a training before, in this process, leaves tf32
        torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]
        self.device = torch.device("cuda" if hardware.device != "cpu" and torch.cuda.is_available() else "cpu")
        self.name, self.seed, self.chunk = model, seed, engine.max_batch_tokens
        self.prompts = ModelTokenizer(model_dir)
        self.model = _load(model_dir, getattr(torch, engine.dtype))
        self.shares = attention.new_cache(self.model) is not None  # what completions of one prompt have in common
        self.max_context = self.prompts.max_context(engine.max_context)
        # the folder's own settings (a repetition penalty, say) would fill what our calls leave open
        self.model.generation_config = GenerationConfig()
        with _explained(
            f"{model_dir} as {engine.dtype} on {self.device}",
            "Set engine.dtype to bfloat16, hardware.device to cpu, or use the engine vllm",
            untried=model_dir,
        ):
            self.model.to(self.device).eval().register_forward_pre_hook(self._clamp_positions, with_kwargs=True)
            pack_weights(self.model)
            if self.chunk > 1 and getattr(self.model, "_is_stateful", False):
                self._check_padding()

    def close(self) -> None:
        del self.model
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        """Completions batch by batch, short prompts first. Raises EngineError for messages that cannot be templated."""
        prompts = [
            _Prompt(r.id, ids, min(sampling.max_tokens, self.max_context - len(ids)))
            for r, ids in zip(requests, self.prompts.encode(requests), strict=True)
        ]
        full = [p for p in prompts if p.room <= 0]
        if full:
            yield [Completion(p.id, n, "", "length", 0) for p in full for n in sampling.numbers]
        for batch in self._cut([p for p in prompts if p.room > 0], sampling):
            longest = max(len(p.ids) + p.room for p in batch)
            with _explained(
                f"a batch of {len(batch) * sampling.n * longest:,} tokens ({len(batch)} prompts x {sampling.n} texts x "
                f"up to {longest} tokens) on {self.device}",
                f"What came before is cached. Lower engine.max_batch_tokens, which is {self.chunk}, or, for a batch of "
                f"one prompt, engine.max_context, which is {self.max_context}",
                untried=None if self.generated_tokens else self.prompts.folder,
            ):
                written = self._decode(batch, sampling)
            self.prompt_tokens += sum(len(p.ids) for p in batch) * (1 if self.shares else sampling.n)
            self.generated_tokens += sum(c.tokens or 0 for c in written)
            yield written

    def _cut(self, prompts: Sequence[_Prompt], sampling: Sampling) -> Iterator[list[_Prompt]]:
        """Batches of at most `chunk` tokens, padding and room included, but of one prompt at least, short prompts
        first.

        A batch ends where the next prompt, the longest so far, does not fit: so when whole batches are taken away, the
        others stay as they are. The sort is stable: the same requests give the same batches.
        """
        batch: list[_Prompt] = []
        for prompt in sorted(prompts, key=lambda p: len(p.ids)):
            longest = min(len(prompt.ids) + sampling.max_tokens, self.max_context)
            if batch and (len(batch) + 1) * sampling.n * longest > self.chunk:
                yield batch
                batch = []
            batch.append(prompt)
        if batch:
            yield batch

    @torch.inference_mode()
    def _decode(self, chunk: list[_Prompt], sampling: Sampling) -> list[Completion]:
        """All completions of a chunk, ordered by prompt, then n; prompts are padded on the left."""
        width, steps = max(len(p.ids) for p in chunk), max(p.room for p in chunk)
        ids = torch.tensor([[self.prompts.pad_id] * (width - len(p.ids)) + p.ids for p in chunk], device=self.device)
        mask = torch.tensor([[0] * (width - len(p.ids)) + [1] * len(p.ids) for p in chunk], device=self.device)
        cache = attention.new_cache(self.model)
        at_once = attention.rows_at_once(self.model, width)
        if cache is not None and width > 1 and (sampling.n > 1 or len(ids) > at_once):
            attention.read(self.model, ids[:, :-1], mask[:, :-1], cache)  # the last token chooses the next
            if sampling.n > 1:
                cache.batch_repeat_interleave(sampling.n)
        rows = [(p, n) for p in chunk for n in sampling.numbers]
        live = Live(torch.arange(len(rows), device=self.device), width)
        processors = LogitsProcessorList([finite := Finite(live, steps)])
        probe = sampling.score_logprobs
        if probe:
            processors.append(record := RecordLogprobs(list(self.prompts.choice_tokens(probe.choices)), live, steps))
        if sampling.temperature > 0:
            seeds = [completion_seed(self.seed, p.id, n) for p, n in rows]
            processors.append(SeededSampling(seeds, live, steps, sampling.temperature, sampling.top_p))
        ids, mask = ids.repeat_interleave(sampling.n, 0), mask.repeat_interleave(sampling.n, 0)
        longest = torch.tensor([width + p.room for p, _ in rows], device=self.device)
        out = ids.new_full((len(rows), steps), self.prompts.pad_id)
        while len(live.rows):
            ended = Ended(self.prompts, longest[live.rows], sampling.stop, width, early=cache is not None)
            ids = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=GenerationConfig(
                    max_length=width + steps,
                    do_sample=False,
                    use_cache=True,
                    pad_token_id=self.prompts.pad_id,
                    eos_token_id=sorted(self.prompts.end_ids) or None,
                ),
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([ended]),
            )
            out[live.rows, : ids.shape[1] - width] = ids[:, width:]
            rest = (~ended.rows).nonzero()[:, 0]
            live.rows = live.rows[rest]
            if cache is not None:
                mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)[rest]
                ids = ids[rest]
                cache.batch_select_indices(rest)
        written = []
        for row, ((p, n), tokens, chose) in enumerate(zip(rows, out.tolist(), finite.read(), strict=True)):
            c = self.prompts.completion(p.id, n, tokens, p.room, sampling.stop)
            if not all(chose[: (c.tokens or 0) + 1]):
                raise EngineError(
                    f"{self.prompts.folder} {explain_nonfinite_logits(self.model)}. Seen first for request {p.id!r}, "
                    f"whose batch is not cached"
                )
            if probe:
                c = c._replace(probs=self.prompts.probs(probe, c, tokens, partial(record.at, row)))
            written.append(c)
        return written

    @torch.inference_mode()
    def _check_padding(self) -> None:
        """Raises EngineError for a recurrent model that takes padding for text, as two prompts show that differ in
        padding alone."""
        ids = torch.tensor([[*range(8), 8, 9], [*range(10, 18), 8, 9]], device=self.device)
        mask = torch.tensor([[0] * 8 + [1] * 2] * 2, device=self.device)
        size = self.model.get_input_embeddings().num_embeddings
        one, other = self.model(ids % size, attention_mask=mask).logits[:, -1].float()
        # the last digits may depend on who is computed with whom
        if (one - other).abs().max() > 0.02 * (one.max() - one.min()):
            raise EngineError(
                f"transformers takes padding for text in {self.prompts.folder} ({self.model.config.model_type}). Use "
                f"the engine vllm, or set engine.max_batch_tokens, which is {self.chunk}, to 1: then each prompt is "
                f"decoded alone"
            )

    def _clamp_positions(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """A finished row is padded until its chunk ends, past the last position that a model with learned positions
        knows."""
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = kwargs["position_ids"].clamp(max=self.max_context - 1)
        return args, kwargs


@contextmanager
def _explained(what: str, remedy: str, untried: Path | None) -> Iterator[None]:
    """Turns out of memory (torch has a type for the GPU's allocator only), and whatever a model that never wrote
    anything fails with, into an EngineError."""
    try:
        yield
    except EngineError:
        raise
    except Exception as e:
        first = next(iter(str(e).strip().splitlines()), "")
        words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
        if isinstance(e, MemoryError) or (isinstance(e, RuntimeError) and any(s in str(e) for s in words)):
            raise EngineError(f"there is no memory for {what}: {first or 'MemoryError'}. {remedy}") from None
        if untried:
            raise EngineError(
                f"{untried} cannot generate here ({type(e).__name__}: {first}). Expected a causal language model of "
                f"transformers with a cache; for others, use the engine vllm or a server"
            ) from e
        raise


def _load(folder: Path, dtype: torch.dtype) -> Any:
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        attention.group_heads(model)
        if not (folder / ADAPTER).is_dir():
            return model
        from peft import PeftModel

        return PeftModel.from_pretrained(model, folder / ADAPTER, local_files_only=True).merge_and_unload()
    except ModuleNotFoundError as e:
        raise EngineError(f"{folder} needs the package {e.name}. Type: pip install {e.name}") from None
    except Exception as e:  # a broken file surfaces as OSError, ValueError, KeyError, a Rust exception, ...
        raise ModelError(f"{folder} cannot be loaded: {e}") from None
