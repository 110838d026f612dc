"""build_eft: keep the judgements whose order agrees with people's, thin the commonest score -> EFT (paper 2.1).

python -m stages.build_eft
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.console.terminal import warn
from stages.method import eft, eft_yield, judging
from stages.method.scale import Scale
from stages.store.run import Run
from stages.store.tables import EFT, RANKED, SEED_JUDGEMENTS


def main(root: Path = Path()) -> None:
    """Write data/EFT/train.parquet and its metrics."""
    params = load_params(root)
    p, seed = params.build_eft, params.seed
    with Run("build_eft", root) as run:
        everyone, judgements = run.read(RANKED), run.read(SEED_JUDGEMENTS)
        ranked = everyone.join(judgements, on="candidate_id", how="semi", maintain_order="left")
        template, scale = run.template(params.judge.template), Scale(**dict(params.judge.scale))
        now = eft_yield.Setting(p.tau if p.agreement == "tau" else p.agreement, p.tries)
        agreeing = eft.agreeing(ranked, judgements, now.agreement, p.tries, seed)
        by_chance = eft.chance(ranked, judgements, now.agreement, p.tries, seed)
        thinned = eft.thin(agreeing, p.max_share_of_commonest_score, seed)
        rows = eft.eft_rows(ranked, thinned, judging.judge_prompts(template, ranked, scale))
        lost = eft_yield.lost(ranked, judgements, agreeing, p.tries, seed, scale)
        counts = eft_yield.counts(everyone, judgements, agreeing, by_chance, lost, rows, now, scale)
        warnings = eft_yield.warnings(counts, params.warn.eft_yield)
        if warnings:
            warnings += eft_yield.advice(ranked, judgements, now, p.tau, counts, seed, scale)
        if agreeing.is_empty():
            raise TableError(empty(judgements, warnings, params.judge.template, scale))
        run.write(EFT, rows)
        run.write_metrics("EFT", {**counts, "warnings": len(warnings), "warned": warnings})
        print(
            f"EFT: {len(rows)} judgements by {counts['judge']}, of {counts['agreeing_prompts']} of "
            f"{counts['ranked_prompts']} prompts that agree with people ({by_chance:.0f} would by chance)"
        )
        for warning in warnings:
            warn(f"EFT: {warning}")


def empty(judgements: pl.DataFrame, warnings: list[str], template: str, scale: Scale) -> str:
    """Why EFT would be empty, and what to change."""
    unread = [] if judgements["score"].count() else [judging.unreadable(judgements, template, scale)]
    return "\n- ".join(["EFT would be empty", *warnings, *unread])


if __name__ == "__main__":
    command(main)
