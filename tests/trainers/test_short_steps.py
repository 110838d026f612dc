"""The last step of an epoch that the batch does not divide, and means over tokens. On two processes: test_launch.py."""

from __future__ import annotations

import pytest
import test_resume as r
from hypothesis import given
from hypothesis import strategies as st

from stages.trainers.short_steps import parts_of


@given(rows=st.integers(1, 40), micro=st.integers(1, 4), processes=st.integers(1, 4), accumulate=st.integers(1, 4))
def test_each_row_of_a_step_weighs_the_same(rows, micro, processes, accumulate):
    """As Trainer takes the mean over micro-batches and processes, of means over rows."""
    batches = -(-rows // (micro * processes))
    seen = 0
    for first in range(0, batches, accumulate):
        step = range(first, min(first + accumulate, batches))
        parts = parts_of(rows, micro, processes, step)
        count = sum(part.rows for each in parts for part in each)
        seen += count
        for part in (part for each in parts for part in each):
            of_one_row = part.weight / (part.rows or 1) / processes / len(step)
            assert of_one_row == pytest.approx(1 / count if part.rows else 0)
        for each in parts:
            assert each[0].of_all / len(step) == pytest.approx(sum(part.rows for part in each) / count)
    assert seen == rows


@pytest.mark.parametrize("kind", r.KINDS)
def test_micro_batches_do_not_weigh_its_rows(kind, base_model, tmp_path):
    """Eleven rows, batches of four: the last step has three, as one part, or as two and one, or one by one. Answers
    differ in length: the mean over a step's tokens is no mean of micro-batches' means."""
    options = {"dropout": 0.0, "epochs": 2} | ({"nll_weight": 1.0} if kind == "dpo" else {})
    logs = {n: r.run(kind, base_model, tmp_path / str(n), None, micro_batch=n, **options).log for n in (4, 2, 1)}
    columns = [column for column in logs[4].columns if (kind, column) != ("sft", "accuracy")]  # TRL's mean of shares
    for n in (2, 1):
        for column in columns:
            assert logs[n][column].to_list() == pytest.approx(logs[4][column].to_list(), rel=1e-4, abs=1e-6), column
