"""An engine with a cache: what is finished is never asked for again, whatever stopped the stage; nothing else is ever taken
for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_double import Stage
from test_every_engine import GREEDY, REQUESTS, SAMPLED, by_id, user
from tiny_llama import HARDWARE, engine_params

from stages.config.engines import EngineParams
from stages.console.errors import EngineError, StaleInputError
from stages.engines.backends.scripted import ScriptedEngine
from stages.engines.base import BaseEngine
from stages.engines.cache import CompletionCache
from stages.engines.cached import KEY_FIELDS, CachedEngine, gaps
from stages.engines.open import open_engine
from stages.engines.request import Completion, Request, Sampling
from stages.engines.tokenization import ModelTokenizer
from stages.engines.versions import PACKAGES, VERSIONS


class Counting(BaseEngine):
    """The scripted engine, which counts what it is asked for and is killed after `batches_left` batches."""

    def __init__(self, engine: ScriptedEngine, batches_left: float = float("inf")) -> None:
        self.name, self.inner, self.batches_left, self.asked = engine.name, engine, batches_left, 0

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        for batch in self.inner.batches(requests, sampling):
            if self.batches_left <= 0:
                raise KeyboardInterrupt
            self.batches_left -= 1
            self.asked += len(batch)
            yield batch


Open = Callable[..., CachedEngine]


@pytest.fixture
def durable(tmp_path: Path) -> Open:
    """`durable(...)`: a durable engine on one database; `.counting` is what works for it."""

    def make(
        *, batches_left: float = float("inf"), content: str = "abc.dir", model: str = "M1", seed: int = 7, **params: int
    ) -> CachedEngine:
        engine = engine_params("scripted", **params)
        counting = Counting(ScriptedEngine(engine, HARDWARE, tmp_path, model=model, seed=seed), batches_left)
        made = CachedEngine(
            lambda: nullcontext(counting),
            engine,
            tmp_path,
            model=model,
            seed=seed,
            run=Stage(tmp_path / "f.sqlite", content=content),
        )
        made.counting = counting  # type: ignore[attr-defined]
        return made

    return make


def asked(engine: CachedEngine) -> int:
    return engine.counting.asked  # type: ignore[attr-defined,no-any-return]


def test_what_is_finished_is_not_generated_again(durable: Open, capsys: pytest.CaptureFixture[str]) -> None:
    with durable() as engine:
        first = engine.generate(REQUESTS, SAMPLED)
        assert asked(engine) == len(first)
    read, written = engine.prompt_tokens, sum(each.tokens or 0 for each in first)
    assert engine.run.figures == {"texts": len(first), "tokens_read": read, "tokens_written": written}
    with durable() as engine:
        assert by_id(engine.generate(REQUESTS[::-1], SAMPLED)) == by_id(first)
        assert engine.generate(REQUESTS, SAMPLED) == first
        assert asked(engine) == 0
        assert engine.inner is None, "the model was not even loaded"
    assert engine.run.figures == {}, "nothing was computed"
    assert f"{2 * len(first):,} cached" in capsys.readouterr().out


@pytest.mark.parametrize("batches", range(5))
def test_a_killed_stage_goes_on_and_writes_the_same(
    durable: Open, batches: int, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ScriptedEngine(engine_params("scripted"), HARDWARE, Path(), model="M1", seed=7).generate(
        REQUESTS, SAMPLED
    )
    with pytest.raises(KeyboardInterrupt), durable(batches_left=batches) as engine:
        engine.generate(REQUESTS, SAMPLED)
    kept = asked(engine)
    assert (f"{kept} texts that M1 wrote are cached" in capsys.readouterr().err) == (kept > 0)
    with durable() as engine:
        assert engine.generate(REQUESTS, SAMPLED) == expected
        assert asked(engine) == len(expected) - kept


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY._replace(n=1)], ids=["sampled", "greedy"])
def test_a_resumed_call_is_cut_into_the_batches_of_an_uninterrupted_one(
    tiny: Path, tmp_path: Path, sampling: Sampling
) -> None:
    """Floating-point sums depend on what is decoded together. Nothing is decoded here: what is cut counts. Two prompts are equal, as two answers may be in a head to
    head."""
    requests = [*REQUESTS, Request("again", REQUESTS[0].prompt), Request("and again", REQUESTS[-1].prompt)]

    def decoded(place: Path, until: int) -> list[tuple[str, ...]]:
        chunks: list[tuple[str, ...]] = []
        with (
            suppress(KeyboardInterrupt),
            open_engine(engine_params("transformers"), HARDWARE, tiny, model="M1", seed=1, run=Stage(place)) as engine,
        ):
            inner = engine.opened()  # type: ignore[attr-defined]

            def watched(chunk: list[Any], sampling: Sampling) -> list[Completion]:
                if len(chunks) == until:
                    raise KeyboardInterrupt
                chunks.append(tuple(prompt.id for prompt in chunk))
                return [Completion(prompt.id, n, "text", "stop", 1) for prompt in chunk for n in sampling.numbers]

            inner._decode = watched
            engine.generate(requests, sampling)
        return chunks

    whole = decoded(tmp_path / "whole.sqlite", 10**6)
    assert len(whole) > 1
    for k in (1, len(whole) // 2):
        place = tmp_path / f"{k}.sqlite"
        assert decoded(place, k) == whole[:k]
        assert decoded(place, 10**6) == whole[k:]


def test_more_completions_or_prompts_generate_only_what_is_new(durable: Open) -> None:
    with durable() as engine:
        engine.generate(REQUESTS[:5], SAMPLED)
    with durable() as engine:
        many = engine.generate(REQUESTS[:5], SAMPLED._replace(n=8))
        assert asked(engine) == 5 * 5
        assert [(c.id, c.n) for c in many] == [(r.id, n) for r in REQUESTS[:5] for n in range(8)]
    with durable() as engine:
        engine.generate(REQUESTS[:7], SAMPLED._replace(n=8))
        assert asked(engine) == 2 * 8
    assert many == ScriptedEngine(engine_params("scripted"), HARDWARE, Path(), model="M1", seed=7).generate(
        REQUESTS[:5], SAMPLED._replace(n=8)
    )


CHANGES = {
    "model": ({"content": "def.dir"}, SAMPLED, REQUESTS),
    "name": ({"model": "M2"}, SAMPLED, REQUESTS),
    "seed": ({"seed": 8}, SAMPLED, REQUESTS),
    "engine": ({"max_context": 95}, SAMPLED, REQUESTS),
    "chunk": ({"chunk": 129}, SAMPLED, REQUESTS),
    "temperature": ({}, SAMPLED._replace(temperature=0.9), REQUESTS),
    "top_p": ({}, SAMPLED._replace(top_p=0.8), REQUESTS),
    "length": ({}, SAMPLED._replace(max_tokens=11), REQUESTS),
    "stop": ({}, SAMPLED._replace(stop=("\n",)), REQUESTS),
    "prompt": ({}, SAMPLED, [Request(r.id, user(f"{r.prompt}!")) for r in REQUESTS]),
    "form": (
        {},
        SAMPLED,
        [
            Request(r.id, str(r.prompt)) if not isinstance(r.prompt, str) else Request(r.id, user(r.prompt))
            for r in REQUESTS
        ],
    ),
    "id": ({}, SAMPLED, [Request(f"{r.id}!", r.prompt) for r in REQUESTS]),
    "greedy": ({}, GREEDY, REQUESTS),
    "our code": ({}, SAMPLED, REQUESTS),
    "a package": ({}, SAMPLED, REQUESTS),
}


@pytest.mark.parametrize("what", CHANGES)
def test_no_change_that_decides_a_text_meets_an_old_one(
    durable: Open, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how, sampling, requests = CHANGES[what]
    with durable() as engine:
        engine.generate(REQUESTS, SAMPLED)
    if what == "our code":
        monkeypatch.setitem(VERSIONS, "scripted", VERSIONS["scripted"] + 1)
    if what == "a package":
        monkeypatch.setitem(PACKAGES, "scripted", ("polars",))
    with durable(**how) as engine:
        engine.generate(requests, sampling)
        assert asked(engine) == len(requests) * (sampling.n if sampling.temperature else 1)


@pytest.mark.parametrize("name", sorted(set(KEY_FIELDS) - {"openai"}))
@pytest.mark.parametrize(
    "field", ["dtype", "quantization", "max_context", "max_batch_tokens", "inner", "requests_per_block"]
)
def test_an_engines_own_settings_decide_and_no_others(tmp_path: Path, tiny: Path, name: str, field: str) -> None:
    """`dtype` moves a float; `block` is how Ray cuts, and an engine of its own does not know it."""

    def key(engine: EngineParams) -> bytes:
        durable = CachedEngine(no_engine, engine, tiny, model="M1", seed=7, run=Stage(tmp_path / "none.sqlite"))
        return durable.keys(REQUESTS[:1], SAMPLED)[REQUESTS[0].id]

    engine = engine_params(name)
    other = {
        "dtype": "bfloat16",
        "quantization": "fp8",
        "max_context": 95,
        "max_batch_tokens": 129,
        "inner": "scripted",
        "requests_per_block": 3,
        "env_prefix": "JUDGE",
    }
    decides = {
        "ray": ("inner", "requests_per_block", "dtype", "max_context", "max_batch_tokens"),
        "vllm": ("dtype", "quantization", "max_context"),
    }
    decides |= {
        "transformers": ("dtype", "max_context", "max_batch_tokens"),
        "scripted": ("max_context", "max_batch_tokens"),
    }
    assert (key(engine) != key(engine.model_copy(update={field: other[field]}))) == (field in decides[name])
    assert len({key(engine_params(other)) for other in decides}) == len(decides), "and which engine it is"


def no_engine() -> AbstractContextManager[BaseEngine]:
    raise AssertionError("nothing is generated here")


def test_a_servers_refusal_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have more room when it is next started; a text that it did write is cached."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")

    class Server(BaseEngine):
        def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
            self.asked_for = [r.id for r in requests]
            yield [
                Completion(r.id, 0, "" if r.id == "long" else "Yes.", "length", 0 if r.id == "long" else 2)
                for r in requests
            ]

    server, requests = Server(), [Request("long", "x"), Request("short", "y")]
    for asked_for in (["long", "short"], ["long"]):
        run = Stage(tmp_path / "f.sqlite")
        with CachedEngine(
            lambda: nullcontext(server), engine_params("openai"), tmp_path, model="M1", seed=7, run=run
        ) as engine:
            engine.generate(requests, GREEDY._replace(n=1))
            assert server.asked_for == asked_for


def test_a_server_is_known_by_its_model_and_not_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster gives vLLM another host every day; an id that the user gives tells other weights."""

    def key(host: str, served: str) -> bytes:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}:8000/v1")
        (tmp_path / "server.json").write_text(served)
        run = Stage(tmp_path / "f.sqlite", content=f"{host} {served}")
        engine = CachedEngine(no_engine, engine_params("openai"), tmp_path, model="J", seed=7, run=run)
        assert engine.served_by
        assert engine.served_by["url"] == f"http://{host}:8000/v1"
        return engine.keys(REQUESTS[:1], SAMPLED)[REQUESTS[0].id]

    usual = key("node1", '{"model": "org/judge", "revision": "1"}')
    assert key("node2", '{"model": "org/judge", "revision": "1"}') == usual
    others = [key("node1", '{"model": "org/judge", "revision": "2"}'), key("node1", '{"model": "org/judge"}')]
    others += [key("node1", '{"model": "org/other", "revision": "1"}')]
    assert len({usual, *others}) == 4


@pytest.mark.slow
def test_another_template_or_another_date_in_it_meets_no_old_text(tiny: Path, tmp_path: Path) -> None:
    """The prompt is in the key as the model reads it, and the engine gets that very text, whatever the clock says by
    then."""
    run, days = Stage(tmp_path / "f.sqlite"), iter(("Monday", "Monday", "Tuesday"))

    def decoded(prompts: list[str]) -> CachedEngine:
        opening = open_engine(engine_params("transformers"), HARDWARE, tiny, model="M1", seed=1, run=run)
        with opening as engine:
            assert isinstance(engine, CachedEngine)
            engine.rendered(REQUESTS[:1])
            assert engine.tokenizer
            engine.tokenizer.tokenizer.chat_template = f"It is {next(days)}. {{{{ messages[0].content }}}}"
            inner, encode = engine.opened(), ModelTokenizer.encode

            def watched(requests: Sequence[Request]) -> list[list[int]]:
                prompts.extend(str(r.rendered) for r in requests)
                return encode(inner.prompts, requests)  # type: ignore[attr-defined]

            inner.prompts.encode = watched  # type: ignore[attr-defined]
            engine.generate(REQUESTS[:1], GREEDY)
        return engine

    first, again, tuesday = list[str](), list[str](), list[str]()
    for prompts in (first, again, tuesday):
        decoded(prompts)
    assert (first, again) == (["It is Monday. Name three fruits."], [])
    assert tuesday == ["It is Tuesday. Name three fruits."]


def test_an_empty_answer_of_a_server_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model had nothing to say; it is not asked, or paid, again."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")

    class Server(BaseEngine):
        def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
            yield [Completion(r.id, 0, "", "stop", 0) for r in requests]

    for make in (lambda: nullcontext(Server()), no_engine):
        with CachedEngine(
            make, engine_params("openai"), tmp_path, model="M1", seed=7, run=Stage(tmp_path / "f.sqlite")
        ) as durable:
            assert durable.generate([Request("a", "x")], GREEDY._replace(n=1)) == [Completion("a", 0, "", "stop", 0)]


def test_what_is_under_way_ends_before_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or Ctrl-C: requests are taken back from an engine that is still there."""
    happened: list[str] = []

    class Inner(BaseEngine):
        name = "M1"

        def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
            try:
                yield [Completion(requests[0].id, 0, "a", "stop", 1)]
                raise AssertionError("nobody asks for more")
            finally:
                happened.append("taken back")

    @contextmanager
    def make() -> Iterator[BaseEngine]:
        try:
            yield Inner()
        finally:
            happened.append("closed")

    def full(*asked: Any, **more: Any) -> None:
        raise EngineError("no space left")

    monkeypatch.setattr(CompletionCache, "put", full)
    with pytest.raises(EngineError, match="no space left"), ExitStack() as stack:
        run = Stage(tmp_path / "f.sqlite")
        durable = stack.enter_context(
            CachedEngine(make, engine_params("scripted"), tmp_path, model="M1", seed=7, run=run)
        )
        stack.push(lambda *failed: happened.append("left"))
        durable.generate([Request("a", "x"), Request("b", "x")], GREEDY._replace(n=1))
    assert happened == ["taken back", "left", "closed"]


def test_other_kernels_of_vllm_meet_no_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(engine: str) -> bytes:
        run = Stage(tmp_path / "f.sqlite")
        return CachedEngine(
            lambda: nullcontext(), engine_params(engine), tmp_path, model="M1", seed=7, run=run
        ).fingerprint  # type: ignore[arg-type, return-value]

    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    usual, others = identity("vllm"), identity("transformers")
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert identity("vllm") != usual
    assert identity("transformers") == others


def test_a_model_that_moves_before_it_is_loaded_keeps_nothing(durable: Open) -> None:
    engine = durable()

    def moved() -> None:
        raise StaleInputError("data/models/M1 changed")

    engine.run.check_inputs = moved  # type: ignore[method-assign]
    with pytest.raises(StaleInputError), engine:
        engine.generate(REQUESTS, SAMPLED)
    with durable() as engine:
        said = engine.generate(REQUESTS, SAMPLED)
        assert asked(engine) == len(said)


@pytest.mark.slow
def test_the_real_engine_loads_its_model_only_when_something_is_left(tiny: Path, tmp_path: Path) -> None:
    run, broken = Stage(tmp_path / "f.sqlite"), tmp_path / "broken"
    with open_engine(engine_params("transformers"), HARDWARE, tiny, model="M1", seed=1, run=run) as engine:
        first = engine.generate(REQUESTS, SAMPLED)
    shutil.copytree(tiny, broken)
    (broken / "model.safetensors").write_text("no weights")
    with open_engine(engine_params("transformers"), HARDWARE, broken, model="M1", seed=1, run=run) as engine:
        assert engine.generate(REQUESTS, SAMPLED) == first


@settings(max_examples=200)
@given(st.integers(0, 3), st.integers(1, 6), st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 9))))
def test_gaps_are_exactly_what_is_lacking(first: int, n: int, have: set[tuple[str, int]]) -> None:
    numbers = range(first, first + n)
    asked_for = [
        (i, number)
        for (start, count), ids in gaps("abc", numbers, have).items()
        for i in ids
        for number in range(start, start + count)
    ]
    assert sorted(asked_for) == sorted({(i, number) for i in "abc" for number in numbers} - have)
    assert len(asked_for) == len(set(asked_for))
