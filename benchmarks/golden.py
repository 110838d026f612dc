"""golden: the hashes of every table and model of a finished run. A refactoring leaves them as they are.

python -m benchmarks.golden RUN > before.json
python -m benchmarks.golden RUN --against before.json      says what differs; exit 1 when something does
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from stages.console.command import command
from stages.console.errors import SrlmError


def hashes(run: Path) -> dict[str, str]:
    """Path -> md5 of the tables and models in the dvc.lock of `run`. Raises SrlmError where there is none."""
    lock = run / "dvc.lock"
    if not lock.is_file():
        raise SrlmError(f"{lock} is not there: {run} holds no finished run. Run: dvc repro")
    stages = YAML(typ="safe", pure=True).load(lock)["stages"].values()
    outs = [out for stage in stages for out in stage.get("outs", ())]
    return {out["path"]: out["md5"] for out in sorted(outs, key=lambda out: out["path"]) if _is_data(out["path"])}


def _is_data(path: str) -> bool:
    """Metrics and plots hold figures, which may be rounded or named otherwise."""
    return path.endswith(".parquet") or path.startswith("data/models/")


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What differs, a line each."""
    return [
        f"{path}: {old.get(path, 'absent')} -> {new.get(path, 'absent')}"
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]


def main(run: Path, against: Annotated[Path | None, typer.Option(help="hashes of an earlier run")] = None) -> None:
    """Print the hashes of RUN, or what differs from earlier ones."""
    now = hashes(run)
    if against is None:
        print(json.dumps(now, indent=0))
        return
    lines = differences(json.loads(against.read_text(encoding="utf-8")), now)
    print("\n".join(lines) or f"all {len(now)} tables and models are the same")
    if lines:
        raise SystemExit(1)


if __name__ == "__main__":
    command(main)
