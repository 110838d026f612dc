"""The figures of every dataset and model: the one reader and writer of data/metrics.

A file for each kind that there is once (EFT.json, seed.json), a folder for each other kind (AIFT/M1.json, EVAL/M1.json,
head_to_head/M3-M1.json, train/M1.json; lm_eval/M3.json by a command): the kind stands in the path, so no name is ever
taken apart. A figure with an interval is `{value, low, high, n}`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.console.errors import TableError
from stages.store.damage import check_recorded
from stages.store.files import read_json, write_json
from stages.store.names import SECTIONS, Names

FOLDER = "data/metrics"
ONCE = ("seed", "EFT")
LARGEST = 2**63
"""No figure is as large; DuckDB could not hold it."""
MIN_N = 20
"""Below so many an interval is not shown: a percentile bootstrap of few values claims more than they say."""
Metrics = dict[tuple[str, str | None], dict[str, Any]]
"""(kind, name) to content; the name is None for a kind of ONCE."""


class Form(BaseModel):
    """What every reader of a file may count on; more may stand there."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    warned: list[str] = []


class Figure(BaseModel, extra="forbid", strict=True, allow_inf_nan=False):
    value: float | None
    low: float | None
    high: float | None
    n: int


class AsJudge(BaseModel, extra="allow"):
    __pydantic_extra__: dict[str, Figure]
    pairwise_accuracy: Figure


class AsWriter(BaseModel, extra="allow"):
    __pydantic_extra__: dict[str, Figure]
    oracle_score: Figure
    points: dict[str, Figure] = {}


class AsWriters(BaseModel):
    greedy: AsWriter
    sampled: AsWriter | None = None


class Eval(Form):
    writer: AsWriters
    judge: AsJudge
    trust: dict[str, Figure] = {}
    calibration: dict[str, Figure] = {}


class Aift(Form):
    prompts: int
    candidates: int
    pairs: int
    dropped: dict[str, int]
    fates: dict[str, int]
    score_histogram: dict[str, int]
    pair_yield: float | None
    mean_margin: float | None
    mean_score: float | None = None
    unreadable_share: float | None


class Shares(BaseModel, strict=True):
    n: int
    unreadable: int
    win: Figure
    tie: Figure
    lose: Figure


class Match(Form):
    greedy: Shares
    sampled: Shares | None = None


Subsets = dict[str, dict[str, Figure]]


class JudgeBench(Form):
    pointwise: Subsets | None = None
    pairwise: Subsets | None = None


class RewardBench(Form):
    subsets: Subsets


class Standings(BaseModel, extra="allow"):
    elo: dict[str, Figure]
    share: dict[str, Figure]
    points: dict[str, dict[str, Figure]]
    constant: dict[str, Figure] = {}
    comparisons: int


class OnBank(BaseModel):
    judge: AsJudge
    trust: dict[str, Figure]


class Opinion(BaseModel):
    score: Figure
    checker: Figure


class Bank(Form):
    ranked: OnBank | None = None
    candidates: OnBank | None = None
    constant: Figure | None = None
    authors: dict[str, Opinion]


class Tournament(Form):
    greedy: Standings | None = None
    sampled: Standings | None = None


FORMS: dict[str, type[Form]] = {"EVAL": Eval, "AIFT": Aift, "head_to_head": Match}
FORMS |= {"judgebench": JudgeBench, "rewardbench": RewardBench, "tournament": Tournament, "bank": Bank}


class Row(NamedTuple):
    """A row of the view `metrics`: of a model, or of a match of a model with an other; `value` is a mean or share of
    `n`."""

    kind: str
    name: str | None
    model: str | None
    other: str | None
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None


COLUMNS = (
    "kind VARCHAR, name VARCHAR, model VARCHAR, other VARCHAR, metric VARCHAR, value DOUBLE, low DOUBLE, high DOUBLE, "
    "n BIGINT"
)


def file_of(root: Path, kind: str, name: str | None = None) -> Path:
    return root / FOLDER / (f"{kind}.json" if name is None else f"{kind}/{name}.json")


def write(root: Path, kind: str, name: str | None, content: dict[str, Any]) -> None:
    write_json(file_of(root, kind, name), content)


def read_all(root: Path, kinds: Container[str] | None = None) -> Metrics:
    """Metrics, or those of some `kinds`, of all models and matches that params.yaml names, with intervals only where
    they mean something.

    Raises TableError for a file that is not the one that dvc.lock records, or of another form.
    """
    contents = _contents(root, kinds)
    for (kind, name), content in contents.items():
        try:
            FORMS.get(kind, Form).model_validate(content)
        except ValidationError as e:
            error = e.errors()[0]
            where = ".".join(map(str, error["loc"]))
            why = {"missing": "missing", "model_type": "expected an object"}.get(error["type"], error["msg"])
            raise TableError(f"{file_of(root, kind, name)}: {where}: {why}. Delete it and run: srlm repro") from None
    return contents


def _contents(root: Path, kinds: Container[str] | None = None) -> Metrics:
    files = {key: file for key, file in _files(Names(root)).items() if kinds is None or key[0] in kinds}
    contents = {key: without_empty_claims(read_json(file)) for key, file in files.items()}
    check_recorded(root, files.values())
    return contents


def left_out(root: Path) -> list[Path]:
    """Files that `read_all` passes over: of models and matches that params.yaml does not name, or of no kind."""
    shown = {*_files(Names(root)).values()}
    return sorted(file for file in (root / FOLDER).rglob("*.json") if file.resolve() not in shown)


def rows(root: Path) -> Iterator[Row]:
    """Every number of every file, for the view `metrics`; of an earlier version, too, whose files have another form.
    Raises TableError as `read_all`, and for a figure that is no number."""
    names = Names(root)
    for (kind, name), content in _contents(root).items():
        model, other = names.sides(name) if kind == "head_to_head" and name else (name, None)
        for metric, figures in _leaves(content):
            if not all(f is None or (isinstance(f, int | float) and abs(f) < LARGEST) for f in figures):
                raise TableError(
                    f"{file_of(root, kind, name)}: {metric} is {figures}, expected finite numbers. Delete it and "
                    f"run: srlm repro"
                )
            yield Row(kind, name, model, other, metric, *figures)


def _files(names: Names) -> dict[tuple[str, str | None], Path]:
    patterns = {kind: f"{FOLDER}/{kind}.json" for kind in ONCE}
    patterns |= {kind: f"{FOLDER}/{kind}/{{model}}.json" for kind in SECTIONS}
    return {(kind, name): file for kind, pattern in patterns.items() for name, file in names.files(pattern).items()}


def without_empty_claims(node: Any) -> Any:
    """An interval of few values, or of equal ones (a bootstrap of 1, 1, 1 is sure of 1), is unknown."""
    if not isinstance(node, dict):
        return node
    if "value" in node and ((node.get("n") or 0) < MIN_N or node.get("low") == node.get("high")):
        return {**node, "low": None, "high": None}
    return {key: without_empty_claims(child) for key, child in node.items()}


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any, Any, Any]]]:
    if isinstance(node, dict) and "value" in node:
        yield path, (node["value"], node.get("low"), node.get("high"), node.get("n"))
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else key)
    elif node is None or isinstance(node, int | float):
        yield path, (node, None, None, None)
