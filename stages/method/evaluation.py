"""A model as judge against people's ranks, and as writer on held-out prompts (paper 3.1). Every figure has a 95 % bootstrap interval.

A figure is a ratio of sums over prompts: right pairs over pairs, or a sum of per-prompt values over the prompts that have one. Prompts are
resampled, not pairs or answers, since what belongs to one prompt is not independent. Each figure is `{value, low, high, n}`; `n` is what it is a
share or mean of, so what was left out shows; a figure of nothing is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from stages.console.errors import TableError
from stages.method.judging import BEST
from stages.method.prompting import quoted, render
from stages.store.tables import VERDICTS

Floats = NDArray[np.float64]
Figure = dict[str, float | int | None]
Outcome = Literal["win", "tie", "lose"]
OUTCOMES: tuple[Outcome, ...] = ("win", "tie", "lose")
CHOICE = re.compile(r"(\[\[[ABC])\]\]")
DIGITS = 6  # further digits of a float sum may differ between machines; a metrics file should not


def bootstrap(values: ArrayLike, weights: ArrayLike | None = None, *, n: int, seed: int) -> tuple[float, float] | None:
    """95 % percentile interval of sum(values) / sum(weights), one entry per prompt, from `n` resamples of the prompts (the mean without `weights`).

    None when the weights sum to nothing. Resamples without weight are left out.
    """
    top = np.asarray(values, dtype=np.float64)
    below = np.ones_like(top) if weights is None else np.asarray(weights, dtype=np.float64)
    if below.sum() <= 0:
        return None
    draws = _draws(len(top), n, seed)
    tops, belows = draws @ top, draws @ below
    low, high = np.percentile(tops[belows > 0] / belows[belows > 0], [2.5, 97.5])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _draws(prompts: int, n: int, seed: int) -> Floats:
    """How often each prompt is in each resample, (n, prompts). The same for all figures of equally many prompts."""
    return np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=n).astype(np.float64)


def _figure(values: ArrayLike, weights: ArrayLike | None = None, *, n: int, seed: int) -> Figure:
    top = np.asarray(values, dtype=np.float64)
    below = np.ones_like(top) if weights is None else np.asarray(weights, dtype=np.float64)
    interval = bootstrap(top, below, n=n, seed=seed)
    if interval is None:
        return {"value": None, "low": None, "high": None, "n": 0}
    value, (low, high) = float(top.sum() / below.sum()), interval
    return {"value": round(value, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS), "n": round(below.sum())}


def _mean_of(values: pl.Series, *, n: int, seed: int) -> Figure:
    """Figure of the mean of `values`, one per prompt; null counts as no value."""
    return _figure(values.cast(pl.Float64).fill_null(0.0).to_numpy(), values.is_not_null().cast(pl.Float64).to_numpy(), n=n, seed=seed)


def judge_metrics(judged: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, Figure]:
    """Agreement of a judge's mean scores with people's ranks (JUDGED rows); unreadable answers are left out and counted.

    Over all pairs of answers to one prompt that people ranked apart: `pairwise_accuracy` (a tie of score is half right), `tie_share`.
    Over all answers with a mean score of exactly 5: `five_best`, the share that people ranked best. Means over prompts: `exact_match` (all such
    pairs of a prompt strictly right), `spearman`, `kendall` (tau-b) of score against rank, positive when they agree; a prompt where all
    scores or all ranks are equal has no correlation and is left out of these two.
    """
    readable = judged.drop_nulls("score").sort("prompt_id", "candidate_id")
    prompts = judged.select("prompt_id").unique().sort("prompt_id")
    better, worse = pl.col("score"), pl.col("score_right")
    pairs = (
        readable.join(readable, on="prompt_id")
        .filter(pl.col("human_rank") < pl.col("human_rank_right"))
        .group_by("prompt_id")
        .agg(pl.len().alias("pairs"), (better > worse).sum().alias("right"), (better == worse).sum().alias("ties"))
    )
    fives = (
        judged.with_columns(best=pl.col("human_rank") == pl.col("human_rank").min().over("prompt_id"))
        .filter(pl.col("score") == BEST)
        .group_by("prompt_id")
        .agg(pl.len().alias("fives"), pl.col("best").sum())
    )
    answers = judged.group_by("prompt_id").agg(pl.len().alias("answers"), pl.col("score").is_null().sum().alias("unreadable"))
    rows = prompts
    for more in (pairs, fives, answers):
        rows = rows.join(more, on="prompt_id", how="left", maintain_order="left")
    exact = rows.select(pl.when(pl.col("pairs") > 0).then((pl.col("right") == pl.col("pairs")) & (pl.col("unreadable") == 0))).to_series()
    correlation = _correlations(readable, prompts)
    column = {name: rows[name].fill_null(0).cast(pl.Float64).to_numpy() for name in rows.columns if name != "prompt_id"}
    return {
        "pairwise_accuracy": _figure(column["right"] + column["ties"] / 2, column["pairs"], n=n, seed=seed),
        "tie_share": _figure(column["ties"], column["pairs"], n=n, seed=seed),
        "five_best": _figure(column["best"], column["fives"], n=n, seed=seed),
        "exact_match": _mean_of(exact, n=n, seed=seed),
        "spearman": _mean_of(correlation["spearman"], n=n, seed=seed),
        "kendall": _mean_of(correlation["kendall"], n=n, seed=seed),
        "unreadable_share": _figure(column["unreadable"], column["answers"], n=n, seed=seed),
    }


def _correlations(readable: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """prompt_id, spearman, kendall, in the order of `prompts`; null where a prompt has none."""
    from scipy.stats import kendalltau, spearmanr  # takes longer to import than all of a head-to-head takes

    rows = []
    for prompt_id, ranks, scores in readable.group_by("prompt_id").agg("human_rank", "score").iter_rows():
        if len(set(ranks)) > 1 and len(set(scores)) > 1:
            liked = [-rank for rank in ranks]
            rows.append((prompt_id, float(spearmanr(liked, scores).statistic), float(kendalltau(liked, scores).statistic)))
    schema = {"prompt_id": pl.String, "spearman": pl.Float64, "kendall": pl.Float64}
    return prompts.join(pl.DataFrame(rows, schema=schema, orient="row"), on="prompt_id", how="left", maintain_order="left")


def writer_metrics(answers: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per decoding, means over prompts of ANSWERS rows: `oracle_score`, `fully_right` (point `right`), `all_five` points, `points` (the rate of
    each by name), `chars`, `tokens`, `cut_off` (share). Where there is no oracle its figures are null.
    """
    result: dict[str, dict[str, Any]] = {}
    for decoding in sorted(set(answers["decoding"])):
        rows = answers.filter(pl.col("decoding") == decoding).sort("prompt_id")
        names = sorted(set(rows["points"].drop_nulls().explode().drop_nulls()))
        columns = rows.select(
            oracle_score="oracle_score",
            fully_right=pl.col("points").list.contains("right"),
            all_five=pl.col("points").list.n_unique() == round(BEST),
            chars=pl.col("response").str.len_chars(),
            tokens="tokens",
            cut_off=pl.col("finish_reason") == "length",
        )
        result[decoding] = {name: _mean_of(columns[name], n=n, seed=seed) for name in columns.columns}
        points = {name: rows.select(pl.col("points").list.contains(name)).to_series() for name in names}
        result[decoding]["points"] = {name: _mean_of(has, n=n, seed=seed) for name, has in points.items()}
    return result


def verdict(first: str | None, second: str | None) -> str | None:
    """The outcome that both orders agree on, else `tie`; None when either could not be read."""
    if first is None or second is None:
        return None
    return first if first == second else "tie"


def oracle_verdicts(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """VERDICTS rows of model `a` against model `b` (ANSWERS rows): the higher oracle score wins; null where either answer has none.

    Raises TableError when the two did not answer the same prompts.
    """
    gap = pl.col("oracle_score") - pl.col("oracle_score_other")
    outcome = pl.when(gap > 0).then(pl.lit("win")).when(gap < 0).then(pl.lit("lose")).when(gap == 0).then(pl.lit("tie"))
    return _verdict_rows(_matched(a, b).with_columns(first=outcome, second=outcome, verdict=outcome), "oracle")


def compare_prompts(template: str, prompts: pl.DataFrame, a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """What a judge model is asked: every prompt and decoding in both orders; id, prompt_id, decoding, order, text.

    `order` says where the answer of `a` stands: `first` is Answer A of the template (fields prompt, answer_a, answer_b). What looks like a
    verdict or like a tag of the template is marked `(quoted)`. Raises TableError when the two did not answer the same prompts.
    """

    def texts() -> Iterator[tuple[str, str, str, str, str]]:
        rows = _matched(a, b).join(prompts.select("prompt_id", "prompt"), on="prompt_id", maintain_order="left")
        for prompt_id, decoding, *said in rows.select("prompt_id", "decoding", "prompt", "response", "response_other").iter_rows():
            prompt, mine, other = (quoted(text, template, CHOICE) for text in said)
            for order, (answer_a, answer_b) in (("first", (mine, other)), ("second", (other, mine))):
                yield f"{prompt_id}-{decoding}-{order}", prompt_id, decoding, order, render(template, prompt=prompt, answer_a=answer_a, answer_b=answer_b)

    return pl.DataFrame(list(texts()), schema=dict.fromkeys(("id", "prompt_id", "decoding", "order", "text"), pl.String()), orient="row")


def read_comparison(text: str, finish_reason: str = "stop") -> Literal["A", "B", "C"] | None:
    """The last `[[A]]`, `[[B]]` or `[[C]]` (tie) of a comparison; None without one, or when it was cut off by the length limit."""
    choices = CHOICE.findall(text)
    return choices[-1][-1] if choices and finish_reason != "length" else None


def model_verdicts(a: pl.DataFrame, b: pl.DataFrame, asked: pl.DataFrame, completions: pl.DataFrame, judge: str) -> pl.DataFrame:
    """VERDICTS rows of a judge model: `asked` from `compare_prompts`, `completions` with id, text, finish_reason; matched by id.

    Raises TableError naming the first comparison that was not made.
    """
    missing = asked.join(completions, on="id", how="anti", maintain_order="left")
    if len(missing):
        raise TableError(f"{len(missing)} comparisons were not made, the first {missing['id'][0]!r}. Run head_to_head again")
    outcomes: dict[str, dict[str, Outcome | None]] = {
        "first": {"A": "win", "B": "lose", "C": "tie"},
        "second": {"A": "lose", "B": "win", "C": "tie"},
    }
    said = asked.select("id", "prompt_id", "decoding", "order").join(completions, on="id")
    read = [outcomes[order].get(read_comparison(text, why) or "") for order, text, why in said.select("order", "text", "finish_reason").iter_rows()]
    said = said.with_columns(pl.Series("outcome", read, dtype=pl.String))
    rows = _matched(a, b)
    for order in ("first", "second"):
        mine = said.filter(pl.col("order") == order).select("prompt_id", "decoding", pl.col("outcome").alias(order))
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
            raise TableError(f"{names}, the first {alone['prompt_id'].min()!r}. Evaluate both models on the same prompts")
    return a.join(b, on=on, suffix="_other").sort(on)


def _verdict_rows(rows: pl.DataFrame, judge: str) -> pl.DataFrame:
    return rows.with_columns(pl.col("model_other").alias("other"), pl.lit(judge).alias("judge")).select(*VERDICTS.schema)


def head_to_head(verdicts: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per decoding the shares `win`, `tie`, `lose` of the readable verdicts (VERDICTS rows), their number `n`, and how many are `unreadable`."""
    result: dict[str, dict[str, Any]] = {}
    for decoding in sorted(set(verdicts["decoding"])):
        said = verdicts.filter(pl.col("decoding") == decoding).sort("prompt_id")["verdict"]
        shares: dict[str, Any] = {outcome: _mean_of(said == outcome, n=n, seed=seed) for outcome in OUTCOMES}
        result[decoding] = shares | {"n": said.count(), "unreadable": said.null_count()}
    return result


def figures(name: str, metrics: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """What is known in `metrics` (series, such as `greedy`, to its figures by measure) as points of a plot: name, series, measure, value, low, high."""
    rows = [
        (name, series, measure, figure["value"], figure["low"], figure["high"])
        for series, measures in metrics.items()
        for measure, figure in measures.items()
        if isinstance(figure, dict) and figure.get("value") is not None
    ]
    columns = dict.fromkeys(("name", "series", "measure"), pl.String()) | dict.fromkeys(("value", "low", "high"), pl.Float64())
    return pl.DataFrame(rows, schema=columns, orient="row")
