"""Mt compares its own judgements of an answer two by two (Meta-Rewarding, arXiv 2407.19594, 2.2): the best one is
chosen, the worst rejected. Behind a gate: a meta-judge that sides with the higher score, or with the place, teaches
that and not to judge.

A comparison is ordered: which judgement is shown first. `won` is `first`, `second`, `tie`, or null where it could not
be read; decided are those that one won.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from stages.config.pair_sections import MetaJudge
from stages.method.evaluation.match import CHOICE, read_comparison
from stages.method.evaluation.tournament import bradley_terry
from stages.method.pairing import CLOSE
from stages.method.scale import Scale
from stages.method.template import mask_verdicts, render
from stages.method.verdicts import without
from stages.store.tables import JUDGE_PAIRS
from stages.text.ids import content_id

VARIED = 2
"""Answers whose judgements are compared, for each pair that is wanted: not all can be told apart."""
WON = {"A": "first", "B": "second", "C": "tie"}


def varied(scores: pl.DataFrame, model: str, most: int, seed: int) -> pl.DataFrame:
    """candidate_id of at most one answer of `model` a prompt, whose judgements in SCORES rows are the furthest apart,
    and of these the `most` furthest apart; among equals by a hash of `(seed, candidate_id)`."""
    judged = scores.filter(pl.col("model") == model, ~pl.col("fate").is_in(["duplicate", "cut_off"]))
    judged = judged.drop_nulls("spread")
    hashes = [content_id(seed, "varied", candidate) for candidate in judged["candidate_id"]]
    order = judged.with_columns(hash=pl.Series(hashes, dtype=pl.String)).sort(-pl.col("spread"), "hash")
    return order.unique("prompt_id", keep="first", maintain_order=True).head(most).select("candidate_id")


def comparisons(template: str, judgements: pl.DataFrame, prompts: pl.DataFrame, scale: Scale) -> pl.DataFrame:
    """Every two readable judgements (JUDGEMENTS rows) of an answer in both orders: id, candidate_id, first and second
    (k), text. Their scores are taken out; of those that are then the same, one is compared. `prompts` (candidate_id,
    text): what the judge was shown, the template's field `task`; the others are judgement_a and judgement_b."""
    tasks = dict(prompts.select("candidate_id", "text").iter_rows())
    reasons: dict[str, dict[str, int]] = {}
    read = judgements.drop_nulls("score").sort("candidate_id", "k")
    for candidate, k, text in read.select("candidate_id", "k", "text").iter_rows():
        masked = mask_verdicts(without(text, scale), template, CHOICE)
        reasons.setdefault(candidate, {}).setdefault(masked, k)
    rows = []
    for candidate, texts in reasons.items():
        task = mask_verdicts(tasks[candidate], template, CHOICE)
        for a, first in texts.items():
            for b, second in texts.items():
                if first != second:
                    text = render(template, task=task, judgement_a=a, judgement_b=b)
                    rows.append((f"{candidate}-{first}-{second}", candidate, first, second, text))
    schema = {"id": pl.String, "candidate_id": pl.String, "first": pl.Int32, "second": pl.Int32, "text": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def outcomes(asked: pl.DataFrame, completions: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """`asked` (rows of `comparisons`) with `won`, and with the scores first_score and second_score."""
    told = {i: (text, why) for i, text, why in completions.select("id", "text", "finish_reason").iter_rows()}
    won = pl.Series([WON.get(read_comparison(*told[i]) or "") for i in asked["id"]], dtype=pl.String)
    rows = asked.select("candidate_id", "first", "second").with_columns(won=won)
    for side in ("first", "second"):
        of = judgements.select("candidate_id", pl.col("k").alias(side), pl.col("score").alias(f"{side}_score"))
        rows = rows.join(of, on=["candidate_id", side], how="left", maintain_order="left")
    return rows


def gate(rows: pl.DataFrame, p: MetaJudge) -> tuple[dict[str, Any], str | None]:
    """Figures of `outcomes`, and why no pairs are to be made of them; None where they may be.

    comparisons; unreadable; decided; higher: of those decided between different scores, the share that the higher score
    won; first: of all decided, the share that the judgement shown first won.
    """
    decided = rows.filter(pl.col("won").is_in(["first", "second"]))
    first, gap = decided["won"] == "first", decided["first_score"] - decided["second_score"]
    higher: Any = ((gap > 0) == first).filter(gap != 0).mean()
    place: Any = first.mean()
    figures = {
        "comparisons": len(rows),
        "unreadable": rows["won"].null_count(),
        "decided": len(decided),
        "higher": higher,
        "first": place,
    }
    if not len(decided):
        return figures, f"none of {len(rows)} comparisons was decided ({figures['unreadable']} could not be read)"
    limits = (("the higher score", higher, p.higher), ("the judgement shown first", place, p.first))
    faults = [f"{what} in {s:.0%} (at most {most:.0%})" for what, s, most in limits if s is not None and s > most]
    return figures, f"of {len(decided)} decided comparisons it prefers {' and '.join(faults)}" if faults else None


def pairs(
    rows: pl.DataFrame, judgements: pl.DataFrame, prompts: pl.DataFrame, max_chars: int | None, seed: int
) -> tuple[pl.DataFrame, int]:
    """JUDGE_PAIRS rows in the order of a hash, one for each answer whose judgements `outcomes` tell apart, and how many
    more there would be if the chosen one had not more than `max_chars` characters.

    A win counts by the place it was won in: with W1 wins of all answers' comparisons in the first place and W2 in the
    second, W2 / (W1 + W2) in the first and W1 / (W1 + W2) in the second. Strengths are Bradley and Terry's, which is
    the paper's Elo, with a tie more between every two; of equal ones a hash of `(seed, candidate_id, k)` decides.
    """
    wins = {side: int((rows["won"] == side).sum()) for side in ("first", "second")}
    every = sum(wins.values())
    weight = {"first": wins["second"] / max(every, 1), "second": wins["first"] / max(every, 1)}
    shown = prompts.select("candidate_id", prompt="text")
    texts = {
        (candidate, k): (text, score)
        for candidate, k, text, score in judgements.select("candidate_id", "k", "text", "score").iter_rows()
    }
    made: list[dict[str, Any]] = []
    too_long = 0
    for (candidate,), battles in sorted(rows.group_by("candidate_id")):
        ks = sorted({*battles["first"]}, key=lambda k: content_id(seed, candidate, k))
        won = np.zeros((len(ks), len(ks)))
        for first, second, side in battles.select("first", "second", "won").iter_rows():
            if side in weight:
                one, other = (first, second) if side == "first" else (second, first)
                won[ks.index(one), ks.index(other)] += weight[side]
        strengths = bradley_terry(won[None])[0]
        best, worst = ks[int(strengths.argmax())], ks[int(strengths.argmin())]
        if np.ptp(strengths) <= CLOSE:
            continue
        (chosen, chosen_score), (rejected, rejected_score) = texts[candidate, best], texts[candidate, worst]
        if max_chars and len(chosen) > max_chars:
            too_long += 1
            continue
        scores = {"chosen_score": chosen_score, "rejected_score": rejected_score}
        made.append({"candidate_id": candidate, "chosen": chosen, "rejected": rejected, **scores})
    columns = ("candidate_id", "chosen", "rejected", "chosen_score", "rejected_score")
    result = pl.DataFrame(made, schema={name: JUDGE_PAIRS.schema[name] for name in columns})
    hashes = pl.Series([content_id(seed, "meta", candidate) for candidate in result["candidate_id"]], dtype=pl.String)
    ids = judgements.select("candidate_id", "prompt_id").unique()
    result = result.with_columns(hash=hashes).join(ids, on="candidate_id").join(shown, on="candidate_id").sort("hash")
    null = {name: pl.lit(None, JUDGE_PAIRS.schema[name]) for name in ("other_id", "known", "other_score")}
    return result.with_columns(source=pl.lit("meta_judge"), **null).select(*JUDGE_PAIRS.schema), too_long


def shuffle(made: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Control: each pair turned with probability 1/2, by a hash of its answer."""
    turn = pl.Series([int(content_id(seed, "order", c), 16) % 2 == 1 for c in made["candidate_id"]], dtype=pl.Boolean)
    turned = {
        a: pl.when(turn).then(b).otherwise(a)
        for x, y in (("chosen", "rejected"), ("chosen_score", "rejected_score"))
        for a, b in ((x, y), (y, x))
    }
    return made.with_columns(**turned)
