"""Requests through Ray: real actors on this machine, killed, stopped and resumed. One Ray serves the tests that need
none of their own."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from stage_double import Stage
from test_every_engine import REQUESTS, SAMPLED, by_id
from tiny_llama import HARDWARE, build, engine_params

from stages.console.errors import EngineError, ModelError
from stages.engines.base import BaseEngine
from stages.engines.open import open_engine
from stages.engines.request import Completion, Request, Sampling, ScoreLogprobs

pytestmark = pytest.mark.slow
of_ray = pytest.importorskip("stages.engines.backends.ray")
ray = of_ray.ray

ROOT = Path(__file__).parents[2]
ONE = HARDWARE.model_copy(update={"workers": 1})
BLOCK = 20
FEW = SAMPLED._replace(n=1)
MANY = [Request(f"r{i}", f"Question {i}") for i in range(1000)]
DRIVER = """
import sys
from contextlib import nullcontext
from pathlib import Path
from stages.config.machine import Hardware
from stages.config.engines import EngineParams
from stages.console.command import command
from stages.engines.open import open_engine
from stages.engines.request import Request, Sampling

class Stage:
    stage, hash_of, check_inputs, computing = "sample_candidates@M1", lambda self, path: "abc.dir", lambda self: None, lambda self: nullcontext()

def main(engine: str, hardware: str, place: Path, texts: int) -> None:
    Stage.completion_cache = place
    engine, hardware = EngineParams.model_validate_json(engine), Hardware.model_validate_json(hardware)
    with open_engine(engine, hardware, Path(), model="M1", seed=7, run=Stage()) as engine:
        print(engine.generate([Request(f"r{i}", f"Question {i}") for i in range(texts)], Sampling(1, 1.0, 0.9, 12))[0].text)

command(main)
"""
"""Writes the first of MANY durably, in a process of its own. It imports no torch."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        on_sigterm = signal.getsignal(signal.SIGTERM)
        of_ray._start(2)
        assert signal.getsignal(signal.SIGTERM) is on_sigterm
        yield
        ray.shutdown()


def opened(
    inner: str, folder: Path = Path(), *, block: int = 4, run: Stage | None = None, **hardware: object
) -> AbstractContextManager[BaseEngine]:
    return open_engine(
        engine_params("ray", inner=inner, block=block),
        HARDWARE.model_copy(update=hardware),
        folder,
        model="M1",
        seed=7,
        run=run,
    )


def alone(inner: str, requests: list[Request], sampling: Sampling, folder: Path = Path()) -> list[Completion]:
    with open_engine(engine_params(inner), ONE, folder, model="M1", seed=7) as engine:
        return engine.generate(requests, sampling)


def in_a_worker(inner: str, requests: list[Request], folder: Path = Path()) -> list[Completion]:
    """What a worker makes of one block, and the driver of that; both in this process."""
    engine = of_ray.RayEngine(engine_params("ray", inner=inner), HARDWARE, folder, model="M1", seed=7)
    return engine._read(of_ray.Worker(engine.open_inner).write(requests, SAMPLED))


def command(place: Path, texts: int) -> list[str]:
    """Runs DRIVER."""
    params = engine_params("ray", inner="scripted", block=BLOCK)
    return [sys.executable, "-c", DRIVER, params.model_dump_json(), HARDWARE.model_dump_json(), str(place), str(texts)]


def address() -> str:
    """Of the Ray that these tests share."""
    return str(ray.get_runtime_context().gcs_address)


def workers(of: int | None = None) -> list[psutil.Process]:
    """The actors under a driver."""
    return [p for p in psutil.Process(of).children(recursive=True) if p.name().startswith("ray::Worker")]


# What comes back


def test_the_same_texts_as_the_engine_alone_in_the_order_of_the_requests() -> None:
    """Workers that there is no room for are not waited for."""
    with opened("scripted", block=1, workers=20) as engine:
        said = engine.generate(REQUESTS, SAMPLED)
        assert engine.generate([], SAMPLED) == []
    assert said == alone("scripted", REQUESTS, SAMPLED)
    assert engine.generated_tokens == sum(c.tokens for c in said)  # type: ignore[attr-defined]


def test_a_model_gets_the_requests_block_by_block(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly the floating-point sums of the same blocks without Ray; a relative folder is found by workers that run
    elsewhere."""
    asked = SAMPLED._replace(stop=("e",), score_logprobs=ScoreLogprobs("[a-z]", 0, ("a", "b")))
    blocks = [REQUESTS[i : i + 5] for i in range(0, len(REQUESTS), 5)]
    with open_engine(engine_params("transformers"), ONE, tiny, model="M1", seed=7) as engine:
        expected = [engine.generate(block, asked) for block in blocks]
    monkeypatch.chdir(tiny.parent)
    with opened("transformers", Path(tiny.name), block=5) as through_ray:
        batches = list(through_ray.batches(REQUESTS, asked))
    assert {frozenset(c.id for c in batch) for batch in batches} == {frozenset(r.id for r in block) for block in blocks}
    said = by_id([c for batch in batches for c in batch])
    assert said == by_id([c for batch in expected for c in batch])
    assert any(c.probs for c in said.values())
    for counter in ("prompt_tokens", "generated_tokens"):
        assert getattr(through_ray, counter) == getattr(engine, counter) > 0


# What dies


def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_doubled() -> None:
    said: list[Completion] = []
    with opened("scripted", block=BLOCK) as engine:
        for batch in engine.batches(MANY, FEW):
            if not said:
                workers()[0].kill()
            said += batch
    assert len(said) == len(MANY)
    assert by_id(said) == by_id(alone("scripted", MANY, FEW))


def deadly(open_inner: Callable[[], Any], block: str) -> Callable[[], Any]:
    """Opens an engine that ends its process over the block of one request."""

    def opening() -> AbstractContextManager[BaseEngine]:
        opened = open_inner()
        engine = opened.__enter__()
        batches = engine.batches

        def dying(requests: list[Request], sampling: Sampling) -> Any:
            if any(r.id == block for r in requests):
                os._exit(9)
            return batches(requests, sampling)

        engine.batches = dying
        return nullcontext(engine)

    return opening


def test_a_block_that_no_worker_survives_ends_the_stage() -> None:
    with opened("scripted", block=2, workers=1) as engine:
        engine.open_inner = deadly(engine.open_inner, "r2")  # type: ignore[attr-defined]
        with pytest.raises(EngineError, match="4 Ray workers died over 2 requests, the first 'r2'"):
            engine.generate(MANY[:4], FEW)


def test_the_model_is_loaded_once_however_many_calls_there_are(tmp_path: Path) -> None:
    """`write_prompts` asks in rounds."""
    loads, expected = tmp_path / "loads", alone("scripted", MANY[:40], FEW)

    def counting(open_inner: Callable[[], Any]) -> Callable[[], Any]:
        def opening() -> Any:
            with loads.open("a") as file:
                file.write("x")
            return open_inner()

        return opening

    with opened("scripted", block=2, workers=1) as engine:
        engine.open_inner = counting(engine.open_inner)  # type: ignore[attr-defined]
        said = [c for i in range(10) for c in engine.generate(MANY[4 * i : 4 * i + 4], FEW)]
        assert loads.read_text() == "x"
        assert len(workers()) == 1
        workers()[0].kill()
        assert engine.generate(MANY[:4], FEW) == expected[:4], "who died between two calls is replaced"
        assert loads.read_text() == "xx"
    assert said == expected
    assert not psutil.wait_procs(workers(), 10)[1], "they end with the engine"


def test_workers_that_hang_end_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_ray, "NO_PROGRESS_S", 2)
    with pytest.raises(EngineError, match="no Ray worker finished a block"), opened("scripted", block=BLOCK) as engine:
        for _ in engine.batches(MANY, FEW):
            for worker in workers():
                worker.suspend()
    for worker in workers():
        worker.kill()


def test_ctrl_c_ends_within_seconds_and_leaves_no_process(tmp_path: Path) -> None:
    driver = at_work(tmp_path / "f.sqlite")
    processes = psutil.Process(driver.pid).children(recursive=True)
    assert workers(driver.pid)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(10) == 130
    assert not psutil.wait_procs(processes, 10)[1]


def test_a_killed_driver_leaves_no_worker_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "f.sqlite"
    driver = at_work(place, RAY_ADDRESS=address())
    writing = workers()
    driver.kill()
    assert writing
    until = time.monotonic() + 10
    while workers() and time.monotonic() < until:  # one may have been on its way when the driver died
        time.sleep(0.1)
    assert not workers()
    before = kept(place)
    assert before % BLOCK == 0
    assert 0 < before < len(MANY)
    with opened("scripted", block=BLOCK, run=Stage(place)) as engine:
        _, *written = engine.batches(MANY, FEW)
    assert sum(map(len, written)) == len(MANY) - before
    blocks = {tuple(r.id for r in MANY[i : i + BLOCK]) for i in range(0, len(MANY), BLOCK)}
    assert {tuple(c.id for c in batch) for batch in written} < blocks
    with opened("scripted", block=BLOCK, run=Stage(place)) as engine:
        assert engine.generate(MANY, FEW) == alone("scripted", MANY, FEW)


def at_work(place: Path, **env: str) -> subprocess.Popen[bytes]:
    """A driver that has written its first block."""
    driver = subprocess.Popen(command(place, len(MANY)), cwd=ROOT, env={**os.environ, **env})
    while not kept(place):
        assert driver.poll() is None
        time.sleep(0.02)
    return driver


def kept(place: Path) -> int:
    """Completions in the cache."""
    try:
        with sqlite3.connect(f"file:{place}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM texts").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


# What cannot be done


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match=r"no model folder .*gone") as raised,
        opened("transformers", tmp_path / "gone", workers=1) as engine,
    ):
        engine.generate(REQUESTS, SAMPLED)
    assert len(str(raised.value)) < 300


def test_a_node_that_does_not_see_what_the_driver_sees_is_named(tmp_path: Path) -> None:
    engine = of_ray.RayEngine(engine_params("ray"), HARDWARE, tmp_path, model="M1", seed=7)
    with pytest.raises(ModelError, match=r"no model folder x .*worker on node7"):
        engine._read(of_ray.Written([], 0, ("ModelError", "no model folder x", "node7")))


def test_what_a_worker_refuses_is_said_as_without_ray(tmp_path: Path) -> None:
    folder = build(tmp_path / "model", template="{{ raise_exception('no questions') }}")
    with pytest.raises(EngineError, match=r"^the chat template in .* refuses request 'b': no questions$"):
        in_a_worker("transformers", REQUESTS, folder)


def test_a_bug_in_a_worker_shows_its_own_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in write.*in _complete.*TypeError"):
        in_a_worker("scripted", [Request("a", [1])])  # type: ignore[list-item]


def test_more_than_the_nodes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(EngineError, match=r"GPU\(s\).*a worker wants 99 of one node"),
        opened("scripted", device="cuda", tensor_parallel=99),
    ):
        pass
    monkeypatch.setattr(of_ray, "WAIT_S", 0)
    taken = ray.remote(of_ray.Worker).options(num_cpus=ray.cluster_resources()["CPU"]).remote(None)
    ray.get(taken.ready.remote())
    with pytest.raises(EngineError, match="some perhaps in use"), opened("scripted"):
        pass


# Clusters


def test_a_cluster_is_joined_and_runs_the_drivers_own_code(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "stages/engines/backends/scripted.py").open("a") as code:
        code.write("\n\ndef _question(rng):\n    return 'the code of this folder'\n")
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/large").open("w") as large:
        large.truncate(2**31)  # more than Ray would send: our code goes, the data stays
    env = {**os.environ, "RAY_ADDRESS": address()}
    done = subprocess.run(
        command(tmp_path / "f.sqlite", 1), cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert "the code of this folder" in done.stdout.splitlines(), done.stderr
    assert len(ray._private.state.jobs()) > 1


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(**kwargs: object) -> None:
        raise ConnectionError("Failed to connect\nto Ray cluster.")

    monkeypatch.setenv("RAY_ADDRESS", "node1:6379")
    monkeypatch.setattr(ray, "init", nobody)
    with pytest.raises(
        EngineError,
        match=r"Failed to connect to Ray cluster\. Does `ray status` see the cluster of RAY_ADDRESS=node1:6379",
    ):
        of_ray._start(2)
