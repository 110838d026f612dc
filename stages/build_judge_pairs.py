"""build_judge_pairs: pairs of Mt's judgements, to be trained beside AIFT(Mt)'s pairs of answers (Meta-Rewarding's idea,
mostly with an order of answers that no judge decides).

    python -m stages.build_judge_pairs M1

Mt judges answers `judge_pairs.n` times: some whose order is known, or its own, whose judgements it then compares. Off
in the paper: `judge_pairs.source` is null, and the table empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.config.load import entry, load_params
from stages.config.params import Params
from stages.console.command import command
from stages.console.errors import TableError
from stages.console.terminal import warn
from stages.engines.base import BaseEngine
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method import judge_pairs, judging, meta_judge
from stages.method.scale import Scale
from stages.store.run import Run
from stages.store.tables import CANDIDATES, JUDGE_PAIRS, PAIRS, PROMPTS, RANKED, SCORES


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/judge_pairs.parquet."""
    params = load_params(root)
    entry(params.aift, "aift", model)
    p, scale = params.judge_pairs, Scale(**dict(params.judge.scale))
    with Run("build_judge_pairs", root, model) as run:
        if not p.source:
            run.write(JUDGE_PAIRS, pl.DataFrame(schema=JUDGE_PAIRS.schema), model)
            run.write_metrics("judge_pairs", {"pairs": 0}, model)
            return
        most = int(p.share / (1 - p.share) * len(run.read(PAIRS, model, ())))
        make = compared if p.source == "meta_judge" else ordered
        with stage_engine(params, "build_judge_pairs", model, run) as engine:
            every, figures, what = make(params, run, engine, model, most)
        pairs, lines = judge_pairs.score_lines(
            judge_pairs.cap(every, most, p.per_score_cap), p.score_line, scale, params.seed
        )
        figures |= {"pairs": len(pairs), "before_caps": len(every), "score_lines": lines}
        if pairs["known"].count():
            figures["of_better_answers"] = pairs.filter(known="better").height
        run.write(JUDGE_PAIRS, pairs, model, engine)
        run.write_metrics("judge_pairs", figures, model)
        print(f"AIFT({model}): {len(pairs)} pairs of judgements of {len(every)} that {what}")
        for warning in figures.get("warned", ()):
            warn(f"AIFT({model}): {warning}")


def judged(
    params: Params, run: Run, engine: BaseEngine, model: str, answers: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What Mt is shown of `answers` (candidate_id, prompt_id, prompt, response), and its JUDGEMENTS rows."""
    p, how, scale = params.judge_pairs, params.judge_candidates, Scale(**dict(params.judge.scale))
    shown = judging.judge_prompts(run.template(params.judge.template), answers, scale)
    temperature = how.temperature if p.temperature is None else p.temperature
    sampling = Sampling(p.n, temperature, how.top_p, how.max_tokens)
    completions = engine.complete(shown.select(id="candidate_id", prompt="text"), sampling)
    return shown, judging.judgements(answers, completions, model, scale)


def ordered(
    params: Params, run: Run, engine: BaseEngine, model: str, most: int
) -> tuple[pl.DataFrame, dict[str, Any], str]:
    """JUDGE_PAIRS rows of answers whose order is known, their figures, and what they are of."""
    p = params.judge_pairs
    if p.source == "eft":
        couples = judge_pairs.ranked_couples(run.read(RANKED))
        if couples.is_empty():
            raise TableError("no two answers are ranked apart. Set judge_pairs.source to changed_prompt, or null")
    else:
        prompts = run.read(PROMPTS, model, ("prompt", "dropped")).filter(pl.col("dropped").is_null())
        own = run.read(CANDIDATES, model).filter(model=model)
        lang = params.split_seed.lang
        couples = judge_pairs.changed_prompt_couples(prompts, own, judge_pairs.COUPLES * most, lang, params.seed)
    if p.order == "shuffled":
        couples = judge_pairs.shuffle(couples, params.seed)
    shown, judgements = judged(params, run, engine, model, judge_pairs.answers_of(couples))
    figures = judge_pairs.figures(couples, judgements)
    what = (
        f"{len(couples)} couples of answers give, of which {model} puts {figures['right'] or 0:.0%} in the known order"
    )
    return judge_pairs.judge_pairs(couples, judgements, shown, p.source or "", params.seed), figures, what


def compared(
    params: Params, run: Run, engine: BaseEngine, model: str, most: int
) -> tuple[pl.DataFrame, dict[str, Any], str]:
    """The same of Mt's own answers whose judgements it compares; none where the gate is closed."""
    p, scale, seed = params.judge_pairs.meta_judge, Scale(**dict(params.judge.scale)), params.seed
    varied = meta_judge.varied(run.read(SCORES, model), model, meta_judge.VARIED * most, seed)
    prompts = run.read(PROMPTS, model, ("prompt",)).select("prompt_id", "prompt")
    answers = varied.join(run.read(CANDIDATES, model), on="candidate_id", maintain_order="left")
    answers = answers.join(prompts, on="prompt_id", maintain_order="left")
    shown, judgements = judged(params, run, engine, model, answers)
    asked = meta_judge.comparisons(run.template(p.template), judgements, shown, scale)
    greedy = Sampling(1, 0.0, 1.0, params.judge_candidates.max_tokens)
    told = engine.complete(asked.select("id", prompt="text"), greedy)
    rows = meta_judge.outcomes(asked, told, judgements)
    figures, closed = meta_judge.gate(rows, p)
    made, too_long = meta_judge.pairs(rows, judgements, shown, p.max_chars, seed)
    if params.judge_pairs.order == "shuffled":
        made = meta_judge.shuffle(made, seed)
    figures |= {"answers": len(answers), "judgements": len(judgements), "too_long": too_long}
    if closed:
        made, figures["warned"] = made.clear(), [f"the meta-judge gives no pairs: {closed}"]
    return made, figures, f"{model}'s comparisons of its judgements of {len(answers)} answers give"


if __name__ == "__main__":
    command(main)
