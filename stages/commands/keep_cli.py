"""`srlm cache`, `srlm export`, `srlm verify`: what is kept, what leaves the store by another door than the Hub, and
whether all is as it was."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.commands import complete
from stages.commands.options import AsJson
from stages.console.errors import SrlmError


class Trainer(StrEnum):
    trl = "trl"
    llama_factory = "llama-factory"
    axolotl = "axolotl"
    openrlhf = "openrlhf"
    ultrafeedback = "ultrafeedback"


def add_to(command: Callable[..., Any], keep: str) -> None:
    """The commands of this file, by cli's `command`, in its panel."""
    command(keep, "srlm export aift_m1 --format trl --out aift_m1.jsonl")(export)
    command(keep, "srlm cache", "srlm cache --prune --older 30")(cache)
    command(keep, "srlm verify", "srlm verify --repo ORG/NAME --revision v1")(verify)


def export(
    name: Annotated[
        str,
        typer.Argument(help="ift, ift_valid, eft, aift_m1, aift_m1_judge_pairs, ...", autocompletion=complete.datasets),
    ],
    form: Annotated[Trainer, typer.Option("--format", help="whose loader is to take it")],
    out: Annotated[Path, typer.Option(help="the file to write: FILE.jsonl")],
    rev: Annotated[
        str | None, typer.Option(help="of this git revision or tag", autocompletion=complete.revisions)
    ] = None,
) -> None:
    """Write a dataset for the loader of TRL, LLaMA-Factory, Axolotl or OpenRLHF; or an AIFT's prompts with all their
    answers, scores and judgements, as UltraFeedback has them."""
    from stages.commands import export as exporting

    exporting.export(name, form.value, out, revision=rev)


def cache(
    prune: Annotated[bool, typer.Option("--prune", help="delete all, or what --model and --older name")] = False,
    model: Annotated[
        str | None, typer.Option(help="with --prune: only this model's", autocompletion=complete.models)
    ] = None,
    older: Annotated[float | None, typer.Option(min=0, help="with --prune: only older than so many days")] = None,
    as_json: AsJson = False,
) -> None:
    """Cached completions by model and stage, and checkpoints of trainings: why a killed stage goes on where it was."""
    from stages.commands import cache as keeping

    if prune:
        keeping.prune(model=model, older=older)
    elif model is not None or older is not None:
        raise SrlmError("--model and --older say what to delete: add --prune")
    else:
        keeping.show(as_json=as_json)


def verify(
    repo: Annotated[str | None, typer.Option(help="a repository on the Hub, to be compared with what is here")] = None,
    revision: Annotated[str | None, typer.Option(help="a commit or tag of it; its newest commit by default")] = None,
    base_url: Annotated[str | None, typer.Option(help="of another Hub than HF_ENDPOINT says")] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every hash, follow every id; with --repo download what was published and compare every row."""
    from stages.commands import verify as verifying

    if revision and not repo:
        raise SrlmError("--revision is of a repository: add --repo ORG/NAME")
    verifying.verify(repo, revision, base_url, as_json=as_json)
