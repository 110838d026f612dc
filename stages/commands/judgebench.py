"""judgebench: can a model tell a right answer from a wrong one? (JudgeBench, arXiv 2410.12784)

srlm judgebench MODEL --pairs FILE       any model of the store or of a server, as the judge
srlm judgebench score DECISIONS          the figures of decisions that somebody published
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.commands.benchmarks import judged, rows_of, sheets, texts_of, write_rows
from stages.commands.figures import aside, keep, show
from stages.commands.judges import open_judge, require
from stages.config.load import load_params
from stages.engines.request import Sampling
from stages.method import judging
from stages.method.evaluation import judge_bench
from stages.store.run import Run

HUB = "ScalerLab/JudgeBench"
COMPARE = "stages/templates/compare.jinja"
KIND, POINTWISE, PAIRWISE = "judgebench", "pointwise", "pairwise"
ROWS = "data/EVAL/judgebench/{}.{}.jsonl"
"""As the benchmark's own script writes them: it, and `srlm judgebench score`, read them."""


def judge(
    model: str, pairs: str, *, split: str, by: str, first: int | None, as_json: bool, root: Path = Path()
) -> None:
    """Judge PAIRS by the scores of `model`, by its comparisons, or both; write rows and metrics of the whole."""
    params = load_params(root)
    require(model, "evaluate", None, params, root)
    rows, name = rows_of(pairs, HUB, split)
    table = judge_bench.pairs(rows[:first], name)
    content: dict[str, Any] = {"judge": model, "pairs": name}
    judgments: dict[str, dict[str, list[dict[str, Any]]]] = {}
    bootstrap = {"n": params.evaluate.bootstrap, "seed": params.seed}
    with aside(), Run(KIND, root, model) as run:
        if by != PAIRWISE:
            judgements = judged(params, judge_bench.answers(table), model, run)
            means = judging.mean_scores(judgements, params.judge_candidates.score)
            made, texts = judge_bench.pointwise(table, means, model), texts_of(judgements)
            content[POINTWISE] = judge_bench.figures(made, **bootstrap)
            judgments[POINTWISE] = {
                pair: [{"decision": decision, **{side: texts[f"{pair}-{side}"] for side in "AB"}}]
                for pair, (decision,) in made.select("pair_id", "decisions").iter_rows()
            }
        if by != POINTWISE:
            comparisons = judge_bench.compare_prompts(run.template(COMPARE), table)
            with open_judge(model, "evaluate", None, params, run) as engine:
                sampling = Sampling(1, 0.0, 1.0, params.evaluate.compare_max_tokens)
                completions = engine.complete(comparisons.select(id="id", prompt="text"), sampling)
            made = judge_bench.pairwise(table, comparisons, completions, model)
            content[PAIRWISE] = judge_bench.figures(made, **bootstrap)
            said = dict(completions.select("id", "text").iter_rows())
            judgments[PAIRWISE] = {
                pair: [{"decision": d, "judgment": said[f"{pair}-{order}"]} for order, d in enumerate(decisions)]
                for pair, decisions in made.select("pair_id", "decisions").iter_rows()
            }
    if first is None:
        named = table.rename({"answer_a": "response_A", "answer_b": "response_B"}).to_dicts()
        files = {way: root / ROWS.format(model, way) for way in judgments}
        for way, of in judgments.items():
            judge_name = f"{model} {way}"
            write_rows(files[way], [row | {"judge_name": judge_name, "judgments": of[row["pair_id"]]} for row in named])
        keep(KIND, model, content | {"inputs": run.inputs}, root, *files.values())
    show(content, sheets({f"{model}, {way}": content[way] for way in judgments}), as_json=as_json)


def score(file: Path, pairs: str | None, *, split: str, as_json: bool) -> None:
    """The figures of published decisions."""
    rows, name = rows_of(str(file), HUB)
    table = judge_bench.decisions(rows, name)
    if pairs is not None:
        others, of = rows_of(pairs, HUB, split)
        table = judge_bench.with_sources(table, judge_bench.pairs(others, of), name)
    found = {str(judge): judge_bench.figures(own) for (judge,), own in table.group_by("judge", maintain_order=True)}
    show(found, sheets(found), as_json=as_json)
