from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))  # tiny_llama: the same random model for both folders


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_llama import build

    return build(tmp_path_factory.mktemp("base_model"), initializer_range=0.05)
