"""srlm: the commands for people. The pipeline itself is `dvc repro`; every stage is also `python -m stages.<verb>`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.commands import begin_cli, complete, eval_cli, judge_cli, keep_cli, version_cli, watch_cli
from stages.commands.options import AsJson
from stages.console.command import run, run_dvc
from stages.console.errors import SrlmError


class Form(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    markdown = "markdown"


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
RUN, LOOK, KEEP = "Run", "Look at the result", "Keep and share"
EXAMPLES: dict[str, tuple[str, ...]] = {}


def command(panel: str, *examples: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command of `srlm`, with examples under its help."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        EXAMPLES[function.__name__] = examples
        name = function.__name__.rstrip("_").replace("_", "-")  # `try` is a word of Python's
        return app.command(name, rich_help_panel=panel, epilog="\n\n".join(("Examples:", *examples)))(function)

    return add


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"srlm {version_of('self-rewarding-lm')}")
        raise typer.Exit


@app.callback()
def srlm(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Self-rewarding language models: M0 -> M1 -> M2 -> M3, every dataset versioned."""


command(RUN, "srlm init my-run --model ORG/MODEL --data answers.jsonl --small", "srlm init toy --profile tiny")(
    begin_cli.init
)
command(RUN, "srlm profile tiny", "srlm profile own --model ORG/MODEL --data answers.jsonl --small")(begin_cli.profile)


@command(RUN, "srlm check", "srlm check --json", "srlm check --model ORG/NAME", "srlm check --server NAME")
def check(
    model: Annotated[
        str | None,
        typer.Option(
            help="look at this model instead: a folder, a .gguf file, ORG/NAME, a name in params",
            autocompletion=complete.models,
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="ask a server for 24 short texts of this model of params: what is a seed worth?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for all that would fail, before anything runs: params.yaml, the files it names, templates, disk; with
    --model what a model brings, and one exchange as it is trained and answered."""
    from stages.commands import check as checking
    from stages.commands import check_model, check_server

    if server is not None:
        check_server.show(server, Path(), as_json=as_json)
    elif model is not None:
        check_model.show(model, Path(), as_json=as_json)
    else:
        checking.show(Path(), as_json=as_json)


@command(RUN, "srlm plan", "srlm plan --profile paper --gpu H100 --gpus 16 --price 2.5")
def plan(
    profile: Annotated[str | None, typer.Option(help="of this profile instead of params.yaml")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="USD an hour of a GPU, or of this machine")] = None,
    gpu: Annotated[str | None, typer.Option(help="as on this card: A100, H100, H200, B200, L4, L40S, ...")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="how many of them")] = None,
    parameters: Annotated[
        float | None, typer.Option(min=1e3, help="of models that are not here, as 70e9; else as their name tells")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a run takes before it runs: tokens, FLOPs, time, memory, disk and money of each stage, and how each number
    is known."""
    from stages.commands import plan as planning

    planning.plan(profile=profile, price=price, gpu=gpu, gpus=gpus, parameters=parameters, as_json=as_json)


@command(RUN, "srlm preview judge_seed", "srlm preview sample_candidates@M1 -n 5")
def preview(
    stage: Annotated[
        str,
        typer.Argument(
            help="as in dvc.yaml, with the model behind it: build_pairs@M2", autocompletion=complete.previewed
        ),
    ],
    n: Annotated[int | None, typer.Option("-n", min=2, help="prompts, 10; of judge_seed answers, 20")] = None,
    as_json: AsJson = False,
) -> None:
    """Some records of a stage, made for real, before the whole run pays for them; and what the whole takes. The run
    takes their texts from the cache."""
    from stages.commands import preview as previews

    previews.preview(stage, n, as_json=as_json)


@command(RUN, "srlm repro", "srlm repro train_dpo@M2")
def repro(
    targets: Annotated[list[str] | None, typer.Argument(help="stages, e.g. train_dpo@M2; all by default")] = None,
) -> None:
    """Run what is not up to date (`dvc repro`), then show the result."""
    from stages.commands.check import gate
    from stages.commands.results import show
    from stages.store.recovery import recover
    from stages.store.states import watched

    gate(Path())
    recover(Path())
    with watched(Path()):
        if code := run_dvc("repro", *(targets or [])):
            raise SystemExit(code)
    show(Path())


@command(LOOK, "srlm head-to-head", "srlm head-to-head M1 M3 M0 --judge gpt --engine openai")
def head_to_head(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="two or more; those in evaluated by default", autocompletion=complete.models),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="a model, or oracle; as evaluate.compare_by says", autocompletion=complete.judges)
    ] = None,
    engine: Annotated[str | None, typer.Option(help="that asks the judge: openai, vllm, transformers, ray")] = None,
    sampled: Annotated[bool, typer.Option("--sampled", help="sampled answers, too")] = False,
    canary: Annotated[bool, typer.Option(help="compare a constant answer as well: no judge should prefer it")] = True,
    as_json: AsJson = False,
) -> None:
    """Every model against every other, by any judge, in both orders: wins, strengths (Bradley-Terry) and intervals;
    and whether the judge falls for a constant answer."""
    from stages.commands import head_to_head as playing

    playing.play(models or [], judge=judge, engine=engine, sampled=sampled, canary=canary, as_json=as_json)


@command(LOOK, "srlm bank", "srlm bank M3 gpt --engine openai")
def bank(
    judges: Annotated[
        list[str] | None,
        typer.Argument(help="models that judge; those in evaluated by default", autocompletion=complete.models),
    ] = None,
    candidates: Annotated[int, typer.Option(min=0, help="about so many answers of models, when it is drawn")] = 500,
    take: Annotated[Path | None, typer.Option(help="the bank of another run: its data/EVAL/bank.parquet")] = None,
    draw: Annotated[bool, typer.Option("--draw", help="draw it anew, though there is one")] = False,
    engine: Annotated[str | None, typer.Option(help="that asks the judges: openai, vllm, transformers, ray")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure judges on a frozen bank of answers: agreement with its order, and what each thinks of each model's."""
    from stages.commands import bank as measuring

    measuring.measure(judges or [], candidates=candidates, take=take, draw_anew=draw, engine=engine, as_json=as_json)


@command(LOOK, "srlm results", "srlm results --markdown")
def results(
    markdown: Annotated[bool, typer.Option("--markdown", help="as Markdown")] = False,
    as_json: AsJson = False,
) -> None:
    """Show whether M1 < M2 < M3."""
    from stages.commands.results import show

    show(Path(), "json" if as_json else "markdown" if markdown else "table")


@command(LOOK, "srlm query", "srlm query fates", "srlm query 'SELECT model, count(*) FROM pairs GROUP BY model'")
def query(
    what: Annotated[
        str | None,
        typer.Argument(help="a question, or one SELECT; none: list the questions", autocompletion=complete.questions),
    ] = None,
    values: Annotated[
        list[str] | None, typer.Argument(help="values of the question, name=value", autocompletion=complete.values)
    ] = None,
    form: Annotated[Form | None, typer.Option("--format", help="how to show it; a file's ending tells it too")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the same as --format json")] = False,
    out: Annotated[Path | None, typer.Option(help="write a file instead")] = None,
    rev: Annotated[
        str | None, typer.Option(help="ask the store of this git revision or tag", autocompletion=complete.revisions)
    ] = None,
    save: Annotated[Path | None, typer.Option(help="write the whole store into this new DuckDB database")] = None,
) -> None:
    """Ask the store: score distributions, fates, pair quality, lineage, or any SELECT. Reads only."""
    from stages.commands import query as asking

    if save:
        asking.save(save, revision=rev)
    if what:
        asking.ask(what, values or [], form="json" if as_json else form and form.value, out=out, revision=rev)
    elif not save:
        asking.show_list(as_json=as_json or form is Form.json)


@command(LOOK, "srlm report", "srlm report --out v1.html --rev v1")
def report(
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("report.html"),
    rev: Annotated[
        str | None, typer.Option(help="of this git revision or tag", autocompletion=complete.revisions)
    ] = None,
) -> None:
    """Write one self-contained HTML page: models compared, scores, fates, every pair with its judgements, lineage."""
    from stages.commands import report as reporting

    reporting.write(out, revision=rev)


@command(LOOK, "srlm diff v1", "srlm diff v1 v2 pairs")
def diff(
    old: Annotated[str, typer.Argument(help="a git revision or tag", autocompletion=complete.revisions)],
    new: Annotated[
        str | None, typer.Argument(help="another; the workspace by default", autocompletion=complete.revisions)
    ] = None,
    table: Annotated[str | None, typer.Argument(help="one table only", autocompletion=complete.tables)] = None,
    as_json: AsJson = False,
) -> None:
    """What changed between two versions of the store: rows by table, and figures."""
    from stages.commands import diff as comparing

    comparing.show(old, new, table, as_json=as_json)


@command(KEEP, "srlm publish --repo ORG/NAME --dry-run", "srlm publish --repo ORG/NAME --private --models M1 M2 M3")
def publish(
    repo: Annotated[str, typer.Option(help="ORG/NAME of the datasets; a model is published as ORG/NAME-MODEL")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="with --models: which", autocompletion=complete.models),
    ] = None,
    models: Annotated[bool, typer.Option("--models", help="models too: --models M1 M2 M3")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="also prompts, candidates, judgements, scores, ranked")] = False,
    private: Annotated[bool, typer.Option("--private", help="make new repositories private")] = False,
    tag: Annotated[str | None, typer.Option(help="name the version, e.g. v1; tags do not move")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="write over what others changed there")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show every file and card; send nothing")] = False,
    base_url: Annotated[str | None, typer.Option(help="of another Hub than HF_ENDPOINT says")] = None,
) -> None:
    """Publish datasets, and models, on the Hugging Face Hub, with cards and lineage; one commit a repository, none when
    nothing changed."""
    from stages.commands import publish as publishing

    if bool(names) != models:
        raise SrlmError(
            "--models wants names behind it: --models M1 M2 M3"
            if models
            else f"to publish {' '.join(names or [])} add --models before it"
        )
    publishing.publish(
        repo, names or [], raw=raw, private=private, tag=tag, replace=replace, dry_run=dry_run, endpoint=base_url
    )


app.add_typer(judge_cli.judgebench, name="judgebench", rich_help_panel=LOOK)
app.add_typer(judge_cli.rewardbench, name="rewardbench", rich_help_panel=LOOK)
eval_cli.add_to(app, LOOK)
keep_cli.add_to(command, KEEP)
version_cli.add_to(command, RUN, KEEP)
watch_cli.add_to(command, RUN)


def main() -> None:
    run(app)


if __name__ == "__main__":
    main()
