"""What people said of pairs by hand (`srlm watch`), and what becomes of the pairs for it (`build_pairs.reviews`)."""

from __future__ import annotations

from typing import Any

import polars as pl

from stages.method.pairing import PAIRED

PAIR = ("prompt_id", "chosen_id", "rejected_id")
DECISIONS = ("agree", "swap", "drop")


def decided(reviews: pl.DataFrame) -> pl.DataFrame:
    """Of REVIEWS rows one for each pair, sorted: prompt_id, chosen_id, rejected_id, decision, who (names, joined). The
    last word of each person counts; where people are not of one mind it is `disputed`."""
    last = reviews.sort("reviewed_at").unique((*PAIR, "who"), keep="last", maintain_order=True)
    one = pl.col("decision").n_unique() == 1
    return (
        last.group_by(PAIR)
        .agg(
            decision=pl.when(one).then(pl.col("decision").first()).otherwise(pl.lit("disputed")),
            who=pl.col("who").sort().str.join(", "),
        )
        .sort(PAIR)
    )


def apply(
    pairs: pl.DataFrame, scores: pl.DataFrame, reviews: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """PAIRS and SCORES rows as people want them, and the counts of agree, swap, drop, disputed, and `gone`: reviews of
    pairs that are no longer there, with the `first_gone`.

    A pair is `reversed` where they swapped its sides, and not reversed where they agree, whatever `consistency` drew.
    One that they dropped, or do not agree about, is left out; where its prompt then gives none, its candidates that
    stood in pairs, or beside them, are `withdrawn`.
    """
    of = decided(reviews).drop("who")
    known = of.join(pairs, on=PAIR, how="semi")
    gone = of.join(pairs, on=PAIR, how="anti")
    out = known.filter(pl.col("decision").is_in(["drop", "disputed"]))
    word = pl.col("decision")
    turned = pl.when(word == "swap").then(1).when(word == "agree", pl.col("reversed") == 1).then(0)
    kept = (
        pairs.join(out, on=PAIR, how="anti", maintain_order="left")
        .join(known, on=PAIR, how="left", maintain_order="left")
        .with_columns(reversed=turned.otherwise("reversed").cast(pl.Int32))
        .drop("decision")
    )
    without = out.join(kept, on="prompt_id", how="anti")["prompt_id"].unique()
    withdrawn = PAIRED & pl.col("prompt_id").is_in(without.implode())
    fates = scores.with_columns(fate=pl.when(withdrawn).then(pl.lit("withdrawn")).otherwise("fate"))
    counts: dict[str, Any] = {name: known.filter(decision=name).height for name in (*DECISIONS, "disputed")}
    counts["gone"] = len(gone)
    if len(gone):
        counts["first_gone"] = " ".join(f"{name}={gone[name][0]}" for name in PAIR)
    return kept, fates, counts


def warnings(counts: dict[str, Any]) -> list[str]:
    """Reviews are told wherever their pairs are: what they train is not the model's own judgement alone."""
    told, by = [], {name: counts[name] for name in (*DECISIONS, "disputed") if counts[name]}
    if by:
        said = ", ".join(f"{n} {name}" for name, n in by.items())
        told.append(f"people reviewed {sum(by.values())} pairs ({said}): they are not the model's judgement alone")
    if counts["gone"]:
        told.append(
            f"{counts['gone']} reviews are of pairs that are no longer there, first {counts['first_gone']}: they do "
            f"nothing"
        )
    return told
