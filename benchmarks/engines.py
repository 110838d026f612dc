"""Engines beside what they stand on: the same requests through our interface, kept in the database, and handed straight
to vLLM and to `generate`.

    python -m benchmarks.engines batching --prompts FILE     by length and by tokens, against a fixed number in the
order of arrival
    python -m benchmarks.engines pipeline ENGINE             sample_candidates and judge_candidates, ours against bare;
ENGINE transformers or vllm
    python -m benchmarks.engines prefix ENGINE               K judgements of a prompt in one request, against K requests
    python -m benchmarks.engines decoding MODEL              a model's folder, against what transformers does by
itself and its bare `generate`

FILE holds ranked answers in Open Assistant's schema; without it the prompts are the embedded world's. The model is a
Llama with random weights and a tokenizer of the prompts' own words: what it writes is noise, what it costs is not. Each
ratio is of one process, the two sides in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from stages.config.engines import EngineParams
from stages.config.load import load_params
from stages.console.terminal import Console
from stages.engines.backends import attention, transformers
from stages.engines.backends.transformers import _Prompt
from stages.engines.base import BaseEngine
from stages.engines.cached import CachedEngine
from stages.engines.open import open_engine
from stages.engines.request import Request, Sampling
from stages.engines.tokenization import ModelTokenizer
from stages.method.formats import recognize
from stages.method.seeds import answered_prompts
from stages.method.template import render
from stages.store.rows import read_file
from stages.tinyworld.demonstrators import seed_tables

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
CONTEXT, CHUNK, THREADS = 2048, 32_768, 1
ROOT = Path(__file__).parents[1]
JUDGE = ROOT / "stages/templates/judge.jinja"
SHAPES = {
    "3M": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6},
    "24M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 8},
}
Prompts = Annotated[Path | None, typer.Option(help="ranked answers in Open Assistant's schema")]
Requests = Annotated[int, typer.Option(help="how many prompts")]
Parameters = Annotated[str, typer.Option(help=f"size of the model: {', '.join(SHAPES)}")]


class Stage:
    """A stage with nothing but a place for what it finishes."""

    def __init__(self, cache: Path) -> None:
        self.stage, self.completion_cache = "benchmark", cache

    def model(self, name: str) -> Path:
        return Path(name)

    def hash_of(self, path: Path) -> str:
        return str(path)

    def check_inputs(self) -> None:
        pass

    def computing(self) -> Any:
        return nullcontext()


@app.command()
def batching(
    prompts: Prompts = None,
    requests: Requests = 192,
    fixed: Annotated[int, typer.Option(help="prompts in a fixed batch")] = 32,
    parameters: Parameters = "3M",
) -> None:
    """One answer of at most 64 tokens to each prompt; both sides may hold as many tokens at a time as the largest fixed
    batch."""
    with world(prompts, requests, parameters) as (folder, texts, _):
        asked, sampling = chat(texts), Sampling(1, 0.7, 0.9, 64)
        encoded = ModelTokenizer(folder).encode(asked)
        lengths = sorted(map(len, encoded))
        chunk = fixed * (lengths[-1] + sampling.max_tokens)
        print(
            f"{len(asked)} prompts of {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}; at "
            f"most {chunk:,} tokens at a time"
        )
        with engine_of("transformers", folder, chunk) as engine:
            rows = [_Prompt(r.id, ids, sampling.max_tokens) for r, ids in zip(asked, encoded, strict=True)]
            as_they_come = [rows[start : start + fixed] for start in range(0, len(rows), fixed)]
            side_by_side(
                {
                    f"generate, fixed batches of {fixed} as they come": lambda: generate(
                        engine, [[p.ids for p in batch] for batch in as_they_come], sampling
                    ),
                    "our decoding, the same batches": lambda: sum(
                        c.tokens for batch in as_they_come for c in engine._decode(batch, sampling)
                    ),
                    "by length and by tokens (ours)": lambda: tokens_of(engine, asked, sampling),
                }
            )


@app.command()
def pipeline(name: str, prompts: Prompts = None, requests: Requests = 96, parameters: Parameters = "24M") -> None:
    """Tokens a second of both generating stages: N = 4 answers of each prompt, K = 3 judgements of each answer. Bare
    gets the same batches and seeds."""
    with world(prompts, requests, parameters) as (folder, texts, judged), engine_of(name, folder) as engine:
        answering, judging = Sampling(4, 0.7, 0.9, 64), Sampling(3, 0.7, 0.9, 64)
        for stage, asked, sampling in (
            ("sample_candidates", chat(texts), answering),
            ("judge_candidates", chat(judged), judging),
        ):
            print(f"{stage}: {len(asked)} requests of {sampling.n}")
            ours = durable(engine, parameters_of(name), folder, asked, sampling)
            side_by_side({"bare": bare(name, engine, folder, asked, sampling), "ours, kept": ours})


@app.command()
def prefix(
    name: str,
    prompts: Prompts = None,
    requests: Requests = 64,
    k: Annotated[int, typer.Option()] = 3,
    parameters: Parameters = "24M",
) -> None:
    """K judgements of each answer."""
    with world(prompts, requests, parameters) as (folder, _, judged), engine_of(name, folder) as engine:
        asked, sampling = chat(judged), Sampling(k, 0.7, 0.9, 32)
        apart = [Request(f"{r.id}-{i}", r.prompt) for r in asked for i in range(k)]
        read: dict[str, int] = {}

        def count(label: str, what: list[Request], how: Sampling) -> Callable[[], int]:
            def run() -> int:
                if hasattr(engine, "llm"):  # vLLM would find the prompts of the round before
                    engine.llm.reset_prefix_cache()
                before = engine.prompt_tokens
                total = tokens_of(engine, what, how)
                read[label] = engine.prompt_tokens - before
                return total

            return run

        one, many = f"one request, n = {k}", f"{k} requests"
        side_by_side({many: count(many, apart, sampling._replace(n=1)), one: count(one, asked, sampling)})
        print(
            f"prompt tokens computed: {many} {read[many]:,}, {one} {read[one]:,} ({read[many] / read[one]:.1f} times)"
        )
        one_request = sum(map(len, ModelTokenizer(folder).encode(asked)))
        print(f"prompt tokens asked for: {one_request:,} as one request, {k} times as many apart")


@app.command()
def decoding(
    model: Path,
    prompts: Prompts = None,
    requests: Requests = 24,
    n: Annotated[int, typer.Option(help="texts of each prompt")] = 4,
    tokens: Annotated[int, typer.Option(help="longest text")] = 96,
    threads: Annotated[int, typer.Option()] = 2,
    dtype: Annotated[str, typer.Option(help="of ours; theirs is float32")] = "float32",
    judge: Annotated[Path | None, typer.Option(help="judge's template: judge the answers to the prompts")] = None,
) -> None:
    """The same batches and seeds: as transformers loads the model and keeps its cache, with every row to the end; and
    with packed weights, a cache that grows by blocks, heads read as they are, and rows that leave when they end.
    Seconds are the processor's, of all threads."""
    hardware = load_params(ROOT).hardware.model_copy(update={"device": "cpu", "threads": threads})
    with world(prompts, requests, "3M", judge or JUDGE) as (_, texts, judged):
        asked, sampling = chat(judged if judge else texts), Sampling(n, 0.7, 0.9, tokens)
        with open_engine(
            parameters_of("transformers", 2**20).model_copy(update={"dtype": dtype}),
            hardware,
            model,
            model="M1",
            seed=1,
        ) as engine:
            ours, as_loaded = engine.model, AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
            as_loaded.generation_config = GenerationConfig()

            def plain(how: Callable[[], int]) -> Callable[[], int]:
                def run() -> int:
                    engine.model = as_loaded
                    with (
                        patch.object(attention, "new_cache", lambda model: DynamicCache(config=model.config)),
                        patch.object(transformers, "SHARE", 1),
                    ):
                        count = how()
                    engine.model = ours
                    return count

                return run

            sides = {
                "bare generate": plain(bare("transformers", engine, model, asked, sampling)),
                "ours, nothing of this": plain(lambda: tokens_of(engine, asked, sampling)),
                "ours": lambda: tokens_of(engine, asked, sampling),
            }
            side_by_side(sides, rounds=2, clock=time.process_time)


def bare(name: str, engine: Any, folder: Path, asked: list[Request], sampling: Sampling) -> Callable[[], int]:
    """The same token ids, sampling and seeds, straight to vLLM's `LLM.generate`; or, without seeds, the same batches to
    transformers' `generate`."""
    encoded = ModelTokenizer(folder).encode(asked)
    if name == "transformers":
        ids = dict(zip((r.id for r in asked), encoded, strict=True))
        cut = engine._cut([_Prompt(i, tokens, sampling.max_tokens) for i, tokens in ids.items()], sampling)
        batches = [[prompt.ids for prompt in batch] for batch in cut]
        return lambda: generate(engine, batches, sampling)
    from vllm import LLM

    llm = LLM(
        model=str(folder),
        max_model_len=CONTEXT,
        dtype="float32",
        enforce_eager=True,
        enable_chunked_prefill=False,
        disable_log_stats=True,
    )
    return straight(llm, engine, asked, sampling)


def straight(llm: Any, engine: Any, asked: list[Request], sampling: Sampling) -> Callable[[], int]:
    """The token ids, sampling and seeds that our engine hands to vLLM, to `LLM.generate`, which writes texts, too."""
    encoded = engine.prompts.encode(asked)
    how = [engine._params(r.id, len(ids), sampling) for r, ids in zip(asked, encoded, strict=True)]
    for params in how:
        params.detokenize = True

    def run() -> int:
        written = llm.generate([{"prompt_token_ids": ids} for ids in encoded], how, use_tqdm=False)
        outputs = [o for output in written for o in output.outputs]
        return sum(len(o.token_ids) - (o.finish_reason == "stop") for o in outputs)  # the end token is no text

    return run


def durable(
    engine: BaseEngine, parameters: EngineParams, folder: Path, asked: list[Request], sampling: Sampling
) -> Callable[[], int]:
    """As a stage asks: through the completion database, a new one at every call."""

    def run() -> int:
        with TemporaryDirectory() as place:
            stage = Stage(Path(place) / "completions.sqlite")
            with CachedEngine(lambda: nullcontext(engine), parameters, folder, model="M1", seed=1, run=stage) as cached:
                return tokens_of(cached, asked, sampling)

    return run


def generate(engine: Any, batches: Sequence[list[list[int]]], sampling: Sampling) -> int:
    """transformers' own `generate` on each batch, padded on the left, with its own sampling; tokens written, end and
    padding not counted."""
    total, ends = 0, engine.prompts.end_ids
    how = GenerationConfig(
        max_new_tokens=sampling.max_tokens,
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=0,
        num_return_sequences=sampling.n,
        pad_token_id=engine.prompts.pad_id,
        eos_token_id=sorted(ends),
    )
    for batch in batches:
        width = max(map(len, batch))
        ids = torch.tensor([[engine.prompts.pad_id] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        with torch.inference_mode():
            written = engine.model.generate(input_ids=ids, attention_mask=mask, generation_config=how)[
                :, width:
            ].tolist()
        engine.prompts.tokenizer.batch_decode(written, skip_special_tokens=True)
        total += sum(next((i for i, token in enumerate(row) if token in ends), len(row)) for row in written)
    return total


def side_by_side(
    sides: dict[str, Callable[[], int]],
    rounds: int = 3,
    warm_up: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, dict[str, Any]]:
    """Run the sides in turn, `rounds` times after one to warm up; print medians and the ratio of the last to each
    other. Returns seconds, tokens and tokens a second of each."""
    seconds: dict[str, list[float]] = {label: [] for label in sides}
    tokens: dict[str, int] = {}
    for turn in range(not warm_up, rounds + 1):
        for label, work in sides.items():
            started = clock()
            tokens[label] = work()
            if turn:
                seconds[label].append(clock() - started)
    shown = Table("", "seconds", "tokens", "tokens/s", box=None)
    speed = {label: tokens[label] / statistics.median(seconds[label]) for label in sides}
    for label in sides:
        shown.add_row(label, " ".join(f"{s:.1f}" for s in seconds[label]), f"{tokens[label]:,}", f"{speed[label]:,.0f}")
    console = Console()
    console.print(shown)
    *others, last = speed
    for other in others:
        console.print(f"{last} : {other} = {speed[last] / speed[other]:.2f}")
    return {side: {"seconds": seconds[side], "tokens": tokens[side], "tokens/s": speed[side]} for side in sides}


def tokens_of(engine: BaseEngine, asked: list[Request], sampling: Sampling) -> int:
    return sum(c.tokens or 0 for c in engine.generate(asked, sampling))


@contextmanager
def world(
    file: Path | None, requests: int, parameters: str, judge: Path = JUDGE
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """A model's folder, prompts, and the judge's prompts about an answer to each."""
    if file:
        rows = read_file(file)
        ranked, _ = answered_prompts(recognize(rows, file.name).messages(rows), lang="en", source=file.name)
        pairs = (
            ranked.unique("prompt_id", keep="first", maintain_order=True).select("prompt", "response").rows()[:requests]
        )
    else:
        params = load_params(ROOT)
        seed = seed_tables(params.split_seed, params.tinyworld.seed, params.seed)["ift"]
        pairs = seed.select("instruction", "response").rows()[:requests]
    template = judge.read_text()
    with TemporaryDirectory() as name:
        build(Path(name), [text for pair in pairs for text in pair], SHAPES[parameters])
        yield (
            Path(name),
            [prompt for prompt, _ in pairs],
            [render(template, prompt=prompt, response=response) for prompt, response in pairs],
        )


def build(folder: Path, texts: list[str], shape: dict[str, int]) -> None:
    """A Llama with random weights whose tokenizer knows the words of `texts`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<end>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [*texts, JUDGE.read_text()],
        trainers.BpeTrainer(vocab_size=8192, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<bos>", eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    )
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    # weights as wide as these make a model as sure of its words as a trained one: what sampling costs depends on it
    config = LlamaConfig(
        vocab_size=8192,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.3,
        **ends,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def chat(texts: list[str]) -> list[Request]:
    return [Request(str(i), [{"role": "user", "content": text}]) for i, text in enumerate(texts)]


def parameters_of(name: str, chunk: int = CHUNK) -> EngineParams:
    return load_params(ROOT).engine.model_copy(
        update={"name": name, "dtype": "float32", "max_context": CONTEXT, "max_batch_tokens": chunk}
    )


def engine_of(name: str, folder: Path, chunk: int = CHUNK) -> AbstractContextManager[Any]:
    hardware = load_params(ROOT).hardware.model_copy(update={"device": "cpu", "threads": THREADS})
    return open_engine(parameters_of(name, chunk), hardware, folder, model="M1", seed=1)


if __name__ == "__main__":
    app()
