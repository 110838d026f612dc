"""A training that was killed and started again ends in the same bytes as one that was not."""

from __future__ import annotations

import re
import resource
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from accelerate import DistributedType

from stages.config.load import load_params
from stages.config.shared import Adapter
from stages.console.errors import TrainingError
from stages.models import intake
from stages.trainers.dpo import dpo_trainer, train_dpo
from stages.trainers.faults import check_step, of_the_device, rows_of
from stages.trainers.resume import Checkpoints, Resumable, differences, environment, is_whole, step_of
from stages.trainers.run import train
from stages.trainers.sft import sft_trainer, train_sft
from stages.trainers.speed import Speed
from tests.families import FAMILIES, build

PARAMS = load_params(Path(__file__).parents[2])
CPU = PARAMS.hardware.model_copy(update={"device": "cpu", "threads": 1})
BOTH = {
    "epochs": 3,
    "lr": 2e-3,
    "lr_end": 2e-4,
    "batch": 4,
    "micro_batch": 2,
    "warmup_steps": 2,
    "max_length": 60,
    "dropout": 0.1,
    "dtype": "float32",
    "gradient_checkpointing": False,
}
"""11 rows: an epoch is 3 optimizer steps, of 2, 2 and 2 batches, and its last batch is one row."""
SFT = PARAMS.train_sft.model_copy(update=BOTH)
DPO = PARAMS.train_dpo.model_copy(update=BOTH | {"nll_weight": 0.1})
STEPS = 9
ROWS = pl.DataFrame(
    {
        "id": [f"ift{n}" for n in range(11)],
        "instruction": [f"Say cat {n} times." for n in range(11)],
        "response": ["cat " * (1 + n % 4) + "pear." for n in range(11)],
    }
)
PAIRS = ROWS.select("id", prompt="instruction", chosen="response").with_columns(rejected=pl.lit("plum apple."))
KINDS = {"sft": (train_sft, SFT, ROWS, sft_trainer), "dpo": (train_dpo, DPO, PAIRS, dpo_trainer)}


class Killed(BaseException):
    pass


def checkpoints(folder: Path, every_s: float | None = 0, **of) -> Checkpoints:
    return Checkpoints(folder, every_s, {"parent": "p", "seed": 1} | of)


def run(kind: str, model: Path, out: Path, kept: Checkpoints | None, **changed):
    verb, params, rows, _ = KINDS[kind]
    out.mkdir(exist_ok=True)
    params = params.model_copy(update=changed)
    return verb(model, out, rows, params, seed=1, hardware=CPU, label="M", checkpoints=kept)


def killed(monkeypatch, at: int, run) -> None:
    """`run`, which dies in the middle of step `at`, counted from 1, when its gradients are summed up."""
    import transformers

    def die(self, args, state, control, **kwargs):
        if state.global_step == at - 1:
            raise Killed
        return control

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(transformers.TrainerCallback, "on_pre_optimizer_step", die)
        run()


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(base_model, tmp_path_factory):
    """Trainings that nobody killed, without any checkpoint."""
    out = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        out[kind] = run(kind, base_model, folder, None).log, weights(folder)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [2, 4, 9], ids="killed in step {}".format)
def test_killed_and_continued_is_as_not_killed(kind, at, base_model, whole, tmp_path, monkeypatch, capsys):
    """Within an epoch, at the end of one (4: after step 3), and before the last step."""
    kept = tmp_path / "kept"
    killed(monkeypatch, at, lambda: run(kind, base_model, tmp_path / "a", checkpoints(kept)))
    assert [step_of(path) for path in kept.iterdir()] == [at - 1]
    trained = run(kind, base_model, tmp_path / "b", checkpoints(kept))
    assert trained.figures["continued_at"] == at - 1
    assert trained.log.equals(whole[kind][0])
    assert weights(tmp_path / "b") == whole[kind][1]
    assert f"continued at step {at - 1} of {STEPS}" in capsys.readouterr().out


def continued(kept: Path, step: int) -> Path:
    return next(path for path in kept.iterdir() if step_of(path) == step)


def test_what_is_not_whole_is_no_checkpoint(base_model, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    killed(monkeypatch, 4, lambda: run("sft", base_model, tmp_path / "a", checkpoints(kept)))
    for file in [path for path in (kept / "checkpoint-3").iterdir() if path.stat().st_size]:
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        assert not is_whole(kept / "checkpoint-3"), file.name
        file.write_bytes(content)
    assert checkpoints(kept).last == kept / "checkpoint-3"


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(base_model, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "kept"
    killed(
        monkeypatch, 4, lambda: run("sft", base_model, tmp_path / "a", checkpoints(kept, params={"lr": 1, "lr_end": 0}))
    )
    other = checkpoints(kept, every_s=None, params={"lr": 2, "lr_end": 0}, parent="q")
    assert other.next_time == "the same command continues at step 3"  # nobody has looked yet whose it is
    assert "continued_at" not in run("sft", base_model, tmp_path / "b", other).figures
    said = capsys.readouterr().err
    assert other.next_time == "training begins anew"
    assert "checkpoint of step 3" in said
    assert "of another run (params.lr 1, now 2, other parent); training begins anew" in said.replace("\n", " ")
    assert "lr_end" not in said
    trainer, ready = sft_trainer(base_model, tmp_path, ROWS, SFT, seed=1, hardware=CPU)
    spread = SimpleNamespace(
        args=trainer.args, accelerator=SimpleNamespace(num_processes=1, distributed_type=DistributedType.FSDP)
    )
    assert differences(environment(trainer, ready), environment(spread, ready)) == ["distributed NO, now FSDP"]
    rows = ROWS.head(10)
    monkeypatch.setitem(KINDS, "sft", (train_sft, SFT, rows, sft_trainer))
    run("sft", base_model, tmp_path / "b", checkpoints(kept, every_s=0, params={"lr": 1, "lr_end": 0}))
    assert "of another run (other rows)" in capsys.readouterr().err.replace("\n", " ")
    assert [path.name for path in kept.iterdir()] == ["checkpoint-8"]  # the refused one is gone


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_step_are_those_that_were_trained(kind, base_model, tmp_path):
    _, params, rows, make = KINDS[kind]
    trainer, ready = make(base_model, tmp_path, rows, params, seed=1, hardware=CPU)
    trainer.args.eval_on_start = False
    seen, step = {}, type(trainer).training_step

    def look(self, model, inputs, *args, **kwargs):
        seen.setdefault(self.state.global_step + 1, []).extend(
            tuple(ids[mask.bool()].tolist())
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        )
        return step(self, model, inputs, *args, **kwargs)

    type(trainer).training_step = look
    trainer.train()
    answer = {"sft": "response_ids", "dpo": "chosen_ids"}[kind]
    texts = [tuple(p + a) for p, a in zip(ready.rows["prompt_ids"], ready.rows[answer], strict=True)]
    assert len(seen) == STEPS
    for number, batch in seen.items():
        assert {texts[i] for i in rows_of(trainer, number)} == {text for text in batch if text in texts}


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_stops_with_the_rows_of_its_batch(kind, base_model, tmp_path):
    """The model answers row 7's prompt, alone, with no number, from the second epoch on."""
    _, params, rows, make = KINDS[kind]
    trainer, ready = make(base_model, tmp_path, rows, params, seed=1, hardware=CPU)
    bad = ready.rows["prompt_ids"][7]

    def break_numbers(module, args, out):
        hit = any(bad == ids[i : i + len(bad)] for ids in args[0].tolist() for i in range(len(ids)))
        return out * float("nan") if hit and trainer.state.epoch >= 1 else out

    trainer.model.get_input_embeddings().register_forward_hook(break_numbers)
    kept = checkpoints(tmp_path / "kept")
    with pytest.raises(
        TrainingError, match=r"no longer a number at step [456] of 9, .*ift7 \('Say cat 7 times\.'\)"
    ) as e:
        train(trainer, ready, "M1", Speed(ready, "float32"), kept)
    assert len(re.findall(r"ift\d+ ", str(e.value))) == len(rows_of(trainer, trainer.state.global_step)) < 5
    assert f"the checkpoint before is {kept.last}" in str(e.value)
    assert step_of(kept.last) == trainer.state.global_step - 1


def test_a_gradient_that_explodes_stops_and_one_that_is_large_does_not(base_model, tmp_path):
    trainer, ready = sft_trainer(base_model, tmp_path, ROWS, SFT, seed=1, hardware=CPU)
    before = [{"loss": 1.0, "grad_norm": norm} for norm in (2.0, 1.0) * 5]
    for logs, stops in (
        ({"loss": 1.0, "grad_norm": 1999.0}, False),
        ({"loss": 1.0, "grad_norm": 2001.0}, True),
        ({"loss": 1.0, "grad_norm": float("nan")}, True),
        ({"loss": 1.0}, False),
    ):
        trainer.state.global_step, trainer.state.log_history = 9, [*before, logs]
        with pytest.raises(TrainingError, match=r"gradient.* at step 9") if stops else nullcontext():
            check_step(logs, trainer, ready, "M1", checkpoints(tmp_path))
    trainer.state.log_history = [*before[:9], {"loss": 1.0, "grad_norm": 1e9}]
    check_step(trainer.state.log_history[-1], trainer, ready, "M1", checkpoints(tmp_path))  # too early to know


@pytest.mark.parametrize("room", [0, 50_000])
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(room, base_model, whole, tmp_path, monkeypatch):
    """No file may be longer than `room` bytes from step 4 on."""
    kept, limits = tmp_path / "kept", resource.getrlimit(resource.RLIMIT_FSIZE)
    save = Resumable._save_checkpoint

    def fill(self, *args):
        if self.state.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        save(self, *args)

    try:
        with monkeypatch.context() as patch, pytest.raises(TrainingError) as e:
            patch.setattr(Resumable, "_save_checkpoint", fill)
            run("sft", base_model, tmp_path / "a", checkpoints(kept))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the checkpoint of step 4 of 9 could not be written into" in str(e.value)
    assert "the same command continues at step 3" in str(e.value)
    assert [path.name for path in kept.iterdir()] == ["checkpoint-3"]
    trained = run("sft", base_model, tmp_path / "b", checkpoints(kept, every_s=None))
    assert (trained.figures["continued_at"], weights(tmp_path / "b")) == (3, whole["sft"][1])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
            "memory of the GPU is full: CUDA out",
        ),
        (MemoryError(), "the memory is full: MemoryError"),
        (lambda: torch.empty(10**15), "the memory is full: [enforce fail at alloc_cpu"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nmore"), "the GPU failed: CUDA error: unspec"),
        (RuntimeError("NCCL error in: x"), "the GPU failed: NCCL error in: x"),
    ],
    ids=["full", "full on a CPU", "full of tensors on a CPU", "gone", "gone among several"],
)
def test_a_gpu_that_is_full_or_gone_is_one_sentence(error, words, tmp_path):
    with pytest.raises(TrainingError) as e, of_the_device("train_sft", SFT, checkpoints(tmp_path)):
        if isinstance(error, Exception):
            raise error
        error()
    assert words in str(e.value)
    assert "\n" not in str(e.value)
    assert "training begins anew" in str(e.value)
    if "memory" in words:
        assert "Lower train_sft.micro_batch (seen 2) or train_sft.max_length (seen 60)" in str(e.value)
        assert "train_sft.gradient_checkpointing to true" in str(e.value)
    with pytest.raises(RuntimeError, match="a bug"), of_the_device("train_sft", SFT, checkpoints(tmp_path)):
        raise RuntimeError("a bug")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_continues_with_its_own_weights(family, tmp_path, monkeypatch):
    """Experts are saved under other names than they have in memory, tied weights once."""
    rows = ROWS.select("instruction", "response").rows()
    model = build(family, tmp_path / "M0", rows)
    intake.complete(model, date(2026, 1, 31))
    few = {"epochs": 1, "batch": 3, "micro_batch": 3, "max_length": 512}
    run("sft", model, tmp_path / "whole", None, **few)
    kept = tmp_path / "kept"
    killed(monkeypatch, 3, lambda: run("sft", model, tmp_path / "a", checkpoints(kept), **few))
    assert run("sft", model, tmp_path / "b", checkpoints(kept), **few).figures["continued_at"] == 2
    assert weights(tmp_path / "b") == weights(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_continues(kind, base_model, tmp_path, monkeypatch):
    few = {"epochs": 1, "adapter": Adapter(r=2, alpha=4, dropout=0.1, save="keep")}
    run(kind, base_model, tmp_path / "whole", None, **few)
    kept = tmp_path / "kept"
    killed(monkeypatch, 3, lambda: run(kind, base_model, tmp_path / "a", checkpoints(kept), **few))
    assert run(kind, base_model, tmp_path / "b", checkpoints(kept), **few).figures["continued_at"] == 2
    files = [(tmp_path / name / "adapter/adapter_model.safetensors").read_bytes() for name in ("b", "whole")]
    assert files[0] == files[1]


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "no"), ("bfloat16", "bf16")])
def test_the_precision_is_the_parameter_s_whatever_the_environment_says(
    dtype, precision, base_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    params = SFT.model_copy(update={"dtype": dtype})
    trainer, _ = sft_trainer(base_model, tmp_path, ROWS, params, seed=1, hardware=CPU)
    assert trainer.accelerator.mixed_precision == precision
