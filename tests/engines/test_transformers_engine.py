"""What only an engine with a model has: special tokens, end tokens, the folder's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import HARDWARE, build, engine_params

from stages.console.errors import EngineError, ModelError
from stages.engines.base import Probe, Request, Sampling
from stages.engines.prompts import Prompts
from stages.engines.transformers import TransformersEngine, _Prompt

GREEDY = Sampling(n=1, temperature=0.0, top_p=1.0, max_tokens=8)


def engine(folder: Path, **kw) -> TransformersEngine:
    return TransformersEngine(engine_params("transformers", **kw), HARDWARE, folder, model="M1", seed=7)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def encode(e: TransformersEngine, prompt) -> list[int]:
    return e.prompts.encode([Request("x", prompt)])[0]


def test_messages_are_the_template_and_nothing_more(tiny):
    e = engine(tiny)
    assert encode(e, [{"role": "user", "content": "Say cat"}]) == e.tokenizer("<bos>Question: Say cat Answer:", add_special_tokens=False).input_ids
    assert encode(e, "Say cat") == e.tokenizer("Say cat", add_special_tokens=False).input_ids


def test_a_tokenizer_that_gives_a_bos_gives_one_only(tiny):
    e = engine(tiny)
    e.prompts.adds_bos = True
    bos = e.tokenizer.bos_token_id
    assert encode(e, "Say cat")[0] == bos
    assert encode(e, "<bos>Say cat").count(bos) == 1, "what spells it in a text is text"
    assert encode(e, [{"role": "user", "content": "Say cat"}]).count(bos) == 1


def test_an_empty_prompt_is_the_start_of_a_document(tiny):
    e = engine(tiny)
    assert encode(e, "") == [e.tokenizer.bos_token_id]


def test_greedy_is_what_generate_says(tiny):
    e = engine(tiny)
    (done,) = e.generate([Request("x", "Question: Say cat")], GREEDY)
    ids = torch.tensor([encode(e, "Question: Say cat")])
    out = e.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=2, pad_token_id=0)
    assert done.text == e.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("n", [1, 3])
def test_every_end_token_ends_a_text_and_is_not_counted(copy, n):
    plain = engine(copy)
    prompt = torch.tensor([encode(plain, "Question: Say cat")])
    ids = plain.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, pad_token_id=0)[0, prompt.shape[1] :].tolist()
    third = ids[2]
    assert third not in ids[:2]
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, third]}))
    e = engine(copy)
    assert e.end_ids == {2, third}
    done = e.generate([Request("x", "Question: Say cat"), Request("y", "cat " * 20)], GREEDY._replace(n=n))[0]
    assert (done.finish_reason, done.tokens) == ("stop", ids.index(third))
    assert done.text == e.tokenizer.decode(ids[: ids.index(third)])


def test_the_folders_own_generation_settings_do_not_leak_in(copy, tiny):
    request = [Request("x", "Question: Say cat")]
    before = engine(tiny).generate(request, GREEDY)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"use_cache": False}))
    (copy / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 2, "repetition_penalty": 9.0, "do_sample": True, "temperature": 5.0, "max_length": 3, "use_cache": False})
    )
    assert engine(copy).generate(request, GREEDY) == before


def test_the_context_is_at_most_the_models(tiny):
    assert engine(tiny, max_context=4096).max_context == 128


def test_finished_rows_outlive_a_table_of_learned_positions(tmp_path, tiny):
    """GPT-2 has 24 positions here; a long prompt is finished while a short one in its chunk writes on."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    shape = {"n_positions": 24, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    e = engine(tmp_path)
    short, long = e.generate([Request("short", "cat"), Request("long", "cat" + " cat" * 19)], GREEDY._replace(max_tokens=20))
    assert short.tokens > 4 >= long.tokens


def test_messages_without_a_template_say_what_to_do(tmp_path):
    e = engine(build(tmp_path, template=None))
    with pytest.raises(EngineError, match=r"no chat template.*chat_template\.jinja"):
        e.generate([Request("x", [{"role": "user", "content": "cat"}])], GREEDY)
    assert e.generate([Request("x", "cat")], GREEDY)


def test_a_template_that_refuses_is_named(tmp_path):
    e = engine(build(tmp_path, template="{{ raise_exception('no system role here') }}"))
    with pytest.raises(EngineError, match="no system role here"):
        e.generate([Request("x", [{"role": "system", "content": "cat"}])], GREEDY)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=30), st.integers(1, 4), st.sampled_from([1, 100, 300, 1000]), st.data())
def test_batches_are_cut_by_tokens_and_stay_when_others_are_taken_away(lengths, n, chunk, data):
    """What `Engine.batches` promises, so that a resumed stage decodes the batches of an uninterrupted one."""
    maker = SimpleNamespace(chunk=chunk, max_context=96)
    sampling = GREEDY._replace(n=n)
    prompts = [_Prompt(str(i), [5] * length, min(8, 96 - length)) for i, length in enumerate(lengths)]
    cut = list(TransformersEngine._cut(maker, prompts, sampling))
    assert sorted(p.id for batch in cut for p in batch) == sorted(p.id for p in prompts)
    for batch in cut:
        assert len(batch) == 1 or n * sum(min(max(len(p.ids) for p in batch) + 8, 96) for _ in batch) <= chunk
    assert [len(p.ids) for batch in cut for p in batch] == sorted(lengths)
    left = data.draw(st.lists(st.sampled_from(range(len(cut))), unique=True).map(sorted))
    remaining = {p.id for i in left for p in cut[i]}
    assert list(TransformersEngine._cut(maker, [p for p in prompts if p.id in remaining], sampling)) == [cut[i] for i in left]


@pytest.mark.parametrize("sampling", [GREEDY, GREEDY._replace(n=3, temperature=1.0)], ids=["greedy", "sampled"])
def test_probed_probabilities_are_the_models_own(tiny, sampling):
    """At temperature 1 and before any cut, whatever the sampling; computed here by one pass over prompt and text."""
    e, texts = engine(tiny), [Request("x", "Question: Say cat"), Request("longer", "Say cat 3 times. cat cat")]
    among = ("a", "b", "c", "d")
    said = e.generate(texts, sampling._replace(probe=Probe(r"(?s)^(.)", 1, among)))
    assert e.generate(texts, sampling) == [c._replace(probs=None) for c in said]
    for request in texts:
        logits = e.model(torch.tensor([encode(e, request.prompt)])).logits[0, -1]
        wanted = [torch.softmax(logits.double(), -1)[e.tokenizer.convert_tokens_to_ids(c)].item() for c in among]
        for c in said:
            if c.id == request.id and c.text:
                assert c.probs == pytest.approx(wanted, rel=1e-4)


def test_a_quantization_is_refused(tiny):
    params = engine_params("transformers").model_copy(update={"quantization": "fp8"})
    with pytest.raises(EngineError, match="use the engine vllm"):
        TransformersEngine(params, HARDWARE, tiny, model="M1", seed=0)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_names_it(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(ModelError, match=r"model has no .*(config\.json|tokenizer\.json|safetensors)"):
        engine(copy)


def test_no_folder_and_broken_config(tmp_path, copy):
    with pytest.raises(ModelError, match="no model folder"):
        engine(tmp_path / "M9")
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be loaded"):
        engine(copy)


def test_cuda_that_is_not_there(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="device to auto or cpu"):
        TransformersEngine(engine_params("transformers"), HARDWARE.model_copy(update={"device": "cuda"}), tiny, model="M1", seed=0)


def test_an_unknown_kind_of_model_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "no-such-kind"}))
    with pytest.raises(ModelError, match=r"model cannot be loaded: .*no-such-kind"):
        engine(copy)
    prompts = object.__new__(Prompts)
    prompts.folder = copy
    with pytest.raises(ModelError, match="no-such-kind"):
        prompts.max_context(8)
