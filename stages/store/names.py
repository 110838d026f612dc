"""Which models and matches the params.yaml of a store names. Files of others are of an earlier run: no view, figure or
page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.config.load import PARAMS, read_mapping
from stages.store.tables import Table

SECTIONS = {
    "AIFT": ("aift",),
    "EVAL": ("evaluated",),
    "head_to_head": ("head_to_head",),
    "drift": ("drift",),
    "models": ("base", "external", "models", "positive_only"),
}
"""Folder with a file or folder for each model or match -> the sections of params.yaml that name them."""
UNNAMED = {"models": ("SFT", "M1")}
"""What dvc.yaml makes in any run."""


class Names:
    """Of the store in `root`. A params.yaml of any version is read, valid or not; without one every name counts."""

    def __init__(self, root: Path) -> None:
        self._params = read_mapping(root / PARAMS)

    def has(self, folder: str, name: str) -> bool:
        """Whether `name` counts in a folder of SECTIONS."""
        if self._params is None:
            return True
        sections = (self._params.get(section) for section in SECTIONS[folder])
        return name in UNNAMED.get(folder, ()) or any(
            isinstance(section, dict | list) and name in section for section in sections
        )

    def sides(self, match: str) -> tuple[str | None, str | None]:
        """The two models of a match; null where params.yaml does not say."""
        matches: Any = (self._params or {}).get("head_to_head") or {}
        entry = matches.get(match) or {}
        return entry.get("model"), entry.get("other")


def folder_of(table: Table) -> str:
    """The folder of SECTIONS in which a table with `{model}` in its path lies."""
    return Path(table.path.partition("{model}")[0]).name
