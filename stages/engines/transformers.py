"""Texts from a local model by transformers' batched `generate`, on CPU or CUDA.

Guarantee: the random numbers of a completion depend on `(seed, request id, n)` alone. Floating point sums depend a little on what a batch is
padded to, so a text can differ between batches only where two tokens are equal to the last digits; greedy and sampled texts of float32
models were the same alone, in a batch and in reverse order in every test. Chunks are cut from the requests and `engine.chunk`, never from
the hardware.
"""

from __future__ import annotations

import bisect
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging

from stages.config.params import EngineParams, Hardware
from stages.console.errors import EngineError, ModelError
from stages.console.text import plain
from stages.engines.base import Batching, Completion, Request, Sampling, completion_seed
from stages.engines.seeded import SeededSampling

NEEDED = {
    "config.json": ("config.json",),
    "a tokenizer (tokenizer.json)": ("tokenizer.json", "tokenizer.model", "vocab.json"),
    "weights (*.safetensors)": ("*.safetensors",),
}


class _Prompt(NamedTuple):
    """A request in tokens; `room`: how many tokens a completion may have."""

    id: str
    ids: list[int]
    room: int


class StopStrings(StoppingCriteria):
    """Ends a row once its newest tokens complete one of `strings`. Only the tail is decoded: a string of b bytes spans at most b tokens."""

    def __init__(self, tokenizer: Any, strings: Sequence[str], width: int) -> None:
        self.tokenizer, self.strings, self.width = tokenizer, strings, width
        self.tail = max(len(s.encode()) for s in strings) + 2
        self.done: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        if self.done is None:
            self.done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        live = (~self.done).nonzero()[:, 0].tolist()
        tails = self.tokenizer.batch_decode(input_ids[live, self.width :][:, -self.tail :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row, text in zip(live, tails, strict=True):
            self.done[row] = any(s in text for s in self.strings)
        return self.done


class TransformersEngine(Batching):
    """One model in memory."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        if hardware.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("hardware.device is cuda, and torch sees no CUDA device. Set hardware.device to auto or cpu")
        if hardware.threads > 0:
            torch.set_num_threads(hardware.threads)
        self.device = torch.device("cuda" if hardware.device != "cpu" and torch.cuda.is_available() else "cpu")
        self.name, self.seed, self.chunk, self.folder = model, seed, engine.chunk, model_dir
        self.model, self.tokenizer = _load(model_dir, getattr(torch, engine.dtype))
        self.model.to(self.device).eval().register_forward_pre_hook(self._clamp_positions, with_kwargs=True)
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.max_context = min(engine.max_context, limit) if limit else engine.max_context
        self.end_ids = _end_ids(self.model, self.tokenizer)
        # the folder's own settings (a repetition penalty, say) would fill what our calls leave open
        self.model.generation_config = GenerationConfig()
        self.pad_id = next(i for i in (self.tokenizer.pad_token_id, *sorted(self.end_ids), 0) if i is not None)
        # a tokenizer may put a bos before every text; known once, so that a text that already begins with it gets no second one
        self.adds_bos = self.tokenizer.bos_token_id is not None and self.tokenizer("").input_ids[:1] == [self.tokenizer.bos_token_id]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        del self.model
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Completions batch by batch, short prompts first. Raises EngineError for messages that cannot be templated."""
        prompts = [_Prompt(r.id, ids, min(sampling.max_tokens, self.max_context - len(ids))) for r, ids in zip(requests, self._encode(requests), strict=True)]
        full = [p for p in prompts if p.room <= 0]
        if full:
            yield [Completion(p.id, n, "", "length", 0) for p in full for n in sampling.numbers]
        # equal lengths side by side need little padding; the sort is stable, so the same requests give the same chunks
        todo = sorted((p for p in prompts if p.room > 0), key=lambda p: len(p.ids))
        at_once = max(1, self.chunk // sampling.n)
        for start in range(0, len(todo), at_once):
            written = self._decode(todo[start : start + at_once], sampling)
            self.generated_tokens += sum(c.tokens for c in written)
            yield written

    def _encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Token ids of each prompt. A chat template writes its own special tokens; a plain text gets a bos if the tokenizer gives one."""
        special = self.tokenizer.all_special_tokens
        texts = [plain(r.prompt, special) if isinstance(r.prompt, str) else self._template(r, special) for r in requests]
        encoded = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        bos = self.tokenizer.bos_token_id
        for request, ids in zip(requests, encoded, strict=True):
            if self.adds_bos and isinstance(request.prompt, str) and ids[:1] != [bos]:
                ids.insert(0, bos)
            if not ids:  # a model needs something to continue: an empty prompt is the start of a document
                ids.append(self.pad_id if bos is None else bos)
        return encoded

    def _template(self, request: Request, special: list[str]) -> str:
        if not self.tokenizer.chat_template:
            raise EngineError(
                f"the tokenizer in {self.folder} has no chat template, and messages were asked of it. Put a chat_template.jinja into the folder, or set "
                "the stage's `chat` to false"
            )
        try:
            messages = [{**message, "content": plain(message["content"], special)} for message in request.prompt if isinstance(message, dict)]
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as e:
            raise EngineError(f"the chat template in {self.folder} refuses request {request.id!r}: {e}") from None

    @torch.inference_mode()
    def _decode(self, chunk: list[_Prompt], sampling: Sampling) -> list[Completion]:
        """All completions of a chunk, ordered by prompt, then n: rows of one batch, prompts padded on the left."""
        width, steps = max(len(p.ids) for p in chunk), max(p.room for p in chunk)
        ids = torch.tensor([[self.pad_id] * (width - len(p.ids)) + p.ids for p in chunk], device=self.device)
        mask = torch.tensor([[0] * (width - len(p.ids)) + [1] * len(p.ids) for p in chunk], device=self.device)
        cache = self._read_once(ids, mask, sampling.n) if sampling.n > 1 and width > 1 else None
        rows = [(p, n) for p in chunk for n in sampling.numbers]
        processors, stopping = LogitsProcessorList(), StoppingCriteriaList()
        if sampling.temperature > 0:
            seeds = [completion_seed(self.seed, p.id, n) for p, n in rows]
            processors.append(SeededSampling(seeds, steps, width, sampling.temperature, sampling.top_p, self.device))
        if sampling.stop:
            stopping.append(StopStrings(self.tokenizer, sampling.stop, width))
        out = self.model.generate(
            input_ids=ids.repeat_interleave(sampling.n, 0),
            attention_mask=mask.repeat_interleave(sampling.n, 0),
            past_key_values=cache,
            generation_config=GenerationConfig(
                max_new_tokens=steps, do_sample=False, use_cache=True, pad_token_id=self.pad_id, eos_token_id=sorted(self.end_ids) or None
            ),
            logits_processor=processors,
            stopping_criteria=stopping,
        )
        return [self._completion(p, n, ids, sampling) for (p, n), ids in zip(rows, out[:, width:].tolist(), strict=True)]

    def _read_once(self, ids: torch.Tensor, mask: torch.Tensor, n: int) -> Cache:
        """Keys and values of each prompt but its last token, repeated n times: what the n completions of a prompt share is computed once."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = self.model.base_model(ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], use_cache=True).past_key_values
        cache.batch_repeat_interleave(n)
        return cache

    def _completion(self, prompt: _Prompt, n: int, ids: list[int], sampling: Sampling) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        finished, ids = end < min(prompt.room, len(ids)), ids[: min(end, prompt.room)]
        text = self._text(ids)
        cut = min((at for s in sampling.stop if (at := text.find(s)) >= 0), default=-1)
        if cut >= 0:  # how many tokens it took to write the stop string: what follows is padding
            wrote = bisect.bisect_left(range(len(ids)), True, key=lambda k: any(s in self._text(ids[:k]) for s in sampling.stop))
            return Completion(prompt.id, n, text[:cut], "stop", wrote)
        return Completion(prompt.id, n, text, "stop" if finished else "length", len(ids))

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _clamp_positions(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """A finished row is padded until its chunk ends, past the last position that a model with learned positions knows."""
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = kwargs["position_ids"].clamp(max=self.max_context - 1)
        return args, kwargs


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    if not folder.is_dir():
        raise ModelError(f"no model folder {folder}. Make it with: dvc repro")
    for what, patterns in NEEDED.items():
        if not any(next(folder.glob(p), None) for p in patterns):
            raise ModelError(f"{folder} has no {what}. Copy the missing file from where the model comes from, or make the folder again with: dvc repro")
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    except Exception as e:  # a broken file surfaces as OSError, ValueError, KeyError, a Rust exception, ...
        raise ModelError(f"{folder} cannot be loaded: {e}") from None
    return model, tokenizer


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token that the model's or the tokenizer's files call an end: chat models often list the end of a turn beside the end of a text."""
    found: set[int] = set()
    for ids in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        found |= {ids} if isinstance(ids, int) else set(ids or ())
    return found
