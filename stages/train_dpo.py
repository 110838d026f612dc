"""train_dpo: Mt + AIFT(Mt) -> Mt+1 by DPO; the reference is Mt (paper 2.3).

python -m stages.train_dpo M2 --prev M1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.config.load import agree, entry, load_params
from stages.console.command import command
from stages.console.terminal import warn
from stages.store.run import Run
from stages.store.tables import PAIRS


def main(model: str, prev: Annotated[str, typer.Option()], root: Path = Path()) -> None:
    """Train data/models/MODEL from PREV on AIFT(PREV)."""
    params = load_params(root)
    agree("--prev", prev, f"models.{model}.prev", entry(params.models, "models", model).prev)
    with Run("train_dpo", root, model) as run:
        from stages.trainers.dpo import train_dpo

        pairs, start = run.read(PAIRS, prev), run.model(prev)
        notes = {"seed": params.seed, "reference": prev}
        with (
            run.new_model(
                model, parent=prev, method="dpo", params=params.train_dpo.model_dump(), notes=notes
            ) as folder,
            run.computing(),
        ):
            trained = train_dpo(
                start, folder, pairs, params.train_dpo, seed=params.seed, hardware=params.hardware, label=f"DPO {model}"
            )
            notes |= {"threads": trained.threads, "pairs": trained.rows, "too_long": trained.too_long}
        run.write_plot(f"train_{model}", trained.log)
        print(
            f"{model}: DPO from {prev} on {trained.rows} pairs, {trained.too_long} left out as longer than "
            f"{trained.max_length} tokens"
        )
        if (share := trained.share_too_long) > params.warn.left_out:
            warn(
                f"{model}: {share:.0%} of the pairs are left out. Raise train_dpo.max_length, up to the model's context"
            )


if __name__ == "__main__":
    command(main)
