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
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from stages.console.errors import EngineError, ModelError
from stages.engines.backends import transformers
from stages.engines.backends.transformers import TransformersEngine, _Prompt
from stages.engines.request import Request, Sampling, ScoreLogprobs
from stages.engines.tokenization import ModelTokenizer

GREEDY = Sampling(n=1, temperature=0.0, top_p=1.0, max_tokens=8)


def engine(folder: Path, **kw) -> TransformersEngine:
    return TransformersEngine(engine_params("transformers", **kw), HARDWARE, folder, model="M1", seed=7)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def random_model(folder: Path, tiny: Path, kind: str, **config) -> Path:
    """A model of another architecture, with the tokenizer of `tiny`."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    } | config
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def encode(e: TransformersEngine, prompt) -> list[int]:
    return e.prompts.encode([Request("x", prompt)])[0]


def greedy_ids(e: TransformersEngine, prompt: str) -> list[int]:
    """What the model writes, as tokens."""
    ids = torch.tensor([encode(e, prompt)])
    return e.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, pad_token_id=0)[
        0, ids.shape[1] :
    ].tolist()


def end_with(folder: Path, *tokens: int) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, *tokens]}))


def test_messages_are_the_template_and_nothing_more(tiny):
    e = engine(tiny)
    assert (
        encode(e, [{"role": "user", "content": "Say cat"}])
        == e.prompts.tokenizer("<bos>Question: Say cat Answer:", add_special_tokens=False).input_ids
    )
    assert encode(e, "Say cat") == e.prompts.tokenizer("Say cat", add_special_tokens=False).input_ids


def test_a_tokenizer_that_gives_a_bos_gives_one_only(tiny):
    e = engine(tiny)
    e.prompts.adds_bos = True
    bos = e.prompts.tokenizer.bos_token_id
    assert encode(e, "Say cat")[0] == bos
    assert encode(e, "<bos>Say cat").count(bos) == 1, "what spells it in a text is text"
    assert encode(e, [{"role": "user", "content": "Say cat"}]).count(bos) == 1


def test_an_empty_prompt_is_the_start_of_a_document(tiny):
    e = engine(tiny)
    assert encode(e, "") == [e.prompts.tokenizer.bos_token_id]


def test_greedy_is_what_generate_says(tiny):
    e = engine(tiny)
    (done,) = e.generate([Request("x", "Question: Say cat")], GREEDY)
    ids = torch.tensor([encode(e, "Question: Say cat")])
    out = e.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=2, pad_token_id=0
    )
    assert done.text == e.prompts.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("n", [1, 3])
def test_every_end_token_ends_a_text_and_is_not_counted(copy, n):
    plain = engine(copy)
    ids = greedy_ids(plain, "Question: Say cat")
    third = ids[2]
    assert third not in ids[:2]
    end_with(copy, third)
    e = engine(copy)
    assert e.prompts.end_ids == {2, third}
    done = e.generate([Request("x", "Question: Say cat"), Request("y", "cat " * 20)], GREEDY._replace(n=n))[0]
    assert (done.finish_reason, done.tokens) == ("stop", ids.index(third))
    assert done.text == e.prompts.tokenizer.decode(ids[: ids.index(third)])


def test_the_folders_own_generation_settings_do_not_leak_in(copy, tiny):
    request = [Request("x", "Question: Say cat")]
    before = engine(tiny).generate(request, GREEDY)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"use_cache": False}))
    (copy / "generation_config.json").write_text(
        json.dumps(
            {
                "eos_token_id": 2,
                "repetition_penalty": 9.0,
                "do_sample": True,
                "temperature": 5.0,
                "max_length": 3,
                "use_cache": False,
            }
        )
    )
    assert engine(copy).generate(request, GREEDY) == before


def test_the_context_is_at_most_the_models(tiny):
    assert engine(tiny, max_context=4096).max_context == 128


def test_finished_rows_outlive_a_table_of_learned_positions(tmp_path, tiny):
    """GPT-2 has 24 positions here; a long prompt is finished while a short one in its chunk writes on."""
    e = engine(random_model(tmp_path, tiny, "gpt2", n_positions=24, n_embd=16, n_layer=1, n_head=2))
    short, long = e.generate(
        [Request("short", "cat"), Request("long", "cat" + " cat" * 19)], GREEDY._replace(max_tokens=20)
    )
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
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=30),
    st.integers(1, 4),
    st.sampled_from([1, 100, 300, 1000]),
    st.data(),
)
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
    assert list(TransformersEngine._cut(maker, [p for p in prompts if p.id in remaining], sampling)) == [
        cut[i] for i in left
    ]


@pytest.mark.parametrize("sampling", [GREEDY, GREEDY._replace(n=3, temperature=1.0)], ids=["greedy", "sampled"])
def test_probed_probabilities_are_the_models_own(tiny, sampling):
    """At temperature 1 and before any cut, whatever the sampling; computed here by one pass over prompt and text."""
    e, texts = engine(tiny), [Request("x", "Question: Say cat"), Request("longer", "Say cat 3 times. cat cat")]
    among = ("a", "b", "c", "d")
    said = e.generate(texts, sampling._replace(score_logprobs=ScoreLogprobs(r"(?s)^(.)", 1, among)))
    assert e.generate(texts, sampling) == [c._replace(probs=None) for c in said]
    for request in texts:
        logits = e.model(torch.tensor([encode(e, request.prompt)])).logits[0, -1]
        wanted = [
            torch.softmax(logits.double(), -1)[e.prompts.tokenizer.convert_tokens_to_ids(c)].item() for c in among
        ]
        for c in said:
            if c.id == request.id and c.text:
                assert c.probs == pytest.approx(wanted, rel=1e-4)


def test_a_quantization_is_refused(tiny):
    params = engine_params("transformers").model_copy(update={"quantization": "fp8"})
    with pytest.raises(EngineError, match="use vllm"):
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
        TransformersEngine(
            engine_params("transformers"), HARDWARE.model_copy(update={"device": "cuda"}), tiny, model="M1", seed=0
        )


def test_products_are_torch_s_after_a_training_in_the_same_process(tiny, monkeypatch):
    """Trainer leaves TF32 on, and a model that is chosen answers then: its texts are cached as any others."""
    usual = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    TransformersEngine(engine_params("transformers"), HARDWARE, tiny, model="M", seed=1)
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == usual


def test_an_unknown_kind_of_model_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "no-such-kind"}))
    with pytest.raises(ModelError, match=r"model cannot be loaded: .*no-such-kind"):
        engine(copy)
    prompts = object.__new__(ModelTokenizer)
    prompts.folder = copy
    with pytest.raises(ModelError, match="no-such-kind"):
        prompts.max_context(8)


SMALL = {"hidden_size": 32, "num_hidden_layers": 2}
ATTENTION = SMALL | {"intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
EXPERTS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
DELTA = {"linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
UNSHARED = {
    "lfm2": ATTENTION | {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": ATTENTION | EXPERTS | DELTA | {"head_dim": 16, "layer_types": ["linear_attention", "full_attention"]},
    "jamba": ATTENTION
    | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_dt_rank": 4, "mamba_d_state": 4},
    # its one kind of layer has keys, values and states, and can repeat the first two
    "falcon_h1": ATTENTION
    | {"head_dim": 16, "mamba_d_ssm": 32, "mamba_n_heads": 2, "mamba_d_head": 16, "mamba_d_state": 8},
    "mamba": SMALL | {"state_size": 4, "time_step_rank": 4},
}


@pytest.mark.parametrize("kind", UNSHARED)
@pytest.mark.parametrize("sampling", [GREEDY, GREEDY._replace(temperature=1.0, top_p=0.9)], ids=["greedy", "sampled"])
def test_models_whose_cache_cannot_be_repeated_write_n_texts(tmp_path, tiny, kind, sampling):
    e = engine(random_model(tmp_path, tiny, kind, **UNSHARED[kind]), chunk=10**6)
    requests = [Request("x", "Question: Say cat"), Request("y", "cat"), Request("z", "Name three fruits. apple")]
    single = [c for n in range(3) for c in e.generate(requests, sampling._replace(first=n))]
    read = e.prompt_tokens
    together = e.generate(requests, sampling._replace(n=3))
    assert sorted(together) == sorted(single)
    assert len({c.text for c in together}) == (3 if sampling.temperature == 0 else 9)
    assert e.prompt_tokens == (2 * read if sampling.temperature else read * 4 // 3), "each text reads its prompt"


def test_a_cache_that_can_be_repeated_is(tiny):
    e = engine(tiny)
    e.generate([Request("x", "Question: Say cat")], GREEDY._replace(n=3, temperature=1.0))
    assert e.shares
    assert e.prompt_tokens == len(encode(e, "Question: Say cat"))


def test_a_model_that_takes_padding_for_text_is_refused_where_prompts_are_padded(tmp_path, tiny):
    folder = random_model(tmp_path, tiny, "rwkv", **SMALL, attention_hidden_size=32, intermediate_size=32)
    with pytest.raises(
        EngineError,
        match=r"padding for text in .*\(rwkv\).*Use the engine vllm, or set engine\.max_batch_tokens, which is 128, to 1",
    ):
        engine(folder)
    e = engine(folder, chunk=1)
    x, y = Request("x", "Question: Say cat"), Request("y", "cat")
    assert e.generate([x, y], GREEDY._replace(n=2)) == e.generate([x], GREEDY._replace(n=2)) + e.generate(
        [y], GREEDY._replace(n=2)
    )


def no_room_on_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nMore.")


def no_room_on_cpu() -> None:
    torch.empty(2**50, dtype=torch.uint8)


def fail_from(e: TransformersEngine, batch: int, fail) -> None:
    """In the middle of that batch of one text each."""
    calls = iter(range(10**6))
    e.model.register_forward_hook(lambda *_: fail() if next(calls) == 8 * batch + 3 else None)


@pytest.mark.parametrize(
    ("fail", "said"),
    [(no_room_on_gpu, r"CUDA out of memory. Tried to allocate 9.00 GiB\."), (no_room_on_cpu, "can't allocate memory")],
)
def test_out_of_memory_says_what_needed_it_and_what_to_lower(tiny, fail, said):
    e = engine(tiny)
    longest = len(encode(e, "cat " * 20)) + 8
    e.chunk = 2 * longest
    fail_from(e, 1, fail)
    batches = e.batches([Request(i, "cat " * (20 if i > "b" else 1)) for i in "abcd"], GREEDY)
    assert [c.id for c in next(batches)] == ["a", "b"]
    needed = rf"batch of {2 * longest} tokens \(2 prompts x 1 texts x up to {longest} tokens\) on cpu: .*{said}"
    with pytest.raises(
        EngineError,
        match=rf"{needed}.*What came before is cached\. Lower engine\.max_batch_tokens, which is {2 * longest}",
    ):
        next(batches)


def test_out_of_memory_by_one_prompt_is_not_for_the_chunk(tiny):
    e = engine(tiny)
    fail_from(e, 0, no_room_on_gpu)
    with pytest.raises(
        EngineError,
        match=r"1 prompts x 1 texts.*one prompt, engine\.max_context, which is 96",
    ):
        e.generate([Request("x", "cat")], GREEDY)


def test_weights_that_do_not_fit(tiny, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: no_room_on_gpu())
    with pytest.raises(
        EngineError, match=r"no memory for .* as float32 on cpu: CUDA out of memory.*Set engine\.dtype to bfloat16"
    ):
        engine(tiny)


def test_a_model_that_cannot_generate_is_named(tmp_path, tiny):
    """A small xLSTM fails in its own code. What fails after a first batch is another matter."""
    with pytest.raises(
        EngineError, match=r"xlstm cannot generate here \(ValueError: .*use the engine vllm or a server"
    ):
        engine(random_model(tmp_path / "xlstm", tiny, "xlstm", **SMALL, num_heads=2))
    e = engine(tiny)
    fail_from(e, 0, lambda: torch.ones(2) + torch.ones(3))
    with pytest.raises(EngineError, match=r"cannot generate here \(RuntimeError: .*size of tensor"):
        e.generate([Request("x", "cat")], GREEDY)
    e = engine(tiny)
    fail_from(e, 1, lambda: torch.ones(2) + torch.ones(3))
    e.generate([Request("x", "cat")], GREEDY)
    with pytest.raises(RuntimeError, match="size of tensor"):
        e.generate([Request("x", "cat")], GREEDY)


@pytest.mark.parametrize(
    "sampling", [GREEDY, GREEDY._replace(n=2, temperature=1.0), GREEDY._replace(temperature=0.7, top_p=0.9)]
)
def test_weights_that_are_no_numbers_write_nothing(tiny, sampling):
    e = engine(tiny)
    e.model.model.layers[0].mlp.up_proj.weight.data[3, 5] = torch.nan
    with pytest.raises(
        EngineError,
        match=r"tiny.* gives NaN .*weights hold NaN.*\. Train the model again with a smaller lr.*first for request 'x'",
    ):
        e.generate([Request("x", "Question: Say cat")], sampling)
    assert e.generated_tokens == 0


def test_sums_that_leave_float16_say_which_dtype_to_set(tiny):
    params = engine_params("transformers").model_copy(update={"dtype": "float16"})
    e = TransformersEngine(params, HARDWARE, tiny, model="M1", seed=7)
    assert e.generate([Request("x", "cat")], GREEDY)
    e.model.model.layers[0].mlp.down_proj.weight.data[:] = 6e4
    with pytest.raises(
        EngineError, match=r"weights are finite, its sums are not.*Set engine\.dtype, which is float16, to float32"
    ):
        e.generate([Request("x", "cat")], GREEDY)


@pytest.mark.parametrize(("broken_from", "seen"), [(2, True), (3, False)])
def test_only_what_a_text_was_chosen_from_must_be_numbers(copy, broken_from, seen, monkeypatch):
    """A text of two tokens chose three times, the last time its end; what the model says of the padding behind is
    nobody's. Token 0 is what the largest of NaN is taken for, and an end here, as in some models: the text looks
    finished."""
    monkeypatch.setattr(transformers, "SHARE", 1)  # a row that has ended stays while the other writes
    end_with(copy, 0, greedy_ids(engine(copy), "Question: Say cat")[2])
    e, requests = engine(copy), [Request("x", "Question: Say cat"), Request("y", "cat " * 20)]
    before = e.generate(requests, GREEDY)
    assert (before[0].tokens, before[1].tokens) == (2, 8)
    steps = iter(range(8))

    def break_x(module: object, inputs: object, output) -> None:
        if next(steps) >= broken_from:
            output.logits[0] = torch.nan

    e.model.register_forward_hook(break_x)
    if seen:
        with pytest.raises(EngineError, match="first for request 'x'"):
            e.generate(requests, GREEDY)
    else:
        assert e.generate(requests, GREEDY) == before


def test_a_batch_goes_on_without_its_ended_rows_and_writes_the_same(tiny, monkeypatch):
    """Texts that end by an end token, a stop string and their room, with the probabilities of each row's own step."""
    e, seen = engine(tiny, max_context=40), list[int]()
    requests = [Request(str(i), "Question: Say " + "cat " * (i % 8 * 4)) for i in range(16)]
    probe = ScoreLogprobs(r"(?s)^.*?(.)$", 1, ("a", "b", "c", "d"))
    sampling = Sampling(n=2, temperature=1.0, top_p=1.0, max_tokens=24, stop=("a",), score_logprobs=probe)
    e.model.register_forward_pre_hook(lambda module, args, kw: seen.append(len(kw["input_ids"])), with_kwargs=True)
    texts = e.generate(requests, sampling)
    assert {c.finish_reason for c in texts} == {"stop", "length"}
    assert len(set(seen)) > 3
    monkeypatch.setattr(transformers, "SHARE", 1)
    together = e.generate(requests, sampling)
    assert [c._replace(probs=None) for c in texts] == [c._replace(probs=None) for c in together]
    probs = [p for c in texts for p in c.probs or ()]
    assert probs
    assert probs == pytest.approx([p for c in together for p in c.probs or ()], rel=1e-4)
