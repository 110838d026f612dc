"""Texts from a local model by vLLM, offline and in this process, on CUDA or on vLLM's CPU build.

All completions of a prompt are one request, and prefixes are cached: what completions of one prompt and prompts of one
template share is computed once.

Guarantee: a request has a seed of `(seed, request id)`, its completion n that seed plus n, whatever else is asked for.
Floating-point sums depend on what is decoded at the same time, so that a text can differ between calls where two tokens
are nearly equal; on the CPU texts were the same alone, in a batch and in reverse order in every test. Batches are what
has finished in a while, so a resumed call decodes what is left in a different batch.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process, and steps in a fixed order
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB

import torch
from vllm import EngineArgs, LLMEngine, RequestOutput, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.usage.usage_lib import UsageContext

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console.errors import EngineError, ModelError, SrlmError
from stages.engines.base import BaseEngine, Batches
from stages.engines.request import Completion, Request, Sampling, request_seed
from stages.engines.tokenization import ADAPTER, ModelTokenizer

WAITING = 2048
"""Requests in vLLM's hands at a time: more than it decodes together, so that it never idles, and a bound for memory."""
BATCH_S = 1.0
"""How long what has finished is collected before it is handed on, and cached."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VllmEngine(BaseEngine):
    """One model in memory."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        on_cpu = current_platform.is_cpu()
        if hardware.device == ("cuda" if on_cpu else "cpu"):
            build = "the CPU build" if on_cpu else "built for GPUs"
            raise EngineError(
                f"hardware.device is {hardware.device}, and this vLLM is {build}. Set hardware.device to auto, or "
                f"install the other vLLM"
            )
        if hardware.workers > 1:
            raise EngineError(
                f"hardware.workers is {hardware.workers}, and vLLM here is one process. Set engine.name: ray and "
                f"engine.inner: vllm"
            )
        if on_cpu and hardware.threads:
            torch.set_num_threads(hardware.threads)
        self.name, self.seed = model, seed
        self.prompts = ModelTokenizer(model_dir)
        self.max_context = self.prompts.max_context(engine.max_context)
        adapter = model_dir / ADAPTER
        lora: dict[str, Any] = {}
        self.lora = None
        if adapter.is_dir():
            lora = {"enable_lora": True, "max_lora_rank": _rank(adapter)}
            self.lora = LoRARequest(model, 1, str(adapter.resolve()))
        # on the CPU a chunked prefill and a seed of one's own do not go together
        machine: dict[str, Any] = (
            {"enforce_eager": True, "enable_chunked_prefill": False}
            if on_cpu
            else {"gpu_memory_utilization": hardware.gpu_memory}
        )
        arguments = EngineArgs(
            model=".",
            dtype=engine.dtype,
            quantization=engine.quantization,
            max_model_len=self.max_context,
            tensor_parallel_size=hardware.tensor_parallel,
            enable_prefix_caching=True,
            load_format="safetensors",
            # the folder's own settings (a repetition penalty, say) would fill what our calls leave open
            generation_config="vllm",
            trust_remote_code=False,
            disable_log_stats=True,
            **lora,
            **machine,
        )
        try:
            # as for vLLM's own LLM class: without it vLLM decodes fewer requests together than it can
            # from within its folder, for vLLM compiles anew for each path that it is given: M1, M2 and M3 are one to it
            with contextlib.chdir(model_dir):
                self.llm = LLMEngine.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
        except Exception as e:  # a broken file, no room on the GPU, an unknown quantization: dozens of types
            raise ModelError(
                f"vLLM cannot load {model_dir}: {type(e).__name__}: {e}. If it is for memory, lower "
                f"engine.max_context, or change hardware.gpu_memory or hardware.tensor_parallel (on a CPU: the GiB in "
                f"VLLM_CPU_KVCACHE_SPACE)"
            ) from None
        self._count_prompts()

    def _count_prompts(self) -> None:
        """The n completions of a prompt are as many requests within vLLM, and how much each had to read it tells with
        the request's first token only."""
        core: Any = self.llm.engine_core
        get_output = core.get_output

        def counted() -> Any:
            outputs = get_output()
            self.prompt_tokens += sum(
                output.prefill_stats.num_computed_tokens for output in outputs.outputs if output.prefill_stats
            )
            return outputs

        core.get_output = counted

    def close(self) -> None:
        self.llm.engine_core.shutdown()
        del self.llm
        gc.collect()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        """Completions about once a second. Raises EngineError for messages that cannot be templated or sampling that
        vLLM refuses."""
        tokens = dict(zip((r.id for r in requests), self.prompts.encode(requests), strict=True))
        full = [i for i, ids in tokens.items() if len(ids) >= self.max_context]
        if full:
            yield [Completion(i, n, "", "length", 0) for i in full for n in sampling.numbers]
        waiting = iter([i for i, ids in tokens.items() if len(ids) < self.max_context])
        under_way: set[str] = set()
        written: list[Completion] = []
        since = time.monotonic()
        try:
            while True:
                try:
                    while len(under_way) < WAITING and (i := next(waiting, None)) is not None:
                        self.llm.add_request(
                            i,
                            {"prompt_token_ids": tokens[i]},
                            self._params(i, len(tokens[i]), sampling),
                            lora_request=self.lora,
                        )
                        under_way.add(i)
                    if not under_way:
                        break
                    for output in self.llm.step():
                        if output.finished:
                            under_way.discard(output.request_id)
                            prompt = len(tokens[output.request_id])
                            written += self._completions(output, sampling, self.max_context - prompt)
                except SrlmError:
                    raise
                except Exception as e:  # out of memory, a dead worker of tensor parallel: dozens of types
                    if written:
                        yield written
                    raise EngineError(
                        f"vLLM failed after {self.generated_tokens:,} tokens: {type(e).__name__}: {e}. What came "
                        f"before is cached. If it was for memory, lower hardware.gpu_memory or engine.max_context"
                    ) from e
                if written and time.monotonic() - since > BATCH_S:
                    yield written
                    written, since = [], time.monotonic()
            if written:
                yield written
        finally:
            if under_way:  # the caller went away in the middle
                self.llm.abort_request(list(under_way))

    def _params(self, request_id: str, prompt: int, sampling: Sampling) -> SamplingParams:
        greedy, probe = sampling.temperature == 0, sampling.score_logprobs
        try:
            return SamplingParams(
                n=sampling.n,
                temperature=sampling.temperature,
                top_p=1.0 if greedy else sampling.top_p,
                max_tokens=min(sampling.max_tokens, self.max_context - prompt),
                seed=None if greedy else request_seed(self.seed, request_id) + sampling.first,
                stop=list(sampling.stop),
                stop_token_ids=sorted(self.prompts.end_ids),
                detokenize=bool(sampling.stop),
                logprob_token_ids=list(self.prompts.choice_tokens(probe.choices)) if probe else None,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        except Exception as e:  # a class of vLLM's own
            raise EngineError(f"vLLM refuses the sampling of {request_id!r}: {e}") from None

    def _completions(self, output: RequestOutput, sampling: Sampling, room: int) -> list[Completion]:
        """Of one request, ordered by n."""
        completions = []
        for written in sorted(output.outputs, key=lambda o: o.index):
            ids, n = list(written.token_ids), sampling.first + written.index
            one = self.prompts.completion(output.request_id, n, ids, min(sampling.max_tokens, room), sampling.stop)
            if sampling.score_logprobs and written.logprobs:
                likely = partial(_likely, written.logprobs)
                one = one._replace(probs=self.prompts.probs(sampling.score_logprobs, one, ids, likely))
            completions.append(one)
        self.generated_tokens += sum(one.tokens or 0 for one in completions)
        return completions


def _likely(steps: Any, step: int) -> dict[int, float]:
    """Probabilities of the tokens that vLLM was asked for, and of the one it took."""
    return {token: math.exp(entry.logprob) for token, entry in steps[step].items()}


def _rank(adapter: Path) -> int:
    """The smallest rank that vLLM knows and the adapter fits into."""
    try:
        wanted = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        return next(rank for rank in LORA_RANKS if rank >= wanted)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as e:
        raise ModelError(
            f"{adapter} holds no LoRA adapter that vLLM can use (adapter_config.json, r up to 512): "
            f"{type(e).__name__}: {e}"
        ) from None
