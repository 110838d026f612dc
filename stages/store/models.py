"""What is written down of the models that a run trained, beside their weights: lineage and training log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.console.errors import TableError
from stages.store.damage import check_recorded
from stages.store.files import read_json
from stages.store.names import Names

REQUIRED = ("name", "parent", "method", "data", "params", "versions")
MEASURES = ("loss", "valid_loss", "margin", "reward_chosen", "reward_rejected")


def lineages(root: Path) -> list[dict[str, Any]]:
    """The lineage.json of each model that params.yaml names, by age. Raises TableError when one is
    none."""
    files = Names(root).files("data/models/{model}/lineage.json")
    return [_lineage(files[name]) for name in sorted(files, key=by_age)]


def training_logs(root: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(model, measure of MEASURES) to rows model, measure, step, value, of each model that params.yaml names; no row
    where a value is unknown. Raises TableError for a log that cannot be read or is not the one in dvc.lock."""
    files = Names(root).files("data/plots/train_{model}.csv")
    check_recorded(root, files.values())
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for model in sorted(files, key=by_age):
        for measure, step, value in _log(files[model]):
            row = {"model": model, "measure": measure, "step": step, "value": value}
            lines.setdefault((str(model), measure), []).append(row)
    return lines


def by_age(model: str | None) -> tuple[bool, bool, int, str]:
    """M0, SFT, M1 before M10."""
    return model != "M0", model != "SFT", len(model or ""), model or ""


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
    content = read_json(file)
    if missing := [key for key in REQUIRED if key not in content]:
        raise TableError(f"{file} lacks {', '.join(missing)}. Run: dvc checkout {file.parent}, or srlm repro")
    return content
