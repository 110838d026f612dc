"""rewardbench: do a judge's scores put right answers above wrong ones? (RewardBench 2, arXiv 2506.01937, by ratings)

srlm rewardbench MODEL --prompts FILE    any model of the store or of a server, as the judge
srlm rewardbench score RATINGS           the figures of ratings that somebody published
"""

from __future__ import annotations

from pathlib import Path

from stages.commands.benchmarks import judged, rows_of, sheets, texts_of, write_rows
from stages.commands.figures import aside, keep, show
from stages.commands.judges import require
from stages.config.load import load_params
from stages.method import judging
from stages.method.evaluation import reward_bench
from stages.store.run import Run

HUB = "allenai/reward-bench-2"
KIND = "rewardbench"
ROWS = "data/EVAL/rewardbench/{}.jsonl"
"""With `scores`: `srlm rewardbench score` reads them."""


def judge(model: str, prompts: str, *, split: str, first: int | None, as_json: bool, root: Path = Path()) -> None:
    """Rate all answers of PROMPTS by the mean score of `model`; write rows and metrics of the whole."""
    params = load_params(root)
    require(model, "evaluate", None, params, root)
    rows, name = rows_of(prompts, HUB, split)
    table = reward_bench.prompts(rows[:first], name)
    with aside(), Run(KIND, root, model) as run:
        judgements = judged(params, reward_bench.answers(table), model, run)
    rated = reward_bench.rated(table, judging.mean_scores(judgements, params.judge_candidates.score))
    found = reward_bench.figures(rated, n=params.evaluate.bootstrap, seed=params.seed)
    content = {"judge": model, "prompts": name, "subsets": found}
    if first is None:
        texts, scored = texts_of(judgements), zip(table.to_dicts(), rated["scores"].to_list(), strict=True)
        write_rows(
            path := root / ROWS.format(model),
            (
                row | {"scores": scores, "judgments": [texts[f"{place}-{n}"] for n in range(len(scores))]}
                for place, (row, scores) in enumerate(scored)
            ),
        )
        keep(KIND, model, content | {"inputs": run.inputs}, root, path)
    show(content, sheets({f"RewardBench 2, {model}": found}), as_json=as_json)


def score(file: Path, *, as_json: bool) -> None:
    """The figures of published ratings."""
    rows, name = rows_of(str(file), HUB)
    found = reward_bench.figures(reward_bench.ratings(rows, name))
    show({"ratings": name, "subsets": found}, sheets({f"RewardBench 2, {name}": found}), as_json=as_json)
