"""What a shell proposes behind `srlm ...` and the tab key: versions, models, questions, tables.

A proposal never fails and prints nothing: where there is nothing to propose there is nothing. Only plain names are
proposed: a name from someone's repository that a shell would read as a command is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PLAIN = r"[\w.@+/-]+=?"
Proposal = str | tuple[str, str]
"""A word, or a word with what it means."""


def proposes(words: Callable[[Any], Iterable[Proposal]]) -> Callable[[Any, str], list[Proposal]]:
    """A callback of typer's that proposes those of `words` that begin as what was typed."""

    def propose(ctx: Any, incomplete: str) -> list[Proposal]:
        try:
            return [word for word in words(ctx) if _fits(word if isinstance(word, str) else word[0], incomplete)]
        except Exception:
            return []

    return propose


def _fits(word: str, incomplete: str) -> bool:
    return word.startswith(incomplete) and re.fullmatch(PLAIN, word) is not None


@proposes
def revisions(ctx: Any) -> Iterable[Proposal]:
    """Versions of the store, the newest first, then branches."""
    from stages.store.git import git, tags

    yield from ((tag.name, tag.message) for tag in tags(Path()))
    yield from git(Path(), "for-each-ref", "--format=%(refname:strip=2)", "refs/heads").splitlines()


@proposes
def models(ctx: Any) -> Iterable[Proposal]:
    """Models that params.yaml names."""
    from stages.store.names import Names

    return dict.fromkeys(["SFT", "M1", *(name for name, *_ in Names(Path()).models())])


@proposes
def judges(ctx: Any) -> Iterable[Proposal]:
    """What may judge a match: the checker, or a model."""
    return [("oracle", "the checker"), *models(ctx, "")]


@proposes
def questions(ctx: Any) -> Iterable[Proposal]:
    """The canned questions of `srlm query`."""
    from stages.store.questions import questions as every

    return [(question.name, question.text) for question in every().values()]


@proposes
def values(ctx: Any) -> Iterable[Proposal]:
    """What the question that was typed takes: `prompt_id=`."""
    from stages.store.questions import questions as every

    return [f"{value}=" for value in every()[ctx.params["what"]].values]


@proposes
def tables(ctx: Any) -> Iterable[Proposal]:
    """The tables of the store."""
    from stages.store.tables import TABLES

    return [(table.name, table.meaning) for table in TABLES]


@proposes
def previewed(ctx: Any) -> Iterable[Proposal]:
    """The stages that `srlm preview` takes."""
    from stages.commands.preview import PREVIEWED

    return PREVIEWED


@proposes
def datasets(ctx: Any) -> Iterable[Proposal]:
    """The datasets that `srlm export` has here."""
    from stages.commands.export import datasets as every

    return dict.fromkeys(dataset.name for dataset in every(Path()).values())


@proposes
def profiles(ctx: Any) -> Iterable[Proposal]:
    """The profiles, and `own`."""
    return [*sorted(file.stem for file in (Path(__file__).parents[1] / "config/profiles").glob("*.yaml")), "own"]


@proposes
def keys(ctx: Any) -> Iterable[Proposal]:
    """Keys of params.yaml, as `srlm try` takes them: `seed=`."""
    from stages.config.change import keys as every
    from stages.config.load import read_mapping

    return [f"{key}=" for key in every(read_mapping(Path("params.yaml")) or {})]
