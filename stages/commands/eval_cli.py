"""`srlm alpaca-eval` and its kin: benchmarks whose prompts and judges are others'. Files in and out as their own tools
take them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stages.commands import complete
from stages.commands.options import AsJson

Model = Annotated[
    str, typer.Argument(help="a model of data/models, e.g. M3, or a model's folder", autocompletion=complete.models)
]
Temperature = Annotated[float, typer.Option(min=0, max=2, help="0 is greedy")]
TopP = Annotated[float, typer.Option(min=0.01, max=1)]
MaxTokens = Annotated[int, typer.Option(min=1, help="longest answer")]

alpaca_eval = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
benchmark = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def add_to(app: typer.Typer, panel: str) -> None:
    """The commands of this file, in a panel of `srlm --help`."""
    app.add_typer(alpaca_eval, name="alpaca-eval", rich_help_panel=panel)
    app.add_typer(benchmark, name="benchmark", rich_help_panel=panel)
    app.command("lm-eval", rich_help_panel=panel, epilog="Example: srlm lm-eval M3 --tasks paper")(lm_eval)


@alpaca_eval.callback()
def about_alpaca_eval() -> None:
    """AlpacaEval 2: a model's outputs for the official tool, and the rates of the annotations that it writes."""


@alpaca_eval.command("export", epilog="Example: srlm alpaca-eval export M3 --out M3.json")
def export_alpaca_eval(
    model: Model,
    instructions: Annotated[
        Path | None, typer.Option(help="json or jsonl (.gz): texts, or records with instruction; none: from the Hub")
    ] = None,
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("model_outputs.json"),
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    max_tokens: MaxTokens = 2048,
) -> None:
    """Answer the 805 instructions, for: alpaca_eval --model_outputs FILE."""
    from stages.commands import alpaca_eval as command

    command.export(model, instructions, out, Path(), temperature=temperature, top_p=top_p, max_tokens=max_tokens)


@alpaca_eval.command("score", epilog="Example: srlm alpaca-eval score annotations.json --instructions alpaca_eval.json")
def score_alpaca_eval(
    annotations: Annotated[Path, typer.Argument(help="as alpaca_eval writes them, json or jsonl (.gz)")],
    instructions: Annotated[Path | None, typer.Option(help="all of them, in their order: who was left out?")] = None,
    difficulty: Annotated[Path | None, typer.Option(help="CSV: index, difficulty (instruction_difficulty.csv)")] = None,
    weights: Annotated[Path | None, typer.Option(help="CSV of published weights: model, theta, phi, psi")] = None,
    outputs: Annotated[Path | None, typer.Option(help="model_outputs.json that the annotations must be of")] = None,
    model: Annotated[str | None, typer.Option(help="which, where a file holds several")] = None,
    baseline: Annotated[str, typer.Option(help="what the answers were compared with")] = "gpt4_1106_preview",
    official: Annotated[bool, typer.Option("--official", help="length control by the package alpaca_eval")] = False,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="figures even where some are missing")] = False,
    as_json: AsJson = False,
) -> None:
    """Win rate, standard error, wins, losses, draws and average length as the leaderboard has them; length-controlled
    by published weights or the official fit, else a fit of our own under its own name."""
    from stages.commands import alpaca_eval as command

    command.score(
        annotations,
        Path(),
        instructions=instructions,
        difficulty=difficulty,
        weights=weights,
        outputs=outputs,
        model=model,
        baseline=baseline,
        official=official,
        incomplete=incomplete,
        as_json=as_json,
    )


def lm_eval(
    model: Model,
    tasks: Annotated[str, typer.Option(help="paper, or lm-eval's names with commas between, or a task.yaml")] = "paper",
    limit: Annotated[int | None, typer.Option(min=1, help="so many of each task, to try: nothing is kept")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="examples at a time")] = 8,
    chat: Annotated[bool, typer.Option("--chat", help="through the model's chat template")] = False,
    as_json: AsJson = False,
) -> None:
    """The paper's NLP benchmarks (ARC, HellaSwag, SIQA, PIQA, GSM8K, MMLU, OBQA, NQ) by lm-eval, into
    data/metrics/lm_eval."""
    from stages.commands import lm_eval_tasks as command

    command.evaluate(model, tasks, Path(), limit=limit, batch_size=batch_size, chat=chat, as_json=as_json)


class Kind(StrEnum):
    arena_hard = "arena-hard"
    mt_bench = "mt-bench"
    ifeval = "ifeval"


Which = Annotated[Kind, typer.Argument(help="arena-hard (v2), mt-bench or ifeval")]


@benchmark.callback()
def about_benchmark() -> None:
    """Arena-Hard v2, MT-Bench and IFEval: answers out, judgements in, in the files of their own scripts."""


@benchmark.command("export", epilog="Example: srlm benchmark export mt-bench M3 --questions question.jsonl")
def export_benchmark(
    kind: Which,
    model: Model,
    questions: Annotated[Path, typer.Option(help="question.jsonl; of IFEval input_data.jsonl")],
    out: Annotated[Path | None, typer.Option(help="the file to write; MODEL.jsonl by default")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="longest answer; 4096, 1024, 1280 by default")] = None,
) -> None:
    """Answer a benchmark's questions; both turns of MT-Bench, each at the temperature of its category."""
    from stages.commands import benchmark as command

    command.export(kind.value, model, questions, out, Path(), max_tokens=max_tokens)


@benchmark.command("score", epilog="Example: srlm benchmark score mt-bench gpt-4_single.jsonl")
def score_benchmark(
    kind: Which,
    file: Annotated[Path, typer.Argument(help="judgements as their scripts write them; of IFEval responses")],
    questions: Annotated[Path | None, typer.Option(help="all questions: what is missing? IFEval needs them")] = None,
    baseline: Annotated[str | None, typer.Option(help="of Arena-Hard, where it is not the official one")] = None,
    answers: Annotated[Path | None, typer.Option(help="of Arena-Hard: model_answer/, for style control")] = None,
    model: Annotated[str | None, typer.Option(help="which, of several; of IFEval, whose responses these are")] = None,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="figures even where some are missing")] = False,
    as_json: AsJson = False,
) -> None:
    """Figures of official judgements, per category, with 95 % intervals; what could not be read is counted."""
    from stages.commands import benchmark as command

    command.score(
        kind.value,
        file,
        questions,
        Path(),
        options=command.Options(baseline, answers),
        model=model,
        incomplete=incomplete,
        as_json=as_json,
    )
