"""bank: judges measured on a frozen bank of answers, never on what the loop makes of itself.

    srlm bank                                  draws the bank if there is none; the models in `evaluated` judge it
    srlm bank gpt --engine openai              another judge, on the same answers
    srlm bank --take ../plain/data/EVAL/bank.parquet     the bank of another run, so that two runs can be compared

The bank holds the held-out answers that people ranked, and answers of the models in `evaluated` in the checker's order,
where there is one. Judges score it as they score candidates, with the K, temperature and length of `evaluate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.commands.figures import aside, keep, show, track
from stages.commands.judges import CONSTANT_ANSWER, open_judge, require, scored
from stages.commands.results import banks
from stages.config.load import load_params
from stages.config.params import Params
from stages.console.errors import SrlmError, TableError
from stages.console.terminal import stderr, warn
from stages.engines.request import Sampling, ScoreLogprobs
from stages.method import judging
from stages.method.evaluation.bank import bank_metrics, constant_answers, draw
from stages.method.scale import Scale
from stages.store import catalog, metrics
from stages.store.damage import other_bank
from stages.store.run import Run
from stages.store.tables import ANSWERS, BANK, BANK_SCORES, RANKED_VALID, TEST_PROMPTS

KIND = "bank"


def measure(
    judges: list[str],
    *,
    candidates: int = 500,
    take: Path | None = None,
    draw_anew: bool = False,
    engine: str | None = None,
    as_json: bool = False,
    root: Path = Path(),
) -> None:
    """Write data/EVAL/bank.parquet where it is not there, data/EVAL/bank/JUDGE.parquet and data/metrics/bank/JUDGE.json
    of each judge, and show the figures. Raises SrlmError where nothing can be drawn, ModelError, TableError."""
    params = load_params(root)
    names = list(dict.fromkeys(judges or params.evaluated))
    for name in names:
        require(name, "evaluate", engine, params, root)
    bank = catalog.table_path(BANK, root)
    if take or draw_anew or not bank.is_file():
        rows = taken(take) if take else drawn(params, root, candidates)
        catalog.write(BANK, rows, root)
        counts = ", ".join(f"{n:,} {source}" for source, n in rows.group_by("source").len().sort("source").iter_rows())
        stderr.print(f"the bank holds {len(rows):,} answers to {rows['prompt_id'].n_unique():,} prompts: {counts}")
        track(root, bank)
    shown = {}
    for name in names:
        with aside():
            shown[name] = judged(name, engine, params, root)
        keep(KIND, name, shown[name], root, catalog.table_path(BANK_SCORES, root, name))
    show(shown, banks(metrics.without_empty_claims(shown), Scale(**dict(params.judge.scale))), as_json=as_json)
    for name, figures in shown.items():
        for warning in figures["warned"]:
            warn(f"{name}: {warning}")
    if note := other_bank(root, metrics.read_all(root)):
        warn(note)


def taken(file: Path) -> pl.DataFrame:
    """The bank in another run's file. Raises TableError."""
    try:
        return catalog.check(BANK, pl.read_parquet(file, glob=False), str(file))
    except catalog.UNREADABLE as e:
        raise TableError(f"{file} cannot be read as a bank: {str(e).splitlines()[0]}") from None


def drawn(params: Params, root: Path, candidates: int) -> pl.DataFrame:
    """A new bank. Raises SrlmError where nobody ranked anything and no checker scored two answers apart."""
    ranked, prompts = catalog.read(RANKED_VALID, root), catalog.read(TEST_PROMPTS, root)
    answers = [catalog.read(ANSWERS, root, name) for name in params.evaluated]
    rows = draw(ranked, prompts, answers, candidates=candidates, seed=params.seed)
    if rows.is_empty():
        raise SrlmError("nothing to draw a bank from: neither held-out ranks nor a checker's scores. Type --take FILE")
    return rows


def judged(judge: str, engine: str | None, params: Params, root: Path) -> dict[str, Any]:
    """The figures of one judge, after its scores were written."""
    p, kind, scale = params.evaluate, params.judge_candidates.score, Scale(**dict(params.judge.scale))
    with Run(KIND, root, judge) as run:
        bank, template = run.read(BANK), run.template(params.judge.template)
        canary = constant_answers(bank, run.template(CONSTANT_ANSWER).strip())
        probe = ScoreLogprobs(*scale.score_logprobs) if kind == "expected" else None
        sampling = Sampling(p.judge_k, p.judge_temperature, p.top_p, p.judge_max_tokens, score_logprobs=probe)
        with open_judge(judge, "evaluate", engine, params, run) as asked:
            judgements, of_canary = (scored(rows, judge, asked, sampling, template, scale) for rows in (bank, canary))
        means = judging.mean_scores(judgements, kind).drop("prompt_id")
        scores = bank.join(means, on="candidate_id", maintain_order="left").with_columns(judge=pl.lit(judge))
        scores = scores.select(list(BANK_SCORES.schema))
        figures = bank_metrics(
            scores,
            judgements,
            bank,
            authors=params.evaluated,
            scores_apart=params.warn.scores_apart,
            constant=judging.mean_scores(of_canary, kind),
            kind=kind,
            n=p.bootstrap,
            seed=params.seed,
            scale=scale,
        )
        figures["bank"] = run.inputs[str(catalog.table_path(BANK, root).relative_to(root))]
        run.write(BANK_SCORES, scores, judge, asked)
    return figures
