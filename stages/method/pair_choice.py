"""Which prompts give no pair though their scores would: judges that disagree, and too many of one kind."""

from __future__ import annotations

import polars as pl

from stages.config.pair_sections import BuildPairs
from stages.method.consistency import consistency
from stages.method.likeness import near_duplicates
from stages.method.pairing import CLOSE, PAIRED
from stages.text.ids import content_id


def leave_out(scores: pl.DataFrame, prompts: pl.DataFrame, p: BuildPairs, lang: str | None, seed: int) -> pl.DataFrame:
    """`scores` (SCORES rows) without the pairs of prompts that `consistency` filter and `prompts_per_cluster` leave
    out: their candidates are `inconsistent` or `capped`."""
    if p.consistency == "filter":
        of = consistency(scores, p.tau, seed)
        scores = _with_fate(scores, of.filter(pl.col("tau") < p.min_tau - CLOSE)["prompt_id"], "inconsistent")
    if p.prompts_per_cluster:
        paired = prompts.join(scores.filter(fate="chosen"), on="prompt_id", how="semi")
        scores = _with_fate(scores, beyond(paired, p.prompts_per_cluster, p.cluster, lang, seed), "capped")
    return scores


def _with_fate(scores: pl.DataFrame, prompts: pl.Series, fate: str) -> pl.DataFrame:
    out = PAIRED & pl.col("prompt_id").is_in(prompts.implode())
    return scores.with_columns(fate=pl.when(out).then(pl.lit(fate)).otherwise("fate"))


def beyond(prompts: pl.DataFrame, most: int, likeness: float, lang: str | None, seed: int) -> pl.Series:
    """Ids of those of `prompts` (prompt_id, prompt) that are beyond the first `most` of their cluster, in the order of
    a hash of `(seed, prompt_id)`. Prompts whose ROUGE-L F-measure is above `likeness`, directly or over others, are
    one cluster."""
    rows = prompts.sort("prompt_id").select("prompt_id", "prompt")
    hashes = [content_id(seed, "cluster", prompt) for prompt in rows["prompt_id"]]
    clusters = near_duplicates(rows["prompt"].to_list(), likeness, lang)
    rows = rows.with_columns(cluster=pl.Series(clusters, dtype=pl.Int64), hash=pl.Series(hashes, dtype=pl.String))
    return rows.filter(pl.col("hash").rank("ordinal").over("cluster") > most)["prompt_id"]
