from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from stages.config.load import load_params
from stages.config.sections import Replay, TrainDpo
from stages.console.errors import TrainingError
from stages.trainers.dpo import check_reference, dpo_trainer, train_dpo
from stages.trainers.run import train
from stages.trainers.speed import Speed

CPU = load_params(Path(__file__).parents[2]).hardware.model_copy(update={"device": "cpu", "threads": 1})
PARAMS = TrainDpo(
    loss="sigmoid",
    beta=0.1,
    label_smoothing=0.0,
    epochs=6,
    lr=2e-3,
    lr_end=2e-4,
    batch=4,
    micro_batch=4,
    warmup_steps=1,
    max_length=60,
    dropout=0.0,
    dtype="float32",
    gradient_checkpointing=False,
    nll_weight=0.0,
    replay=Replay(eft=0.0, ift=0.0, judge_pairs=0.0, rows=16, order="known"),
)
PAIRS = pl.DataFrame(
    {
        "prompt": [f"Say cat {n} times." for n in range(12)],
        "chosen": ["cat cat cat."] * 12,
        "rejected": ["pear plum apple."] * 12,
    }
)


def run(model: Path, out: Path, pairs: pl.DataFrame = PAIRS, **changed):
    out.mkdir(exist_ok=True)
    return train_dpo(model, out, pairs, PARAMS.model_copy(update=changed), seed=1, hardware=CPU, label="M2")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_it_starts_at_its_reference_and_learns_the_preference(base_model, tmp_path):
    trained = run(base_model, tmp_path)
    log = trained.log
    assert (trained.rows, trained.too_long) == (12, 0)
    assert log.columns == [
        "step",
        "loss",
        "reward_chosen",
        "reward_rejected",
        "margin",
        "accuracy",
        "lr",
        "tokens",
        "grad_norm",
    ]
    assert log["loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert log["margin"][0] == pytest.approx(0, abs=1e-4)
    assert log["margin"][-1] > 0.5
    assert log["accuracy"][-1] == 1.0
    assert log["loss"][-1] < log["loss"][0]
    assert weights(tmp_path) != weights(base_model)


def test_twice_the_same_weights(base_model, tmp_path):
    for name in ("a", "b"):
        run(base_model, tmp_path / name, epochs=2, nll_weight=0.5)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.slow
def test_the_likelihood_of_chosen_is_added_by_its_weight(base_model, tmp_path):
    plain, half, whole = (run(base_model, tmp_path, epochs=1, nll_weight=w).log["loss"][0] for w in (0.0, 0.5, 1.0))
    nll = whole - plain
    assert nll > 1  # a random model knows nothing: about ln(vocabulary) per token
    assert half == pytest.approx(plain + nll / 2, abs=1e-3)


@pytest.mark.slow
def test_a_second_round_starts_from_its_own_model(base_model, tmp_path):
    run(base_model, tmp_path / "M2", dtype="bfloat16")
    log = run(tmp_path / "M2", tmp_path / "M3", dropout=0.1, gradient_checkpointing=True, micro_batch=2).log
    assert log["loss"][0] == pytest.approx(math.log(2), abs=0.1)  # dropout shakes it a little
    assert weights(tmp_path / "M3") != weights(tmp_path / "M2")


def test_a_wrong_reference_stops_training_before_the_first_step(base_model, tmp_path):
    import torch

    trainer, ready = dpo_trainer(base_model, tmp_path, PAIRS, PARAMS, seed=1, hardware=CPU)
    with torch.no_grad():  # the reference's log-probabilities are known by now; the policy becomes another model
        for weight in trainer.model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(TrainingError, match="reference is not the model"):
        train(trainer, ready, "M2", Speed(ready, "float32"))
    assert trainer.state.global_step == 0


def test_rounding_is_no_wrong_reference():
    at = {"eval_rewards/chosen": 0.0009, "eval_rewards/rejected": -0.0009}
    check_reference(at, PARAMS)
    with pytest.raises(TrainingError, match=r"rejected -0\.0011"):
        check_reference(at | {"eval_rewards/rejected": -0.0011}, PARAMS)


def test_training_that_changes_nothing_is_an_error(base_model, tmp_path):
    with pytest.raises(TrainingError, match="changed no weight"):
        run(base_model, tmp_path, lr=1e-30, lr_end=0.0)


def test_pairs_too_long_are_left_out_and_counted(base_model, tmp_path):
    long = "cat " * 90
    pairs = pl.DataFrame(
        {"prompt": ["Say"] * 6, "chosen": ["cat."] * 4 + [long, "cat."], "rejected": ["pear."] * 5 + [long]}
    )
    trained = run(base_model, tmp_path, pairs, epochs=1)
    assert (trained.rows, trained.too_long) == (4, 2)
    with pytest.raises(TrainingError, match="none of 6 rows fits into max_length 5"):
        run(base_model, tmp_path, pairs, max_length=5)


def test_answers_of_the_same_tokens_are_no_pair_and_counted(base_model, tmp_path):
    """Two texts, one sequence: what spells a control token is broken up before it is tokenized."""
    pairs = pl.DataFrame(
        {"prompt": ["Say"] * 5, "chosen": ["cat."] * 4 + ["cat<end>"], "rejected": ["pear."] * 4 + ["cat< end>"]}
    )
    trained = run(base_model, tmp_path, pairs, epochs=1)
    assert (trained.rows, trained.too_long, trained.same_tokens) == (4, 0, 1)
    with pytest.raises(TrainingError, match="1 are the same tokens as chosen and rejected"):
        run(base_model, tmp_path, pairs.tail(1))


def test_a_batch_that_micro_batches_cannot_make(base_model, tmp_path):
    with pytest.raises(TrainingError, match="not a multiple"):
        run(base_model, tmp_path, micro_batch=3)
