"""What others write into the small files of a model folder is read, put right, or named with file and key."""

import codecs
import json
from datetime import date

import pytest
from transformers import AutoTokenizer, GenerationConfig

from stages.console.errors import ModelError
from stages.models import checkpoint, intake
from stages.store.weights import check_weights

DAY = date(2026, 1, 31)
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"


def change(folder, file, **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def taken_in(source):
    folder = source.parent / "M0"
    folder.mkdir()
    checkpoint.copy_local(source, folder)
    check_weights(folder, "M0")
    return intake.complete(folder, DAY)


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"torch_dtype": "float99"}, "torch_dtype is 'float99', expected a floating-point type"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1, expected a whole number from 1"),
        ({"num_hidden_layers": 0, "vocab_size": "abc"}, "num_hidden_layers is 0, .*; config.json: vocab_size is 'abc'"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected a whole number from 1 to 10,000"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"pad_token_id": 999}, "pad_token_id is 999, expected one below vocab_size, 259"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn', expected an object"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "rope_scaling.factor is 0, expected a number above 0"),
        (
            {"rope_parameters": {"rope_type": "bent"}},
            "rope_parameters.rope_type is 'bent', which transformers does not",
        ),
        ({"rope_theta": "x"}, "rope_theta is 'x'"),
        ({"hidden_act": "bent"}, "hidden_act is 'bent', which transformers does not know"),
        ({"rms_norm_eps": "1e-5"}, "describes no model .*'rms_norm_eps'"),
        ({"text_config": {"n_layer": -1}}, "text_config.n_layer is -1"),
    ],
)
def test_a_value_of_a_config_that_cannot_be_meant_is_named(llama, values, seen):
    change(llama, "config.json", **values)
    with pytest.raises(ModelError, match=rf"^M0: config\.json:? {seen}"):
        taken_in(llama)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"])
@pytest.mark.parametrize("content", [b"{oops", b"[1]", b"\xff\x00{", b"[" * 100_000])
def test_a_file_that_is_no_json_object_is_named(llama, file, content):
    (llama / file).write_bytes(content)
    with pytest.raises(ModelError, match=rf"^M0: {file} "):
        taken_in(llama)


def test_a_length_that_is_no_number_is_named(llama):
    change(llama, "tokenizer_config.json", model_max_length="x")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: model_max_length is 'x'"):
        taken_in(llama)


@pytest.mark.parametrize("encode", [lambda text: codecs.BOM_UTF8 + text.encode(), lambda text: text.encode("utf-16")])
def test_a_byte_order_mark_is_taken_off(llama, encode):
    (llama / "chat_template.jinja").write_text(TEMPLATE)
    for file in [*llama.glob("*.json"), llama / "chat_template.jinja"]:
        file.write_bytes(encode(file.read_text()))
    assert taken_in(llama).turn.prompt == "<s><QUESTION></s>"


def test_ids_that_are_no_tokens_are_put_right(llama):
    """A GPT-2 of its own vocabulary often names 50256."""
    change(llama, "config.json", bos_token_id=50256, eos_token_id=[1, 50256])
    change(llama, "generation_config.json", bos_token_id=50256, pad_token_id=50256, eos_token_id=50256)
    found = taken_in(llama)
    assert [sentence.partition(" is ")[0] for sentence in found.mended if " is " in sentence] == [
        "generation_config.json: bos_token_id",
        "generation_config.json: pad_token_id",
        "config.json: bos_token_id",
        "config.json: eos_token_id",
    ]
    folder = llama.parent / "M0"
    config, generation = json.loads((folder / "config.json").read_text()), GenerationConfig.from_pretrained(folder)
    assert (config["bos_token_id"], config["eos_token_id"]) == (0, 1)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (0, 1, 2)
    assert intake.complete(folder, DAY).mended == []


def test_flags_of_a_training_do_not_stay(llama):
    change(llama, "generation_config.json", use_cache=False, trust_remote_code=True, num_return_sequences=1)
    assert "switches the cache off" in taken_in(llama).mended[0]
    written = json.loads((llama.parent / "M0/generation_config.json").read_text())
    assert {"use_cache", "trust_remote_code"} & {*written} == set()


@pytest.mark.parametrize(
    ("names", "seen"), [(["rag"], "the model's, named 'rag'"), (["rag", "tool_use"], "none of them 'default'")]
)
def test_templates_in_a_folder_alone(llama, names, seen):
    """additional_chat_templates/, without chat_template.jinja."""
    (llama / "additional_chat_templates").mkdir()
    for name in names:
        (llama / f"additional_chat_templates/{name}.jinja").write_text(TEMPLATE)
    if len(names) > 1:
        with pytest.raises(ModelError, match=seen):
            taken_in(llama)
    else:
        assert taken_in(llama).template == seen
        assert AutoTokenizer.from_pretrained(llama.parent / "M0").chat_template == TEMPLATE
