"""The files that a store has of what its params.yaml names. Others are of an earlier run: no view, figure or page shows
them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.config.load import PARAMS, read_mapping

_MODELS = ("base", "external", "models", "positive_only")
SECTIONS = {
    "AIFT": ("aift",),
    "judge_pairs": ("aift",),
    "REVIEW": ("aift",),
    "EVAL": ("evaluated",),
    "head_to_head": ("head_to_head",),
    "drift": ("drift",),
    "judgebench": _MODELS,
    "rewardbench": _MODELS,
    "tournament": (),
    "bank": (),
    **dict.fromkeys(("alpaca_eval", "arena_hard", "ifeval", "lm_eval", "mt_bench"), _MODELS),
    "models": _MODELS,
    "plots": _MODELS,
    "train": _MODELS,
}
"""Folder with a file or folder for each model or match -> the sections of params.yaml that name them; none: whatever
lies there counts, since a command wrote it."""
UNNAMED = {folder: ("SFT", "M1") for folder, sections in SECTIONS.items() if sections is _MODELS}
"""What dvc.yaml makes in any run."""


class Names:
    """Of the store in `root`. A params.yaml of any version is read, valid or not; without one every name counts.

    A pattern is a path below `root` with `{model}` where the name of a model or match stands, or without any.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._params = read_mapping(root / PARAMS)

    def files(self, pattern: str) -> dict[str | None, Path]:
        """Name (None without `{model}`) to the file, of those that are there; M2 before M10."""
        return {name: path for name, path in self._all(pattern).items() if self.has(pattern, name)}

    def left_out(self, pattern: str) -> list[Path]:
        """The files that `files` passes over."""
        return sorted(path for name, path in self._all(pattern).items() if not self.has(pattern, name))

    def has(self, pattern: str, name: str | None) -> bool:
        """Whether params.yaml names it there."""
        if self._params is None or name is None:
            return True
        folder = folder_of(pattern)
        sections = [self._params.get(section) for section in SECTIONS[folder]]
        named = not sections or any(isinstance(section, dict | list) and name in section for section in sections)
        return named or name in UNNAMED.get(folder, ())

    def sides(self, match: str) -> tuple[str | None, str | None]:
        """The two models of a match; null where params.yaml does not say."""
        matches: Any = (self._params or {}).get("head_to_head") or {}
        entry = matches.get(match) or {}
        return entry.get("model"), entry.get("other")

    def models(self) -> list[tuple[str, str | None, list[str], int | None]]:
        """Every model that params.yaml names: its parent by DPO, all before it, the nearest first, and its place in
        `evaluated`, from 0."""
        params: dict[str, Any] = self._params or {}
        sections = {name: params.get(name) for name in (*_MODELS, "aift", "evaluated")}
        names = {s: [n for n in v if isinstance(n, str)] for s, v in sections.items() if isinstance(v, dict | list)}
        entries = sections["models"] if isinstance(sections["models"], dict) else {}
        prev = {name: entry.get("prev") for name, entry in entries.items() if isinstance(entry, dict)}
        place = {name: i for i, name in enumerate(names.get("evaluated", ()))}
        rows = []
        for name in dict.fromkeys(name for section in names.values() for name in section):
            line = [name]
            while isinstance(parent := prev.get(line[-1]), str) and parent not in line:
                line.append(parent)
            rows.append((name, next(iter(line[1:]), None), line[1:], place.get(name)))
        return rows

    def _all(self, pattern: str) -> dict[str | None, Path]:
        before, has_names, after = pattern.partition("{model}")
        paths = {
            path.relative_to(self._root).as_posix(): path.resolve() for path in self._root.glob(f"{before}*{after}")
        }
        if not has_names:
            return {None: paths[pattern]} if pattern in paths else {}
        names = {path.removeprefix(before).removesuffix(after): path for path in paths}
        return {name: paths[names[name]] for name in sorted(names, key=lambda name: (len(name), name))}


def folder_of(pattern: str) -> str:
    """The folder in which a pattern's names stand, a key of SECTIONS."""
    return Path(pattern.partition("{model}")[0] + "M").parent.name
