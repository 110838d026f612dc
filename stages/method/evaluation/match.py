"""Two models head to head on the same held-out prompts (paper 3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import polars as pl

from stages.console.errors import TableError
from stages.method.statistics import mean_figures
from stages.method.template import mask_verdicts, render
from stages.store.tables import VERDICTS

Outcome = Literal["win", "tie", "lose"]
OUTCOMES: tuple[Outcome, ...] = ("win", "tie", "lose")
CHOICE = re.compile(r"(\[\[[ABC])\]\]")


def verdict(first: str | None, second: str | None) -> str | None:
    """The outcome that both orders agree on, else `tie`; None when either could not be read."""
    if first is None or second is None:
        return None
    return first if first == second else "tie"


def oracle_verdicts(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """VERDICTS rows of model `a` against model `b` (ANSWERS rows): the higher oracle score wins; null where either
    answer has none.

    Raises TableError when the two did not answer the same prompts.
    """
    gap = pl.col("oracle_score") - pl.col("oracle_score_other")
    outcome = pl.when(gap > 0).then(pl.lit("win")).when(gap < 0).then(pl.lit("lose")).when(gap == 0).then(pl.lit("tie"))
    return _verdict_rows(_matched(a, b).with_columns(first=outcome, second=outcome, verdict=outcome), "oracle")


def compare_prompts(template: str, prompts: pl.DataFrame, a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """What a judge model is asked: every prompt and decoding in both orders; id, prompt_id, decoding, order, text.

    `order` says where the answer of `a` stands: `first` is Answer A of the template (fields prompt, answer_a,
    answer_b). What looks like a verdict or like a tag of the template is marked `(quoted)`. Raises TableError when the
    two did not answer the same prompts.
    """

    def comparisons() -> Iterator[tuple[str, str, str, str, str]]:
        rows = _matched(a, b).join(prompts.select("prompt_id", "prompt"), on="prompt_id", maintain_order="left")
        for prompt_id, decoding, *texts in rows.select(
            "prompt_id", "decoding", "prompt", "response", "response_other"
        ).iter_rows():
            prompt, mine, other = (mask_verdicts(text, template, CHOICE) for text in texts)
            for order, (answer_a, answer_b) in (("first", (mine, other)), ("second", (other, mine))):
                yield (
                    f"{prompt_id}-{decoding}-{order}",
                    prompt_id,
                    decoding,
                    order,
                    render(template, prompt=prompt, answer_a=answer_a, answer_b=answer_b),
                )

    return pl.DataFrame(
        list(comparisons()),
        schema=dict.fromkeys(("id", "prompt_id", "decoding", "order", "text"), pl.String()),
        orient="row",
    )


def read_comparison(text: str, finish_reason: str = "stop") -> Literal["A", "B", "C"] | None:
    """The last `[[A]]`, `[[B]]` or `[[C]]` (tie) of a comparison; None without one, or when it was cut off by the
    length limit."""
    choices = CHOICE.findall(text)
    return choices[-1][-1] if choices and finish_reason != "length" else None


def model_verdicts(
    a: pl.DataFrame, b: pl.DataFrame, comparisons: pl.DataFrame, completions: pl.DataFrame, judge: str
) -> pl.DataFrame:
    """VERDICTS rows of a judge model: `comparisons` from `compare_prompts`, `completions` with id, text, finish_reason;
    matched by id.

    Raises TableError naming the first comparison that was not made.
    """
    missing = comparisons.join(completions, on="id", how="anti", maintain_order="left")
    if len(missing):
        raise TableError(f"{len(missing)} comparisons were not made, the first {missing['id'][0]!r}. Run: dvc repro")
    outcomes: dict[str, dict[str, Outcome | None]] = {
        "first": {"A": "win", "B": "lose", "C": "tie"},
        "second": {"A": "lose", "B": "win", "C": "tie"},
    }
    answered = comparisons.select("id", "prompt_id", "decoding", "order").join(completions, on="id")
    read = [
        outcomes[order].get(read_comparison(text, why) or "")
        for order, text, why in answered.select("order", "text", "finish_reason").iter_rows()
    ]
    answered = answered.with_columns(pl.Series("outcome", read, dtype=pl.String))
    rows = _matched(a, b)
    for order in ("first", "second"):
        mine = answered.filter(pl.col("order") == order).select("prompt_id", "decoding", pl.col("outcome").alias(order))
        rows = rows.join(mine, on=["prompt_id", "decoding"], how="left", maintain_order="left")
    verdicts = [verdict(first, second) for first, second in rows.select("first", "second").iter_rows()]
    return _verdict_rows(rows.with_columns(pl.Series("verdict", verdicts, dtype=pl.String)), judge)


def _matched(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Both models' answers side by side, those of `b` as `_other`, sorted by prompt_id and decoding."""
    on = ["prompt_id", "decoding"]
    for one, other in ((a, b), (b, a)):
        alone = one.join(other, on=on, how="anti")
        if len(alone):
            names = f"{one['model'][0]!r} answered {len(alone)} prompts that the other did not"
            raise TableError(
                f"{names}, the first {alone['prompt_id'].min()!r}; they must answer the same. Run: dvc repro"
            )
    return a.join(b, on=on, suffix="_other").sort(on)


def _verdict_rows(rows: pl.DataFrame, judge: str) -> pl.DataFrame:
    return rows.with_columns(pl.col("model_other").alias("other"), pl.lit(judge).alias("judge")).select(
        *VERDICTS.schema
    )


def head_to_head(verdicts: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per decoding the shares `win`, `tie`, `lose` of the readable verdicts (VERDICTS rows), their number `n`, and how
    many are `unreadable`."""
    result: dict[str, dict[str, Any]] = {}
    for decoding in sorted(set(verdicts["decoding"])):
        outcomes = verdicts.filter(pl.col("decoding") == decoding).sort("prompt_id")["verdict"]
        shares = mean_figures({outcome: outcomes == outcome for outcome in OUTCOMES}, n=n, seed=seed)
        result[decoding] = {**shares} | {"n": outcomes.count(), "unreadable": outcomes.null_count()}
    return result
