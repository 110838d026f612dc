"""build_pairs: mean score per answer; best against worst -> AIFT(Mt) (paper 2.2, step 4).

    python -m stages.build_pairs M1

Every candidate gets exactly one fate. Warns of a saturated judge, of unreadable judgements, of a low yield and of
answers all alike (params `warn`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.console.errors import TableError
from stages.console.terminal import warn
from stages.method import consistency, judging, pair_counts, pairing, reviewing
from stages.method.pair_choice import leave_out
from stages.method.scale import SHARES, Scale
from stages.store.catalog import table_path
from stages.store.run import Run
from stages.store.tables import CANDIDATES, JUDGEMENTS, PAIRS, PROMPTS, REVIEWS, SCORES


def main(model: str, root: Path = Path()) -> None:
    """Write data/AIFT/MODEL/{scores,pairs}.parquet and their metrics."""
    params = load_params(root)
    p, rho = params.build_pairs, entry(params.aift, "aift", model).rho
    older, second = params.rejected_from(model), params.second_judge(model)
    with Run("build_pairs", root, model) as run:
        prompts, candidates = run.read(PROMPTS, model, ("model", "prompt", "dropped")), run.read(CANDIDATES, model)
        # not what the judge wrote, the largest column of the store
        judgements = run.read(JUDGEMENTS, model, ("prompt_id", "score", "expected"))
        by_second = pl.col("judge") == (second or "")
        judgements, again = judgements.filter(~by_second), judgements.filter(by_second)
        judged, judged_again = (
            judging.mean_scores(judging.pool(candidates, rows), params.judge_candidates.score)
            for rows in (judgements, again)
        )
        scores = pairing.fates(
            candidates,
            judged,
            min_margin=p.min_margin,
            rho=rho,
            signal=p.signal,
            seed=params.seed,
            older=older,
            rejected=p.rejected,
        )
        if not second:
            p = p.model_copy(update={"consistency": "none"})  # as in AIFT(M1), which no older model judges
        else:
            taus = consistency.taus(judged, judged_again)
            scores = scores.drop("tau").join(taus, on="prompt_id", how="left", maintain_order="left")

        scores = leave_out(scores, prompts, p, params.split_seed.lang, params.seed)
        pairs = pairing.pairs(
            prompts, candidates, scores, per_prompt=p.pairs_per_prompt, min_margin=p.min_margin, older=older
        )
        if p.consistency == "smooth":
            pairs = consistency.smooth(pairs, scores, p.tau, params.seed)
        reviewed: dict[str, Any] = {}
        if p.reviews:
            there = table_path(REVIEWS, root, model).is_file()
            reviews = run.read(REVIEWS, model) if there else pl.DataFrame(schema=REVIEWS.schema)
            pairs, scores, reviewed = reviewing.apply(pairs, scores, reviews)
        pairwise = params.judge_candidates.kind == "pairwise"
        scale = SHARES if pairwise else Scale(**dict(params.judge.scale))
        counts = pair_counts.counts(
            prompts, candidates, judgements, judged, scores, pairs, params.judge_candidates.score, scale
        )
        fates = ", ".join(f"{n} {fate}" for fate, n in counts["fates"].items())
        if pairs.is_empty():
            why = f"of {counts['prompts']} prompts with {len(candidates)} candidates: {fates}"
            if len(judgements) and not judgements["score"].count():
                texts = run.read(JUDGEMENTS, model, ("text",))
                unread = judging.unreadable(texts, params.judge.template, scale)
                why += f". {'No comparison has [[A]], [[B]] or [[C]] in both orders' if pairwise else unread}"
            if out := reviewed.get("drop", 0) + reviewed.get("disputed", 0):
                why += f"; people's reviews left out {out}"
            raise TableError(f"AIFT({model}) has no pairs {why}")
        limits = params.warn.model_dump(include={"commonest_score", "unreadable", "pair_yield", "distinct"})
        warnings = pair_counts.warnings(counts, **limits) + (reviewing.warnings(reviewed) if reviewed else [])
        if reviewed:
            counts["reviews"] = {name: n for name, n in reviewed.items() if name != "first_gone"}
        run.write(SCORES, scores, model)
        run.write(PAIRS, pairs, model, reviewed=reviewed)
        run.write_metrics("AIFT", {**counts, "warnings": len(warnings), "warned": warnings}, model)
        print(f"AIFT({model}): {len(pairs)} pairs of {counts['prompts']} prompts; {fates}")
        for warning in warnings:
            warn(f"AIFT({model}): {warning}")


if __name__ == "__main__":
    command(main)
