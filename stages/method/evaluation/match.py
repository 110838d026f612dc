"""Two models head to head on the same held-out prompts (paper 3.1)."""

from __future__ import annotations

import re
from typing import Any, Literal

import polars as pl

from stages.console.errors import TableError
from stages.method.statistics import mean_figures
from stages.method.template import fold, mask_verdicts, render
from stages.store.tables import VERDICTS
from stages.text.thoughts import answer

OUTCOMES = ("win", "tie", "lose")
CHOICE = re.compile(r"(\[\[[ \t]*+[ABC])[ \t]*+\]\]")
MEANING = {"first": {"A": "win", "B": "lose", "C": "tie"}, "second": {"A": "lose", "B": "win", "C": "tie"}}
"""Of a choice for the first model, by where its answer stood."""


def oracle_verdicts(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """VERDICTS rows of model `a` against model `b` (ANSWERS rows): the higher oracle score wins; null where either
    answer has none. Raises TableError when the two did not answer the same prompts."""
    gap = pl.col("oracle_score") - pl.col("oracle_score_other")
    outcome = pl.when(gap > 0).then(pl.lit("win")).when(gap < 0).then(pl.lit("lose")).when(gap == 0).then(pl.lit("tie"))
    return _verdict_rows(_matched(a, b).with_columns(first=outcome, second=outcome), "oracle")


def compare_prompts(template: str, prompts: pl.DataFrame, a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """What a judge model is asked: every prompt and decoding in both orders; id, prompt_id, decoding, order, text.

    `order` says where the answer of `a` stands: `first` is Answer A of the template (fields prompt, answer_a,
    answer_b). Verdicts and tags in the texts are marked (`mask_verdicts`). Raises TableError when the two did not
    answer the same prompts.
    """
    matched = _matched(a, b).join(prompts.select("prompt_id", "prompt"), on="prompt_id", maintain_order="left")
    rows = []
    for prompt_id, decoding, *texts in matched.select(
        "prompt_id", "decoding", "prompt", "response", "response_other"
    ).iter_rows():
        prompt, mine, other = (mask_verdicts(text, template, CHOICE) for text in texts)
        for order, answer_a, answer_b in (("first", mine, other), ("second", other, mine)):
            text = render(template, prompt=prompt, answer_a=answer_a, answer_b=answer_b)
            rows.append((f"{prompt_id}-{decoding}-{order}", prompt_id, decoding, order, text))
    columns = ("id", "prompt_id", "decoding", "order", "text")
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String()), orient="row")


def read_comparison(text: str, finish_reason: str = "stop") -> Literal["A", "B", "C"] | None:
    """The last `[[A]]`, `[[B]]` or `[[C]]` (tie) of a comparison; None without one, or when it was cut off by the
    length limit. Nothing is read in what the judge thought first."""
    choices = CHOICE.findall(fold(answer(text)))
    return choices[-1][-1] if choices and finish_reason != "length" else None


def model_verdicts(
    a: pl.DataFrame, b: pl.DataFrame, comparisons: pl.DataFrame, completions: pl.DataFrame, judge: str
) -> pl.DataFrame:
    """VERDICTS rows of a judge model: `comparisons` from `compare_prompts`, `completions` with id, text, finish_reason;
    matched by id. Orders that disagree are a tie; where one could not be read there is no verdict. Raises TableError
    naming the first comparison that was not made."""
    missing = comparisons.join(completions, on="id", how="anti", maintain_order="left")
    if len(missing):
        raise TableError(f"{len(missing)} comparisons were not made, the first {missing['id'][0]!r}. Run: dvc repro")
    answered = comparisons.select("id", "prompt_id", "decoding", "order").join(completions, on="id")
    outcomes = [
        MEANING[order].get(read_comparison(text, why) or "")
        for order, text, why in answered.select("order", "text", "finish_reason").iter_rows()
    ]
    answered = answered.with_columns(pl.Series("outcome", outcomes, pl.String))
    rows = _matched(a, b)
    for order in MEANING:
        mine = answered.filter(order=order).select("prompt_id", "decoding", pl.col("outcome").alias(order))
        rows = rows.join(mine, on=["prompt_id", "decoding"], how="left", maintain_order="left")
    return _verdict_rows(rows, judge)


def _matched(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Both models' answers side by side, those of `b` as `_other`, sorted by prompt_id and decoding."""
    on = ["prompt_id", "decoding"]
    for one, other in ((a, b), (b, a)):
        alone = one.join(other, on=on, how="anti")
        if len(alone):
            raise TableError(
                f"{one['model'][0]!r} answered {len(alone)} prompts that the other did not, the first "
                f"{alone['prompt_id'].min()!r}; they must answer the same. Run: dvc repro"
            )
    return a.join(b, on=on, suffix="_other").sort(on)


def _verdict_rows(rows: pl.DataFrame, judge: str) -> pl.DataFrame:
    first, second = pl.col("first"), pl.col("second")
    both = pl.when(first == second).then(first).when(first != second).then(pl.lit("tie"))
    return rows.with_columns(verdict=both, other="model_other", judge=pl.lit(judge)).select(*VERDICTS.schema)


def head_to_head(verdicts: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per decoding the shares `win`, `tie`, `lose` of the readable verdicts (VERDICTS rows), their number `n`, and how
    many are `unreadable`."""
    result: dict[str, dict[str, Any]] = {}
    for decoding in sorted(set(verdicts["decoding"])):
        outcomes = verdicts.filter(decoding=decoding).sort("prompt_id")["verdict"]
        shares = mean_figures({outcome: outcomes == outcome for outcome in OUTCOMES}, n=n, seed=seed)
        result[decoding] = {**shares} | {"n": outcomes.count(), "unreadable": outcomes.null_count()}
    return result


def unread(decoding: str, unreadable: int, comparisons: int, share: float) -> list[str]:
    """A warning where more than the share could not be read: the figures are of the others."""
    if unreadable <= share * comparisons:
        return []
    return [f"{unreadable} of {comparisons} comparisons could not be read ({decoding}; warned above {share:.0%})"]
