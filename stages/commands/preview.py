"""preview: a stage on a few records, before a whole run pays for it.

    srlm preview judge_seed          can this model judge? Up to 20 held-out answers, about a minute

The stage itself runs, in a temporary project with a few rows of its inputs. Only the project's completion cache keeps
what came of it. The judge of params.yaml judges; for the SFT baseline, where it has not been trained yet, M0.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from rich.panel import Panel
from rich.text import Text
from ruamel.yaml import YAML

from stages.config.load import PARAMS, load_params
from stages.config.params import Params
from stages.console.errors import SrlmError
from stages.console.terminal import Console, stderr
from stages.method.evaluation.judge import judge_metrics
from stages.store import catalog
from stages.store.run import COMPLETION_CACHE
from stages.store.tables import RANKED, RANKED_VALID, SEED_JUDGEMENTS
from stages.text.escape import for_terminal

OF_ITS_OWN = {PARAMS, "data", "dvc.lock", ".dvc", ".git"}
"""What the temporary project does not share with this one."""
FIRST = 8
"""Answers that are judged, however long it takes; more of them in what is left of `SECONDS`."""
SECONDS = 60
SHOWN = 3
CHARACTERS = 700
"""Of a judgement that is shown."""


def preview(stage: str, n: int, root: Path = Path()) -> None:
    """Run `stage` on up to `n` records and show what came of it. Raises SrlmError for a stage without a preview."""
    if stage != "judge_seed":
        raise SrlmError(f"no preview of {stage!r} yet; there is: srlm preview judge_seed")
    params = load_params(root)
    with sandbox(root) as space:
        judge = _judge(params, root, space)
        answers = few_answers(root, space, n)
        first, started = answers.head(FIRST), time.monotonic()
        stderr.print(f"{judge} judges {len(first)} held-out answers to {first['prompt_id'].n_unique()} prompts")
        judged, took = judge_seed(first, space), time.monotonic() - started
        more = answers.head(FIRST + int(FIRST * (SECONDS - took) / took)) if took < SECONDS else first
        if len(more) > len(first):
            judged = judge_seed(more, space)  # the first are in the cache
        if len(judged) < len(answers):
            stderr.print(f"{len(judged)} of {len(answers)} answers: more would take over {SECONDS} seconds here")
        show(judged, params)


@contextmanager
def sandbox(root: Path) -> Iterator[Path]:
    """A temporary project: this one's code, templates and completion cache, and params.yaml that asks for one judgement
    of each answer."""
    with TemporaryDirectory(prefix="srlm-preview-") as folder:
        space, cache = Path(folder), (root / COMPLETION_CACHE).parent.resolve()
        cache.mkdir(parents=True, exist_ok=True)
        (space / "data" / "models").mkdir(parents=True)
        (space / COMPLETION_CACHE).parent.symlink_to(cache)
        for each in root.resolve().iterdir():
            if each.name not in OF_ITS_OWN:
                (space / each.name).symlink_to(each)
        yaml = YAML()
        data: Any = yaml.load((root / PARAMS).read_text(encoding="utf-8"))
        data["judge_seed"] |= {"k": 1, "answers_per_prompt": None}
        for section in (*data["base"].values(), data["split_seed"]):
            if not (space / section["path"]).exists():  # outside of the project, or in its data folder
                section["path"] = str((root / section["path"]).absolute())
        yaml.dump(data, space / PARAMS)
        yield space


def run_stage(stage: str, space: Path, *arguments: str) -> None:
    """One stage as DVC runs it, on the tables in `space`. Raises SrlmError when it fails; it has said why."""
    if subprocess.run([sys.executable, "-m", f"stages.{stage}", *arguments, "--root", str(space)]).returncode:
        raise SrlmError(f"the preview ends here: {stage} failed")


def _judge(params: Params, root: Path, space: Path) -> str:
    """Put the model that judges where the stage looks for it: itself, or for the SFT baseline M0, which it is trained
    from. Raises SrlmError where none judges."""
    judge = params.judge_seed.model
    if judge is None:
        raise SrlmError(f"no model judges where judge_seed.source is {params.judge_seed.source}. Next: srlm repro")
    candidates = [judge, "M0"] if judge == "SFT" else [judge]
    files = ("config.json", "server.json")
    there = [name for name in candidates if any((catalog.model_dir(root, name) / file).is_file() for file in files)]
    name = there[0] if there else candidates[-1]
    if not there:
        run_stage("get_model" if name in params.base else "get_external", space, name)
    link = catalog.model_dir(space, judge)
    if not link.exists():
        link.symlink_to(catalog.model_dir(root if there else space, name).resolve())
    return judge if name == judge else "M0, which the SFT baseline will be trained from,"


def few_answers(root: Path, space: Path, n: int) -> pl.DataFrame:
    """RANKED rows of the held-out prompts with the shortest answers: of each prompt the best and the worst first."""
    if not catalog.table_path(RANKED_VALID, root).is_file():
        run_stage("split_seed", root := space)
    place = pl.int_range(pl.len())
    held_out = catalog.read(RANKED_VALID, root).sort("prompt_id", "human_rank", "candidate_id")
    return (
        held_out.with_columns(
            from_an_end=pl.min_horizontal(place, pl.len() - 1 - place).over("prompt_id"),
            length=pl.col("response").str.len_chars().max().over("prompt_id"),
        )
        .filter(pl.struct("length", "prompt_id").rank("dense") <= max(1, n // 2))
        .sort("from_an_end", "length", "prompt_id", "human_rank")
        .head(n)
        .select(*RANKED.schema)
    )


def judge_seed(answers: pl.DataFrame, space: Path) -> pl.DataFrame:
    """`answers` with score (null where it could not be read), text and finish_reason of one judgement each."""
    catalog.write(RANKED, answers.sort("candidate_id"), space)
    run_stage("judge_seed", space)
    judgements = catalog.read(SEED_JUDGEMENTS, space).select("candidate_id", "score", "text", "finish_reason")
    return answers.join(judgements, on="candidate_id", maintain_order="left")


def show(judged: pl.DataFrame, params: Params) -> None:
    """Some judgements, the readable share, agreement beside chance, and what to change."""
    console = Console()
    order = judged.with_columns(unread=pl.col("score").is_null()).sort("unread", "candidate_id")
    for row in pl.concat([order.head(SHOWN - 1), order.slice(max(SHOWN - 1, len(order) - 1))]).iter_rows(named=True):
        score = "unreadable" if row["score"] is None else f"score {row['score']:g}"
        body = f"answer: {_cut(row['response'], CHARACTERS // 3)}\n\njudgement: {_cut(row['text'], CHARACTERS)}"
        console.print(Panel(Text(body), title=f"{score}; people's rank {row['human_rank']}", title_align="left"))
    readable, pairs = judged["score"].count(), judge_metrics(judged, n=100)["pairwise_accuracy"]
    console.print(f"readable: {readable} of {len(judged)} judgements ({readable / len(judged):.0%})")
    agreement = f"{pairs['value'] or 0:.0%} of {pairs['n']} pairs in people's order (chance: 50%; a tie is half)"
    console.print(f"agreement: {agreement if pairs['n'] else 'no pair has two readable scores'}")
    for line in advice(judged, pairs, params):
        console.print(f"- {line}", soft_wrap=True)


def advice(judged: pl.DataFrame, pairs: Any, params: Params) -> list[str]:
    """What to change when it cannot judge, from what was counted; `pairs` is a figure with its value and n."""
    unread, cut = judged["score"].null_count(), (judged["finish_reason"] == "length").sum()
    lines = []
    if unread > len(judged) / 4:
        lines.append(
            f"{unread} of {len(judged)} judgements have no score line: this model does not do what "
            f"{params.judge.template} asks. Take a larger instruction-tuned model, a shorter judge.template, or for "
            "EFT another judge or people's ranks (judge_seed.source: judge, ranks)"
        )
    if cut:
        lines.append(
            f"{cut} were cut off at judge_seed.max_tokens, {params.judge_seed.max_tokens}: raise it, unless they only "
            "repeat themselves"
        )
    if not lines and pairs["n"] and pairs["value"] <= 0.55:
        lines.append("its scores hardly agree with people: take a larger model, or more tries (judge_seed.k)")
    return lines or ["this model can judge. Next: srlm repro"]


def _cut(text: str, most: int) -> str:
    shown = "\n".join(map(for_terminal, text.strip().splitlines()))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
