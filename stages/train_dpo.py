"""train_dpo: Mt + AIFT(Mt) -> Mt+1 by DPO; the reference is Mt (paper 2.3).

python -m stages.train_dpo M2 --prev M1
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.config.load import agree, entry, load_params
from stages.console.command import command
from stages.engines.open import ask
from stages.method.evaluation.choice import chooser
from stages.method.scale import Scale
from stages.method.verdicts import shuffle_scores
from stages.store.catalog import reviewed, table_path
from stages.store.run import Run
from stages.store.tables import EFT, IFT_TRAIN, IFT_VALID, JUDGE_PAIRS, PAIRS
from stages.text.thoughts import joined

REPLAYED = {"eft": EFT, "ift": IFT_TRAIN}
TRAINED = ("id", "prompt", "chosen", "rejected")


def main(model: str, prev: Annotated[str, typer.Option()], root: Path = Path()) -> None:
    """Train data/models/MODEL from PREV on AIFT(PREV)."""
    params = load_params(root)
    agree("--prev", prev, f"models.{model}.prev", entry(params.models, "models", model).prev)
    with Run("train_dpo", root, model) as run:
        from stages.trainers.dpo import train_dpo
        from stages.trainers.run import new_model

        weights = params.train_dpo.replay.weights
        replay = {name: run.read(table) for name, table in REPLAYED.items() if name in weights}
        if params.train_dpo.replay.order == "shuffled":
            replay["eft"] = shuffle_scores(replay["eft"], Scale(**dict(params.judge.scale)), params.seed)
        of = " beside ".join((f"AIFT({prev})", *map(str.upper, replay)))
        valid = run.read(IFT_VALID) if params.choose.every_steps else None
        choose = chooser(params.choose, model, valid, partial(ask, params, run), run.template)
        pairs = as_written(run.read(PAIRS, prev))
        if params.judge_pairs.source and len(judged := run.read(JUDGE_PAIRS, prev)):
            of += f" and {len(judged)} pairs of judgements"
            pairs = pl.concat([pairs.select(TRAINED), judged.with_columns(id="candidate_id").select(TRAINED)])
            if "judge_pairs" in weights:
                replay["judge_pairs"] = judged.select(instruction="prompt", response="chosen")
        by_hand = reviewed(table_path(PAIRS, root, prev))
        notes = {"reviews": by_hand} if by_hand else {}
        new_model(run, train_dpo, model, prev, pairs, params, of, valid, choose, notes=notes, replay=replay)


def as_written(pairs: pl.DataFrame) -> pl.DataFrame:
    """PAIRS rows with each answer behind its thought: what the model wrote is trained, whatever of it was judged. Those
    that are `reversed` are turned."""
    chosen, rejected = (
        pl.Series([joined(*row) for row in pairs.select(f"{side}_thought", side).iter_rows()], dtype=pl.String)
        for side in ("chosen", "rejected")
    )
    turned = pl.when(pl.col("reversed") == 1)
    sides = {"chosen": turned.then(rejected).otherwise(chosen), "rejected": turned.then(chosen).otherwise(rejected)}
    return pairs.with_columns(**sides, id="prompt_id")


if __name__ == "__main__":
    command(main)
