"""train_dpo: Mt + AIFT(Mt) -> Mt+1 by DPO; the reference is Mt (paper 2.3).

python -m stages.train_dpo M2 --prev M1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.config.load import agree, entry, load_params
from stages.console.command import command
from stages.store.run import Run
from stages.store.tables import PAIRS


def main(model: str, prev: Annotated[str, typer.Option()], root: Path = Path()) -> None:
    """Train data/models/MODEL from PREV on AIFT(PREV)."""
    params = load_params(root)
    agree("--prev", prev, f"models.{model}.prev", entry(params.models, "models", model).prev)
    with Run("train_dpo", root, model) as run:
        from stages.trainers.arguments import new_model
        from stages.trainers.dpo import train_dpo

        pairs = run.read(PAIRS, prev)
        as_written = {s: pl.concat_str(f"{s}_thought", s, ignore_nulls=True) for s in ("chosen", "rejected")}
        new_model(run, train_dpo, model, prev, pairs.with_columns(**as_written), params, f"AIFT({prev})")


if __name__ == "__main__":
    command(main)
