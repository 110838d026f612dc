from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from transformers import AutoConfig

from stages.config.load import load_params
from stages.config.sections import TrainSft
from stages.console.errors import ModelError, TrainingError
from stages.text.chat import Chat
from stages.trainers.loading import load
from stages.trainers.sft import mixture, sft_trainer, train_sft

CPU = load_params(Path(__file__).parents[2]).hardware.model_copy(update={"device": "cpu", "threads": 1})
PARAMS = TrainSft(
    epochs=6,
    lr=5e-3,
    lr_end=5e-4,
    batch=4,
    micro_batch=4,
    warmup_steps=1,
    max_length=60,
    dropout=0.0,
    dtype="float32",
    gradient_checkpointing=False,
    repeat_ift=1,
    ift_max_length=None,
)
ROWS = pl.DataFrame({"instruction": [f"Say cat {n} times." for n in range(12)], "response": ["cat cat cat."] * 12})


def run(model: Path, out: Path, rows: pl.DataFrame = ROWS, **changed):
    out.mkdir(exist_ok=True)
    return train_sft(model, out, rows, PARAMS.model_copy(update=changed), seed=1, hardware=CPU, label="M1")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_loss_is_on_the_response_and_its_end_token_only(base_model, tmp_path):
    trainer, (_, tokenizer, *_) = sft_trainer(base_model, tmp_path, ROWS, PARAMS, seed=1, hardware=CPU)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = ids[labels != -100]
        assert tokenizer.decode(learnt) == " cat cat cat.<end>"
        assert labels[labels != -100].equal(learnt)
        assert tokenizer.decode(ids[: int((labels != -100).nonzero()[0])]).endswith(" Answer:")


@pytest.mark.slow
def test_it_learns_the_answer_and_where_it_ends(base_model, tmp_path):
    from tiny_llama import engine_params

    from stages.engines.backends.transformers import TransformersEngine
    from stages.engines.request import Request, Sampling

    trained = run(base_model, tmp_path, epochs=20, lr=1e-2)
    log = trained.log
    assert (trained.rows, trained.too_long) == (12, 0)
    assert log.schema == {
        "step": pl.Int32,
        "loss": pl.Float64,
        "lr": pl.Float64,
        "accuracy": pl.Float64,
        "tokens": pl.Float64,
        "grad_norm": pl.Float64,
    }
    assert log["step"].to_list() == list(range(1, 61))
    assert log["loss"][-1] < 0.5 < log["loss"][0]
    assert log["lr"].max() <= 1e-2
    assert log["lr"][-1] == pytest.approx(5e-4, rel=0.1)
    engine = TransformersEngine(engine_params("transformers"), CPU, tmp_path, model="M1", seed=0)
    (said,) = engine.generate(
        [Request("x", [{"role": "user", "content": "Say cat 3 times."}])], Sampling(1, 0.0, 1.0, 20)
    )
    assert (said.text.strip(), said.finish_reason) == ("cat cat cat.", "stop")


@pytest.mark.slow
def test_twice_the_same_weights_and_another_seed_others(base_model, tmp_path):
    for name in ("a", "b"):
        run(base_model, tmp_path / name, epochs=2)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    train_sft(
        base_model, tmp_path / "b", ROWS, PARAMS.model_copy(update={"epochs": 2}), seed=2, hardware=CPU, label="M1"
    )
    assert weights(tmp_path / "a") != weights(tmp_path / "b")


def test_what_is_saved_can_be_used(base_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run(base_model, tmp_path, epochs=1, dtype="bfloat16", gradient_checkpointing=True, dropout=0.1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.float32
    assert model.config.use_cache
    assert (
        AutoTokenizer.from_pretrained(tmp_path).chat_template == AutoTokenizer.from_pretrained(base_model).chat_template
    )
    assert {p.name for p in tmp_path.iterdir()} >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    }


@pytest.mark.slow
def test_accumulated_batches_are_the_same_steps(base_model, tmp_path):
    one, four = run(base_model, tmp_path, epochs=1).log, run(base_model, tmp_path, epochs=1, micro_batch=1).log
    assert len(one) == len(four) == 3
    assert one["loss"].to_list() == pytest.approx(four["loss"].to_list(), abs=1e-3)


def test_rows_too_long_are_left_out_and_counted_never_cut(base_model, tmp_path):
    _, tokenizer = load(base_model, 0.0)
    short, long = "cat.", "cat " * 90
    edge = sum(map(len, Chat(tokenizer).encode(["Say"], [short])[0]))
    rows = pl.DataFrame({"instruction": ["Say"] * 5, "response": [short] * 4 + [long]})
    trained = run(base_model, tmp_path, rows, max_length=edge, epochs=1)
    assert (trained.rows, trained.too_long) == (4, 1)
    with pytest.raises(TrainingError, match=rf"none of 5 rows fits into max_length {edge - 1}"):
        run(base_model, tmp_path, rows, max_length=edge - 1)


def test_a_batch_that_micro_batches_cannot_make(base_model, tmp_path):
    with pytest.raises(TrainingError, match=r"batch 4 is not a multiple of micro_batch 3"):
        run(base_model, tmp_path, micro_batch=3)


def test_a_loss_that_is_no_number_ends_training_at_once(base_model, tmp_path):
    with pytest.raises(TrainingError, match=r"no longer a number at step [2-6] of 18"):
        run(base_model, tmp_path, lr=1e30)
    assert not (tmp_path / "model.safetensors").exists()


def test_weights_that_are_no_numbers_are_not_saved(base_model, tmp_path, monkeypatch):
    """The last step's weights have no loss that would tell."""
    sums = iter([[0.0], [math.nan]])
    monkeypatch.setattr("stages.trainers.run._fingerprint", lambda model: next(sums))
    with pytest.raises(TrainingError, match="left weights that are no numbers"):
        run(base_model, tmp_path, epochs=1)
    assert not (tmp_path / "model.safetensors").exists()


def test_training_that_changes_nothing_is_an_error(base_model, tmp_path):
    with pytest.raises(TrainingError, match="changed no weight"):
        run(base_model, tmp_path, epochs=1, lr=1e-30, lr_end=0.0)


def test_rows_longer_than_the_models_context_are_left_out(tmp_path):
    """Positions that the model does not have: an error in some families, noise in others."""
    from tiny_llama import build

    context = AutoConfig.from_pretrained(model := build(tmp_path / "model")).max_position_embeddings
    rows = pl.DataFrame({"instruction": ["Say"] * 5, "response": ["cat."] * 4 + ["cat " * context]})
    trained = run(model, tmp_path / "out", rows, max_length=10**6, epochs=1)
    assert (trained.rows, trained.too_long, trained.max_length) == (4, 1, context)


def test_a_chat_template_that_fails_on_the_data_is_named(base_model, tmp_path):
    from tiny_llama import build

    model = build(tmp_path / "picky", template="{% for m in messages %}{{ raise_exception('no cats') }}{% endfor %}")
    with pytest.raises(
        ModelError, match=r"chat template in .*picky fails on the training data: TemplateError: no cats"
    ):
        run(model, tmp_path)


def test_folders_that_cannot_be_trained(base_model, tmp_path):
    from tiny_llama import build

    with pytest.raises(ModelError, match="holds no model"):
        run(tmp_path / "nothing", tmp_path)
    with pytest.raises(ModelError, match="no chat_template"):
        run(build(tmp_path / "plain", template=None), tmp_path)


def test_a_run_of_one_step_is_not_all_warmup(base_model, tmp_path):
    log = run(base_model, tmp_path, ROWS.head(4), epochs=1, warmup_steps=100).log
    assert len(log) == 1
    assert log["lr"][0] > 0
    assert weights(tmp_path) != weights(base_model)


def test_rows_may_have_limits_of_their_own(base_model, tmp_path):
    lengths = pl.Series([None, 10, 59] * 4, dtype=pl.Int64)  # each row has 13 to 15 tokens or so
    trained = run(base_model, tmp_path, ROWS.with_columns(max_length=lengths), epochs=1)
    assert (trained.rows, trained.too_long, trained.max_length) == (8, 4, 60)


def test_the_mixture_repeats_ift_within_its_own_length():
    ift = pl.DataFrame({"ift_id": ["i"], "instruction": ["Say"], "response": ["cat"]})
    eft = pl.DataFrame({"eft_id": ["e"], "score": [4], "instruction": ["Judge"], "response": ["Score: 4"]})
    rows = mixture([ift, eft], PARAMS.model_copy(update={"repeat_ift": 2, "ift_max_length": 50}))
    assert rows.select("id", "response", "max_length").rows() == [("i", "cat", 50)] * 2 + [("e", "Score: 4", None)]
