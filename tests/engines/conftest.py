from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tiny_llama import HARDWARE, build, engine_params

from stages.engines.base import Engine, open_engine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["scripted", "transformers"])
def opened(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Callable[..., Engine]]:
    """`opened(**params)`: the engine under test on the tiny model."""
    with ExitStack() as stack:
        yield lambda seed=7, **kw: stack.enter_context(open_engine(engine_params(request.param, **kw), HARDWARE, tiny, model="M1", seed=seed))
