"""EFT and IFT replayed beside DPO: what is added to the loss, by hand, whatever the micro-batch."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from test_resume import checkpoints, killed
from test_train_dpo import CPU, PAIRS, PARAMS, weights
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from stages.config.sections import Replay
from stages.console.errors import TrainingError
from stages.trainers.dpo import dpo_trainer, train_dpo
from stages.trainers.replay import rows_of_step

JUDGED = pl.DataFrame(
    {
        "instruction": [f"Question: Say cat. Answer: {'cat ' * n}" for n in range(1, 8)],
        "response": [f"Sure! {'cat ' * (n % 3)}Score: {n % 5}" for n in range(1, 8)],
    }
)
WRITTEN = pl.DataFrame(
    {"instruction": ["Name three fruits."] * 3, "response": ["apple", "pear plum", "plum plum plum"]}
)
SETS = {"eft": JUDGED, "ift": WRITTEN}


def params(eft=0.0, ift=0.0, rows=5, **changed):
    changed = {"epochs": 2, "max_length": 90, **changed}
    return PARAMS.model_copy(
        update=changed | {"replay": Replay(eft=eft, ift=ift, judge_pairs=0.0, rows=rows, order="known")}
    )


def trained(model, out, p, replay=SETS, kept=None):
    out.mkdir()
    replay = {name: rows for name, rows in replay.items() if getattr(p.replay, name)}
    return train_dpo(model, out, PAIRS, p, seed=1, hardware=CPU, label="M2", replay=replay, checkpoints=kept)


def nll(model, rows):
    """Mean over all tokens of the responses, from transformers' logits."""
    lost = [
        cross_entropy(
            model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1],
            torch.tensor(response),
            reduction="sum",
        )
        for prompt, response in rows
    ]
    return (sum(lost) / sum(len(response) for _, response in rows)).item()


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_the_first_step_adds_weight_times_the_mean_per_token(base_model, tmp_path, micro_batch):
    p = params(eft=2.0, ift=0.5, micro_batch=micro_batch, epochs=1)
    log = trained(base_model, tmp_path / "M2", p).log
    assert log.columns[-3:] == ["dpo_loss", "replay_eft", "replay_ift"]
    _, ready = dpo_trainer(base_model, tmp_path, PAIRS, p, seed=1, hardware=CPU, replay=SETS)
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype="float32").eval()
    for name, one in ready.replayed.items():
        rows = [*zip(one.rows["prompt_ids"], one.rows["response_ids"], strict=True)]
        drawn = [rows[i] for i in rows_of_step(0, 5, len(rows), f"1\x1f{name}")]
        with torch.no_grad():
            assert log[f"replay_{name}"][0] == pytest.approx(nll(model, drawn), rel=1e-5)
    first = log.row(0, named=True)
    assert first["dpo_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["loss"] == pytest.approx(
        first["dpo_loss"] + 2 * first["replay_eft"] + 0.5 * first["replay_ift"], rel=1e-5
    )


def test_micro_batches_change_rounding_only_and_a_second_run_no_byte(base_model, tmp_path):
    whole, split = (trained(base_model, tmp_path / str(m), params(eft=2.0, micro_batch=m)) for m in (4, 1))
    for column in ("loss", "replay_eft", "grad_norm"):
        assert split.log[column].to_list() == pytest.approx(whole.log[column].to_list(), rel=1e-3), column
    trained(base_model, tmp_path / "again", params(eft=2.0))
    assert weights(tmp_path / "again") == weights(tmp_path / "4")


def test_killed_and_continued_replays_the_same_rows(base_model, tmp_path, monkeypatch, capsys):
    p, kept, other = params(eft=2.0, micro_batch=2), tmp_path / "kept", {"eft": JUDGED.reverse()}
    whole = trained(base_model, tmp_path / "whole", p)
    killed(monkeypatch, 5, lambda: trained(base_model, tmp_path / "killed", p, kept=checkpoints(kept)))
    continued = trained(base_model, tmp_path / "continued", p, kept=checkpoints(kept))
    assert continued.log.equals(whole.log)
    assert weights(tmp_path / "continued") == weights(tmp_path / "whole")
    assert "continued at step 4" in capsys.readouterr().out
    trained(base_model, tmp_path / "other", p, other, kept=checkpoints(kept))
    assert "of another run (other rows)" in capsys.readouterr().err


def test_what_is_replayed_is_learnt_and_counted_and_without_weight_nothing_changes(base_model, tmp_path):
    plain, none, replayed = (
        trained(base_model, tmp_path / name, params(eft=w, epochs=6), sets)
        for name, w, sets in (("plain", 0.0, {}), ("none", 0.0, SETS), ("replayed", 2.0, SETS))
    )
    assert weights(tmp_path / "plain") == weights(tmp_path / "none")
    assert (plain.replayed, none.log.columns) == ({}, plain.log.columns)
    assert replayed.replayed == {"eft": {"rows": 7, "too_long": 0}}
    lost = replayed.log["replay_eft"]
    assert lost[-1] < lost[0] - 1
    assert replayed.log["tokens"][0] > plain.log["tokens"][0]


def test_rows_are_drawn_without_replacement_until_all_were_used():
    drawn = [i for step in range(7) for i in rows_of_step(step, 2, 7, "a")]
    assert sorted(drawn[:7]) == sorted(drawn[7:]) == [*range(7)]
    assert drawn[:7] != drawn[7:]
    assert drawn[:7] != [i for step in range(4) for i in rows_of_step(step, 2, 7, "b")][:7]


def test_rows_of_which_none_fits_are_an_error(base_model, tmp_path):
    with pytest.raises(TrainingError, match=r"none of 7 rows fits.*train_dpo\.max_length"):
        trained(base_model, tmp_path / "M2", params(eft=1.0, max_length=20))
