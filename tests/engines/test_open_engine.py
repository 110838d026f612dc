from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_llama import HARDWARE, engine_params

from stages.console.errors import EngineError
from stages.engines import open as opening
from stages.engines.base import BaseEngine
from stages.engines.request import Completion, Request, Sampling, completion_seed


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(opening.ENGINES, "scripted", ("no_such_engine_package", "X"))
    with pytest.raises(EngineError, match="pip install no_such_engine_package"):
        opening.open_engine(engine_params("scripted"), HARDWARE, tmp_path, model="M1", seed=0)


@pytest.mark.slow
def test_base_and_scripted_cost_no_torch():
    code = "import sys, stages.engines.base, stages.engines.backends.scripted; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_completion_seeds_are_stable_and_apart():
    assert completion_seed(0, "a", 0) == 5702018327209904986  # a new version of this function would change every text
    seeds = {completion_seed(s, i, n) for s in range(5) for i in ("a", "b", "a0") for n in range(12)}
    assert len(seeds) == 5 * 3 * 12
    assert all(0 <= s < 2**63 for s in seeds)


def test_a_number_that_was_not_asked_for_takes_no_place():
    """It would stand where the next request's text belongs."""

    class Wrong(BaseEngine):
        name = "wrong"

        def batches(self, requests, sampling):
            yield [Completion(request.id, sampling.first + sampling.n, "x", "stop", 1) for request in requests]

    with pytest.raises(KeyError):
        Wrong().generate([Request("a", "x"), Request("b", "x")], Sampling(2, 0.0, 1.0, 4, first=1))
