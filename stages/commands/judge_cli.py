"""The command lines of the benchmarks of judges: srlm judgebench, srlm rewardbench."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stages.commands import complete
from stages.commands.options import AsJson


class By(StrEnum):
    both = "both"
    pointwise = "pointwise"
    pairwise = "pairwise"


class RunByDefault(TyperGroup):
    """`srlm judgebench M1` is `srlm judgebench run M1`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next(iter(args), "--help")
        return super().parse_args(ctx, args if first in {*self.commands, "--help"} else ["run", *args])


Judge = Annotated[
    str,
    typer.Argument(
        help="the judge: a model of data/models, or a server's under external", autocompletion=complete.models
    ),
]
Pairs = typer.Option(help="a file in the benchmark's form, ORG/NAME@REVISION, or hub: ScalerLab/JudgeBench")
Split = Annotated[str, typer.Option(help="of a dataset on the Hub")]
First = Annotated[int | None, typer.Option(min=1, help="only so many, to try: nothing is kept but in the cache")]
judgebench = typer.Typer(cls=RunByDefault, no_args_is_help=True, help="A judge on JudgeBench: right answers and wrong.")


@judgebench.command("run", epilog="Example:\n\nsrlm judgebench M1 --pairs pairs.jsonl")
def run_judgebench(
    model: Judge,
    pairs: Annotated[str, Pairs],
    split: Split = "gpt",
    by: Annotated[By, typer.Option(help="its scores of the answers, its comparison in both orders")] = By.both,
    first: First = None,
    as_json: AsJson = False,
) -> None:
    """Let a model judge pairs of a right and a wrong answer, with this project's prompts. `run` may be left out."""
    from stages.commands import judgebench as work

    work.judge(model, pairs, split=split, by=by, first=first, as_json=as_json)


@judgebench.command("score", epilog="Example:\n\nsrlm judgebench score decisions.jsonl --pairs pairs.jsonl")
def score_judgebench(
    file: Annotated[Path, typer.Argument(help="a row a judge and pair: pair_id, label, and decisions or judgments")],
    pairs: Annotated[str | None, Pairs] = None,
    split: Split = "gpt",
    as_json: AsJson = False,
) -> None:
    """Figures of decisions that somebody made, by the benchmark's own rule; with --pairs by subset, and only whole."""
    from stages.commands import judgebench as work

    work.score(file, pairs, split=split, as_json=as_json)


rewardbench = typer.Typer(cls=RunByDefault, no_args_is_help=True, help="A judge's scores on RewardBench 2.")
Prompts = typer.Option(
    help="a file in the benchmark's form, ORG/NAME@REVISION on the Hub, or hub: allenai/reward-bench-2"
)


@rewardbench.command("run", epilog="Example:\n\nsrlm rewardbench M1 --prompts hub")
def run_rewardbench(
    model: Judge,
    prompts: Annotated[str, Prompts],
    split: Split = "test",
    first: First = None,
    as_json: AsJson = False,
) -> None:
    """Let a model score right and wrong answers, with this project's judge prompt. `run` may be left out."""
    from stages.commands import rewardbench as work

    work.judge(model, prompts, split=split, first=first, as_json=as_json)


@rewardbench.command("score", epilog="Example:\n\nsrlm rewardbench score ratings.jsonl")
def score_rewardbench(
    file: Annotated[Path, typer.Argument(help="a row a prompt: id, subset, num_correct, scores, right answers first")],
    as_json: AsJson = False,
) -> None:
    """Figures of ratings that somebody made, by the benchmark's own rule."""
    from stages.commands import rewardbench as work

    work.score(file, as_json=as_json)
