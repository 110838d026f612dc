"""srlm init and srlm profile: how a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.commands import complete
from stages.console.errors import ParamsError
from stages.console.terminal import stderr


def init(
    folder: Annotated[Path, typer.Argument(help="a new folder")],
    model: Annotated[str | None, typer.Option(help="M0: a model's folder, or ORG/NAME on the Hub")] = None,
    data: Annotated[str | None, typer.Option(help="a file of ranked answers, or ORG/NAME")] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="tiny, smol, gpu, paper, scripted; by default one for your model and data",
            autocompletion=complete.profiles,
        ),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="an hour or less, to see that it works")] = False,
) -> None:
    """Make a folder of your own: params.yaml for your model and data, the pipeline and its code, git and DVC."""
    from stages.commands import init as making

    making.init(folder, profile=profile, model=model, data=data, small=small)


def profile(
    name: Annotated[
        str,
        typer.Argument(
            help="tiny, smol, gpu, paper, scripted; or own, for your model and data", autocompletion=complete.profiles
        ),
    ],
    model: Annotated[str | None, typer.Option(help="M0: a model's folder, or ORG/NAME on the Hub")] = None,
    data: Annotated[str | None, typer.Option(help="a file of ranked answers, or ORG/NAME")] = None,
    scale: Annotated[int, typer.Option(min=1, help="not with own: so many times as many prompts")] = 1,
    small: Annotated[bool, typer.Option("--small", help="with own: an hour or less, to see that it works")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace a params.yaml that you edited")] = False,
) -> None:
    """Copy a profile (a complete params.yaml) here, or make one for your own model and data."""
    from stages.commands import profile as profiles

    if name != "own":
        profiles.copy(name, model=model, data=data, scale=scale, force=force)
        stderr.print(f"params.yaml is now profile {name}. Next: srlm check, srlm repro")
    elif model and data:
        profiles.for_own(model, data, small=small, force=force)
        stderr.print("params.yaml is written. Next: srlm check, srlm preview judge_seed (can it judge?), srlm repro")
    else:
        raise ParamsError("profile own needs both: srlm profile own --model DIR_OR_REPO --data FILE_OR_REPO")
