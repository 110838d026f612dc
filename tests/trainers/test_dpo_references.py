"""References are computed once, and a model is the same to the byte whether they were."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from test_train_dpo import CPU, PARAMS, weights
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM

from stages.config.shared import Adapter
from stages.console.errors import TrainingError
from stages.trainers import references
from stages.trainers.dpo import dpo_trainer, train_dpo
from stages.trainers.references import References, Source

TWO = [("Say cat.", "cat cat cat.", "pear"), ("Name three fruits.", "pear plum", "Sure! apple pear plum. Score: 4")]
TEN = [*TWO, *((f"Say number {n}.", f"Sure! {n} cat" + " cat" * (n % 3), "apple." * (1 + n % 2)) for n in range(8))]


def table(rows):
    return pl.DataFrame(rows, schema=["prompt", "chosen", "rejected"], orient="row")


@pytest.fixture
def computed(monkeypatch):
    """How many answers were computed in each batch."""
    batches, real = [], references._log_probabilities

    def counting(trainer, rows):
        batches.append(len(rows))
        return real(trainer, rows)

    monkeypatch.setattr(references, "_log_probabilities", counting)
    return batches


def run(model, out, path, rows=TEN, content="a", **changed):
    out.mkdir(exist_ok=True)
    params = PARAMS.model_copy(update={"epochs": 1, "max_length": 90, **changed})
    source = Source(path, "M1", content) if path else None
    train_dpo(model, out, table(rows), params, seed=1, hardware=CPU, label="M2", references=source)
    return weights(out)


def test_a_reference_is_the_sum_over_the_answers_tokens(base_model, tmp_path):
    trainer, _ = dpo_trainer(base_model, tmp_path, table(TWO), PARAMS, seed=1, hardware=CPU)
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype="float32").eval()
    for row in trainer.train_dataset:
        for side in references.SIDES:
            prompt, answer = row["prompt_ids"], row[f"{side}_ids"]
            with torch.no_grad():
                likely = log_softmax(model(torch.tensor([prompt + answer])).logits, -1)[0, len(prompt) - 1 : -1]
            by_hand = likely.gather(-1, torch.tensor(answer)[:, None]).sum().item()
            assert row[f"ref_{side}_logps"] == pytest.approx(by_hand, abs=1e-4)


def test_another_beta_computes_none_again_and_changes_no_byte(base_model, tmp_path, computed):
    path = tmp_path / "cache" / "completions.sqlite"
    fresh = run(base_model, tmp_path / "fresh", None, beta=0.3)
    run(base_model, tmp_path / "first", path)
    assert sum(computed[len(computed) // 2 :]) == 20
    before = len(computed)
    assert run(base_model, tmp_path / "again", path, beta=0.3) == fresh
    assert len(computed) == before
    run(base_model, tmp_path / "other", path, content="b")  # another model
    assert sum(computed[before:]) == 20


def test_an_adapter_that_is_merged_has_other_last_bits(base_model, tmp_path, computed):
    path = tmp_path / "completions.sqlite"
    for parent_adapter in ("continue", "stack"):
        adapter = Adapter(r=2, alpha=4, parent_adapter=parent_adapter)
        run(base_model, tmp_path / parent_adapter, path, rows=TWO, adapter=adapter)
    assert sum(computed) == 8, "each its own"
    run(base_model, tmp_path / "again", path, rows=TWO, adapter=adapter, beta=0.3)
    assert sum(computed) == 8


def test_another_peft_computes_anew_where_there_is_an_adapter_alone(base_model, tmp_path, computed, monkeypatch):
    path, adapter = tmp_path / "completions.sqlite", Adapter(r=2, alpha=4)
    for again in ("", "2"):
        run(base_model, tmp_path / f"whole{again}", path, rows=TWO)
        run(base_model, tmp_path / f"adapted{again}", path, rows=TWO, adapter=adapter)
        monkeypatch.setattr("stages.trainers.dpo.version", lambda name: f"another {name}")
    assert sum(computed) == 4 + 4 + 4


def test_a_killed_run_and_more_pairs_compute_the_rest_alone(base_model, tmp_path, computed, monkeypatch):
    path = tmp_path / "completions.sqlite"
    fresh = run(base_model, tmp_path / "fresh", None)
    run(base_model, tmp_path / "two", path, TWO)
    computed.clear()
    counting = references._log_probabilities

    def killed(trainer, rows):
        if len(computed) == 2:
            raise KeyboardInterrupt
        return counting(trainer, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(references, "_log_probabilities", killed)
        run(base_model, tmp_path / "killed", path)
    assert run(base_model, tmp_path / "whole", path) == fresh
    assert sum(computed) == 16
    with References(path) as stored:
        assert stored.counts() == {"M1": 20}


def test_a_damaged_number_and_a_broken_model_are_errors(base_model, tmp_path):
    path = tmp_path / "completions.sqlite"
    run(base_model, tmp_path / "M2", path, TWO)
    with References(path) as stored, stored.connection:
        stored.connection.execute("UPDATE reference_logps SET logp = logp + 1")
    with pytest.raises(TrainingError, match=r"does not fit its digest.*type: srlm cache --prune"):
        run(base_model, tmp_path / "M2", path, TWO)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(TrainingError, match="is not a database"):
        run(base_model, tmp_path / "M2", path, TWO)
    trainer, ready = dpo_trainer(base_model, tmp_path, table(TWO), PARAMS, seed=1, hardware=CPU)
    trainer.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="log-probability that is no number"):
        references.add_references(trainer, ready.rows, None)
