"""`srlm cache`: what is cached, and deleting it."""

from __future__ import annotations

import json
import os
import resource

import pytest

from stages.commands import cache
from stages.console.errors import SrlmError
from stages.engines.cache import CompletionCache
from stages.engines.request import Completion
from stages.store.run import COMPLETION_CACHE, TRAINING_CACHE
from stages.trainers.references import References


@pytest.fixture
def root(tmp_path):
    with CompletionCache(tmp_path / COMPLETION_CACHE) as cached:
        for i, (model, stage) in enumerate(
            (("M1", "judge_candidates@M1"), ("M1", "judge_candidates@M1"), ("M2", "sample_candidates@M2"))
        ):
            cached.put([(bytes([i]) * 32, Completion("r", 0, "x" * 1000, "stop", 1))], model=model, stage=stage)
        cached.connection.execute("UPDATE texts SET created = created - 40 * 86400 WHERE key = ?", (bytes([0]) * 32,))
    return tmp_path


def shown(capsys, root):
    cache.show(root)
    return capsys.readouterr().out


def test_sizes_are_shown_by_model_and_stage(capsys, root):
    lines = shown(capsys, root).splitlines()
    assert lines[0].split()[:3] == ["model", "stage", "completions"]
    assert lines[1].split()[:4] == ["M1", "judge_candidates@M1", "2", "0.0"]
    assert lines[2].split()[:3] == ["M2", "sample_candidates@M2", "1"]
    assert "3 completions in" in lines[3]


def test_as_json_it_is_one_object_of_stable_keys(capsys, root, tmp_path):
    cache.show(root, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["path", "bytes", "trainings", "completions", "reference_logprobs"]
    assert [(row["model"], row["completions"]) for row in found["completions"]] == [("M1", 2), ("M2", 1)]
    assert list(found["completions"][0]) == ["model", "stage", "completions", "bytes", "oldest", "newest"]
    (tmp_path / "none" / TRAINING_CACHE / "M2").mkdir(parents=True)
    cache.show(tmp_path / "none", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["bytes"], found["completions"]) == (0, [])
    assert found["trainings"] == [{"model": "M2", "step": None, "bytes": 0}]


def test_a_damaged_database_is_told_and_deleted(capsys, root):
    (root / COMPLETION_CACHE).write_bytes(b"no database" * 1000)
    for command in (cache.show, lambda root: cache.prune(model="M1", root=root)):
        with pytest.raises(SrlmError, match=r"is damaged .*Type: srlm cache --prune"):
            command(root)
    cache.prune(root=root)
    assert "Deleted all cached completions" in capsys.readouterr().err
    assert not (root / COMPLETION_CACHE).exists()


def test_an_empty_cache_is_told(capsys, tmp_path):
    cache.show(tmp_path)
    assert "No completions are cached yet" in capsys.readouterr().err
    assert not (tmp_path / COMPLETION_CACHE).exists()
    with pytest.raises(SrlmError, match="No completions are cached"):
        cache.prune(root=tmp_path)


def test_old_or_one_models_completions_are_forgotten(capsys, root):
    cache.prune(older=30, root=root)
    assert "Deleted 1 cached completions" in capsys.readouterr().err
    assert "2 completions in" in shown(capsys, root)
    cache.prune(model="M2", root=root)
    assert "1 completions in" in shown(capsys, root)
    with pytest.raises(SrlmError, match="No completions of M2 are cached, only of M1"):
        cache.prune(model="M2", root=root)
    cache.prune(root=root)
    assert "Deleted 1 cached completions" in capsys.readouterr().err
    assert "0 completions in" in shown(capsys, root)


def test_references_are_counted_and_deleted_with_their_model(capsys, root):
    with References(root / COMPLETION_CACHE) as references:
        references.put({b"a" * 32: -1.0, b"b" * 32: -2.0}, "M1")
        references.put({b"c" * 32: -3.0}, "M9")
    assert shown(capsys, root).splitlines()[-1] == "3 log-probabilities of DPO's references there: M1 2, M9 1"
    cache.prune(older=30, root=root)
    cache.prune(model="M1", root=root)
    assert "Deleted 1 cached completions and 2 log-probabilities of references" in capsys.readouterr().err
    cache.prune(model="M9", root=root)
    assert "log-prob" not in shown(capsys, root)


def test_a_full_disk_is_no_reason_to_keep_everything(root, capsys):
    """Forgetting rows needs room: SQLite writes what it changes beside the database first."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(SrlmError, match="completions"):
            cache.prune(model="M1", root=root)
        cache.prune(root=root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((root / COMPLETION_CACHE).parent.glob(f"{(root / COMPLETION_CACHE).name}*"))


def training(root, model: str, step: int) -> None:
    """A checkpoint as `stages.trainers.resume` keeps it."""
    folder = root / TRAINING_CACHE / model / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 1_500_000)
    (folder / "run.json").write_text('{"run": {}, "files": {"model.safetensors": 1500000}}')


def test_checkpoints_of_trainings_are_shown_and_deleted(capsys, root):
    for model, step in (("M1", 120), ("M2", 7), ("M3", 9)):
        training(root, model, step)
    (root / TRAINING_CACHE / "M3/checkpoint-9/run.json").unlink()
    out = shown(capsys, root)
    assert f"the training of M1 stopped after step 120: 1.5 MB in {root / TRAINING_CACHE / 'M1'}" in out
    assert "the training of M3 has no whole checkpoint: 1.5 MB" in out
    os.utime(root / TRAINING_CACHE / "M3", (0, 0))
    cache.prune(older=30, root=root)
    cache.prune(model="M2", root=root)
    assert [path.name for path in (root / TRAINING_CACHE).iterdir()] == ["M1"]
    cache.prune(root=root)
    assert not list((root / TRAINING_CACHE).iterdir())
    (root / COMPLETION_CACHE).unlink()
    training(root, "M4", 1)
    cache.prune(model="M4", root=root)
    assert "Deleted the checkpoint of the training of M4" in capsys.readouterr().err
