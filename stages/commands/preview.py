"""preview: a stage on a few records, made by the stage itself, before a whole run pays for it.

    srlm preview judge_seed          can this model judge? About 20 held-out answers, about a minute

The stage runs as DVC would run it, in a temporary folder that holds a few rows of its inputs. What its engine writes
goes to the project's completion cache; nothing else is left behind. The SFT baseline judges, where it has been trained;
before that, M0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
from stages.method import judging
from stages.method.evaluation.judge import judge_metrics
from stages.store import catalog
from stages.store.run import COMPLETION_CACHE
from stages.store.tables import JUDGED, RANKED, RANKED_VALID, SEED_JUDGEMENTS
from stages.text.escape import for_terminal
from stages.text.ids import content_id

JUDGE = "SFT"
SHOWN = 3
CHARACTERS = 700
"""Of a judgement that is shown."""


def preview(stage: str, n: int, root: Path = Path()) -> None:
    """Run `stage` on about `n` records and show what came of it. Raises SrlmError for a stage that has no preview
    yet."""
    if stage != "judge_seed":
        raise SrlmError(f"no preview of {stage!r} yet; there is: srlm preview judge_seed")
    params = load_params(root)
    with sandbox(root, params) as space:
        judge = _judge(params, root, space)
        answers = few_answers(params, root, space, n)
        catalog.write(RANKED, answers, space)
        stderr.print(f"{judge} judges {len(answers)} held-out answers to {answers['prompt_id'].n_unique()} prompts")
        run_stage("judge_seed", space)
        show(answers, catalog.read(SEED_JUDGEMENTS, space), params, judge)


@contextmanager
def sandbox(root: Path, params: Params) -> Iterator[Path]:
    """A temporary project: this one's code and completion cache, and params.yaml that asks for one judgement of each
    answer."""
    with TemporaryDirectory(prefix="srlm-preview-") as folder:
        space = Path(folder)
        shutil.copytree(root / "stages", space / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        cache = (root / COMPLETION_CACHE).parent.resolve()
        cache.mkdir(parents=True, exist_ok=True)
        (space / "data" / "models").mkdir(parents=True)
        (space / COMPLETION_CACHE).parent.symlink_to(cache)
        yaml = YAML()
        data: Any = yaml.load((root / PARAMS).read_text(encoding="utf-8"))
        data["judge_seed"]["k"] = 1
        for section in (*data["base"].values(), data["split_seed"]):
            if not (space / section["path"]).exists():  # a model or a file of one's own stays where it is
                section["path"] = str((root / section["path"]).absolute())
        for section in (data["judge"], data["write_prompts"]):
            template = space / section["template"]
            if not template.exists() and (root / section["template"]).is_file():
                template.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / section["template"], template)
        yaml.dump(data, space / PARAMS)
        yield space


def run_stage(stage: str, space: Path, *arguments: str) -> None:
    """One stage as DVC runs it, on the tables in `space`. Raises SrlmError when it fails; it has said why."""
    code = [sys.executable, "-m", f"stages.{stage}", *arguments, "--root", str(space)]
    if subprocess.run(code, check=False, env=os.environ).returncode:
        raise SrlmError(f"the preview ends here: {stage} failed")


def _judge(params: Params, root: Path, space: Path) -> str:
    """Put the model that judges where the stage looks for the SFT baseline: itself, or M0, which it is trained from."""
    place = catalog.model_dir(space, JUDGE)
    for name in (JUDGE, "M0"):
        folder = catalog.model_dir(root, name)
        if (folder / "config.json").is_file():
            place.symlink_to(folder.resolve())
            return name if name == JUDGE else "M0, which the SFT baseline will be trained from,"
    run_stage("get_model" if "M0" in params.base else "get_external", space, "M0")
    place.symlink_to(catalog.model_dir(space, "M0"))
    return "M0, which the SFT baseline will be trained from,"


def few_answers(params: Params, root: Path, space: Path, n: int) -> pl.DataFrame:
    """RANKED rows: of some held-out prompts the best and the worst answer, and of few prompts those between, too."""
    if not catalog.table_path(RANKED_VALID, root).is_file():
        run_stage("split_seed", space)
    held_out = catalog.read(RANKED_VALID, root if catalog.table_path(RANKED_VALID, root).is_file() else space)
    drawn = sorted(held_out["prompt_id"].unique(), key=lambda prompt: content_id(params.seed, prompt))[: max(1, n // 2)]
    few = held_out.filter(pl.col("prompt_id").is_in(drawn)).sort("prompt_id", "human_rank", "candidate_id")
    best_first, worst_first = (
        pl.int_range(pl.len()).over("prompt_id"),
        pl.int_range(pl.len(), 0, -1).over("prompt_id") - 1,
    )
    from_the_ends = few.with_columns(at=pl.min_horizontal(best_first, worst_first)).sort(
        "at", "prompt_id", "human_rank"
    )
    return from_the_ends.head(max(n, 2)).select(*RANKED.schema).sort("candidate_id")


def show(answers: pl.DataFrame, judgements: pl.DataFrame, params: Params, judge: str) -> None:
    """The readable share, agreement beside chance, some judgements, and what to change."""
    scores = judging.mean_scores(judgements)
    judged = (
        answers.join(scores.drop("prompt_id"), on="candidate_id")
        .with_columns(judge=pl.lit(JUDGE))
        .select(*JUDGED.schema)
    )
    readable = judgements["score"].count()
    pairs = judge_metrics(judged, n=100, seed=params.seed)["pairwise_accuracy"]
    console = Console()
    order = judgements.with_columns(unread=pl.col("score").is_null()).sort("unread", "candidate_id")
    picked = pl.concat([order.head(SHOWN - 1), order.tail(1)]).unique("candidate_id", maintain_order=True)
    texts = dict(answers.select("candidate_id", "response").iter_rows())
    ranks = dict(answers.select("candidate_id", "human_rank").iter_rows())
    for row in picked.iter_rows(named=True):
        said = "unreadable" if row["score"] is None else f"score {row['score']:g}"
        answer = _cut(texts[row["candidate_id"]], CHARACTERS // 3)
        body = Text(f"answer: {answer}\n\njudgement: {_cut(row['text'], CHARACTERS)}")
        console.print(Panel(body, title=f"{said}; people's rank {ranks[row['candidate_id']]}", title_align="left"))
    share = readable / len(judgements)
    console.print(f"readable: {readable} of {len(judgements)} judgements ({share:.0%})")
    if pairs["n"]:
        console.print(
            f"agreement: {float(pairs['value'] or 0):.0%} of {pairs['n']} pairs in people's order (chance: 50%; a tie "
            f"is half)",
        )
    else:
        console.print("agreement: no pair has two readable scores")
    for line in advice(judgements, pairs, params):
        console.print(f"- {line}")


def advice(judgements: pl.DataFrame, pairs: dict[str, Any], params: Params) -> list[str]:
    """What to change when it cannot judge, from what was counted."""
    unread, cut = judgements["score"].null_count(), (judgements["finish_reason"] == "length").sum()
    lines = []
    if unread > len(judgements) / 4:
        lines.append(
            f"{unread} of {len(judgements)} judgements have no score line that can be read: this model does not do "
            f"what "
            f"{params.judge.template} asks. A larger instruction-tuned model does, or a shorter judge prompt of your "
            f"own (judge.template)"
        )
    if cut:
        lines.append(
            f"{cut} were cut off at judge_seed.max_tokens, which is {params.judge_seed.max_tokens}: raise it, unless "
            f"they only repeat themselves"
        )
    if not lines and pairs["n"] and float(pairs["value"] or 0) <= 0.55:
        lines.append(
            "its scores hardly agree with people: expect a small EFT. A larger model helps, or more tries "
            "(judge_seed.k)"
        )
    return lines or ["this model can judge. Next: srlm repro"]


def _cut(text: str, most: int) -> str:
    shown = "\n".join(map(for_terminal, text.strip().splitlines()))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
