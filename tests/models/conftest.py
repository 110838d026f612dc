from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A small Llama as anybody may bring it, to be changed."""
    from stages.models import checkpoint

    checkpoint.random_llama(tmp_path / "llama", seed=1, max_context=64)
    return tmp_path / "llama"
