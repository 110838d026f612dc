"""write_prompts: a model writes new prompts from 8 shots, Self-Instruct's filters drop some, each with its reason
(paper 2.2, step 1).

    python -m stages.write_prompts M1

The writer is a parameter (`aift.M1.writer`): the paper's main runs use a fixed one. Those of the held-out sets and
what is like them are dropped as well, and those like the accepted prompts of earlier iterations. To a share of the
accepted ones constraints are added (`write_prompts.constraints`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.constraints.prompts import constrain
from stages.constraints.sentences import without
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method import prompting
from stages.method.template import render
from stages.store.run import Run
from stages.store.tables import IFT_TRAIN, PROMPTS, RANKED, RANKED_VALID, TEST_PROMPTS


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/prompts.parquet."""
    params = load_params(root)
    p, of_seed, aift = params.write_prompts, params.split_seed, entry(params.aift, "aift", model)
    with Run("write_prompts", root, model) as run:
        ift, template = run.read(IFT_TRAIN), run.template(p.template)
        seeds = {*ift["instruction"], *run.read(RANKED)["prompt"]}
        for earlier in params.ancestors(model):
            seeds |= {*run.read(PROMPTS, earlier, ("prompt", "dropped")).filter(pl.col("dropped").is_null())["prompt"]}
        seeds = {without(prompt) for prompt in seeds}
        held_out = {*map(without, run.read(TEST_PROMPTS)["prompt"]), *run.read(RANKED_VALID)["prompt"]}
        sampling = Sampling(1, p.temperature, p.top_p, p.max_tokens, tuple(p.stop))
        with stage_engine(params, "write_prompts", aift.writer, run) as engine:

            def complete(shots: dict[str, list[str]]) -> pl.DataFrame:
                texts = {"id": [*shots], "prompt": [render(template, shots=texts) for texts in shots.values()]}
                return engine.complete(pl.DataFrame(texts), sampling, chat=p.chat)

            written = prompting.write_in_rounds(
                complete,
                prompting.PromptFilter(sorted(seeds), held_out, p.rouge_l, of_seed.near_duplicates, of_seed.lang),
                ift,
                name=model,
                wanted=aift.prompts,
                ift_shots=p.ift_shots,
                new_shots=p.new_shots,
                round_size=p.round,
                max_rounds=p.max_rounds,
                seed=params.seed,
            )
        rows = prompting.prompts_frame(written, model, aift.writer)
        accepted = rows["dropped"].null_count()
        if accepted < aift.prompts:
            raise TableError(
                f"AIFT({model}): only {accepted} of {aift.prompts} prompts passed the filters in {p.max_rounds} rounds "
                f"of {p.round}. {prompting.why_dropped(written)} "
                f"Lower aift.{model}.prompts, raise write_prompts.max_rounds, or use a better writer"
            )
        run.write(PROMPTS, constrain(rows, seed=params.seed, share=p.constraints), model, engine)
        print(f"AIFT({model}): {accepted} new prompts by {aift.writer}, {len(rows) - accepted} dropped")


if __name__ == "__main__":
    command(main)
