"""train_positive: the paper's variant without rejected answers (2.3). SFT from M0 on IFT, EFT and the answers of
AIFT(Mt) with a perfect mean score.

    python -m stages.train_positive M2P --aift M1

It did not help in the paper (29 % wins against 30 % losses to the SFT baseline), so no profile runs it; `positive_only`
in params.yaml does.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stages.config.load import agree, entry, load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.engines.open import ask
from stages.method import pairing
from stages.method.evaluation.choice import chooser
from stages.store.run import Run
from stages.store.tables import CANDIDATES, EFT, IFT_TRAIN, IFT_VALID, PROMPTS, SCORES
from stages.tinyworld.oracle import check


def main(model: str, aift: Annotated[str, typer.Option()], root: Path = Path()) -> None:
    """Train data/models/MODEL from M0."""
    params = load_params(root)
    agree("--aift", aift, f"positive_only.{model}.aift", entry(params.positive_only, "positive_only", model).aift)
    with Run("train_positive", root, model) as run:
        from stages.trainers.run import new_model
        from stages.trainers.sft import mixture, train_sft

        scores = run.read(SCORES, aift).filter(model=aift)  # not what an older model answered beside it
        perfect = pairing.perfect(run.read(PROMPTS, aift), run.read(CANDIDATES, aift), scores, params.judge.scale.max)
        if perfect.is_empty():
            raise TableError(
                f"no answer of AIFT({aift}) got the perfect mean score {params.judge.scale.max:g}; the best got "
                f"{scores['score'].max()!r}: nothing to add"
            )
        rows = mixture([run.read(IFT_TRAIN), run.read(EFT), perfect], params.train_sft)
        of = f"IFT + EFT + {len(perfect)} perfect answers of AIFT({aift})"
        valid = run.read(IFT_VALID) if params.choose.every_steps else None
        choose = chooser(params.choose, model, valid, partial(ask, params, run), run.template, check)
        new_model(run, train_sft, model, "M0", rows, params, of, valid, choose)


if __name__ == "__main__":
    command(main)
