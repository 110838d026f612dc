"""build_eft: keep the judgements whose order agrees with people's, thin the commonest score -> EFT (paper 2.1).

python -m stages.build_eft
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.method import eft, judging
from stages.store.run import Run
from stages.store.tables import EFT, RANKED, SEED_JUDGEMENTS


def main(root: Path = Path()) -> None:
    """Write data/EFT/train.parquet and its metrics."""
    params = load_params(root)
    p = params.build_eft
    with Run("build_eft", root) as run:
        ranked, judgements = run.read(RANKED), run.read(SEED_JUDGEMENTS)
        template = run.template(params.judge.template)
        agreeing = eft.agreeing(ranked, judgements, p.agreement, p.tries, params.seed)
        if agreeing.is_empty():
            raise TableError(empty(judgements, params.judge.template))
        thinned = eft.thin(agreeing, p.max_share_of_commonest_score, params.seed)
        rows = eft.eft_rows(ranked, thinned, judging.judge_prompts(template, ranked))
        by_chance = eft.chance(ranked, judgements, p.agreement, p.tries, params.seed)
        counts = eft.counts(ranked, judgements, agreeing, by_chance, rows)
        run.write(EFT, rows)
        run.write_metrics("EFT", counts)
        print(
            f"EFT: {len(rows)} judgements of {counts['agreeing_prompts']} prompts that agree with people, from "
            f"{len(judgements)} of {counts['ranked_prompts']} prompts; by chance {by_chance:.0f} prompts would agree"
        )


def empty(judgements: pl.DataFrame, template: str) -> str:
    """Why EFT would be empty, and what to change."""
    readable, n = judgements["score"].count(), len(judgements)
    if not readable:
        return f"EFT would be empty: {judging.unreadable(judgements, template)}"
    return (
        f"EFT would be empty: {readable} of {n} judgements could be read, and no prompt's agree with people. Set "
        "build_eft.agreement: weak, or use a base model that can judge (try: srlm preview judge_seed)"
    )


if __name__ == "__main__":
    command(main)
