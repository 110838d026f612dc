"""train_sft: supervised fine-tuning from M0, loss on the response only (paper 2.1).

    python -m stages.train_sft SFT --on IFT             the paper's SFT baseline
    python -m stages.train_sft M1 --on IFT --on EFT     M1: also learns to judge

IFT stands `repeat_ift` times beside one pass over EFT, shuffled together: by tokens EFT is far larger, and drowned IFT
when both stood once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import ParamsError
from stages.console.terminal import warn
from stages.store.run import Run
from stages.store.tables import EFT, IFT_TRAIN


class Data(StrEnum):
    IFT = "IFT"
    EFT = "EFT"


def main(model: str, on: Annotated[list[Data], typer.Option()], root: Path = Path()) -> None:
    """Train data/models/MODEL from M0."""
    params = load_params(root)
    if model not in ("SFT", "M1"):
        raise ParamsError(f"train_sft makes SFT and M1, seen {model!r}. Run it as dvc.yaml does: dvc repro")
    with Run("train_sft", root, model) as run:
        from stages.trainers.sft import train_sft

        parts = []
        if Data.IFT in on:
            parts += [run.read(IFT_TRAIN)] * params.train_sft.repeat_ift
        if Data.EFT in on:
            parts.append(run.read(EFT))
        rows = pl.concat([part.select("instruction", "response") for part in parts])
        start = run.model("M0")
        notes = {"seed": params.seed}
        with (
            run.new_model(
                model, parent="M0", method="sft", params=params.train_sft.model_dump(), notes=notes
            ) as folder,
            run.computing(),
        ):
            trained = train_sft(
                start, folder, rows, params.train_sft, seed=params.seed, hardware=params.hardware, label=f"SFT {model}"
            )
            notes |= {"threads": trained.threads, "rows": trained.rows, "too_long": trained.too_long}
        run.write_plot(f"train_{model}", trained.log)
        print(
            f"{model}: SFT on {trained.rows} rows ({' + '.join(on)}), {trained.too_long} left out as longer than "
            f"{trained.max_length} tokens"
        )
        if (share := trained.share_too_long) > params.warn.left_out:
            warn(
                f"{model}: {share:.0%} of the rows are left out. Raise train_sft.max_length, up to the model's context"
            )


if __name__ == "__main__":
    command(main)
