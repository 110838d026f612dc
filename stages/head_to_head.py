"""head_to_head: two models' answers to the held-out prompts, compared one by one (paper 3.1).

    python -m stages.head_to_head M3-M1

The judge is a parameter (`evaluate.compare_with`): the tiny world's checker (more points win), or the folder of a
model, which sees both orders; where its verdicts disagree, it is a tie.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.config.params import Params
from stages.console.command import command
from stages.engines.base import chat_requests, frame
from stages.engines.open import open_engine
from stages.engines.request import Sampling
from stages.method.evaluation import match as matches
from stages.method.statistics import figures
from stages.store.run import Run
from stages.store.tables import ANSWERS, TEST_PROMPTS, VERDICTS

TEMPLATE = "stages/templates/compare.jinja"


def main(match: str, root: Path = Path()) -> None:
    """Write data/EVAL/head_to_head/MATCH.parquet, data/metrics/MATCH.json and its plot."""
    params = load_params(root)
    pair = entry(params.head_to_head, "head_to_head", match)
    with Run("head_to_head", root, match) as run:
        first, second = run.read(ANSWERS, pair.model), run.read(ANSWERS, pair.other)
        by_checker = params.evaluate.compare_with.endswith(".py")
        verdicts = matches.oracle_verdicts(first, second) if by_checker else compare(run, first, second, params)
        run.write(VERDICTS, verdicts, match)
        result = matches.head_to_head(verdicts, n=params.evaluate.bootstrap, seed=params.seed)
        run.write_metrics(match, result)
        run.write_plot(f"wins_{match}", figures(match, result))


def compare(run: Run, first: pl.DataFrame, second: pl.DataFrame, params: Params) -> pl.DataFrame:
    """VERDICTS by a judge model, asked in both orders."""
    judge = Path(params.evaluate.compare_with).name
    asked = matches.compare_prompts(run.template(TEMPLATE), run.read(TEST_PROMPTS), first, second)
    engine_params = params.engine_for("head_to_head")
    with open_engine(
        engine_params, params.hardware, run.model(judge), model=judge, seed=params.seed, run=run
    ) as engine:
        said = engine.generate(
            chat_requests(asked, "id", "text"), Sampling(1, 0.0, 1.0, params.evaluate.compare_max_tokens)
        )
    return matches.model_verdicts(first, second, asked, frame(said), judge=judge)


if __name__ == "__main__":
    command(main)
