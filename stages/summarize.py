"""summarize: about ten numbers that say how a run went, for `dvc metrics show data/summary.json`.

python -m stages.summarize
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.command import command
from stages.console.terminal import warn
from stages.method.drift import both_scores, parted
from stages.store import metrics
from stages.store.files import write_json
from stages.store.run import Run

SUMMARY = "data/summary.json"
KINDS = ("EFT", "AIFT", "drift", "EVAL", "head_to_head")
"""Of metrics; none of a command, whose figures would make the summary of a run stale."""


def main(root: Path = Path()) -> None:
    """Write data/summary.json from data/metrics."""
    params = load_params(root)
    with Run("summarize", root) as run:
        for kind in KINDS:
            run.watch(metrics.file_of(root, kind) if kind in metrics.ONCE else root / metrics.FOLDER / kind)
        found = metrics.read_all(root, KINDS)
        for warning in apart(found, params):
            warn(warning)
        write_json(root / SUMMARY, summary(found, params))


def apart(found: metrics.Metrics, params: Params) -> list[str]:
    """Where the judge's opinion of the loop parts from the checker's."""
    return parted(both_scores(found, params.aift), params.warn.scores_apart, params.score_points)


def summary(found: metrics.Metrics, params: Params) -> dict[str, Any]:
    """Per evaluated model the checker's score of its greedy answers (`writer`) and its pairwise agreement with people
    (`judge`); the last model's greedy wins (`win`); over all AIFTs the pairs, and the pairs per prompt; the warnings.

    What nothing measured is left out.
    """
    models = [model for model in params.evaluated if ("EVAL", model) in found]
    values: dict[str, dict[str, Any]] = {
        "writer": {m: found["EVAL", m]["writer"]["greedy"]["oracle_score"]["value"] for m in models},
        "judge": {m: found["EVAL", m]["judge"]["pairwise_accuracy"]["value"] for m in models},
        "win": {
            name: found["head_to_head", name]["greedy"]["win"]["value"]
            for name, match in params.head_to_head.items()
            if models[-1:] == [match.model] and ("head_to_head", name) in found
        },
    }
    aift = [content for (kind, _), content in found.items() if kind == "AIFT"]
    prompts, pairs = (sum(content[key] for content in aift) for key in ("prompts", "pairs"))
    measured = {role: {name: v for name, v in by.items() if v is not None} for role, by in values.items()}
    return {
        **{role: by for role, by in measured.items() if by},
        "pairs": pairs,
        "pair_yield": round(pairs / prompts, 6) if prompts else None,
        "warnings": sum(len(content.get("warned", ())) for content in found.values()) + len(apart(found, params)),
    }


if __name__ == "__main__":
    command(main)
