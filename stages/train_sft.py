"""train_sft: supervised fine-tuning from M0, loss on the response only (paper 2.1).

python -m stages.train_sft SFT --on IFT             the paper's SFT baseline
python -m stages.train_sft M1 --on IFT --on EFT     M1: also learns to judge
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import ParamsError
from stages.engines.open import ask
from stages.method.evaluation.choice import chooser
from stages.store.run import Run
from stages.store.tables import EFT, IFT_TRAIN, IFT_VALID
from stages.tinyworld.oracle import check


class Data(StrEnum):
    IFT = "IFT"
    EFT = "EFT"


TABLES = {Data.IFT: IFT_TRAIN, Data.EFT: EFT}


def main(model: str, on: Annotated[list[Data], typer.Option()], root: Path = Path()) -> None:
    """Train data/models/MODEL from M0."""
    params = load_params(root)
    if model not in ("SFT", "M1"):
        raise ParamsError(f"train_sft makes SFT and M1, seen {model!r}. Run it as dvc.yaml does: dvc repro")
    with Run("train_sft", root, model) as run:
        from stages.trainers.run import new_model
        from stages.trainers.sft import mixture, train_sft

        rows = mixture([run.read(TABLES[data]) for data in Data if data in on], params.train_sft)
        valid = run.read(IFT_VALID) if params.choose.every_steps else None
        choose = chooser(params.choose, model, valid, partial(ask, params, run), run.template, check)
        new_model(run, train_sft, model, "M0", rows, params, " + ".join(on), valid, choose)


if __name__ == "__main__":
    command(main)
