"""A judge that compares (`judge_candidates.kind: pairwise`): each two answers to a prompt in both orders, as head to
head. A judgement is one comparison as one of its answers sees it, its score the share won: 1, 0, or a half for a tie;
so an answer's mean score is the share of its comparisons that it won."""

from __future__ import annotations

from collections import Counter

import polars as pl

from stages.method.evaluation.match import compare_prompts, model_verdicts
from stages.store.tables import JUDGEMENTS

WON = {"win": 1.0, "tie": 0.5, "lose": 0.0}
Sides = tuple[pl.DataFrame, pl.DataFrame]


def sides(answers: pl.DataFrame, most: int | None) -> Sides:
    """The comparisons as `match` takes them, a side each: prompt_id (of the comparison), prompt, decoding, model (the
    candidate_id), response. `answers`: candidate_id, prompt_id, prompt, response, no text of a prompt twice.

    Of each prompt at most `most`, its answers in a circle: each with the next, then each with the next but one, and so
    on, so that none is compared more than two times as often as another.
    """
    rows: tuple[list[tuple[str, ...]], ...] = ([], [])
    for _, own in answers.group_by("prompt_id", maintain_order=True):
        texts, size = own.select("candidate_id", "prompt", "response").rows(), len(own)
        steps = range(1, size // 2 + 1)
        couples = dict.fromkeys(tuple(sorted((i, (i + step) % size))) for step in steps for i in range(size))
        for couple in list(couples)[:most]:
            name = "-".join(texts[i][0] for i in couple)
            for side, i in zip(rows, couple, strict=True):
                candidate, prompt, response = texts[i]
                side.append((name, prompt, "sampled", candidate, response))
    columns = dict.fromkeys(("prompt_id", "prompt", "decoding", "model", "response"), pl.String())
    a, b = (pl.DataFrame(side, schema=columns, orient="row") for side in rows)
    return a, b


def prompts(template: str, both: Sides) -> pl.DataFrame:
    """What the judge is asked (`match.compare_prompts`)."""
    first, second = (side.drop("prompt") for side in both)
    return compare_prompts(template, both[0], first, second)


def judgements(
    answers: pl.DataFrame, both: Sides, asked: pl.DataFrame, completions: pl.DataFrame, judge: str
) -> pl.DataFrame:
    """JUDGEMENTS rows, sorted by answer, then k: a row for each answer and comparison, with what the judge wrote in
    both orders; the score is null where one of the two could not be read. `asked`: of `prompts`; `completions`: id, n,
    text, finish_reason, of them. Raises TableError as `match.model_verdicts`."""
    first, second = (side.drop("prompt") for side in both)
    verdicts = model_verdicts(first, second, asked, completions, judge)
    written = {id_: (text, why) for id_, text, why in completions.select("id", "text", "finish_reason").iter_rows()}
    prompt_of = dict(answers.select("candidate_id", "prompt_id").iter_rows())
    tries: Counter[str] = Counter()
    rows = []
    for name, decoding, a, b, verdict in verdicts.select(
        "prompt_id", "decoding", "model", "other", "verdict"
    ).iter_rows():
        orders = [written[f"{name}-{decoding}-{order}"] for order in ("first", "second")]
        cut = "length" if "length" in [why for _, why in orders] else orders[0][1]
        won = None if verdict is None else WON[verdict]
        for candidate, other, (as_a, as_b), score in (
            (a, b, [text for text, _ in orders], won),
            (b, a, [text for text, _ in reversed(orders)], None if won is None else 1 - won),
        ):
            text = f"This answer as A, {other} as B:\n{as_a}\n\nThis answer as B, {other} as A:\n{as_b}"
            rows.append((candidate, prompt_of[candidate], judge, tries[candidate], text, cut, score, None))
            tries[candidate] += 1
    places = answers.select("candidate_id").with_row_index("place")
    frame = pl.DataFrame(rows, schema=JUDGEMENTS.schema, orient="row")
    return frame.join(places, on="candidate_id").sort("place", "k").drop("place")
