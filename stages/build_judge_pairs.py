"""build_judge_pairs: pairs of Mt's judgements, to be trained beside AIFT(Mt)'s pairs of answers (Meta-Rewarding's idea,
with an order of answers that no judge decides).

    python -m stages.build_judge_pairs M1

Mt judges answers whose order is known `judge_pairs.n` times. Off in the paper: `judge_pairs.source` is null, and the
table empty.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method import judge_pairs, judging
from stages.method.scale import Scale
from stages.store.run import Run
from stages.store.tables import CANDIDATES, JUDGE_PAIRS, PAIRS, PROMPTS, RANKED

COUPLES = 4
"""Of answers, for each pair of judgements that is wanted: not every answer is judged both rightly and wrongly."""


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/judge_pairs.parquet."""
    params = load_params(root)
    entry(params.aift, "aift", model)
    p, how = params.judge_pairs, params.judge_candidates
    with Run("build_judge_pairs", root, model) as run:
        if not p.source:
            run.write(JUDGE_PAIRS, pl.DataFrame(schema=JUDGE_PAIRS.schema), model)
            run.write_metrics("judge_pairs", {"pairs": 0}, model)
            return
        most = int(p.share / (1 - p.share) * len(run.read(PAIRS, model, ())))
        if p.source == "eft":
            couples = judge_pairs.ranked_couples(run.read(RANKED))
            if couples.is_empty():
                raise TableError("no two answers are ranked apart. Set judge_pairs.source to changed_prompt, or null")
        else:
            prompts = run.read(PROMPTS, model, ("prompt", "dropped")).filter(pl.col("dropped").is_null())
            own = run.read(CANDIDATES, model).filter(model=model)
            lang = params.split_seed.lang
            couples = judge_pairs.changed_prompt_couples(prompts, own, COUPLES * most, lang, params.seed)
        if p.order == "shuffled":
            couples = judge_pairs.shuffle(couples, params.seed)
        scale = Scale(**dict(params.judge.scale))
        answers = judge_pairs.answers_of(couples)
        shown = judging.judge_prompts(run.template(params.judge.template), answers, scale)
        with stage_engine(params, "build_judge_pairs", model, run) as engine:
            temperature = how.temperature if p.temperature is None else p.temperature
            sampling = Sampling(p.n, temperature, how.top_p, how.max_tokens)
            completions = engine.complete(shown.select(id="candidate_id", prompt="text"), sampling)
        judgements = judging.judgements(answers, completions, model, scale)
        every = judge_pairs.judge_pairs(couples, judgements, shown, p.source, params.seed)
        pairs = judge_pairs.cap(every, most, p.per_score_cap)
        pairs, lines = judge_pairs.score_lines(pairs, p.score_line, scale, params.seed)
        figures = judge_pairs.figures(couples, judgements, pairs)
        run.write(JUDGE_PAIRS, pairs, model, engine)
        run.write_metrics("judge_pairs", {**figures, "before_caps": len(every), "score_lines": lines}, model)
        print(
            f"AIFT({model}): {len(pairs)} pairs of judgements of {len(every)} that {len(couples)} couples of answers "
            f"give, of which {model} puts {figures['right'] or 0:.0%} in the known order"
        )


if __name__ == "__main__":
    command(main)
