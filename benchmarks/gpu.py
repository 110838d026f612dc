"""What a GPU shows of the engines, with a real model, in one process of two minutes.

    python -m benchmarks.gpu reference MODEL FILE     on a CPU: 64 answers judged in float32, into FILE (JSON)
    python -m benchmarks.gpu measure MODEL FILE       where the GPU is, beside what FILE holds

MODEL is a folder. `measure`: tokens a second of our vllm engine, completions kept, beside `LLM.generate` of the same
vLLM engine on the same requests, its prefix cache emptied before each; expected scores of transformers and vLLM beside
FILE's; and texts with a LoRA adapter of random weights beside transformers with peft. A part that fails says why, and
the next one goes on. An untaught model writes no score line: its judge is shown two judgements first.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Annotated, Any
from unittest.mock import patch

import polars as pl
import torch
import typer

from benchmarks.engines import ROOT, chat, durable, side_by_side, straight
from stages.config.engines import EngineParams
from stages.config.load import load_params
from stages.engines.base import BaseEngine
from stages.engines.cached import version
from stages.engines.open import open_engine
from stages.engines.request import Completion, Message, Request, Sampling, ScoreLogprobs
from stages.engines.tokenization import ADAPTER
from stages.method.judging import judge_prompts
from stages.method.scale import OF_FIVE, expected
from stages.tinyworld.demonstrators import seed_tables

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
JUDGE = ROOT / "stages/templates/judge_short.jinja"
PROBE = ScoreLogprobs(*OF_FIVE.score_logprobs)
ANSWERING, JUDGING = Sampling(4, 0.7, 0.9, 128), Sampling(1, 0.7, 0.9, 8, score_logprobs=PROBE)
JUDGING_GREEDILY, GREEDY = JUDGING._replace(temperature=0.0), Sampling(1, 0.0, 1.0, 32)
ROUNDS = 2
STARTED = time.monotonic()
Texts = dict[str, list[int]]
Judged = dict[str, list[float] | None]


class Figures:
    """Printed and appended to a file as they come, so that what is measured outlives what fails."""

    def __init__(self, out: Path | None) -> None:
        self.out = out

    def add(self, part: str, **figures: Any) -> None:
        line = json.dumps({"part": part, "at_s": round(time.monotonic() - STARTED, 1), **figures})
        print(line, flush=True)
        if self.out:
            with self.out.open("a", encoding="utf-8") as f:
                f.write(f"{line}\n")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # whatever a new machine brings
            self.add(name, failed=f"{type(e).__name__}: {' '.join(str(e).split())[:500]}")


@app.command()
def reference(model: Path, file: Path, answers: int = 64, threads: int = 2) -> None:
    """Judge held-out answers on the CPU in float32."""
    asked = shown_judge(answers)
    with engine_of("transformers", "float32", model, device="cpu", threads=threads) as engine:
        completions = engine.generate(asked, JUDGING_GREEDILY)
    rows = [{"request": r, "completion": c} for r, c in zip(asked, completions, strict=True)]
    file.write_text(json.dumps(rows), encoding="utf-8")
    scores = [score for c in completions if (score := expected(c.probs)) is not None]
    print(
        f"{len(scores)} of {len(rows)} judged; expected scores {min(scores):.2f} to {max(scores):.2f}, "
        f"median {statistics.median(scores):.2f}"
    )


@app.command()
def measure(
    model: Path,
    file: Path,
    out: Annotated[Path | None, typer.Option(help="figures, a JSON object a line")] = None,
    requests: Annotated[int, typer.Option(help="prompts, and answers to judge, at most")] = 1000,
    seconds: Annotated[float, typer.Option(help="about how long one side answers; it judges half as long")] = 9.0,
    late: Annotated[float, typer.Option(help="seconds after which judge_candidates is left out")] = 75.0,
    gpu_memory: Annotated[float, typer.Option(help="share for each of two vLLM engines")] = 0.25,
) -> None:
    """Everything, a figure a line."""
    figures = Figures(out)
    cuda = torch.cuda.is_available()
    figures.add(
        "machine",
        device=torch.cuda.get_device_name() if cuda else "CPU",
        **{package: version(package) for package in ("torch", "transformers", "vllm", "peft")},
    )
    rows = json.loads(file.read_text(encoding="utf-8"))
    judged = [Request(*row["request"]) for row in rows]
    scores = {"transformers float32 CPU": probabilities([Completion(*row["completion"]) for row in rows])}
    greedy: dict[str, Texts] = {}
    prompts, answers = world()
    few = chat(prompts[:32])

    def read(engine: BaseEngine, label: str) -> None:
        with figures.part(f"expected scores, {label}"):
            scores[label] = probabilities(engine.generate(judged, JUDGING_GREEDILY))
            for other in [other for other in scores if other != label]:
                figures.add("expected scores", of=label, beside=other, **compare(scores[label], scores[other]))
        with figures.part(f"greedy, {label}"):
            write(engine, label)

    def write(engine: BaseEngine, label: str) -> None:
        greedy[label] = tokens(engine, few)
        for other in [other for other in greedy if other != label]:
            figures.add("greedy", of=label, beside=other, **same(greedy[label], greedy[other]))

    def few_of(asked: list[Request], sampling: Sampling, share: float = 1.0) -> list[Request]:
        """As many as take the time that there is, at the speed of the first 64."""
        first, started = asked[: min(64, requests)], time.monotonic()
        durable(engine, parameters("vllm", "bfloat16"), model, first, sampling)()
        each = (time.monotonic() - started) / len(first)
        figures.add("first requests", requests=len(first), seconds=each * len(first))
        return asked[: min(requests, max(len(first), int(share * seconds / each)))]

    name = f"vllm bfloat16 {'CUDA' if cuda else 'CPU'}"
    with figures.part(name), one_vllm(model, gpu_memory) as (llm, engine):
        figures.add("vllm loaded")
        for _ in range(2):  # kernels are compiled in the first call
            asked = few_of(chat(prompts), ANSWERING)
        with figures.part("sample_candidates"):
            figures.add("sample_candidates", requests=len(asked), **beside_bare(llm, engine, model, asked, ANSWERING))
        read(engine, name)
        with figures.part("judge_candidates"):
            if time.monotonic() - STARTED > late:
                raise TimeoutError("left out, for the parts that follow")
            asked = few_of(chat(answers), JUDGING, 0.5)
            figures.add("judge_candidates", requests=len(asked), **beside_bare(llm, engine, model, asked, JUDGING))
    for dtype in ("float32", "bfloat16"):
        label = f"transformers {dtype} {'CUDA' if cuda else 'CPU, again'}"
        with figures.part(label), engine_of("transformers", dtype, model) as engine:
            read(engine, label)
    with figures.part("adapter"), TemporaryDirectory() as place:
        adapted = with_adapter(model, Path(place))
        with engine_of("transformers", "float32", adapted) as engine:
            write(engine, "transformers float32, adapter")
        with eager(), engine_of("vllm", "bfloat16", adapted, gpu_memory=gpu_memory) as engine:
            write(engine, "vllm bfloat16, adapter")


def world() -> tuple[list[str], list[str]]:
    """The tiny world's prompts, and the judge's prompts about its answers."""
    params = load_params(ROOT)
    tables = seed_tables(params.split_seed, params.tinyworld.seed, params.seed)
    prompts = [*tables["ift"]["instruction"], *tables["test_prompts"]["prompt"]]
    ranked = pl.concat([tables["ranked_valid"], tables["ranked"]], how="diagonal")
    return prompts, judge_prompts(JUDGE.read_text(), ranked)["text"].to_list()


def shown_judge(answers: int) -> list[Request]:
    """Held-out answers to judge, each after two answers with scores by lot: what is shown moves the scores of an
    untaught judge more than what is judged, and scores that are all alike would compare nothing but noise."""
    params = load_params(ROOT)
    tables = seed_tables(params.split_seed, params.tinyworld.seed, params.seed)
    shown, asked = (
        judge_prompts(JUDGE.read_text(), tables[name])["text"].to_list() for name in ("ranked", "ranked_valid")
    )
    requests = []
    for i, text in enumerate(asked[:answers]):
        lot, messages = Random(i), list[Message]()
        for example in lot.sample(shown, 2):
            messages.append({"role": "user", "content": example})
            messages.append({"role": "assistant", "content": f"Score: {lot.randrange(6)}"})
        requests.append(Request(str(i), [*messages, {"role": "user", "content": text}]))
    return requests


def parameters(name: str, dtype: str) -> EngineParams:
    update = {"name": name, "dtype": dtype, "max_context": 2048}
    return load_params(ROOT).engine.model_copy(update=update)


def engine_of(name: str, dtype: str, folder: Path, **hardware: Any) -> BaseEngine:
    machine = load_params(ROOT).hardware.model_copy(update=hardware)
    return open_engine(parameters(name, dtype), machine, folder, model="M1", seed=1)


@contextmanager
def one_vllm(folder: Path, gpu_memory: float) -> Iterator[tuple[Any, Any]]:
    """vLLM's `LLM`, and our engine over the same loaded model: made of the arguments that ours gives."""
    from stages.engines.backends import vllm as backend

    from vllm import LLM  # isort: skip  # our module sets its environment

    loaded: list[Any] = []

    def load(arguments: Any, usage_context: Any) -> Any:
        loaded.append(LLM.from_engine_args(arguments))
        return loaded[0].llm_engine

    with patch.object(backend, "LLMEngine", SimpleNamespace(from_engine_args=load)):
        engine = engine_of("vllm", "bfloat16", folder, gpu_memory=gpu_memory)
    with engine:
        yield loaded[0], engine
        loaded.clear()


@contextmanager
def eager() -> Iterator[None]:
    """vLLM without compiling, which takes a minute of an engine that writes 32 texts."""
    from stages.engines.backends import vllm as backend

    with patch.object(backend, "EngineArgs", partial(backend.EngineArgs, enforce_eager=True)):
        yield


def beside_bare(llm: Any, engine: Any, folder: Path, asked: list[Request], sampling: Sampling) -> dict[str, Any]:
    bare, core = straight(llm, engine, asked, sampling), engine.llm.engine_core

    def uncounted() -> int:  # our engine counts what each step reads
        with patch.object(core, "get_output", partial(type(core).get_output, core)):
            return bare()

    emptied: list[bool] = []

    def fresh(work: Callable[[], int]) -> Callable[[], int]:
        def run() -> int:
            for _ in range(4):  # vLLM refuses while a step that it began ahead is not read
                if llm.reset_prefix_cache():
                    break
                engine.llm.step()
            else:
                emptied.append(False)
            return work()

        return run

    ours = durable(engine, parameters("vllm", "bfloat16"), folder, asked, sampling)
    sides = side_by_side({"bare": fresh(uncounted), "ours, kept": fresh(ours)}, ROUNDS, warm_up=False)
    return {
        **sides,
        "prefix_cache_emptied": not emptied,
        "ratio": sides["ours, kept"]["tokens/s"] / sides["bare"]["tokens/s"],
    }


def probabilities(completions: Sequence[Completion]) -> Judged:
    return {c.id: c.probs for c in completions}


def compare(one: Judged, other: Judged) -> dict[str, Any]:
    """Differences of the probabilities and expected scores that both have, and Kendall's tau-b of the scores."""
    both = [(p, q) for i, p in one.items() if p and (q := other[i])]
    if not both:
        return {"answers": 0, "asked": len(one)}
    p, q = torch.tensor(both, dtype=torch.float64).transpose(0, 1)
    x, y = (torch.tensor([expected(probs) for probs in side], dtype=torch.float64) for side in zip(*both, strict=True))
    a, b = (torch.sign(scores[:, None] - scores[None]) for scores in (x, y))
    return {
        "answers": len(both),
        "asked": len(one),
        "largest": (x - y).abs().max().item(),
        "median": (x - y).abs().median().item(),
        "largest_probability": (p - q).abs().max().item(),
        "kendall": ((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()).item(),
    }


def with_adapter(model: Path, folder: Path) -> Path:
    """The model with a LoRA adapter over all its linear layers, neither of its factors zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for path in model.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    config = LoraConfig(r=8, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder / ADAPTER)
    return folder


def tokens(engine: Any, asked: list[Request]) -> Texts:
    """The tokens of greedy texts."""
    return {c.id: engine.prompts.tokenizer(c.text).input_ids for c in engine.generate(asked, GREEDY)}


def same(one: Texts, other: Texts) -> dict[str, Any]:
    """How many texts are the same to the last token, and what share of the tokens comes before the first that
    differs."""
    shared = {
        i: next((at for at, (a, b) in enumerate(zip(ids, other[i], strict=False)) if a != b), len(ids))
        for i, ids in one.items()
    }
    return {
        "texts": len(one),
        "same": sum(one[i] == other[i] for i in one),
        "tokens_before_they_differ": sum(shared.values()) / max(1, sum(map(len, one.values()))),
    }


if __name__ == "__main__":
    app()
