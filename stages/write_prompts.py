"""write_prompts: a model writes new prompts from 8 shots, Self-Instruct's filters drop some, each with its reason
(paper 2.2, step 1).

    python -m stages.write_prompts M1

The writer is a parameter (`aift.M1.writer`): the paper's main runs use a fixed one. Prompts of the held-out sets are
dropped as well.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import entry, load_params
from stages.config.params import Params
from stages.console.command import command
from stages.console.errors import TableError
from stages.engines.base import BaseEngine
from stages.engines.open import stage_engine
from stages.engines.request import Sampling
from stages.method import prompting
from stages.method.template import render
from stages.store.run import Run
from stages.store.tables import IFT_TRAIN, PROMPTS, RANKED, RANKED_VALID, TEST_PROMPTS

SURPLUS = "surplus"
"""Why a prompt was dropped that came after enough had passed."""


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/prompts.parquet."""
    params = load_params(root)
    aift = entry(params.aift, "aift", model)
    wanted, writer = aift.prompts, aift.writer
    with Run("write_prompts", root, model) as run:
        ift, template = run.read(IFT_TRAIN), run.template(params.write_prompts.template)
        seeds = {*ift["instruction"], *run.read(RANKED)["prompt"]}
        held_out = {*run.read(TEST_PROMPTS)["prompt"], *run.read(RANKED_VALID)["prompt"]}
        keep = prompting.PromptFilter(sorted(seeds), held_out, params.write_prompts.rouge_l)
        with stage_engine(params, "write_prompts", writer, run) as engine:
            written = write(engine, keep, ift, template, model, wanted, params)
        rows = prompting.prompts_frame(written, model, writer)
        kept = rows["dropped"].null_count()
        run.write(PROMPTS, rows, model, engine)
        print(f"AIFT({model}): {kept} new prompts by {writer}, {len(rows) - kept} dropped")


def write(
    engine: BaseEngine,
    keep: prompting.PromptFilter,
    ift: pl.DataFrame,
    template: str,
    model: str,
    wanted: int,
    params: Params,
) -> list[prompting.Written]:
    """Ask in rounds until `wanted` prompts passed; those accepted in a round are shots in the next."""
    p = params.write_prompts
    sampling = Sampling(1, p.temperature, p.top_p, p.max_tokens, tuple(p.stop))
    accepted: list[tuple[str, str]] = []
    written: list[prompting.Written] = []
    for turn in range(p.max_rounds):
        asked, shots = [], {}
        for i in range(p.round):
            # the model's name is in it, so that two iterations with one writer do not ask the same
            request_id = f"{model}-{turn}-{i}"
            shots[request_id] = prompting.draw_shots(
                ift, accepted, ift_shots=p.ift_shots, new_shots=p.new_shots, seed=params.seed, request_id=request_id
            )
            asked.append((request_id, render(template, shots=[text for _, text in shots[request_id]])))
        prompts = pl.DataFrame(asked, schema={"id": pl.String, "prompt": pl.String}, orient="row")
        completions = engine.complete(prompts, sampling, chat=p.chat)
        for request_id, completion, finish_reason in completions.select("id", "text", "finish_reason").iter_rows():
            text = prompting.clean(completion)
            dropped = SURPLUS if len(accepted) == wanted else keep.reason(text, finish_reason)
            written.append(one := prompting.Written(text, [i for i, _ in shots[request_id]], dropped))
            if one.dropped is None:
                accepted.append((prompting.prompt_id(one.text), one.text))
        if len(accepted) == wanted:
            return written
    raise TableError(
        f"AIFT({model}): only {len(accepted)} of {wanted} prompts passed the filters in {p.max_rounds} rounds of "
        f"{p.round}. {prompting.why_dropped(written)} "
        f"Lower aift.{model}.prompts, raise write_prompts.max_rounds, or use a better writer"
    )


if __name__ == "__main__":
    command(main)
