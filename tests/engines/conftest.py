from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from openai_server import Server, serving
from stage_double import Stage
from tiny_llama import HARDWARE, build, engine_params

from stages.engines.base import BaseEngine
from stages.engines.open import open_engine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server(tiny: Path) -> Iterator[Server]:
    with serving(tiny) as server:
        yield server


VLLM = pytest.mark.vllm, pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm")


@pytest.fixture(
    params=[
        "scripted",
        "transformers",
        "cached scripted",
        "cached transformers",
        *(pytest.param(e, marks=VLLM) for e in ("vllm", "cached vllm")),
    ]
)
def opened(request: pytest.FixtureRequest, tiny: Path, tmp_path: Path) -> Iterator[Callable[..., BaseEngine]]:
    """`opened(**params)`: the engine under test on the tiny model; one with a cache, opened again, meets what
    the one before finished."""
    *cached, name = request.param.split()
    run = Stage(tmp_path / "f.sqlite") if cached else None
    hardware = HARDWARE.model_copy(update={"workers": 1})
    with ExitStack() as stack:
        yield lambda seed=7, **kw: stack.enter_context(
            open_engine(engine_params(name, **kw), hardware, tiny, model="M1", seed=seed, run=run)
        )
