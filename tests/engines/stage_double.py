"""What a cached engine asks of the stage that it works for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path


class Stage:
    """A stage with nothing but a place for its cache."""

    def __init__(self, cache: Path, stage: str = "sample_candidates@M1", content: str = "abc.dir") -> None:
        self.completion_cache, self.stage, self.content = cache, stage, content
        self.figures: dict[str, int] = {}

    def model(self, name: str) -> Path:
        return Path(name)

    def hash_of(self, path: Path) -> str:
        return self.content

    def check_inputs(self) -> None:
        pass

    def computing(self) -> AbstractContextManager[None]:
        return nullcontext()
