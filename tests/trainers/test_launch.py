"""One training on two processes (gloo, on the CPU): the curve of one process, and an end for all when one fails."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from stages.config.load import load_params
from stages.config.machine import Hardware
from stages.config.sections import TrainDpo, TrainSft
from stages.config.shared import Adapter
from stages.console.errors import TrainingError
from stages.trainers.dpo import train_dpo
from stages.trainers.launch import accelerate, on_processes, rows_of_each
from stages.trainers.resume import Checkpoints
from stages.trainers.run import Trained
from stages.trainers.sft import train_sft
from stages.trainers.validation import Validation, candidates

PARAMS = load_params(Path(__file__).parents[2])
COMMON = {
    **{"epochs": 2, "lr": 2e-3, "lr_end": 0.0, "batch": 4, "micro_batch": 4, "warmup_steps": 1, "max_length": 60},
    **{"dropout": 0.0, "dtype": "float32", "gradient_checkpointing": False},
}
SFT = TrainSft(**PARAMS.train_sft.model_dump() | COMMON)
DPO = TrainDpo(**PARAMS.train_dpo.model_dump() | COMMON | {"nll_weight": 0.0})
BESIDE = DPO.model_copy(update={"nll_weight": 1.0})
ROWS = pl.DataFrame(
    {"instruction": [f"Say cat {n} times." for n in range(12)], "response": ["cat cat cat.", "apple."] * 6}
)
PAIRS = pl.DataFrame(
    {
        "prompt": [f"Say cat {n} times." for n in range(12)],
        "chosen": ["cat cat cat.", "apple."] * 6,
        "rejected": ["pear plum apple."] * 12,
    }
)
TWO = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
machine_rank: 0
num_processes: 2
"""


def hardware(tmp_path: Path, config: str | None = TWO) -> Hardware:
    file = tmp_path / "two.yaml"
    file.write_text(config or "")
    update = {"device": "cpu", "threads": 1, "save_every_s": None, "launch": str(file) if config else None}
    return PARAMS.hardware.model_copy(update=update)


def train(function, base: Path, out: Path, rows: pl.DataFrame, params, machine: Hardware) -> Trained:
    out.mkdir()
    options = {
        "seed": 1,
        "label": "M2",
        "checkpoints": Checkpoints(out.parent / f"{out.name}-saved", machine.save_every_s, {}),
        "validation": Validation(ROWS.head(3), 2, keep=True),
    }
    if machine.launch:
        return Trained(**on_processes(function, base, out, rows, params, hardware=machine, **options))
    return function(base, out, rows, params, hardware=machine, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "rows", "params"),
    [
        *[(train_sft, ROWS, SFT), (train_dpo, PAIRS, DPO)],
        # an epoch's last step has one row, or three, which accelerate fills up
        *[(train_sft, ROWS.head(9), SFT), (train_dpo, PAIRS.head(9), DPO), (train_dpo, PAIRS.head(11), BESIDE)],
    ],
    ids=lambda value: len(value) if isinstance(value, pl.DataFrame) else getattr(value, "__name__", ""),
)
def test_two_processes_have_the_curve_of_one(base_model, tmp_path, function, rows, params):
    one = train(function, base_model, tmp_path / "one", rows, params, hardware(tmp_path, None))
    two = train(function, base_model, tmp_path / "two", rows, params, hardware(tmp_path))
    assert (one.processes, two.processes, two.rows, two.threads) == (1, 2, len(rows), 1)
    assert one.log.columns == two.log.columns
    for column in one.log.columns:
        assert two.log[column].drop_nulls().to_list() == pytest.approx(
            one.log[column].drop_nulls().to_list(), rel=1e-3, abs=1e-5
        ), column
    if params is DPO:
        assert two.log["loss"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert {file.name for file in (tmp_path / "two").iterdir()} == {file.name for file in (tmp_path / "one").iterdir()}
    kept = [candidates(tmp_path / f"{name}-saved") for name in ("one", "two")]
    assert sorted(kept[0]) == sorted(kept[1]) == [2, 4]  # of 6
    for step, folder in kept[0].items():
        weights = [load_file(one / "model.safetensors") for one in (folder, kept[1][step])]
        assert all(torch.allclose(weight, weights[1][name], atol=1e-4) for name, weight in weights[0].items())


@pytest.mark.slow
def test_an_adapter_on_two_processes(base_model, tmp_path):
    params = DPO.model_copy(update={"adapter": Adapter(r=4, alpha=8, save="keep"), "lr": 2e-2})
    one = train(train_dpo, base_model, tmp_path / "one", PAIRS, params, hardware(tmp_path, None))
    two = train(train_dpo, base_model, tmp_path / "two", PAIRS, params, hardware(tmp_path))
    assert two.log["loss"].to_list() == pytest.approx(one.log["loss"].to_list(), rel=1e-3)
    assert (tmp_path / "two/adapter/adapter_model.safetensors").is_file()


SPREAD_ON_CPUS = """
import os
if "RANK" in os.environ:
    import accelerate.state as state
    start = state.PartialState.__init__

    def on_cpus_too(self, *args, **kwargs):
        start(self, *args, **kwargs)
        if self.distributed_type == state.DistributedType.MULTI_CPU:
            self.distributed_type = state.DistributedType.MULTI_GPU

    state.PartialState.__init__ = on_cpus_too

    import torch.distributed.fsdp as fsdp
    spread = fsdp.fully_shard

    def seen(*args, **kwargs):
        open(os.path.join(os.path.dirname(__file__), "spread"), "w").close()
        return spread(*args, **kwargs)

    fsdp.fully_shard = seen
"""


def spread_on_cpus(tmp_path: Path, monkeypatch) -> Hardware:
    """accelerate spreads over GPUs alone, so the processes are told that gloo's are such."""
    (tmp_path / "sitecustomize.py").write_text(SPREAD_ON_CPUS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return hardware(tmp_path).model_copy(update={"launch": "fsdp2", "device": "auto"})


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="would train on it")
@pytest.mark.parametrize("adapter", [None, Adapter(r=4, alpha=8, save="keep")])
def test_a_model_spread_by_fsdp2_has_the_curve_of_one(base_model, tmp_path, monkeypatch, adapter):
    params = DPO.model_copy(update={"adapter": adapter, "lr": 2e-2 if adapter else 2e-3})
    one = train(train_dpo, base_model, tmp_path / "one", PAIRS, params, hardware(tmp_path, None))
    machine = spread_on_cpus(tmp_path, monkeypatch)
    two = train(train_dpo, base_model, tmp_path / "two", PAIRS, params, machine)
    assert (tmp_path / "spread").exists()
    for column in one.log.columns:
        assert two.log[column].drop_nulls().to_list() == pytest.approx(
            one.log[column].drop_nulls().to_list(), rel=1e-3, abs=1e-5
        ), column
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors")]
    for file in files:
        weights, other = load_file(tmp_path / "one" / file), load_file(tmp_path / "two" / file)
        assert weights.keys() == other.keys()
        for name in weights:
            torch.testing.assert_close(weights[name], other[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_first_error_ends_all_in_its_own_words(base_model, tmp_path):
    with pytest.raises(TrainingError, match="none of 12 rows fits into max_length 8 tokens"):
        train(
            train_sft, base_model, tmp_path / "M1", ROWS, SFT.model_copy(update={"max_length": 8}), hardware(tmp_path)
        )
    assert not workers()


def workers(of: int | None = None) -> list[psutil.Process]:
    processes = psutil.Process(of).children(recursive=True)
    return [
        p for p in processes if "stages.trainers.worker" in p.cmdline() and "accelerate" not in " ".join(p.cmdline())
    ]


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
def test_one_process_killed_ends_the_training(base_model, tmp_path):
    def kill() -> None:
        wait_for(lambda: len(workers()) == 2)
        workers()[1].kill()

    threading.Thread(target=kill, daemon=True).start()
    long = SFT.model_copy(update={"epochs": 1000})
    with pytest.raises(TrainingError, match="ended from outside"):
        train(train_sft, base_model, tmp_path / "M1", ROWS, long, hardware(tmp_path))
    assert not workers()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "options"),
    [
        ("ddp", {}),
        ("ddp", {"dtype": "bfloat16_weights"}),
        ("fsdp2", {}),
        ("fsdp2", {"adapter": Adapter(r=4, alpha=8), "lr": 2e-2}),
    ],
    ids=["ddp", "ddp masters", "fsdp2", "fsdp2 adapter"],
)
def test_a_killed_training_continues_to_the_same_bytes(base_model, tmp_path, monkeypatch, launch, options):
    machine = hardware(tmp_path) if launch == "ddp" else spread_on_cpus(tmp_path, monkeypatch)
    machine = machine.model_copy(update={"save_every_s": 0.0})
    params = SFT.model_copy(update={"epochs": 10} | options)
    whole = train(train_sft, base_model, tmp_path / "whole", ROWS, params, machine)

    def kill() -> None:
        wait_for(lambda: any((tmp_path / "M1-saved").glob("checkpoint-[3-9]/run.json")))
        workers()[0].kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(TrainingError, match="ended from outside"):
        train(train_sft, base_model, tmp_path / "M1", ROWS, params, machine)
    shutil.rmtree(tmp_path / "M1")
    again = train(train_sft, base_model, tmp_path / "M1", ROWS, params, machine)
    assert (tmp_path / "spread").exists() == (launch == "fsdp2")
    assert again.figures["continued_at"] >= 3
    assert again.log.equals(whole.log)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "M1"))
    assert one == other


@pytest.mark.slow
def test_the_stage_killed_leaves_no_process(base_model, tmp_path):
    (tmp_path / "two.yaml").write_text(TWO)
    program = (
        "from pathlib import Path; import test_launch as t; base, tmp = map(Path, __import__('sys').argv[1:]); "
        "t.train(t.train_sft, base, tmp / 'M1', t.ROWS, t.SFT.model_copy(update={'epochs': 1000}), t.hardware(tmp))"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    stage = subprocess.Popen(
        [sys.executable, "-c", program, base_model, tmp_path], env=os.environ | {"PYTHONPATH": path}
    )
    try:
        wait_for(lambda: len(workers(stage.pid)) == 2)
        family = psutil.Process(stage.pid).children(recursive=True)
    finally:
        stage.kill()
        stage.wait()
    gone, alive = psutil.wait_procs(family, 30)
    assert len(gone) >= 3, "the launcher and two processes"
    assert not alive


def test_each_process_takes_its_share_of_a_batch():
    params = SFT.model_copy(update={"batch": 32, "micro_batch": 8})
    assert [rows_of_each(params, processes) for processes in (1, 2, 8, 32)] == [(8, 4), (8, 2), (4, 1), (1, 1)]
    with pytest.raises(TrainingError, match="batch 32 cannot be dealt out to 3 processes"):
        rows_of_each(params, 3)
    with pytest.raises(TrainingError, match="each of 2 processes takes 16, is not a multiple of micro_batch 3"):
        rows_of_each(params.model_copy(update={"micro_batch": 3}), 2)
    replay = TrainDpo(
        **DPO.model_dump() | {"replay": {"eft": 1.0, "ift": 0.0, "judge_pairs": 0.0, "rows": 1, "order": "known"}}
    )
    assert rows_of_each(replay, 1) == (4, 1)
    with pytest.raises(TrainingError, match=r"replay\.rows is 1, and 2 processes take a step in 2 parts"):
        rows_of_each(replay, 2)


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        ("distributed_type: MULTI_GPU\nfsdp: yes\n", "is no config of accelerate"),
        ("[1, 2", "is no config of accelerate"),
        (TWO.replace("num_machines: 1", "num_machines: 2"), "num_machines 2. Expected 1"),
        (TWO.replace("MULTI_GPU", "FSDP"), "spreads a model over GPUs, and none is to be used"),
        (TWO.replace("num_processes: 2", ""), "one process for each GPU, and torch sees none"),
        (TWO.replace("processes: 2", "processes: two"), "num_processes 'two'. Expected a whole number"),
        (TWO.replace("machines: 1", "machines:"), "num_machines None. Expected a whole number"),
        (TWO + "mixed_precision: bf16\n", "mixed_precision bf16, and dtype"),
    ],
)
def test_a_config_that_does_not_fit(tmp_path, config, seen):
    with pytest.raises(TrainingError, match=seen):
        accelerate(hardware(tmp_path, config))


def test_configs_by_name(tmp_path):
    with pytest.raises(
        ValidationError, match=r"expected ddp, fsdp2, zero3, or a path that ends in \.yaml, seen deepspeed"
    ):
        Hardware.model_validate(PARAMS.hardware.model_dump() | {"launch": "deepspeed"})
    with pytest.raises(TrainingError, match="is no config of accelerate"):
        accelerate(PARAMS.hardware.model_copy(update={"launch": str(tmp_path / "none.yaml")}))
    for name in ("ddp", "fsdp2", "zero3"):
        machine = Hardware.model_validate(PARAMS.hardware.model_dump() | {"launch": name, "device": "cpu"})
        with pytest.raises(TrainingError, match=f"hardware.launch {name} starts one process for each GPU"):
            accelerate(machine)
