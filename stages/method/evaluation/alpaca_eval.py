"""AlpacaEval 2: the rate at which a model's answers beat gpt4_1106_preview's, as the leaderboard has it.

Rules of alpaca_eval 0.6.6 (metrics/winrate.py, metrics/glm_winrate.py; arXiv 2404.04475). A preference is 1 where the
baseline's answer is better, 2 where the model's is, a probability of that between them, 1.5 (or 0) in a draw.

Length-controlled, a preference is sigma(theta + phi tanh(difference of lengths) + psi difficulty), and the rate is the
mean of sigma(theta + psi difficulty): of answers as long as the baseline's. The leaderboard fits theta, phi and psi
with two gamed baselines beside the model. A fit without them (`noreg`), or without difficulties, too (`minimal`), is
another figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator

from stages.console.errors import TableError
from stages.method.evaluation.logistic import fit, sigmoid
from stages.method.statistics import Floats, intervals
from stages.text.cell import parsed

SIZE = 805
BASELINE = "gpt4_1106_preview"
ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
DRAW = 1.5
LONGEST = 10**9
"""Characters of an answer."""


class Annotation(BaseModel, strict=True, extra="ignore", frozen=True):
    """A row of an annotations.json; or of a file without texts: model, index, preference, len_baseline, len_model."""

    model: str = Field(validation_alias=AliasChoices("generator_2", "model"))
    preference: float | None = None
    baseline: str | None = Field(None, validation_alias=AliasChoices("generator_1", "baseline"))
    annotator: str | None = None
    instruction: str | None = None
    index: int | None = None
    output_1: str | None = None
    output_2: str | None = None
    len_baseline: int | None = Field(None, ge=0, le=LONGEST)
    len_model: int | None = Field(None, ge=0, le=LONGEST)

    @field_validator("preference", "index", "len_baseline", "len_model", mode="before")
    @classmethod
    def _of_csv(cls, value: Any) -> Any:
        return parsed(value)

    @field_validator("preference")
    @classmethod
    def _is_one(cls, value: float | None) -> float | None:
        if value is None or value != value:  # NaN is how pandas writes null
            return None
        if value and not 1 <= value <= 2:
            raise ValueError(f"expected 1 (the baseline wins) to 2 (the model wins), 0 for a draw; saw {value:g}")
        return value or DRAW

    @property
    def lengths(self) -> tuple[int | None, int | None]:
        """Characters of the baseline's and of the model's answer."""
        one = self.len_baseline if self.output_1 is None else len(self.output_1)
        two = self.len_model if self.output_2 is None else len(self.output_2)
        return one, two


class Annotations(NamedTuple):
    """All of one model, each of another instruction; those with a preference have a place in the arrays."""

    model: str
    baseline: str | None
    annotator: str | None
    places: list[int] | None
    """Of the instructions, from 0; None where the file does not tell."""
    preferences: Floats
    lengths: Floats | None
    """(rows, 2), of the baseline's and the model's answers; None where the file does not tell."""
    rows: int
    size: int
    """Instructions that there are."""

    @property
    def complete(self) -> bool:
        return len(self.preferences) == self.size

    @property
    def missing(self) -> str:
        absent, null = self.size - self.rows, self.rows - len(self.preferences)
        parts = [f"{absent} without an annotation"] * (absent > 0) + [f"{null} with a null preference"] * (null > 0)
        return f"{self.size - len(self.preferences)} of {self.size} instructions: {', '.join(parts)}"


def read(
    records: Sequence[tuple[str, Any]],
    instructions: Sequence[str] | None = None,
    *,
    model: str | None = None,
    baseline: str = BASELINE,
) -> Annotations:
    """The annotations of `model`, by default of the one that `records` are of; each comes with where it stands. Raises
    TableError for what is no annotation, for another baseline, for an instruction that is not one of `instructions`, or
    is there twice. Rows come in the order of the instructions."""
    rows = [(where, _annotation(where, record)) for where, record in records]
    models = list(dict.fromkeys(row.model for _, row in rows))
    if model is not None:
        rows = [(where, row) for where, row in rows if row.model == model]
    if not rows:
        raise TableError(f"no annotation of {model!r}; there are those of {_few(models) or 'none'}")
    if model is None and len(models) > 1:
        raise TableError(f"annotations of {len(models)} models: {_few(models)}. Say which with --model")
    for field in ("baseline", "annotator"):
        first = getattr(rows[0][1], field)
        for where, row in rows:
            if (seen := getattr(row, field)) != first:
                raise TableError(f"{where}: {field} {seen!r}, and {first!r} in the first row: two runs in one file")
    first = rows[0][1]
    if first.baseline not in (None, baseline):
        other = " (it is the model here)" if baseline == first.model else ""
        raise TableError(
            f"{rows[0][0]}: compared with {first.baseline!r}, expected {baseline!r}{other}. The leaderboard's rates "
            f"are against {BASELINE}; for a rate against another say --baseline NAME"
        )
    size = len(instructions) if instructions is not None else SIZE
    places = _places(rows, instructions, size)
    order = sorted(range(len(rows)), key=places.__getitem__) if places else range(len(rows))
    scored = [i for i in order if rows[i][1].preference is not None]
    lengths = [rows[i][1].lengths for i in scored]
    return Annotations(
        first.model,
        first.baseline,
        first.annotator,
        [places[i] for i in scored] if places else None,
        np.array([rows[i][1].preference for i in scored], dtype=np.float64),
        None if any(None in pair for pair in lengths) else np.array(lengths, dtype=np.float64).reshape(-1, 2),
        len(rows),
        size,
    )


def _annotation(where: str, record: Any) -> Annotation:
    try:
        return Annotation.model_validate(record)
    except ValidationError as e:
        error = e.errors()[0]
        field = ".".join(map(str, error["loc"]))
        field = "generator_2" if field == "model" or (not field and isinstance(record, dict)) else field
        why = error["msg"].removeprefix("Value error, ")
        seen = "" if error["type"] in ("missing", "value_error") else f", saw {str(error['input'])[:60]!r}"
        raise TableError(
            f"{where}: {field + ': ' if field else ''}{why}{seen}. Expected rows as alpaca_eval writes annotations.json"
        ) from None


def _places(rows: Sequence[tuple[str, Annotation]], instructions: Sequence[str] | None, size: int) -> list[int] | None:
    """Of each row's instruction among all, by its text, else by its index; None where texts are told, and not what all
    are. Raises TableError for one that is not among them or comes twice, and for a row that does not tell."""
    if instructions is not None and all(row.instruction is not None for _, row in rows):
        at = {text: i for i, text in enumerate(instructions)}
        for where, row in rows:
            if row.instruction not in at:
                raise TableError(f"{where}: no such instruction: {str(row.instruction)[:80]!r}. Check --instructions")
        found = [at[row.instruction or ""] for _, row in rows]
    elif all(row.index is not None for _, row in rows):
        found = [row.index or 0 for _, row in rows]
        for place, (where, _) in zip(found, rows, strict=True):
            if not 0 <= place < size:
                raise TableError(f"{where}: index {place}, expected 0 to {size - 1}")
    elif instructions is None and all(row.instruction is not None for _, row in rows):
        found = []
    else:
        bare = [where for where, row in rows if row.instruction is None and row.index is None]
        where = bare[0] if bare else next(where for where, row in rows if row.instruction is None)
        seen_there = (
            "neither instruction nor index" if bare else "an index alone, where others have an instruction alone"
        )
        raise TableError(f"{where}: {seen_there}. Expected either in every row: it says what was answered")
    seen: dict[int | str | None, str] = {}
    keys: Sequence[int | str | None] = found or [row.instruction for _, row in rows]
    for key, (where, _) in zip(keys, rows, strict=True):
        if key in seen:
            raise TableError(f"{where}: the same instruction as {seen[key]}: {str(key)[:80]!r}. Expected one row each")
        seen[key] = where
    if len(rows) > size:
        raise TableError(f"{len(rows)} annotations, expected {size}: one of each instruction")
    return found or None


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def win_rate(preferences: Floats) -> dict[str, float | int | None]:
    """As the leaderboard counts: percent, with the standard error of n - 1. `discrete_win_rate`: of preferences rounded
    to a win, a draw or a loss."""
    wins, n = preferences - 1, len(preferences)
    discrete = np.where(preferences == DRAW, 0.5, np.rint(preferences) - 1)
    return {
        "win_rate": float(wins.mean() * 100),
        "standard_error": float(wins.std(ddof=1) / n**0.5 * 100) if n > 1 else None,
        "n_wins": int((wins > 0.5).sum()),
        "n_wins_base": int((wins < 0.5).sum()),
        "n_draws": int((preferences == DRAW).sum()),
        "n_total": n,
        "discrete_win_rate": float(discrete.mean() * 100),
    }


class Weights(NamedTuple):
    theta: float
    phi: float
    psi: float


def length_controlled(difficulty: Floats, weights: Weights) -> Floats:
    """Of each instruction the probability that the model wins with an answer as long as the baseline's."""
    return sigmoid(weights.theta + weights.psi * difficulty)


def interval(values: Floats, *, n: int, seed: int) -> tuple[float, float] | None:
    """95 % of the mean of `values`, by `n` resamples of the instructions; None where all are equal, which says nothing
    of how sure a mean is."""
    column = values.reshape(-1, 1)
    return intervals(column, np.ones_like(column), n=n, seed=seed)[0] if np.ptp(values) > 0 else None


def own_fit(annotations: Annotations, difficulty: Floats | None, *, n: int, seed: int) -> dict[str, Any]:
    """`variant` (noreg with `difficulty`, of each row; else minimal), its rate in percent, its 95 % interval (fitted
    anew to each of `n` resamples of the instructions) and weights. Raises TableError without lengths."""
    if annotations.lengths is None:
        raise TableError("the annotations hold neither outputs nor lengths, so nothing can be controlled for length")
    delta = annotations.lengths[:, 0] - annotations.lengths[:, 1]
    spread = delta.std(ddof=1) if len(delta) > 1 else 0.0
    longer = np.tanh(delta / spread) if spread > 0 else np.zeros_like(delta)
    columns = [np.ones_like(longer), longer] if difficulty is None else [np.ones_like(longer), longer, difficulty]
    features = np.column_stack(columns)
    rows = len(features)
    resamples = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=n)
    counts = np.vstack([np.ones((1, rows)), resamples])
    weights = fit(features, annotations.preferences - 1, counts)
    at_equal_length = sigmoid(np.delete(weights, 1, axis=1) @ np.delete(features, 1, axis=1).T)
    rates = 100 * (counts * at_equal_length).sum(axis=1) / rows
    low, high = np.percentile(rates[1:], [2.5, 97.5]) if np.ptp(annotations.preferences) > 0 else (None, None)
    names = ("theta", "phi", "psi")[: features.shape[1]]
    return {
        "variant": "minimal" if difficulty is None else "noreg",
        "win_rate": float(rates[0]),
        "low": low if low is None else float(low),
        "high": high if high is None else float(high),
        "weights": dict(zip(names, map(float, weights[0]), strict=True)),
    }


def published_weights(records: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Weights]:
    """Model to weights, of a table as the leaderboard keeps it, or one with columns model, theta, phi, psi. Raises
    TableError."""
    official = {"theta": "not_gamed_baseline.astype(float)", "phi": "np.tanh(std_delta_len)"}
    official |= {"psi": "instruction_difficulty"}
    result: dict[str, Weights] = {}
    for where, row in records:
        name = row.get("model") or row.get("")
        if not isinstance(name, str):
            raise TableError(f"{where}: no model. Expected columns model, theta, phi, psi")
        if name in result:
            raise TableError(f"{where}: weights of {name!r:.80} once more. Expected one row for each model")
        of = {key: row.get(key, row.get(column)) for key, column in official.items()}
        result[name] = Weights(**{key: _finite(value, f"{where}: {key}") for key, value in of.items()})
    return result


def difficulties(records: Sequence[tuple[str, Mapping[str, Any]]], size: int = SIZE) -> Floats:
    """Of each instruction, in their order, of a table with columns index (or one without a name) and difficulty (or
    instruction_difficulty). Raises TableError."""
    found: dict[int, float] = {}
    for where, row in records:
        index = _finite(row.get("index", row.get("")), f"{where}: index")
        if index != int(index) or not 0 <= index < size or int(index) in found:
            raise TableError(f"{where}: index {index:g}, expected each of 0 to {size - 1} once")
        value = row.get("difficulty", row.get("instruction_difficulty"))
        found[int(index)] = _finite(value, f"{where}: difficulty")
    if len(found) != size:
        raise TableError(f"difficulties of {len(found)} instructions, expected {size}")
    return np.array([found[i] for i in range(size)])


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise TableError(f"{where}: expected a number, saw {str(value)[:60]!r}")
    return number
