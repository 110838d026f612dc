"""Twenty pinned steps of SFT and DPO in full digits: a refactor gives the same file. Only a change of computation writes
it anew, after this test showed that the losses stay CLOSE:

    GOLDEN=write python -m pytest -n 0 tests/trainers/test_golden_steps.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import mkdtemp

import polars as pl
import pytest
import torch
from tiny_llama import HARDWARE

from stages.config.load import load_params
from stages.trainers.dpo import dpo_trainer
from stages.trainers.sft import sft_trainer

GOLDEN = Path(__file__).parents[1] / "golden" / "steps.json"
PARAMS = load_params(Path(__file__).parents[2])
CLOSE = 1e-4
"""Relative: what another order of sums makes of twenty steps."""
KEYS = {"sft": ("loss", "grad_norm"), "dpo": ("loss", "grad_norm", "rewards/margins")}
COMMON = {
    **{"lr": 2e-3, "lr_end": 2e-4, "batch": 8, "micro_batch": 4, "warmup_steps": 2, "max_length": 100, "epochs": 5},
    **{"dropout": 0.0, "dtype": "float32", "gradient_checkpointing": False},
}
WORDS = ["apple", "pear", "plum", "cat", "dog", "sun", "moon", "river", "stone", "bread"]
TEXTS = [" ".join(WORDS[(i * k) % 10] for k in range(1, 2 + (i * 7) % 11)) for i in range(1, 65)]


def steps(kind: str, model: Path) -> list[dict[str, float]]:
    torch.manual_seed(0)
    out = Path(mkdtemp())
    prompts, answers, others = TEXTS[:32], TEXTS[32:], TEXTS[16:48]
    if kind == "sft":
        rows = pl.DataFrame({"instruction": prompts, "response": answers})
        params = PARAMS.train_sft.model_copy(update=COMMON)
        trainer, _ = sft_trainer(model, out, rows, params, seed=1, hardware=HARDWARE)
    else:
        rows = pl.DataFrame({"prompt": prompts, "chosen": answers, "rejected": others})
        params = PARAMS.train_dpo.model_copy(update=COMMON | {"beta": 0.1, "nll_weight": 0.5})
        trainer, _ = dpo_trainer(model, out, rows, params, seed=1, hardware=HARDWARE)
    trainer.train()
    return [{key: step[key] for key in KEYS[kind]} for step in trainer.state.log_history if "loss" in step]


def machine() -> str:
    """What decides in which order sums are taken."""
    info = Path("/proc/cpuinfo")
    names = [line.split(": ")[1] for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, {names[0]}"


def test_twenty_steps_are_the_same_digit_for_digit(base_model):
    seen = {kind: steps(kind, base_model) for kind in KEYS}
    if os.environ.get("GOLDEN") == "write":
        lists = (f'"{kind}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for kind, rows in seen.items())
        GOLDEN.write_text("{\n" + ",\n".join([f'"machine": "{machine()}"', *lists]) + "\n}\n")
    golden = json.loads(GOLDEN.read_text())
    for kind in KEYS:
        assert len(seen[kind]) == len(golden[kind]) == 20
        for n, (now, then) in enumerate(zip(seen[kind], golden[kind], strict=True), 1):
            assert now == pytest.approx(then, rel=CLOSE, abs=1e-6), f"{kind}, step {n}"
        if golden["machine"] == machine():  # on another kind of processor sums are taken in another order
            assert seen[kind] == golden[kind], kind
