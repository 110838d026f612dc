"""head_to_head: two models' answers to the held-out prompts, compared one by one (paper 3.1).

    python -m stages.head_to_head M3-M1

The judge is a parameter (`evaluate.compare_by`): the oracle (more points win), or the model `evaluate.compare_with`,
which sees both orders; where its verdicts disagree, it is a tie.
"""

from __future__ import annotations

from pathlib import Path

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.console.terminal import warn
from stages.engines.base import BaseEngine
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method.evaluation import match as matches
from stages.store.run import Run
from stages.store.tables import ANSWERS, TEST_PROMPTS, VERDICTS

TEMPLATE = "stages/templates/compare.jinja"


def main(match: str, root: Path = Path()) -> None:
    """Write data/EVAL/head_to_head/MATCH.parquet and data/metrics/head_to_head/MATCH.json."""
    params = load_params(root)
    pair = entry(params.head_to_head, "head_to_head", match)
    with Run("head_to_head", root, match) as run:
        first, second = run.read(ANSWERS, pair.model), run.read(ANSWERS, pair.other)
        engine: BaseEngine | None = None
        if params.evaluate.compare_by == "oracle":
            verdicts = matches.oracle_verdicts(first, second)
        else:
            judge = params.evaluate.compare_with
            prompts = matches.compare_prompts(run.template(TEMPLATE), run.read(TEST_PROMPTS), first, second)
            sampling = Sampling(1, 0.0, 1.0, params.evaluate.compare_max_tokens)
            with stage_engine(params, "head_to_head", judge, run) as engine:
                completions = engine.complete(prompts.select(id="id", prompt="text"), sampling)
            verdicts = matches.model_verdicts(first, second, prompts, completions, judge=judge)
        run.write(VERDICTS, verdicts, match, engine)
        result = matches.head_to_head(verdicts, n=params.evaluate.bootstrap, seed=params.seed)
        warned = [
            warning
            for decoding, shares in result.items()
            for warning in matches.unread(
                decoding, shares["unreadable"], shares["n"] + shares["unreadable"], params.warn.unreadable
            )
        ]
        for warning in warned:
            warn(f"{match}: {warning}")
        run.write_metrics("head_to_head", {**result, "warned": warned} if warned else result, match)


if __name__ == "__main__":
    command(main)
