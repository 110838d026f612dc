"""What a training leaves out for its length is told with the limit that left it out."""

import polars as pl

from stages.store.run import Run
from stages.trainers.run import new_model
from stages.trainers.sft import train_sft
from tests.trainers.test_resume import CPU, PARAMS, ROWS, SFT


def test_rows_beyond_a_limit_of_their_own_name_it(base_model, tmp_path, capsys):
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "data/models/M0").symlink_to(base_model)
    own = ROWS.with_columns(max_length=pl.when(pl.int_range(pl.len()) < 6).then(9).cast(pl.Int64))
    params = PARAMS.model_copy(update={"train_sft": SFT.model_copy(update={"epochs": 1}), "hardware": CPU})
    with Run("train_sft", tmp_path, "M1") as stage:
        new_model(stage, train_sft, "M1", "M0", own, params, "IFT", None, None)
    out, err = capsys.readouterr()
    assert f"6 left out as longer than 9 or {SFT.max_length} tokens" in out
    assert "of the rows are left out. Raise train_sft.max_length or train_sft.ift_max_length" in " ".join(err.split())
