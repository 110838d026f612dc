"""`hardware.report_to`: a tracker gets each step under the model's name, in data/logs; without its package a training
says what to install before it loads a model."""

from __future__ import annotations

import os

import pytest
from test_train_sft import CPU, PARAMS, ROWS

from stages.console.errors import TrainingError
from stages.trainers import trackers
from stages.trainers.sft import train_sft


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What a test sets ends with it."""
    for name in ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_tracker_that_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"hardware\.report_to is trackio, .* -e .*trackio.*, or set it to null"):
        trackers.set_up("trackio", tmp_path, "SFT M1")
    assert not (tmp_path / "trackio").exists()
    trackers.set_up(None, tmp_path, "SFT M1")


def test_files_of_a_tracker_lie_in_the_logs_unless_the_user_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for tracker in ("tensorboard", "trackio", "wandb"):
        trackers.set_up(tracker, tmp_path, "SFT M1")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard/SFT-M1")
    assert (os.environ["TRACKIO_DIR"], os.environ["WANDB_DIR"]) == (str(tmp_path / "trackio"), str(tmp_path / "wandb"))
    assert os.environ["WANDB_PROJECT"] == "mine"


def test_tensorboard_gets_the_losses(base_model, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers.set_up("tensorboard", tmp_path / "logs", "SFT M1")
    (tmp_path / "M1").mkdir()
    hardware = CPU.model_copy(update={"report_to": "tensorboard"})
    p = PARAMS.model_copy(update={"epochs": 1})
    trained = train_sft(base_model, tmp_path / "M1", ROWS, p, seed=1, hardware=hardware, label="SFT M1")
    events = EventAccumulator(str(tmp_path / "logs/tensorboard/SFT-M1")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx(trained.log["loss"].to_list(), rel=1e-4)
    assert not (tmp_path / "M1/runs").exists()
