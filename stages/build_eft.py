"""build_eft: keep the judgements whose order agrees with people's, thin the commonest score -> EFT (paper 2.1).

python -m stages.build_eft
"""

from __future__ import annotations

from pathlib import Path

from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.method import eft, judging
from stages.store.run import Run
from stages.store.tables import EFT, RANKED, SEED_JUDGEMENTS


def main(root: Path = Path()) -> None:
    """Write data/EFT/train.parquet and its metrics."""
    params = load_params(root)
    with Run("build_eft", root) as run:
        ranked, judgements = run.read(RANKED), run.read(SEED_JUDGEMENTS)
        template = run.template(params.judge.template)
        agreeing = eft.agreeing(ranked, judgements, params.build_eft.agreement)
        readable = judgements["score"].count()
        if agreeing.is_empty():
            raise TableError(
                f"EFT would be empty: of {ranked['prompt_id'].n_unique()} prompts none has a judging that agrees with "
                f"people ({readable} of {len(judgements)} "
                "judgements could be read). Set build_eft.agreement: weak, raise judge_seed.k, or use a base model "
                "that can judge"
            )
        kept = eft.thin(agreeing, params.build_eft.max_share_of_commonest_score, params.seed)
        rows = eft.eft_rows(ranked, kept, judging.judge_prompts(template, ranked))
        run.write(EFT, rows)
        run.write_metrics(
            "EFT",
            {
                "ranked_prompts": ranked["prompt_id"].n_unique(),
                "ranked_answers": len(ranked),
                "judgements": len(judgements),
                "unparsed": len(judgements) - readable,
                "agreeing_prompts": agreeing["prompt_id"].n_unique(),
                "agreeing": len(agreeing),
                "thinned": len(agreeing) - len(kept),
                "eft": len(rows),
                "score_histogram": {f"{s:g}": n for s, n in rows["score"].value_counts().sort("score").iter_rows()},
            },
        )
        print(
            f"EFT: {len(rows)} judgements of {agreeing['prompt_id'].n_unique()} prompts, from {len(judgements)} of "
            f"{ranked['prompt_id'].n_unique()} prompts"
        )


if __name__ == "__main__":
    command(main)
