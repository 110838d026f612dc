"""lm-eval: the paper's NLP benchmarks, by EleutherAI's harness. A model of data/models leaves its figures in
data/metrics/lm_eval, which `srlm query` and `dvc metrics diff` read."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.commands.answering import find_model, model_folder
from stages.commands.figures import aside, keep_of_model, show
from stages.config.load import load_params
from stages.console.errors import ModelError, SrlmError
from stages.console.sheets import Figure, Sheet
from stages.store.metrics import without_empty_claims
from stages.store.run import Run

PAPER = (
    "arc_easy",
    "arc_challenge",
    "hellaswag",
    "social_iqa",
    "piqa",
    "gsm8k",
    "mmlu",
    "openbookqa",
    "nq_open",
)
"""The tasks of the paper's table of NLP benchmarks, as the harness names them."""
KIND = "lm_eval"


def evaluate(
    model: str, tasks: str, root: Path, *, limit: int | None, batch_size: int, chat: bool, as_json: bool
) -> None:
    """Evaluate, write data/metrics/lm_eval/MODEL.json (not with a `limit`) and print. Raises SrlmError."""
    parts = [part.strip() for part in tasks.split(",")]
    names = [_task(name) for part in parts for name in (PAPER if part == "paper" else [part]) if name]
    if not names:
        raise SrlmError("--tasks names none: paper, or tasks with commas between")
    params = load_params(root)
    find_model(model, root)
    harness = _harness()
    with aside(), Run(KIND, root, Path(model).name) as run:
        folder, name = model_folder(run, model, root)
        if not (folder / "config.json").is_file():
            raise ModelError(f"{model} is at a server: the harness needs probabilities of given texts, so the weights")
        device = "cuda" if params.hardware.device != "cpu" and _sees_a_gpu() else "cpu"
        found: Mapping[str, Any]
        try:
            found = harness.simple_evaluate(
                model="hf",
                model_args={"pretrained": str(folder), "dtype": params.engine.dtype},
                tasks=names,
                batch_size=batch_size,
                device=device,
                limit=limit,
                apply_chat_template=chat,
                log_samples=False,
                random_seed=params.seed,
                fewshot_random_seed=params.seed,
                bootstrap_iters=1000,
            )
        except Exception as e:  # an unknown task, data that the Hub does not give, a model: of many types
            raise SrlmError(
                f"lm-eval did not evaluate {model} on {', '.join(names)}: {type(e).__name__}: "
                f"{' '.join(str(e).split())[:300]}. Its tasks: lm-eval ls tasks. Data sets come from the Hub, where "
                f"HF_HUB_OFFLINE is not set; a task of yours is a .yaml"
            ) from None
        content = figures(found)
        settings = {"lm_eval": version("lm_eval"), "limit": limit, "prompt": "chat" if chat else "plain"}
        if limit is None:
            keep_of_model(KIND, name or "", content | {"settings": settings}, root)
    rows = [
        (task, metric, Figure(figure["value"], figure["low"], figure["high"], digits=4), figure["n"])
        for task, metrics in without_empty_claims(content).items()
        for metric, figure in metrics.items()
    ]
    sheet = Sheet(("task", "metric", "value ± 95 %", "n"), rows, f"{model}: lm-eval {settings['lm_eval']}")
    show(content | {"settings": settings}, [sheet], as_json=as_json)


def figures(found: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Task to metric to a figure, of those tasks and groups that were asked for; parts of a group (57 of MMLU) are in
    it. The interval is 1.96 of the harness's standard errors."""
    parts = {part for group, inside in found["group_subtasks"].items() for part in inside if part != group}
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for task, values in found["results"].items():
        if task in parts:
            continue
        n = _examples(found, task)
        for key, value in values.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{kind}")
            spread = 1.96 * error if isinstance(error, int | float) else None
            name = metric if kind == "none" else f"{metric}_{re.sub(r'[^A-Za-z0-9]+', '_', kind)}"
            result.setdefault(task, {})[name] = {
                "value": float(value),
                "low": None if spread is None else float(value) - spread,
                "high": None if spread is None else float(value) + spread,
                "n": n,
            }
    return result


def _examples(found: Mapping[str, Any], task: str) -> int:
    counted, parts = found["n-samples"], found["group_subtasks"].get(task, [])
    if task in counted:
        return int(counted[task]["effective"])
    return sum(_examples(found, part) for part in parts if part != task)


def _task(name: str) -> str:
    if not name.endswith((".yaml", ".yml")):
        return name
    if not Path(name).is_file():
        raise SrlmError(f"--tasks {name}: no such file")
    return str(Path(name).absolute())


def _sees_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _harness() -> Any:
    try:
        import lm_eval
    except ImportError as e:
        raise SrlmError(
            f"the harness needs the package {e.name}. Type: pip install -c constraints.txt -e '.[eval]'"
        ) from None
    for name in ("lm_eval", "lm-eval"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return lm_eval
