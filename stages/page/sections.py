"""The page's sections below its answer: rows of questions as charts, each over its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.page import charts
from stages.page.answer import unreadable

Rows = Sequence[dict[str, Any]]
Draw = Callable[[Rows], charts.Chart]

METRICS = {
    "judge.pairwise_accuracy": "Pairs in people's order, %",
    "judge.tie_share": "Pairs with the same score, %",
    "judge.exact_match": "Prompts all in people's order, %",
    "judge.five_best": "Answers of the best score that people ranked best, %",
    "judge.spearman": "Spearman",
    "judge.kendall": "Kendall",
    "judge.unreadable_share": "Answers without a readable score, %",
    "trust.accuracy": "Pairs in people's order, an unreadable one half right, %",
    "trust.exact_match": "Prompts all in people's order, of all, %",
    "trust.spearman": "Spearman, of all prompts",
    "trust.kendall": "Kendall, of all prompts",
    "trust.length_matched": "Pairs of like length in people's order, %",
    "trust.longer_better": "Pairs whose longer answer is better, %",
    "trust.shorter_better": "Pairs whose shorter answer is better, %",
    "trust.longer_wins": "Equal ranks: the longer answer has the higher score, %",
    "trust.tries_agree": "Two judgements of an answer give the same score, %",
    "writer.greedy.oracle_score": "The checker's score, 0 to 5",
    "writer.greedy.fully_right": "Fully right, %",
    "writer.greedy.all_five": "All five points, %",
    "writer.greedy.instruction_strict": "Constraints kept, %",
    "writer.greedy.instruction_loose": "Constraints kept loosely, %",
    "writer.greedy.prompt_strict": "All constraints of a prompt kept, %",
    "writer.greedy.prompt_loose": "All constraints of a prompt kept loosely, %",
    "writer.greedy.tokens": "Tokens",
    "writer.greedy.chars": "Characters",
    "writer.greedy.cut_off": "Cut off, %",
}
"""Metric to the title of its panel; what ends in % is a share."""


class Section(NamedTuple):
    """One heading of the page: what it shows, a chart, its table, or why there is none."""

    id: str
    title: str
    text: str
    chart: charts.Chart | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    missing: str = ""


class View(NamedTuple):
    """A question of stages/sql as a section."""

    question: str
    title: str
    text: str
    draw: Draw | None = None

    def section(self, rows: Rows, missing: str = "no rows yet") -> Section:
        return section(self.question.replace("_", "-"), self.title, self.text, rows, self.draw, missing)


def section(name: str, title: str, text: str, rows: Rows, draw: Draw | None, missing: str) -> Section:
    if not rows:
        return Section(name, title, text, missing=missing)
    table = tuple(tuple(row.values()) for row in rows)
    return Section(name, title, text, draw(rows) if draw else None, tuple(rows[0]), table)


def parts(of: str, counted: str) -> Draw:
    """Shares of `of`, a bar per model with its number of `counted` from the row `all`."""

    def draw(rows: Rows) -> charts.Chart:
        n = {row["model"]: row[counted] for row in rows if row[of] == "all"}
        bars = [{**row, "bar": f"{row['model']}, n {n[row['model']]:,}"} for row in rows if row[of] != "all"]
        return charts.stacked(bars, of)

    return draw


VIEWS = (
    View(
        "score_distribution",
        "Scores",
        "Every single judgement, in % of each judge's.",
        lambda rows: charts.distribution(rows, "score", "score", "judgements"),
    ),
    View(
        "judge_noise",
        "Judge noise",
        "How far the judgements of one candidate lie apart, in % of the candidates.",
        lambda rows: charts.distribution(rows, "spread_of_k", "highest minus lowest score", "candidates", "< 2 read"),
    ),
    View("judge_saturation", "Judge saturation", "Does one score drown the others?"),
    View("fates", "Where the candidates went", "Each has exactly one fate; in %.", parts("fate", "candidates")),
    View("lost_prompts", "Where the prompts went", "Dropped, or kept and judged; in %.", parts("reason", "prompts")),
    View("pair_quality", "Pair quality", "Yield per kept prompt, margin, and which side is longer."),
    View("score_gap", "Chosen minus rejected", "Does the gap close from iteration to iteration?"),
    View("length_drift", "Length", "Do answers grow?"),
    View("repeats", "Repeats", "What comes again from iteration to iteration."),
    View(
        "tournament",
        "Every model against every other",
        "By `srlm head-to-head`, which any judge can decide: Elo by Bradley and Terry's model, its mean is 1000.",
    ),
    View(
        "bank",
        "Judges on the frozen bank",
        "By `srlm bank`: what each judge thinks of each model's answers.",
    ),
    View("calibration", "What a score means", "Held-out answers by the judge's score: rank 0 is people's best."),
    View("most_improved", "Most improved", "Held-out prompts that gained most from the first model to the last."),
    View("most_worsened", "Most worsened", "Held-out prompts that lost most."),
)


def head_to_head(rows: Rows) -> Section:
    """Wins, ties and losses; a match of which nothing could be read is told in words."""
    bars, reasons = [], []
    for row in rows:
        name = f"{row['model']} against {row['other']}"
        if not row["n"]:
            reasons.append(f"{name} ({row['decoding']}): {unreadable(row)}")
            continue
        lost = f", {row['verdicts'] - row['n']:,} unreadable" if row["n"] < row["verdicts"] else ""
        bar = {"panel": row["decoding"], "bar": f"{name}, n {row['n']:,}{lost}"}
        bars += [{**bar, "part": outcome, "share": row[outcome]} for outcome in ("win", "tie", "lose")]
    text = "Answers to the same held-out prompts, in % of the verdicts that could be read."
    draw = (lambda _: charts.stacked(bars, "part", "panel")) if bars else None
    drawn = section("matches", "Head to head", text, rows, draw, "no match yet")
    return drawn._replace(missing="; ".join(reasons)) if rows else drawn


def figures(rows: Rows) -> Iterator[Section]:
    """Every metric that has values: as a judge against people, whether to trust that, and as a writer."""
    for role, title, text in (
        ("judge", "As a judge, against people", "Agreement with people's ranks of held-out answers; 95 % intervals."),
        (
            "trust",
            "Can the judge be trusted?",
            "Every answer counted, by length, and whether tries agree; 95 % intervals.",
        ),
        ("writer", "As a writer", "Greedy answers to held-out prompts; 95 % intervals."),
    ):
        known = [
            {**row, "metric": title}
            for metric, title in METRICS.items()
            for row in rows
            if metric.startswith(role) and row["metric"] == metric and row["value"] is not None
        ]
        yield section(
            role,
            title,
            text,
            known,
            lambda rows: charts.intervals(map(_scaled, rows), "metric"),
            "no model is evaluated yet",
        )


def _scaled(row: dict[str, Any]) -> dict[str, Any]:
    scale, style = (100, ".1f") if row["metric"].endswith("%") else (1, ".2f")
    value, low, high = (row[key] if row[key] is None else row[key] * scale for key in ("value", "low", "high"))
    interval = "" if low is None else f" ({signed(low, style)} to {signed(high, style)})"
    label = f"{row['model']}  {signed(value, style)}{interval}, n {row['n']:,}"
    return {**row, "value": value, "low": low, "high": high, "label": label}


def signed(value: float, style: str) -> str:
    """With a minus of its own width, and none before zero."""
    return f"{value:z{style}}".replace("-", "−")


def training(lines: Mapping[tuple[str, str], Rows]) -> Iterator[Section]:
    """Loss and rewards by step, their tables with the ends alone. (model, measure) to rows: step, value."""
    dpo = (
        "DPO's implicit rewards by step: beta times how much likelier than its parent the model finds the chosen and "
        "the rejected answers; the margin is their difference."
    )
    losses = "Loss by step, that of IFT_VALID too where it was measured."
    ends = "In titles: the mean of the first and of the last tenth of the steps."
    for name, title, text, measures in (
        ("learning", "Learning curves", f"{losses} {ends}", ("loss", "valid_loss")),
        ("rewards", "Reward margins", f"{dpo} {ends}", ("margin", "reward_chosen", "reward_rejected")),
    ):
        own = {key: line for key, line in lines.items() if key[1] in measures}
        table = [
            {"model": model, "measure": measure, "logged": len(line), "last_step": line[-1]["step"]}
            | dict(zip(("first_tenth", "last_tenth"), charts.ends(line), strict=True))
            for (model, measure), line in own.items()
        ]
        drawn = section(name, title, text, table, None, "no training log yet")
        yield drawn._replace(chart=charts.curves(own)) if own else drawn
