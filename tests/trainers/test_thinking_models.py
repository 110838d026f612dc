"""A model that thinks before it answers, without being asked: sampled, judged by itself, paired, trained on."""

import math
from datetime import date

import polars as pl
import pytest
from test_families import DPO, SFT
from tiny_llama import HARDWARE, engine_params
from transformers import AutoTokenizer

from stages.engines.open import open_engine
from stages.engines.request import Sampling
from stages.engines.tokenization import ModelTokenizer
from stages.method import judging, pairing
from stages.method.answers import candidates
from stages.models import intake
from stages.store.tables import PROMPTS
from stages.text.chat import Chat
from stages.train_dpo import as_written
from stages.trainers.dpo import dpo_trainer, train_dpo
from stages.trainers.sft import train_sft
from tests.families import FAMILIES, build

BY_NAME = {family.name: family for family in FAMILIES}
THINK = {
    "Magistral": ("[THINK]", "[/THINK]\n\n", ""),
    "Phi-4-reasoning": ("<think>", "</think>\n\n", ""),
    "Apriel 1.5 Thinker": (
        "Here are my reasoning steps:\n",
        "\n[BEGIN FINAL RESPONSE]\n",
        "\n[END FINAL RESPONSE]",
    ),
}
END = {
    "Magistral": "</s>",
    "Phi-4-reasoning": "<|im_end|>",
    "Apriel 1.5 Thinker": "\n[END FINAL RESPONSE]\n<|end|>",
}
TEMPLATE = "Judge: {{ response }}"
SCORES = {"fig is good.": 4, "lime is bad.": 1}
SAMPLED = Sampling(n=12, temperature=0.7, top_p=1.0, max_tokens=48)


def rows_of(opens, closes, ends):
    rows = [("Say a fruit.", f"{opens}{text.split()[0]}? Score: 5{closes}{text}{ends}") for text in SCORES]
    return rows + [
        (f"Judge: {text}", f"{opens}Score: 5?{closes}Sweet.\nScore: {n}{ends}") for text, n in SCORES.items()
    ]


def taken_in(name, root):
    folder = build(BY_NAME[name], root / "M0", rows_of(*THINK[name]))
    intake.complete(folder, date(2026, 1, 31))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return taken_in("Magistral", tmp_path_factory.mktemp("thinks"))


def sampled(folder, prompts, sampling):
    with open_engine(engine_params("transformers", max_context=512), HARDWARE, folder, model="M1", seed=7) as engine:
        return engine.complete(prompts, sampling)


def test_marks_that_are_special_tokens_stay_where_other_special_tokens_go(folder):
    tokenizer = ModelTokenizer(folder)
    ids = tokenizer.tokenizer("[THINK]fig?[/THINK]\n\nfig is good.[INST]</s>", add_special_tokens=False).input_ids
    assert tokenizer.text(ids) == "[THINK]fig?[/THINK]\n\nfig is good."
    assert {*tokenizer.tokenizer.convert_tokens_to_ids(["[THINK]", "[/THINK]", "[INST]"])} <= {*ids}


def test_trained_is_the_thought_as_it_is_written_and_no_text_spells_another(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    thinks, thought = tokenizer.convert_tokens_to_ids(["[THINK]", "[/THINK]"])
    text = "[THINK]fig? </s>[THINK][INST][/THINK]\n\nfig [/THINK]</s> is good."
    ((_, ids),) = Chat(tokenizer).encode(["Say a fruit."], [text])
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    assert [i for i in ids if i in special] == [thinks, thought, tokenizer.eos_token_id]
    ((_, ids),) = Chat(tokenizer).encode([text], [f"So: {text}"])
    assert [i for i in ids if i in special] == [tokenizer.eos_token_id]


@pytest.mark.slow
@pytest.mark.parametrize("name", THINK)
def test_a_model_that_thinks_of_its_own_goes_the_whole_way(name, tmp_path):
    folder, (opens, closes, ends) = taken_in(name, tmp_path), THINK[name]
    rows = pl.DataFrame(rows_of(opens, closes, ends), schema=["instruction", "response"], orient="row")
    train_sft(folder, tmp_path / "M1", rows, SFT, seed=1, hardware=HARDWARE, label="M1")
    asked = pl.DataFrame([("p", "M1", "Say a fruit.", "M0", [], None)], schema=PROMPTS.schema, orient="row")

    written = candidates(sampled(tmp_path / "M1", asked.select(id="prompt_id", prompt="prompt"), SAMPLED), "M1")
    assert {*written["response"]} == {*SCORES}
    assert all(t == f"{opens}{r.split()[0]}? Score: 5{closes}" for t, r in written["thought", "response"].rows())
    cut = sampled(tmp_path / "M1", asked.select(id="prompt_id", prompt="prompt"), SAMPLED._replace(max_tokens=4))
    short = candidates(cut, "M1")
    assert all(text == "" or opens.startswith(text) for text in short["response"]), "plain words are no mark yet"
    assert {*short["finish_reason"]} == {"length"}
    assert short["tokens"].to_list() == [4] * 12
    assert judging.distinct(short).is_empty()

    answers = judging.distinct(written).join(asked.select("prompt_id", "prompt"), on="prompt_id")
    prompts = judging.judge_prompts(TEMPLATE, answers)
    assert {*prompts["text"]} == {f"Judge: {text}" for text in SCORES}
    greedy = Sampling(n=1, temperature=0.0, top_p=1.0, max_tokens=48)
    said = sampled(tmp_path / "M1", prompts.select(id="candidate_id", prompt="text"), greedy)
    judged = judging.judgements(answers, said, judge="M1")
    scored = dict(judged.join(answers, on="candidate_id").select("response", "score").iter_rows())
    assert scored == SCORES

    means = judging.mean_scores(judging.pool(written, judged))
    scores = pairing.fates(written, means, min_margin=0.0, rho=None, signal="judge", seed=0)
    pairs = pairing.pairs(asked, written, scores)
    assert pairs["chosen", "rejected"].rows() == [tuple(SCORES)]

    args = (tmp_path / "M1", tmp_path / "M2", as_written(pairs), DPO)
    _, ready = dpo_trainer(*args, seed=1, hardware=HARDWARE)
    decoded = ready.tokenizer.decode(ready.rows["chosen_ids"][0])
    assert decoded == f"{opens}fig? Score: 5{closes}fig is good.{END[name]}"
    log = train_dpo(*args, seed=1, hardware=HARDWARE, label="M2").log
    assert log["loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    again = candidates(sampled(tmp_path / "M2", asked.select(id="prompt_id", prompt="prompt"), SAMPLED), "M2")
    assert again["thought"].null_count() == 0, "it still thinks first"
