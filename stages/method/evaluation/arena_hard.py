"""Arena-Hard v2: the share of battles that a model wins against a baseline, as show_result.py of
lmarena/arena-hard-auto counts it (arXiv 2406.11939).

Each question is judged in both orders, and a verdict of A>>B or B>>A counts as three battles. The rate is the mean over
battles. Its interval here is of resampled questions, 95 %; the script's is of resampled battles, 90 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.console.errors import TableError
from stages.method.evaluation import style
from stages.method.statistics import Figure, ratio_figures

SIZES = {"hard_prompt": 500, "creative_writing": 250}
"""Questions of v2.0 by category."""
BASELINES = {"creative_writing": "gemini-2.0-flash-001"} | dict.fromkeys(
    ("hard_prompt", "coding", "math"), "o3-mini-2025-01-31"
)
STRONG = 3
SCORES = {"A>B": 1.0, "A=B": 0.5, "A<B": 0.0, "A>>B": 1.0, "A<<B": 0.0}
SCORES |= {"B>A": 0.0, "B=A": 0.5, "B<A": 1.0, "B>>A": 0.0, "B<<A": 1.0}
"""Of assistant A, by the verdict."""


class Game(BaseModel, extra="ignore"):
    score: str | None = None


class Judgement(BaseModel, extra="ignore"):
    """A line of model_judgment/JUDGE/MODEL.jsonl: in the first game the model is assistant B, in the second A."""

    uid: str
    category: str
    model: str
    baseline: str | None = None
    judge: str | None = None
    games: list[Game | None]


def battles(judgement: Judgement) -> tuple[float, int] | None:
    """Battles won by the model, and battles; None where a verdict of the two is not readable."""
    verdicts = [game.score if game else None for game in judgement.games]
    if len(verdicts) != 2 or any(verdict not in SCORES for verdict in verdicts):
        return None
    as_b, as_a = verdicts
    won = count = 0.0
    for verdict, score in ((as_a, SCORES[as_a or ""]), (as_b, 1 - SCORES[as_b or ""])):
        times = STRONG if ">>" in (verdict or "") or "<<" in (verdict or "") else 1
        won, count = won + times * score, count + times
    return won, int(count)


def judgements(
    records: Sequence[tuple[str, Any]], questions: Mapping[str, str] | None = None, *, baseline: str | None = None
) -> list[Judgement]:
    """Those of `records`, each with where it stands. `questions`: uid to category, of all there are. Raises TableError
    for what is no judgement, is there twice, or is against another baseline."""
    rows: dict[tuple[str, str], tuple[str, Judgement]] = {}
    for where, record in records:
        row = _judgement(where, record)
        expected = baseline or BASELINES.get(row.category)
        if row.baseline is not None and expected and row.baseline != expected:
            raise TableError(
                f"{where}: against {row.baseline!r}, and {row.category} is judged against {expected!r}. For rates "
                f"against another say --baseline NAME"
            )
        if questions is not None and questions.get(row.uid) != row.category:
            raise TableError(f"{where}: no question {row.uid!r} of category {row.category!r}. Check --questions")
        if (row.model, row.uid) in rows:
            raise TableError(f"{where}: question {row.uid!r} is judged twice, first in {rows[row.model, row.uid][0]}")
        rows[row.model, row.uid] = where, row
    return [row for _, row in rows.values()]


def rates(
    rows: Sequence[Judgement], questions: Mapping[str, str] | None = None, *, n: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Model to category to `rate` (a share of battles), `battles`, and `unreadable` and `missing` questions."""
    result: dict[str, dict[str, Any]] = {}
    sizes = dict(SIZES)
    if questions is not None:
        sizes = {category: list(questions.values()).count(category) for category in questions.values()}
    for model in dict.fromkeys(row.model for row in rows):
        own = sorted((row for row in rows if row.model == model), key=lambda row: row.uid)
        for category in dict.fromkeys([*sizes, *(row.category for row in own)]):
            inside = [row for row in own if row.category == category]
            counted = [each for row in inside if (each := battles(row)) is not None]
            won, weights = [each[0] for each in counted], [each[1] for each in counted]
            figure: Figure = ratio_figures({"rate": (won, weights)}, n=n, seed=seed)["rate"]
            result.setdefault(model, {})[category] = {
                "rate": figure | {"n": len(counted)},
                "battles": sum(weights),
                "unreadable": len(inside) - len(counted),
                "missing": max(0, sizes.get(category, 0) - len(inside)),
            }
    return result


def style_controlled(
    rows: Sequence[Judgement], styles: Mapping[tuple[str, str], list[float]], *, n: int = 1000, seed: int = 0
) -> dict[str, dict[str, Figure]]:
    """Model to category to the rate under style control. Raises TableError for an answer that `styles` lacks."""
    result: dict[str, dict[str, Figure]] = {}
    for category in dict.fromkeys(row.category for row in rows):
        counted = []
        for row in sorted((row for row in rows if row.category == category), key=lambda row: (row.model, row.uid)):
            baseline = row.baseline or BASELINES.get(category, "")
            for model in (row.model, baseline):
                if (model, row.uid) not in styles:
                    raise TableError(f"no answer of {model!r} to {row.uid!r}. Add its file to --answers")
            if (each := battles(row)) is not None:
                counted.append(
                    style.Battles(row.model, row.uid, *each, styles[row.model, row.uid], styles[baseline, row.uid])
                )
        for model, figure in style.controlled(counted, n=n, seed=seed).items() if counted else ():
            result.setdefault(model, {})[category] = figure
    return result


def _judgement(where: str, record: Any) -> Judgement:
    try:
        return Judgement.model_validate(record, strict=True)
    except ValidationError as e:
        error = e.errors()[0]
        field = ".".join(map(str, error["loc"]))
        raise TableError(
            f"{where}: {field + ': ' if field else ''}{error['msg']}, saw {str(error['input'])[:60]!r}. Expected lines "
            f"as gen_judgment.py writes them"
        ) from None
