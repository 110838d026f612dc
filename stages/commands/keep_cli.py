"""`srlm export`: what leaves the store by another door than the Hub."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stages.commands import complete


class Trainer(StrEnum):
    trl = "trl"
    llama_factory = "llama-factory"
    axolotl = "axolotl"
    openrlhf = "openrlhf"
    ultrafeedback = "ultrafeedback"


def add_to(app: typer.Typer, panel: str) -> None:
    """The command of this file, in a panel of `srlm --help`."""
    example = "Example: srlm export aift_m1 --format trl --out aift_m1.jsonl"
    app.command("export", rich_help_panel=panel, epilog=example)(export)


def export(
    name: Annotated[str, typer.Argument(help="ift, ift_valid, eft, aift_m1, aift_m1_judge_pairs, ...")],
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
