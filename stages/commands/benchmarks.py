"""What the benchmarks of judges share: their files, a judge's answers, tables on the screen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from stages.commands.judges import open_judge, scored
from stages.commands.results import cells, of_pairs, sheet
from stages.config.params import Params
from stages.console.errors import EngineError, SeedDataError
from stages.console.sheets import Sheet
from stages.engines.request import Sampling, ScoreLogprobs
from stages.method.scale import Scale
from stages.store import metrics
from stages.store.files import atomic_write
from stages.store.rows import FORMS, Row, read_file, read_hub
from stages.store.run import Run

REPO = re.compile(r"(?P<repo>[\w-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
FILE = re.compile(r"\.(?:jsonl|json|csv|parquet)(?:\.gz)?$")


def rows_of(place: str, hub: str, split: str | None = None) -> tuple[list[Row], str]:
    """The rows of a file, or of a dataset on the Hub, ORG/NAME[@REVISION] (`hub` by the word hub), and its name, there
    with the commit. Raises SeedDataError."""
    address = REPO.fullmatch(hub if place == "hub" else place)
    if address is None or FILE.search(place) or Path(place).exists():
        fix = f"Name a file ({FORMS}), a dataset on the Hub as ORG/NAME, or hub for {hub}"
        return read_file(Path(place), what="file", fix=fix), place
    repo, revision = address["repo"], _commit(address["repo"], address["revision"])
    return read_hub(repo, revision, split=split, where="--"), f"{repo}@{revision}"


def _commit(repo: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(repo, revision=revision).sha)
    except Exception as e:  # network, authentication, unknown names: dozens of types
        raise SeedDataError(
            f"dataset {repo} cannot be looked at: {type(e).__name__}: {' '.join(str(e).split())[:300]}. Is it the name "
            f"of a file here? Else check the name and the network"
        ) from None


def judged(params: Params, answers: pl.DataFrame, model: str, run: Run) -> pl.DataFrame:
    """JUDGEMENTS of `answers` (candidate_id, prompt_id, prompt, response) by `model`, as candidates are judged: the
    same template, K tries, sampling, and expected scores where params ask for them."""
    p = params.judge_candidates
    scale = Scale(**dict(params.judge.scale))
    logprobs = ScoreLogprobs(*scale.score_logprobs) if p.score == "expected" else None
    template = run.template(params.judge.template)
    with open_judge(model, "evaluate", None, params, run) as engine:
        sampling = Sampling(p.k, p.temperature, p.top_p, p.max_tokens, score_logprobs=logprobs)
        judgements = scored(answers, model, engine, sampling, template, scale)
    if p.score == "expected" and not judgements["expected"].count():
        raise EngineError(
            "no judgement has an expected score: the engine gave no probabilities, or no score could be read. "
            "Use judge_candidates.score: sampled"
        )
    return judgements


def texts_of(judgements: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Of each answer, by candidate_id: its judgements as they are shown to people."""
    found: dict[str, list[dict[str, Any]]] = {}
    for candidate_id, *values in judgements.select("candidate_id", "score", "expected", "text").iter_rows():
        found.setdefault(candidate_id, []).append(dict(zip(("score", "expected", "judgment"), values, strict=True)))
    return found


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sheets(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Sheet]:
    """Of each of `tables`: title -> subset -> figures."""
    for title, figures in metrics.without_empty_claims(dict(tables)).items():
        yield sheet(title, [{"subset": name, **_row(of)} for name, of in figures.items()])


def _row(figures: Mapping[str, Any]) -> dict[str, Any]:
    """With two digits, as leaderboards have them."""
    row = {
        title: figure and figure._replace(digits=2) for title, figure in cells(of_pairs(figures), shows_n=False).items()
    }
    return {"n": next(iter(figures.values()))["n"]} | row
