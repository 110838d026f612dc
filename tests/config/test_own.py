"""A profile for one's own model and data: complete, checked, of sizes that follow from what was seen."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from stages.commands import profile
from stages.config.load import load_params
from stages.config.own import (
    GB,
    JUDGE_TOKENS,
    LEAST_CONTEXT,
    DataFacts,
    Machine,
    ModelFacts,
    apply,
    choose,
    write_profile,
)
from stages.config.params import Params
from stages.config.rules import faults
from stages.console.errors import ModelError, ParamsError, SeedDataError
from stages.method.formats import recognize
from stages.store.rows import read_file

PROFILES = Path(__file__).parents[2] / "stages/config/profiles"
GPU_PROFILE = YAML(typ="safe").load(PROFILES / "gpu.yaml")
CPU = Machine(cores=4, memory=16 * GB, gpus=0, gpu_memory=0, has_vllm=True, has_ray=True)
GPU = Machine(cores=16, memory=128 * GB, gpus=1, gpu_memory=80 * GB, has_vllm=True, has_ray=False)
SMALL_MODEL = ModelFacts(134_500_000, 8192, True)
LARGE_MODEL = ModelFacts(8_000_000_000, 131_072, True)
DATA = DataFacts(3000, 2500, 9000, 120, 400)
PLACES = profile.FIXED | {"base": {"M0": {"source": "local", "path": "my-model"}}, "external": {}}


def loaded(tmp_path: Path, *facts, small: bool = False):
    text = write_profile(PROFILES / "gpu.yaml", PLACES | choose(*facts, small=small), ["mine"])
    (tmp_path / "params.yaml").write_text(text)
    return load_params(tmp_path), text


def test_nothing_of_the_tiny_world_is_left(tmp_path):
    params, text = loaded(tmp_path, SMALL_MODEL, DATA, CPU)
    assert "tinyworld/" not in text
    assert "source: tinyworld" not in text
    assert params.tinyworld is None
    assert params.evaluate.oracle == "none"


def test_it_is_the_models_the_datas_and_the_machines(tmp_path):
    params, _ = loaded(tmp_path, SMALL_MODEL, DATA, CPU)
    assert (params.engine.name, params.engine.dtype, params.hardware.threads) == ("transformers", "float32", 4)


def test_a_gpu_with_vllm_gets_it_and_the_papers_sizes(tmp_path):
    params, _ = loaded(tmp_path, LARGE_MODEL, DATA, GPU)
    assert (params.engine.name, params.engine.dtype) == ("vllm", "bfloat16")
    assert params.split_seed.test_ranked == 190
    assert params.train_sft.gradient_checkpointing


@pytest.mark.parametrize(("prompts", "batch"), [(5, 2), (60, 4), (3000, 16)])
def test_few_rows_make_steps_enough_to_learn_a_form(tmp_path, prompts, batch):
    data = DATA._replace(prompts=prompts, comparable=prompts, answers=3 * prompts)
    params, _ = loaded(tmp_path, LARGE_MODEL, data, GPU, small=False)
    assert params.train_sft.batch == batch
    assert params.train_sft.micro_batch <= batch


def test_several_gpus_get_ray_where_it_is_installed(tmp_path):
    params, _ = loaded(tmp_path, LARGE_MODEL, DATA, GPU._replace(gpus=4, has_ray=True))
    assert (params.engine.name, params.engine.inner, params.hardware.workers) == ("ray", "vllm", 4)


@settings(max_examples=30, deadline=None)
@given(
    prompts=st.integers(5, 20_000),
    share=st.floats(0.3, 1),
    answers=st.integers(1, 9),
    prompt_tokens=st.integers(1, 3000),
    response_tokens=st.integers(1, 6000),
    context=st.sampled_from([None, LEAST_CONTEXT, 1024, 2048, 8192, 131_072]),
    machine=st.sampled_from([CPU, GPU, GPU._replace(has_vllm=False)]),
    small=st.booleans(),
)
def test_whatever_was_seen_the_profile_is_sound(
    prompts, share, answers, prompt_tokens, response_tokens, context, machine, small
):
    comparable = max(2, int(share * prompts))
    data = DATA._replace(
        prompts=prompts, comparable=comparable, answers=answers * prompts,
        prompt_tokens=prompt_tokens, response_tokens=response_tokens,
    )  # fmt: skip
    model = SMALL_MODEL._replace(context=context)
    complete = deepcopy(GPU_PROFILE)
    apply(complete, PLACES | choose(model, data, machine, small=small))
    params = Params.model_validate(complete)
    assert faults(params) == []
    seed, limit = params.split_seed, context or 4096
    assert seed.ift + seed.ift_valid + seed.eft_prompts + seed.test_prompts + seed.test_ranked <= prompts
    assert seed.eft_prompts + seed.test_ranked <= comparable
    assert params.engine.max_context <= limit
    assert max(params.train_sft.max_length, params.train_dpo.max_length) <= limit
    judge_prompt = JUDGE_TOKENS + params.write_prompts.max_tokens + params.sample_candidates.max_tokens
    assert judge_prompt + params.judge_candidates.max_tokens <= params.engine.max_context


def test_the_readers_of_real_files_agree(tmp_path, monkeypatch):
    """End to end on a folder and a file as people have them, by the command."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,'
        ' "hidden_size": 64, "max_position_embeddings": 2048}'
    )
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "tokenizer.model").touch()
    with pytest.raises(ModelError, match=r"--model model: no \*\.safetensors in the model's folder"):
        profile.for_own("model", "data.jsonl", small=True, force=False, root=tmp_path)
    save_file({}, model / "model.safetensors")
    rows = []
    for i in range(40):
        rows.append({"message_id": f"p{i}", "parent_id": None, "role": "prompter", "lang": "de", "text": f"Frage {i}?"})
        rows += [
            {
                "message_id": f"a{i}{r}",
                "parent_id": f"p{i}",
                "role": "assistant",
                "lang": "de",
                "rank": r,
                "text": f"Antwort {i} {r}",
            }
            for r in range(2)
        ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    profile.for_own("model", "data.jsonl", small=True, force=False, root=tmp_path)
    params = load_params(tmp_path)
    assert (params.split_seed.lang, params.split_seed.path) == ("de", "data.jsonl")
    assert params.base["M0"].path == "model"
    written = recognize(
        read_file(tmp_path / "data.jsonl"), "data.jsonl", params.split_seed.format, params.split_seed.columns
    )
    assert len([*written.messages(read_file(tmp_path / "data.jsonl"))]) == 120  # what is written down can be read back
    tokenizer, facts, _, line = profile.model_facts("model", tmp_path)
    assert tokenizer is None
    assert facts == ModelFacts(None, 2048, True)
    assert line == "model: model: LlamaForCausalLM, of unknown size, context 2048, a chat template"
    (tmp_path / "data.jsonl").rename(tmp_path / "my data.jsonl")
    with pytest.raises(ParamsError, match=r"changes of yours.*--data 'my data.jsonl' --small --force"):
        (tmp_path / "params.yaml").write_text("mine: 1")
        profile.for_own("model", "my data.jsonl", small=True, force=False, root=tmp_path)


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": "8k"}, None),
        ({"max_position_embeddings": True, "architectures": "Llama"}, None),
        ({"max_position_embeddings": 0, "architectures": {"a": 1}}, None),
        ({"max_position_embeddings": 2048, "text_config": "llama"}, 2048),
        ({"max_position_embeddings": 2048, "text_config": {"max_position_embeddings": 4096}}, 4096),
    ],
)
def test_what_a_config_does_not_say_is_unknown(tmp_path, config, context):
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, facts, _, line = profile.model_facts(".", tmp_path)
    assert facts.context == context
    assert f"unknown architecture, of unknown size, context {context or 'unknown'}" in line


@pytest.mark.parametrize("context", [64, 512, LEAST_CONTEXT - 1])
def test_a_context_without_room_for_a_judge_prompt_is_refused(tmp_path, context):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    with pytest.raises(ModelError, match=f"context of {context} tokens is too short for a judge prompt"):
        profile.for_own(".", "data.jsonl", small=True, force=False, root=tmp_path)


def test_data_that_cannot_be_read_are_refused_in_words_of_the_option(tmp_path):
    (tmp_path / "my" / "data").mkdir(parents=True)
    with pytest.raises(SeedDataError, match=r"--data my/data is a folder: expected a file of seed data, \.jsonl"):
        profile.data_facts("my/data", None, tmp_path)
    row = {"message_id": "p", "parent_id": None, "role": "prompter", "lang": None, "text": "Why?"}
    (tmp_path / "rows.jsonl").write_text('{"a": 1}')
    with pytest.raises(
        SeedDataError, match=r"rows\.jsonl fits no format. Its columns: a. Formats, and what each needs"
    ):
        profile.data_facts("rows.jsonl", None, tmp_path)
    rows = [row | {"message_id": f"p{n}"} for n in range(3)] + [row | {"message_id": "q", "lang": "de"}]
    answers = [
        {"message_id": f"a{r}", "parent_id": "q", "role": "assistant", "lang": "de", "rank": r, "text": f"A{r}"}
        for r in range(2)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows + answers)))
    assert profile.data_facts("rows.jsonl", None, tmp_path)[1]["split_seed.lang"] == "de"


def test_a_shipped_profile_with_another_model_other_data_and_more_prompts(tmp_path):
    """Only what was asked for changes; the same command again is no edit of anybody's."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "llama"}')
    rows = [{"message_id": "p", "role": "prompter", "lang": "de", "text": "Warum?"}]
    rows += [{"message_id": f"a{i}", "parent_id": "p", "role": "assistant", "rank": i, "text": f"{i}"} for i in (0, 1)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):
        profile.copy("smol", model="model", data="rows.jsonl", scale=50, root=tmp_path)
    shipped = load_params(PROFILES, "smol.yaml")
    got = load_params(tmp_path)
    assert (got.base["M0"].path, got.external) == ("model", {})
    assert (got.split_seed.source, got.split_seed.path, got.split_seed.lang) == ("file", "rows.jsonl", "de")
    assert got.split_seed.ift == 50 * shipped.split_seed.ift
    assert got.aift["M2"].prompts == 50 * shipped.aift["M2"].prompts
    assert got.train_dpo == shipped.train_dpo
    adds_english = (got.split_seed.eft_constraints, got.write_prompts.constraints, got.evaluate.oracle)
    assert adds_english == (0, 0, "none"), "constraints are English sentences"
    with pytest.raises(ParamsError, match="srlm profile smol --force"):
        profile.copy("smol", root=tmp_path)


@pytest.mark.parametrize(
    ("row", "format", "columns", "words"),
    [
        (
            {"question": "Why?", "chosen": "a", "rejected": "b"},
            "pairs",
            {"prompt": "question", "chosen": "chosen", "rejected": "rejected"},
            "2 ranked answers, 1 with answers ranked apart",
        ),
        (
            {"instruction": "Why?", "output": "a"},
            "instructions",
            {"prompt": "instruction", "response": "output"},
            "1 answers without ranks, which make IFT and no EFT, 0 with",
        ),
    ],
)
def test_any_format_is_written_down_with_its_columns(tmp_path, row, format, columns, words):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    facts, params, line = profile.data_facts("rows.jsonl", None, tmp_path)
    assert (params["split_seed.format"], params["split_seed.columns"]) == (format, columns)
    assert params["split_seed.lang"] is None
    assert facts.prompts == 1
    assert words in line
    assert "a language that they do not name (set split_seed.lang, as en)" in line
