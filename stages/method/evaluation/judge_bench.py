"""JudgeBench (arXiv 2410.12784): can a judge tell a right answer from a wrong one?

A pair is one question with two answers, of which one is right. Scored as in the benchmark's repository
(ScalerLab/JudgeBench, utils/metrics.py): each order gives +1 for a right verdict and -1 for a wrong one, and a judge is
right on a pair when the sum is above 0. So a pair that it ties, or reads neither order of, is not right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from stages.console.errors import SeedDataError
from stages.method.evaluation.match import CHOICE, read_comparison
from stages.method.record import Record
from stages.method.statistics import Figure, mean_figures
from stages.method.template import mask_verdicts, render
from stages.text.cell import parsed

LABELS = ("A>B", "B>A")
VERDICTS = (*LABELS, "A=B")
SWAPPED = {"A>B": "B>A", "B>A": "A>B", "A=B": "A=B"}
OF_CHOICE = {"A": "A>B", "B": "B>A", "C": "A=B"}
CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
"""How a source begins -> the repository's name for it."""
PAIRS = {name: pl.String() for name in ("pair_id", "source", "question", "answer_a", "answer_b", "label")}
DECISIONS = {"judge": pl.String(), "pair_id": pl.String(), "source": pl.String(), "label": pl.String()} | {
    "decisions": pl.List(pl.String())
}
"""`decisions`: one for each order that the judge saw, of the answers as it saw them; null where none could be read."""

Row = tuple[str, Mapping[str, Any]]


def pairs(rows: Iterable[Row], name: str) -> pl.DataFrame:
    """PAIRS of the `rows` (place, values) of a file `name` in the repository's form. Raises SeedDataError with place
    and column."""
    table: dict[str, tuple[str, ...]] = {}
    for at, values in rows:
        record = Record(values, {column: column for column in values}, name, at)
        texts = [_text(record, field) for field in ("pair_id", "source", "question", "response_A", "response_B")]
        pair = (*texts, _label(record))
        if texts[0] in table:
            raise SeedDataError(f"{name}, {at}: pair_id: {texts[0]!r:.60} stands there twice. Delete one of them")
        table[texts[0]] = pair
    return pl.DataFrame(list(table.values()), schema=PAIRS, orient="row")


def decisions(rows: Iterable[Row], name: str) -> pl.DataFrame:
    """DECISIONS of the `rows` of a file `name`: one row a judge and pair, with `decisions`, or with `judgments` as the
    repository's script writes them (a list of objects with a decision, or of null). Raises SeedDataError with place and
    column."""
    table: dict[tuple[str, str], tuple[Any, ...]] = {}
    orders: dict[str, tuple[int, str]] = {}
    for at, values in rows:
        record = Record(values, {column: column for column in values}, name, at)
        judge = record.label("judge" if "judge" in record else "judge_name") or name
        pair, source, made = _text(record, "pair_id"), record.label("source"), _decisions(record)
        if (judge, pair) in table:
            raise SeedDataError(f"{name}, {at}: pair_id: {judge!r:.60} decides {pair!r:.60} twice. Delete one of them")
        number, first = orders.setdefault(judge, (len(made), at))
        if len(made) != number:
            raise SeedDataError(f"{name}, {at}: {len(made)} decisions, and {number} at {first}: expected as many")
        table[judge, pair] = (judge, pair, source, _label(record), made)
    return pl.DataFrame(list(table.values()), schema=DECISIONS, orient="row")


def _text(record: Record, field: str) -> str:
    if not (text := record.text(field, null=False)):
        record.refuse(field, "text")
    return text


def _label(record: Record) -> str:
    if (label := record.value("label")) not in LABELS:
        record.refuse("label", " or ".join(LABELS))
    return str(label)


def _decisions(record: Record) -> list[str | None]:
    field = "decisions" if "decisions" in record else "judgments"
    items = record.items(field)
    made: list[str | None] = []
    for n, item in enumerate(items):
        value = item.get("decision", item) if field == "judgments" and isinstance(item, Mapping) else parsed(item)
        if value is not None and (not isinstance(value, str) or value not in VERDICTS):
            record.item(field, n, value).refuse(field, f"{', '.join(VERDICTS)} or null")
        made.append(value)
    if len(made) not in (1, 2):
        record.refuse(field, "one decision, or one for each of two orders")
    return made


def with_sources(table: pl.DataFrame, of: pl.DataFrame, name: str) -> pl.DataFrame:
    """DECISIONS with the sources of PAIRS. Raises SeedDataError where a judge did not decide all of the pairs and no
    other, or another answer is right: what is incomplete has no score."""
    alone = table.join(of, on="pair_id", how="anti", maintain_order="left")
    if len(alone):
        raise SeedDataError(f"{name}: {len(alone)} decisions are of no pair, the first of {alone['pair_id'][0]!r:.60}")
    for (judge,), own in table.group_by("judge", maintain_order=True):
        lacking = of.join(own, on="pair_id", how="anti", maintain_order="left")["pair_id"]
        if len(lacking):
            raise SeedDataError(
                f"{name}: {judge!r:.60} did not decide {len(lacking)} of {len(of)} pairs, the first {lacking[0]!r:.60}"
            )
    joined = table.drop("source").join(of, on="pair_id", suffix="_right", maintain_order="left")
    wrong = joined.filter(pl.col("label") != pl.col("label_right"))
    if len(wrong):
        raise SeedDataError(f"{name}: another answer is right than in the pairs, first in {wrong['pair_id'][0]!r:.60}")
    return joined.select(*DECISIONS)


def answers(table: pl.DataFrame) -> pl.DataFrame:
    """Both answers of each of PAIRS, as `judging.judge_prompts` takes them: candidate_id, prompt_id, prompt,
    response."""
    sides = [
        table.select(candidate_id=pl.col("pair_id") + f"-{side}", prompt_id="pair_id", prompt="question", response=text)
        for side, text in (("A", "answer_a"), ("B", "answer_b"))
    ]
    return pl.concat(sides)


def pointwise(table: pl.DataFrame, means: pl.DataFrame, judge: str) -> pl.DataFrame:
    """DECISIONS by the scores of both answers (`judging.mean_scores` of `answers`): the higher wins, equal is a tie,
    and where either is unknown there is no verdict."""
    score = {side: means.select("candidate_id", pl.col("score").alias(side)) for side in "ab"}
    rows = table.with_columns(a=pl.col("pair_id") + "-A", b=pl.col("pair_id") + "-B")
    rows = rows.with_columns(gap=_of(score["a"], rows["a"]) - _of(score["b"], rows["b"]))
    gap = pl.col("gap")
    verdict = pl.when(gap > 0).then(pl.lit("A>B")).when(gap < 0).then(pl.lit("B>A")).when(gap == 0).then(pl.lit("A=B"))
    return rows.with_columns(judge=pl.lit(judge), decisions=pl.concat_list(verdict)).select(*DECISIONS)


def _of(scores: pl.DataFrame, ids: pl.Series) -> pl.Series:
    return ids.to_frame("candidate_id").join(scores, on="candidate_id", how="left", maintain_order="left").to_series(1)


def compare_prompts(template: str, table: pl.DataFrame) -> pl.DataFrame:
    """What a judge is asked of PAIRS, in both orders: id, pair_id, order (0: as in the file), text."""
    rows = []
    for pair_id, *texts in table.select("pair_id", "question", "answer_a", "answer_b").iter_rows():
        question, one, other = (mask_verdicts(text, template, CHOICE) for text in texts)
        for order, (a, b) in enumerate(((one, other), (other, one))):
            text = render(template, prompt=question, answer_a=a, answer_b=b)
            rows.append((f"{pair_id}-{order}", pair_id, order, text))
    schema = {"id": pl.String(), "pair_id": pl.String(), "order": pl.Int32(), "text": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def pairwise(table: pl.DataFrame, comparisons: pl.DataFrame, completions: pl.DataFrame, judge: str) -> pl.DataFrame:
    """DECISIONS of PAIRS by `completions` (id, text, finish_reason) of the `comparisons` (`compare_prompts`)."""
    read = [
        OF_CHOICE.get(read_comparison(text, why) or "")
        for text, why in completions.select("text", "finish_reason").iter_rows()
    ]
    of = completions.select("id").with_columns(pl.Series("decision", read, pl.String))
    rows = comparisons.join(of, on="id", how="left", maintain_order="left").sort("pair_id", "order")
    both = rows.group_by("pair_id", maintain_order=True).agg(decisions="decision")
    joined = table.join(both, on="pair_id", how="left", maintain_order="left")
    return joined.with_columns(judge=pl.lit(judge)).select(*DECISIONS)


def figures(table: pl.DataFrame, *, n: int = 1000, seed: int = 0) -> dict[str, dict[str, Figure]]:
    """Figures of one judge's DECISIONS, over `all` pairs and those of each category and source.

    `accuracy`: by the repository's rule; of the same pairs `both_right`, right in both orders, `tie_share`, a sum of 0
    with all read, and `unreadable_share`, with an order that could not be read. Of the pairs read in both orders
    `consistent`, the same verdict in both; of the verdicts for one of the answers `first_share`, for the one shown
    first, a mean over pairs (one half: no bias of place). Null where the judge saw one order: both_right, consistent,
    first_share.
    """
    rows = table.with_columns(category=_category()).sort("pair_id")
    known = rows.filter(pl.col("source").is_not_null())
    names = [("category", name) for name in CATEGORIES.values()]
    names += [("source", name) for name in sorted({*known["source"]})]
    groups = {"all": rows} | {name: rows.filter(pl.col(by) == name) for by, name in names}
    return {name: _figures(group, n=n, seed=seed) for name, group in groups.items() if len(group)}


def _category() -> pl.Expr:
    by = pl.lit(None, pl.String())
    for start, name in CATEGORIES.items():
        by = pl.when(pl.col("source").str.starts_with(start)).then(pl.lit(name)).otherwise(by)
    return by


def _figures(rows: pl.DataFrame, *, n: int, seed: int) -> dict[str, Figure]:
    columns: dict[str, list[float | None]] = {}
    for label, made in rows.select("label", "decisions").iter_rows():
        seen = [
            decision if order == 0 or decision is None else SWAPPED[decision] for order, decision in enumerate(made)
        ]
        points = sum((decision == label) - (decision == SWAPPED[label]) for decision in seen)
        read, both = None not in made, len(made) == 2
        first = [decision == "A>B" for decision in made if decision in LABELS]
        values = {
            "accuracy": points > 0,
            "both_right": all(decision == label for decision in seen) if both else None,
            "tie_share": points == 0 and read,
            "unreadable_share": not read,
            "consistent": seen[0] == seen[1] if both and read else None,
            "first_share": sum(first) / len(first) if both and first else None,
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(None if value is None else float(value))
    return mean_figures({name: pl.Series(c, dtype=pl.Float64) for name, c in columns.items()}, n=n, seed=seed)
