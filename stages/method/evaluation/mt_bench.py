"""MT-Bench, single answers graded from 1 to 10: means as show_result.py of FastChat's llm_judge gives them
(arXiv 2306.05685). A rating of -1 is one that could not be read: it is counted and never averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.console.errors import TableError
from stages.method.statistics import ratio_figures

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
QUESTIONS = {81 + i: CATEGORIES[i // 10] for i in range(80)}
"""question_id to category."""
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
TEMPERATURES |= dict.fromkeys(("extraction", "math", "coding", "reasoning"), 0.0)
"""As the benchmark has its answers decoded; 0.7 in other categories."""
OTHER = 0.7
UNREADABLE = -1


class Rating(BaseModel, extra="ignore"):
    """A line of model_judgment/JUDGE_single.jsonl."""

    question_id: int
    model: str
    score: float
    turn: int


def means(
    records: Sequence[tuple[str, Any]], questions: Mapping[int, str] = QUESTIONS, *, n: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Model to figures of `turn_1`, `turn_2`, `average` (of all ratings) and each category, with `unreadable` and
    `missing` ratings; resampled by question. Raises TableError for what is no rating, or is there twice."""
    rows: dict[tuple[str, int, int], float] = {}
    for where, record in records:
        row = _rating(where, record)
        key = row.model, row.question_id, row.turn
        if row.question_id not in questions:
            raise TableError(f"{where}: question_id {row.question_id} is none of {len(questions)} questions")
        if key in rows:
            raise TableError(f"{where}: turn {row.turn} of question {row.question_id} is rated twice for {row.model!r}")
        rows[key] = row.score
    result: dict[str, dict[str, Any]] = {}
    order = sorted(questions)
    for model in dict.fromkeys(model for model, _, _ in rows):
        ratings = {(q, turn): s for (of, q, turn), s in rows.items() if of == model and s != UNREADABLE}
        turns = {"turn_1": (1,), "turn_2": (2,), "average": (1, 2)} | dict.fromkeys(
            sorted({*questions.values()}), (1, 2)
        )
        columns = {}
        for name, of in turns.items():
            inside = [[ratings[q, t] for t in of if (q, t) in ratings and _has(name, questions[q])] for q in order]
            columns[name] = [sum(each) for each in inside], [len(each) for each in inside]
        all_rows = sum(of == model for of, _, _ in rows)
        result[model] = {**ratio_figures(columns, n=n, seed=seed)} | {
            "unreadable": all_rows - len(ratings),
            "missing": 2 * len(questions) - all_rows,
        }
    return result


def _has(name: str, category: str) -> bool:
    return name in ("turn_1", "turn_2", "average", category)


def _rating(where: str, record: Any) -> Rating:
    try:
        row = Rating.model_validate(record, strict=True)
    except ValidationError as e:
        error = e.errors()[0]
        field = ".".join(map(str, error["loc"]))
        raise TableError(
            f"{where}: {field + ': ' if field else ''}{error['msg']}, saw {str(error['input'])[:60]!r}. Expected lines "
            f"as gen_judgment.py writes them in mode single"
        ) from None
    if row.turn not in (1, 2):
        raise TableError(f"{where}: turn {row.turn}, expected 1 or 2")
    if row.score != UNREADABLE and not 0 <= row.score <= 10:
        raise TableError(f"{where}: score {row.score:g}, expected 1 to 10, or -1 where none could be read")
    return row
