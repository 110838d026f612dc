"""`srlm try` and `srlm tag`: a change beside what is here, and what is here as a version with a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.commands import complete
from stages.commands.options import AsJson
from stages.console.errors import SrlmError


def add_to(command: Callable[..., Any], run: str, keep: str) -> None:
    """The commands of this file, by cli's `command`, in its panels."""
    command(
        run,
        "srlm try sample_candidates.n=4 judge_candidates.k=1",
        "srlm try seed=1,2,3 sample_candidates.n=4,8",
        "srlm try sample_candidates.n=4 --keep",
        "srlm try",
    )(try_)
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


def try_(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE[,VALUE...]]...",
            help="of params.yaml; several values: every combination. None: list the tries",
            autocompletion=complete.keys,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="take a finished try into params.yaml and the workspace")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="delete the tries; without KEY=VALUE all")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="tries at a time; by default every core has a thread")] = None,
    as_json: AsJson = False,
) -> None:
    """Change params.yaml in a copy, run what depends on it, and show it beside the run here; keep it, or forget it.
    Texts and stages that are cached are not made again. Killed? The same command goes on."""
    from stages.commands import trial, trial_keep

    if keep and forget:
        raise SrlmError("--keep takes a try over, --forget deletes it: give one of them")
    if keep:
        trial_keep.keep(changes or [])
    elif forget:
        trial_keep.drop(changes or [])
    elif changes:
        trial.run(changes, jobs=jobs, as_json=as_json)
    else:
        trial.show_list(as_json=as_json)
