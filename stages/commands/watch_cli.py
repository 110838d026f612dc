"""`srlm watch`: the command's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from stages.commands import complete

EXAMPLES = ("srlm watch", "srlm watch --port 8000", "srlm watch --rev v1 --other v2")


def add_to(command: Callable[..., Any], panel: str) -> None:
    """The command of this file, in a panel of `srlm --help`."""
    command(panel, *EXAMPLES)(watch)


def watch(
    port: Annotated[int, typer.Option(min=0, max=65535, help="of 127.0.0.1; 0: any that is free")] = 0,
    rev: Annotated[
        str | None,
        typer.Option(help="this git revision or tag instead of what runs here", autocompletion=complete.revisions),
    ] = None,
    other: Annotated[str | None, typer.Option(help="another beside it", autocompletion=complete.revisions)] = None,
) -> None:
    """The report as a page that is live while srlm repro runs: stages, losses, texts and their scores, warnings; pairs
    are labelled there by hand. On this machine alone; Ctrl-C ends it."""
    from stages.commands import watch as watching

    watching.watch(port, rev, other)
