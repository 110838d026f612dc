"""What only vLLM has, on its CPU build: `make test-vllm` installs it in an environment of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from stage_double import Stage
from test_every_engine import GREEDY, REQUESTS, SAMPLED, by_id, user
from tiny_llama import HARDWARE, build, engine_params

from stages.console.errors import EngineError, ModelError
from stages.engines.base import BaseEngine
from stages.engines.open import open_engine
from stages.engines.request import Request, ScoreLogprobs
from stages.engines.tokenization import ADAPTER

pytest.importorskip("vllm")
from vllm import EngineArgs
from vllm.usage.usage_lib import UsageContext

pytestmark = pytest.mark.vllm
HERE = HARDWARE.model_copy(update={"workers": 1})
FIRST = ScoreLogprobs(r"(?s)^(.)", 1, tuple("abcdefghijklmnopqrstuvwxyz"))


def opened(folder: Path, name: str = "vllm", **changes):
    engine = engine_params(name).model_copy(update=changes)
    return open_engine(engine, HERE, folder, model="M1", seed=7)


@pytest.fixture
def vllm(tiny: Path) -> Iterator[BaseEngine]:
    with opened(tiny) as engine:
        yield engine


@pytest.fixture(scope="module")
def transformers(tiny: Path) -> Iterator[BaseEngine]:
    with opened(tiny, "transformers") as engine:
        yield engine


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, GREEDY._replace(n=1, stop=("a", "e")), GREEDY._replace(n=1, max_tokens=2)],
    ids=["plain", "stop", "short"],
)
def test_greedy_texts_are_those_of_transformers(vllm, transformers, sampling):
    assert vllm.generate(REQUESTS, sampling) == transformers.generate(REQUESTS, sampling)


def test_probabilities_are_those_of_transformers(vllm, transformers):
    ours, theirs = (
        engine.generate(REQUESTS, GREEDY._replace(n=1, score_logprobs=FIRST)) for engine in (vllm, transformers)
    )
    assert [(c.id, c.text) for c in ours] == [(c.id, c.text) for c in theirs]
    known = [(a.probs, b.probs) for a, b in zip(ours, theirs, strict=True)]
    assert [a is None for a, _ in known] == [b is None for _, b in known]
    pairs = [(a, b) for a, b in known if a]
    assert len(pairs) > 8
    assert all(a == pytest.approx(b, rel=1e-3, abs=1e-6) for a, b in pairs)


def test_a_later_part_has_the_texts_that_it_has_in_the_whole(vllm):
    """More candidates: numbers 3 to 5 alone are what they are among 0 to 5."""
    whole, part = (by_id(vllm.generate(REQUESTS, SAMPLED._replace(n=n, first=first))) for n, first in ((6, 0), (3, 3)))
    assert part.items() <= whole.items()


def test_a_call_that_is_broken_off_leaves_nothing_behind(vllm):
    expected = vllm.generate(REQUESTS, SAMPLED)
    many = [Request(f"x{i}", user("Say cat")) for i in range(64)]
    batches = vllm.batches([*many, Request("full", "cat " * 300)], SAMPLED)
    assert [c.id for c in next(batches)] == ["full"] * 3
    vllm.llm.step()
    batches.close()
    assert not vllm.llm.has_unfinished_requests()
    assert vllm.generate(REQUESTS, SAMPLED) == expected


def test_a_request_that_is_broken_off_while_decoding_is_forgotten(vllm, monkeypatch):
    calls = 0

    def interrupted():
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return step()

    step = vllm.llm.step
    with monkeypatch.context() as patch:
        patch.setattr(vllm.llm, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            vllm.generate(REQUESTS, SAMPLED)
    assert not vllm.llm.has_unfinished_requests()
    assert len(vllm.generate(REQUESTS, SAMPLED)) == 3 * len(REQUESTS)


def test_prompts_are_counted_as_often_as_they_are_computed(tmp_path):
    """vLLM's cache of prefixes has blocks of many tokens: of a short prompt each completion reads all, of a long one
    only the first does."""
    with opened(build(tmp_path, max_position_embeddings=1024), max_context=1024) as engine:

        def computed(prompt: str, n: int) -> float:
            """Times."""
            before, request = engine.prompt_tokens, Request(f"{prompt[:5]}{n}", prompt)
            engine.generate([request], SAMPLED._replace(n=n, max_tokens=1))
            return (engine.prompt_tokens - before) / len(engine.prompts.encode([request])[0])

        assert [computed("dog cat", n) for n in (1, 3)] == [1, 3]
        assert 1 <= computed("cat " * 400, 3) < 1.7
        assert 0 < computed("cat " * 400, 1) < 0.4


def test_as_many_requests_are_decoded_together_as_by_vllms_own_class(vllm, tiny):
    """Left to itself, an engine that is not that class decodes fewer."""
    (ours, theirs, others) = (
        (config.max_num_seqs, config.max_num_batched_tokens)
        for config in (
            vllm.llm.vllm_config.scheduler_config,
            *(scheduler(tiny, of) for of in (UsageContext.LLM_CLASS, UsageContext.ENGINE_CONTEXT)),
        )
    )
    assert ours == theirs
    assert ours > others


def scheduler(folder: Path, of: UsageContext) -> Any:
    arguments = EngineArgs(
        model=str(folder), max_model_len=96, enable_chunked_prefill=False, load_format="safetensors", dtype="float32"
    )
    return arguments.create_engine_config(of).scheduler_config


def test_what_was_written_before_a_failure_is_kept(vllm, monkeypatch):
    step, finished = vllm.llm.step, list[str]()

    def dies_after_the_first_text() -> list[Any]:
        if finished:
            raise RuntimeError("a worker died")
        outputs = step()
        finished.extend(output.request_id for output in outputs if output.finished)
        return outputs

    monkeypatch.setattr(vllm.llm, "step", dies_after_the_first_text)
    got: list[str] = []
    with pytest.raises(EngineError, match=r"vLLM failed after .*a worker died.*What came before is cached"):
        for batch in vllm.batches(REQUESTS[:4], GREEDY._replace(n=1, stop=("a", "e"))):
            got += [c.id for c in batch]
    assert got == finished
    assert 0 < len(got) < 4


def test_a_call_that_was_killed_goes_on_to_the_same_texts(tiny, tmp_path, monkeypatch):
    """What is left is decoded in other company; on the CPU that changes no text."""
    monkeypatch.setattr("stages.engines.backends.vllm.BATCH_S", 0.0)
    many, sampling = [Request(f"x{i}", user(f"Say cat {i}")) for i in range(40)], SAMPLED._replace(stop=("a", "e"))
    whole, killed = Stage(tmp_path / "whole.sqlite"), Stage(tmp_path / "killed.sqlite")
    with open_engine(engine_params("vllm"), HERE, tiny, model="M1", seed=7, run=whole) as engine:
        expected = engine.generate(many, sampling)
    with (
        pytest.raises(KeyboardInterrupt),
        open_engine(engine_params("vllm"), HERE, tiny, model="M1", seed=7, run=killed) as engine,
    ):
        for _ in engine.batches(many, sampling):
            raise KeyboardInterrupt
    with open_engine(engine_params("vllm"), HERE, tiny, model="M1", seed=7, run=killed) as engine:
        assert engine.generate(many, sampling) == expected
        assert 0 < engine.cached < len(expected)


def test_what_is_cached_loads_no_weights(tiny, tmp_path):
    """Only the tokenizer: keys hold rendered prompts."""
    run = Stage(tmp_path / "f.sqlite")
    with open_engine(engine_params("vllm"), HERE, tiny, model="M1", seed=7, run=run) as engine:
        first = engine.generate(REQUESTS, SAMPLED)
    broken = shutil.copytree(tiny, tmp_path / "M1")
    (broken / "model.safetensors").write_bytes(b"not weights")
    with open_engine(engine_params("vllm"), HERE, broken, model="M1", seed=7, run=run) as engine:
        assert engine.generate(REQUESTS, SAMPLED) == first


def adapter(folder: Path, rank: int = 3) -> None:
    """A LoRA adapter of random numbers over the query and value projections, as PEFT writes it."""
    config = json.loads((folder / "config.json").read_text())
    width = config["hidden_size"]
    torch.manual_seed(1)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name in ("q_proj", "v_proj"):
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora"
            tensors |= {f"{key}_A.weight": torch.randn(rank, width), f"{key}_B.weight": torch.randn(width, rank)}
    (folder / ADAPTER).mkdir()
    save_file(tensors, folder / ADAPTER / "adapter_model.safetensors")
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "v_proj"],
        "lora_dropout": 0.0,
    }
    (folder / ADAPTER / "adapter_config.json").write_text(
        json.dumps(about | {"base_model_name_or_path": "", "bias": "none", "inference_mode": True})
    )


def test_an_adapter_changes_the_texts_in_both_engines_alike(tmp_path, transformers):
    adapter(build(tmp_path))
    asked = GREEDY._replace(n=1)
    plain = transformers.generate(REQUESTS, asked)
    with opened(tmp_path, "transformers") as engine:
        merged = engine.generate(REQUESTS, asked)
    with opened(tmp_path) as engine:
        over = engine.generate(REQUESTS, asked)
    assert sum(a.text != b.text for a, b in zip(over, plain, strict=True)) > len(REQUESTS) // 2
    assert sum(a.text == b.text for a, b in zip(over, merged, strict=True)) > len(REQUESTS) // 2, (
        "sums in another order may flip a near tie"
    )


@pytest.mark.parametrize("content", ["{", "{}", '{"r": 4096}'])
def test_an_adapter_that_is_none_is_named(tmp_path, content):
    folder = build(tmp_path)
    adapter(folder)
    (folder / ADAPTER / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match="holds no LoRA adapter that vLLM can use"), opened(folder):
        pass


def test_an_unknown_quantization_and_a_broken_folder_are_sentences(tiny, tmp_path):
    with pytest.raises(ModelError, match="vLLM cannot load"), opened(tiny, quantization="no-such-method"):
        pass
    broken = build(tmp_path)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="vLLM cannot load"), opened(broken):
        pass


@pytest.mark.parametrize(
    ("hardware", "said"),
    [({"workers": 2}, "engine.name: ray and engine.inner: vllm"), ({"device": "cuda"}, "device to auto")],
)
def test_what_vllm_does_not_do_here_is_said(tiny, hardware, said):
    where = HERE.model_copy(update=hardware)
    with pytest.raises(EngineError, match=said), open_engine(engine_params("vllm"), where, tiny, model="M1", seed=7):
        pass


def test_a_sampling_that_vllm_refuses_is_a_sentence(vllm):
    with pytest.raises(EngineError, match="refuses the sampling of 'b'"):
        vllm.generate(REQUESTS, SAMPLED._replace(temperature=9.0))
    assert vllm.generate(REQUESTS, GREEDY), "and goes on"


def test_vllm_in_a_ray_worker_writes_what_it_writes_alone(tiny):
    """One actor on a local Ray; requests in blocks of five."""
    pytest.importorskip("ray")
    with opened(tiny) as engine:
        alone = engine.generate(REQUESTS, SAMPLED)
    with opened(tiny, "ray", inner="vllm", block=5) as engine:
        assert engine.generate(REQUESTS, SAMPLED) == alone
        assert engine.prompt_tokens > 0
