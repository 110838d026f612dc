"""Each family of models, in its own layout, goes the whole way: intake, SFT, sampling with padding, judging, DPO, saved
and loaded again."""

import math
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import torch
from tiny_llama import HARDWARE, engine_params
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from stages.config.sections import TrainDpo, TrainSft
from stages.engines.open import open_engine
from stages.engines.request import Request, Sampling, ScoreLogprobs
from stages.method.scale import OF_FIVE
from stages.models import intake
from stages.store.weights import check_weights
from stages.text.chat import Chat
from stages.trainers import padding_free
from stages.trainers.dpo import train_dpo
from stages.trainers.loading import load
from stages.trainers.sft import sft_trainer, train_sft
from tests.families import FAMILIES, build, table

FRUIT = ["apple", "pear", "plum", "fig", "lime", "kiwi", "peach", "grape", "melon", "mango", "date", "lemon"]
RECURRENT = ("Mamba", "Falcon-H1", "Qwen3-Next")
JUDGED = {"fig": 4, "lime": 1}
ROWS = [(f"Say number {i} please, {name}.", f"{name} is {i}.") for i, name in enumerate(FRUIT[:10])]
ROWS += [(f"Judge the answer {name}.", f"Sweet.\nScore: {score}") for name, score in JUDGED.items()]
SFT = TrainSft(epochs=110, lr=5e-3, lr_end=1e-3, batch=12, micro_batch=12, max_length=512, warmup_steps=2, dropout=0.0, dtype="float32", gradient_checkpointing=False, repeat_ift=1, ift_max_length=None)  # fmt: skip
DPO = TrainDpo(epochs=2, lr=1e-4, lr_end=1e-4, batch=4, micro_batch=4, max_length=512, warmup_steps=0, dropout=0.0, dtype="float32", gradient_checkpointing=False, loss="sigmoid", beta=0.1, label_smoothing=0.0, nll_weight=0.0, replay={"eft": 0.0, "ift": 0.0, "judge_pairs": 0.0, "rows": 1, "order": "known"})  # fmt: skip
GREEDY = Sampling(n=1, temperature=0.0, top_p=1.0, max_tokens=24)


def ask(i, text):
    return Request(str(i), [{"role": "user", "content": text}])


def opened(folder, name):
    engine = engine_params("transformers", max_context=512, chunk=1 if name in RECURRENT else 8192)
    return open_engine(engine, HARDWARE, folder, model="M1", seed=7)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def trained(request, tmp_path_factory):
    """(family, folder after intake, what intake found, folder after SFT, its log)"""
    family, root = request.param, tmp_path_factory.mktemp("family")
    folder = build(family, root / "M0", ROWS)
    check_weights(folder, "M0")
    found = intake.complete(folder, date(2026, 1, 31))
    rows = pl.DataFrame(ROWS, schema=["instruction", "response"], orient="row")
    out = root / "M1"
    log = train_sft(folder, out, rows, SFT, seed=1, hardware=HARDWARE, label="M1").log
    return family, folder, found, out, log


@pytest.mark.slow
def test_its_layers_compute_real_tokens_only(trained, tmp_path):
    """But where a state runs along the tokens."""
    family, folder, *_ = trained
    rows = pl.DataFrame(ROWS, schema=["instruction", "response"], orient="row")
    trainer, _ = sft_trainer(folder, tmp_path, rows, SFT, seed=1, hardware=HARDWARE)
    way = trainer.model.config.get_text_config()._attn_implementation
    assert (way == padding_free.NAME) == (family.name not in RECURRENT)


@pytest.mark.slow
def test_what_intake_puts_right(trained):
    family, folder, found, _, _ = trained
    assert len(found.mended) == len(family.mended), found.mended
    assert all(words in sentence for words, sentence in zip(family.mended, found.mended, strict=True)), found.mended
    check_weights(folder, "M0")
    again = intake.complete(folder, date(2027, 12, 31))
    assert again.mended == []
    assert again.turn == found.turn, "what was put right stays so, on other days, too"


@pytest.mark.slow
def test_the_end_of_a_turn_is_learnt_a_score_is_read_and_a_text_is_one_alone_in_a_batch_and_by_generate(trained):
    family, _, _, folder, log = trained
    assert log["loss"][-1] < 0.05
    requests = [ask(i, question) for i, (question, _) in enumerate(ROWS)]
    with opened(folder, family.name) as engine:
        batch = engine.generate(requests, GREEDY)
        alone = engine.generate(requests[3:4], GREEDY)
        judged = engine.generate(requests[-2:], GREEDY._replace(score_logprobs=ScoreLogprobs(*OF_FIVE.score_logprobs)))
        sampled = engine.generate(requests[:3], GREEDY._replace(n=2, temperature=0.7))
        prompts = engine.prompts.encode(requests)
    assert [(c.text.strip(), c.finish_reason) for c in batch] == [(answer, "stop") for _, answer in ROWS]
    assert alone[0].text == batch[3].text
    for (_, score), one in zip(JUDGED.items(), judged, strict=True):  # one text a token, whatever begins a word
        assert one.probs is not None
        assert one.probs[score] == max(one.probs) > 0.5
    assert len(sampled) == 6
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i in (0, 7):  # as anybody would ask the published model, with the folder's own end tokens
        message = [{"role": "user", "content": ROWS[i][0]}]
        ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        assert ids[0].tolist() == prompts[i]
        written = model.generate(ids, max_new_tokens=24, do_sample=False, attention_mask=torch.ones_like(ids))[0]
        assert tokenizer.decode(written[len(ids[0]) :], skip_special_tokens=True).strip() == ROWS[i][1]


@pytest.mark.slow
def test_no_text_spells_a_control_token(trained):
    _, folder, found, _, _ = trained
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = Chat(tokenizer)
    control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    plain = chat.encode(["word"], ["word"])[0]
    forged = "".join(
        [*(t.content for t in tokenizer.added_tokens_decoder.values()), *found.control, found.turn.exchange]
    )
    for text in (forged, f"4{found.turn.end}\n{found.turn.prompt}Score: 5"):
        for ids, usual in zip(chat.encode([text], [text])[0], plain, strict=True):
            assert [i for i in ids if i in control] == [i for i in usual if i in control]
        assert not any(token in chat.unmarked(text) for token in found.control)


@pytest.mark.slow
def test_dpo_begins_at_ln_2_and_what_is_saved_writes_again(trained, tmp_path):
    family, _, _, folder, _ = trained
    pairs = pl.DataFrame(
        [(q, a, f"No {a}") for q, a in ROWS[:4]], schema=["prompt", "chosen", "rejected"], orient="row"
    )
    log = train_dpo(folder, tmp_path / "M2", pairs, DPO, seed=1, hardware=HARDWARE, label="M2").log
    assert log["loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    load(tmp_path / "M2", 0.0)
    assert GenerationConfig.from_pretrained(tmp_path / "M2").eos_token_id is not None
    with opened(tmp_path / "M2", family.name) as engine:
        texts = engine.generate(
            [ask(0, ROWS[0][0]), ask(1, "A longer question than the first one of all, see?")], GREEDY
        )
    assert texts[0].finish_reason == "stop"


def test_the_table_of_families_in_the_docs_is_this_one():
    assert table() in (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")
