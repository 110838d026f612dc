"""judge_candidates: Mt scores each of its own answers K times (paper 2.2, step 3).

python -m stages.judge_candidates M1
"""

from __future__ import annotations

from pathlib import Path

from stages.config.params import load_params
from stages.console.command import command
from stages.engines.base import Sampling, chat_requests, frame, open_engine
from stages.method import judging
from stages.store.run import Run
from stages.store.tables import CANDIDATES, JUDGEMENTS, PROMPTS


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/judgements.parquet."""
    params = load_params(root)
    p = params.judge_candidates
    with Run("judge_candidates", root, model) as run:
        answers = run.read(CANDIDATES, model).join(run.read(PROMPTS, model).select("prompt_id", "prompt"), on="prompt_id", maintain_order="left")
        prompts = judging.judge_prompts(run.template(params.judge.template), answers)
        with open_engine(params.engine, params.hardware, run.model(model), model=model, seed=params.seed, run=run) as engine:
            said = engine.generate(chat_requests(prompts, "candidate_id", "text"), Sampling(p.k, p.temperature, p.top_p, p.max_tokens))
        judgements = judging.judgements(answers, frame(said), judge=model)
        run.write(JUDGEMENTS, judgements, model)
        print(f"AIFT({model}): {len(judgements)} judgements, {judgements['score'].null_count()} could not be read")


if __name__ == "__main__":
    command(main)
