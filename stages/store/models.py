"""What is written down of the models that a run trained, beside their weights: lineage and training log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from stages.console.errors import TableError
from stages.store.names import Names

REQUIRED = ("name", "parent", "method", "data", "params", "versions")
MEASURES = ("loss", "margin", "reward_chosen", "reward_rejected")


def lineages(root: Path) -> list[dict[str, Any]]:
    """The lineage.json of each model that params.yaml names, by age. Raises TableError when one is
    none."""
    names = Names(root)
    files = sorted((root / "data/models").glob("*/lineage.json"), key=lambda file: by_age(file.parent.name))
    return [_lineage(file) for file in files if names.has("models", file.parent.name)]


def training_logs(root: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(model, measure of MEASURES) to rows model, measure, step, value, of each model that params.yaml names; no row
    where a value is unknown. Raises TableError for a log that cannot be read."""
    names = Names(root)
    files = {file.stem.removeprefix("train_"): file for file in (root / "data/plots").glob("train_*.csv")}
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for model in sorted((name for name in files if names.has("models", name)), key=by_age):
        for measure, step, value in _log(files[model]):
            row = {"model": model, "measure": measure, "step": step, "value": value}
            lines.setdefault((model, measure), []).append(row)
    return lines


def by_age(model: str) -> tuple[bool, bool, int, str]:
    """M0, SFT, M1 before M10."""
    return model != "M0", model != "SFT", len(model), model


def _log(file: Path) -> list[tuple[str, int, float]]:
    try:
        log = pl.read_csv(file)
        measures = [measure for measure in MEASURES if measure in log.columns]
        casts = {"step": pl.Int64} | dict.fromkeys(measures, pl.Float64)
        points = log.select("step", *measures).cast(casts).unpivot(index="step").drop_nulls()  # type: ignore[arg-type]
    except (pl.exceptions.PolarsError, OSError) as e:
        raise TableError(f"{file} is not a training log: {e}. Run: dvc checkout {file}, or srlm repro") from None
    return points.filter(pl.col("value").is_finite()).select("variable", "step", "value").rows()


def _lineage(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in REQUIRED if key not in content]
    except (OSError, ValueError, TypeError) as e:
        raise TableError(f"{file} is no lineage: {e}. Run: dvc checkout {file.parent}, or srlm repro") from None
    if missing:
        raise TableError(f"{file} lacks {', '.join(missing)}. Run: dvc checkout {file.parent}, or srlm repro")
    return dict(content)
