"""watch_drift: what moved since an earlier AIFT, and what of that is suspicious (params `warn`).

python -m stages.watch_drift M2 --since M1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.config.load import agree, entry, load_params
from stages.console.command import command
from stages.console.terminal import warn
from stages.method.drift import drift, warnings
from stages.store.run import Run


def main(model: str, since: Annotated[str, typer.Option()], root: Path = Path()) -> None:
    """Write data/metrics/drift/MODEL.json from the metrics of AIFT(SINCE) and AIFT(MODEL)."""
    params = load_params(root)
    agree("--since", since, f"drift.{model}.since", entry(params.drift, "drift", model).since)
    limits = params.warn
    with Run("watch_drift", root, model) as run:
        moved = drift(run.read_metrics("AIFT", since), run.read_metrics("AIFT", model))
        sentences = warnings(
            moved,
            length_growth=limits.length_growth,
            gap_shrink=limits.gap_shrink,
            distinct_shrink=limits.distinct_shrink,
        )
        run.write_metrics("drift", {"since": since, **moved, "warnings": len(sentences), "warned": sentences}, model)
        print(
            f"AIFT({model}) since AIFT({since}): "
            + ", ".join(f"{name} {change:+.0%}" for name, change in moved.items() if change is not None)
        )
        for warning in sentences:
            warn(f"AIFT({model}): {warning}")


if __name__ == "__main__":
    command(main)
