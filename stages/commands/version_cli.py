"""`srlm tag`: what is here, as a version with a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.console.errors import SrlmError

AsJson = Annotated[bool, typer.Option("--json", help="as JSON, for programs")]


def add_to(command: Callable[..., Any], keep: str) -> None:
    """The commands of this file, by cli's `command`, in its panels."""
    command(keep, "srlm tag v1", "srlm tag v2 -m 'eight answers'", "srlm tag")(tag)


def tag(
    name: Annotated[str | None, typer.Argument(help="of the new version, e.g. v1; none: list the versions")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="what is new in it")] = None,
    push: Annotated[bool, typer.Option(help="send the data to DVC's remote, where one is configured")] = True,
    as_json: AsJson = False,
) -> None:
    """Name what is here as a version: a git tag, the data in DVC's remote, a line in data/VERSIONS.md. `srlm diff v1
    v2` and `--rev v1` take the name."""
    from stages.commands import tag as naming

    if name is not None:
        naming.make(name, message or None, Path(), push=push, as_json=as_json)
    elif message is not None or not push:
        raise SrlmError("a version needs a name: srlm tag v1")
    else:
        naming.show_list(Path(), as_json=as_json)
