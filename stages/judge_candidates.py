"""judge_candidates: Mt scores each of its own answers K times (paper 2.2, step 3).

    python -m stages.judge_candidates M1

Equal answers to a prompt are judged once, cut-off answers not at all: they take no part in pairs. Another judge
(`aift.M1.judge`), a second one that tells how consistent the first is (`judge_candidates.second_judge`), another engine
(`judge_candidates.engine`), its expected score instead of the sampled one (`judge_candidates.score`) and a judge that
compares answers instead (`judge_candidates.kind`) are ours, off by default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.console.errors import EngineError
from stages.engines.open import stage_engine
from stages.engines.request import Sampling, ScoreLogprobs
from stages.method import judging, pairwise
from stages.method.scale import Scale
from stages.store.run import Run
from stages.store.tables import CANDIDATES, JUDGEMENTS, PROMPTS

COMPARE = "stages/templates/compare.jinja"


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/judgements.parquet."""
    params = load_params(root)
    p, judge = params.judge_candidates, entry(params.aift, "aift", model).judge
    second = params.second_judge(model)
    with Run("judge_candidates", root, model) as run:
        candidates, texts = run.read(CANDIDATES, model), run.read(PROMPTS, model).select("prompt_id", "prompt")
        if params.build_pairs.rejected == "unjudged":
            candidates = candidates.filter(model=model)
        answers = judging.distinct(candidates).join(texts, on="prompt_id", maintain_order="left")
        sampling = Sampling(p.k, p.temperature, p.top_p, p.max_tokens)
        read: Callable[[pl.DataFrame, str], pl.DataFrame]
        if p.kind == "pairwise":
            both = pairwise.sides(answers, p.comparisons)
            prompts = pairwise.prompts(run.template(COMPARE), both)
            read = partial(pairwise.judgements, answers, both, prompts)
        else:
            scale = Scale(**dict(params.judge.scale))
            prompts = judging.judge_prompts(run.template(params.judge.template), answers, scale)
            prompts = prompts.rename({"candidate_id": "id"})
            read = partial(judging.judgements, answers, scale=scale)
            if p.score == "expected":
                sampling = sampling._replace(score_logprobs=ScoreLogprobs(*scale.score_logprobs))
        with stage_engine(params, "judge_candidates", judge, run) as engine:
            judgements = read(engine.complete(prompts.select("id", prompt="text"), sampling), judge)
        if p.score == "expected" and len(answers) and not judgements["expected"].count():
            raise EngineError(
                f"AIFT({model}): no judgement has an expected score: the engine gave no probabilities, or no score "
                f"could be read. "
                "Use judge_candidates.score: sampled"
            )
        if second:
            with stage_engine(params, "judge_candidates", second, run) as other:
                again = other.complete(prompts.select("id", prompt="text"), sampling)
            judgements = pl.concat([judgements, read(again, second)])
        run.write(JUDGEMENTS, judgements, model, engine)
        judges = " and ".join(filter(None, [judge, second]))
        print(
            f"AIFT({model}): {len(judgements)} judgements by {judges} of {len(answers)} different answers of "
            f"{len(candidates)}, {judgements['score'].null_count()} could not be read"
        )


if __name__ == "__main__":
    command(main)
