"""What a model can come as: a GGUF file, a LoRA adapter beside or apart from its weights, a tokenizer of SentencePiece,
a repository that wants its own code run."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from stages.console.errors import ModelError
from stages.models import checkpoint, intake, lora
from stages.store.weights import check_weights, file_faults, weight_faults
from stages.text.chat import QUESTION, Chat

DAY = date(2026, 1, 31)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model(torch.arange(3, 9)[None]).logits.detach()


def add_adapter(llama: Path, out: Path) -> torch.Tensor:
    """A LoRA adapter that does something; returns what the model says with it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32), config)
    model.save_pretrained(out)
    return model(torch.arange(3, 9)[None]).logits.detach()


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_is_merged(llama, tmp_path, alone):
    said = add_adapter(llama, tmp_path / "lora" if alone else llama / "adapter")
    assert not torch.allclose(said, logits(llama), atol=1e-3)
    out = tmp_path / "M0"
    out.mkdir()
    source = tmp_path / "lora" if alone else llama
    checkpoint.copy_local(source, out)
    assert "merged" in lora.merge(out, lora.base_of(source), {})[0]
    check_weights(out, "M0")
    intake.complete(out, DAY)
    torch.testing.assert_close(logits(out), said, atol=1e-5, rtol=1e-4)
    assert not [*out.glob("adapter*")]
    assert lora.merge(out, lora.base_of(out), {}) == [], "one model now"


@pytest.mark.slow
def test_weights_in_float32_stay_so_whatever_config_json_says(llama, tmp_path):
    said = add_adapter(llama, tmp_path / "lora")
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16", "torch_dtype": "bfloat16"}))
    merged(tmp_path / "lora", tmp_path / "out")
    assert torch.allclose(logits(tmp_path / "out"), said, atol=1e-5)
    assert lora.dtype_of(tmp_path / "out") == "float32"


def test_an_adapter_without_its_model_is_named(llama, tmp_path):
    add_adapter(llama, tmp_path / "M0")
    shutil.rmtree(llama)
    with pytest.raises(ModelError, match=r"M0: the LoRA adapter cannot be merged .*base_model_name_or_path"):
        lora.merge(tmp_path / "M0", lora.base_of(tmp_path / "M0"), {})


def merged(adapter: Path, out: Path) -> Path:
    out.mkdir()
    checkpoint.copy_local(adapter, out)
    lora.merge(out, lora.base_of(adapter), {})
    intake.complete(out, DAY)
    return out


@pytest.mark.slow
def test_an_adapter_s_own_tokenizer_goes_before_its_base_s(llama, tmp_path):
    """With its template, and the tokens that it was trained with."""
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(llama)
    (llama / "chat_template.jinja").write_text(CHATML.replace("<|im_end|>", "</s>"))
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path / "lora")
    base = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32)
    base.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"], init_lora_weights=False)
    model = get_peft_model(base, config)
    model.save_pretrained(tmp_path / "lora")
    out = merged(tmp_path / "lora", tmp_path / "M0")
    assert AutoTokenizer.from_pretrained(out).eos_token == "<|im_end|>"
    torch.testing.assert_close(logits(out), model(torch.arange(3, 9)[None]).logits.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_copy_of_the_base_s_config_beside_an_adapter(llama, tmp_path):
    said = add_adapter(llama, tmp_path / "lora")
    shutil.copy(llama / "config.json", tmp_path / "lora")
    assert file_faults(tmp_path / "lora") == []
    torch.testing.assert_close(logits(merged(tmp_path / "lora", tmp_path / "M0")), said, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_an_adapter_beside_full_weights_is_refused(llama, tmp_path):
    """transformers would load the adapter's base over them, and save the adapter alone."""
    add_adapter(llama, tmp_path / "lora")
    shutil.copytree(llama, tmp_path / "lora", dirs_exist_ok=True)
    with pytest.raises(ModelError, match=r"adapter_config\.json lies beside full weights"):
        merged(tmp_path / "lora", tmp_path / "M0")


@pytest.mark.slow
def test_an_adapter_of_a_deeper_model_is_refused(llama, tmp_path):
    add_adapter(llama, tmp_path / "lora")
    config = json.loads((llama / "config.json").read_text())
    LlamaForCausalLM(LlamaConfig(**config | {"num_hidden_layers": 1})).save_pretrained(llama)
    with pytest.raises(
        ModelError, match=r"M0: .* 4 of its weights are for modules that LlamaForCausalLM has not.*layers\.1"
    ):
        merged(tmp_path / "lora", tmp_path / "M0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"hidden_size": 32}, r"size mismatch for .*layers\.0\.self_attn\.q_proj\.lora_A.*\[4, 64\].*\[4, 32\]"),
        ({"num_key_value_heads": 1}, r"size mismatch for .*layers\.0\.self_attn\.v_proj\.lora_B.*\[64, 4\].*\[32, 4\]"),
    ],
)
def test_an_adapter_of_a_model_of_another_shape_is_refused(llama, tmp_path, changed, seen):
    add_adapter(llama, tmp_path / "lora")
    config = json.loads((llama / "config.json").read_text())
    LlamaForCausalLM(LlamaConfig(**config | changed)).save_pretrained(llama)
    with pytest.raises(ModelError, match=seen):
        merged(tmp_path / "lora", tmp_path / "M0")


@pytest.mark.slow
def test_an_adapter_for_modules_that_its_base_has_not_is_refused(llama, tmp_path):
    """Where all of them are others, where one is, and where a whole module comes along."""
    from safetensors.torch import load_file, save_file

    add_adapter(llama, tmp_path / "lora")
    weights, file = tmp_path / "lora/adapter_model.safetensors", tmp_path / "lora/adapter_config.json"
    for old, new in (("v_proj", "value"), ("q_proj", "query")):
        save_file({k.replace(old, new): v for k, v in load_file(weights).items()}, weights)
        file.write_text(file.read_text().replace(old, new))
        with pytest.raises(ModelError, match=rf"of its weights are for modules that .*{new}\.lora_A"):
            merged(tmp_path / "lora", tmp_path / new)
    save_file({"base_model.model.score.weight": torch.ones(2, 2)}, weights)
    with pytest.raises(ModelError, match=r"1 of its weights .* first base_model\.model\.score\.weight"):
        merged(tmp_path / "lora", tmp_path / "score")


def rename_base(folder: Path, name: object, revision: object = None) -> None:
    file = folder / "adapter_config.json"
    named = {"base_model_name_or_path": name, "revision": revision}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))


@pytest.mark.slow
def test_the_base_of_an_adapter_is_a_path_from_its_folder(llama, tmp_path):
    """A repository: tests/hub/test_reading.py."""
    said = add_adapter(llama, tmp_path / "lora")
    rename_base(tmp_path / "lora", "../llama")
    torch.testing.assert_close(logits(merged(tmp_path / "lora", tmp_path / "M0")), said, atol=1e-5, rtol=1e-4)
    rename_base(tmp_path / "lora", str(llama), "v2")
    base = lora.base_of(tmp_path / "lora", downloaded=True)
    assert base == (str(llama), "v2", None), "what comes from the Hub names no folder here"


@pytest.mark.parametrize(("name", "revision"), [(None, None), (3, None), ("org/llama", 3), ("", None)])
def test_an_adapter_that_names_no_base_is_refused(tmp_path, name, revision):
    (tmp_path / "adapter_config.json").write_text("{}")
    rename_base(tmp_path, name, revision)
    with pytest.raises(ModelError, match=r"adapter_config\.json: base_model_name_or_path is "):
        lora.base_of(tmp_path)


@pytest.mark.slow
def test_an_adapter_for_a_model_with_an_adapter_is_refused(llama, tmp_path):
    add_adapter(llama, tmp_path / "lora")
    shutil.copytree(tmp_path / "lora", llama / "adapter")
    with pytest.raises(ModelError, match=r"has an adapter itself; merge that first"):
        merged(tmp_path / "lora", tmp_path / "M0")


def test_a_pickled_adapter_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "no adapter_model.safetensors" in file_faults(tmp_path)[0]


def gguf_of(llama: Path, file: Path) -> None:
    """The same weights in GGUF, as llama.cpp's converter writes them."""
    import gguf

    model = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokens = [*tokenizer.convert_ids_to_tokens(range(len(tokenizer))), "ab"]
    model.resize_token_embeddings(len(tokens), mean_resizing=False)
    c, writer = model.config, gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in tokenizer.added_tokens_decoder else 1 for i in range(len(tokens))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokenizer.convert_tokens_to_ids("<|im_start|>"))
    writer.add_eos_token_id(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    writer.add_chat_template(CHATML)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    for key, weight in model.state_dict().items():
        name = (
            key.replace("model.layers", "blk")
            .replace("model.embed_tokens", "token_embd")
            .replace("model.norm", "output_norm")
        )
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if key.startswith("lm_head"):
            continue  # tied
        if "attn_q" in name or "attn_k" in name:  # llama.cpp turns rotary halves into pairs
            heads = c.num_attention_heads if "attn_q" in name else c.num_key_value_heads
            weight = weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
def test_a_gguf_file_becomes_a_model(llama, tmp_path):
    gguf_of(llama, tmp_path / "model.gguf")
    out = tmp_path / "M0"
    out.mkdir()
    checkpoint.from_gguf(tmp_path / "model.gguf", out)
    check_weights(out, "M0")
    found = intake.complete(out, DAY)
    assert found.turn.stop == "<|im_end|>"
    torch.testing.assert_close(logits(out)[..., :259], logits(llama), atol=1e-5, rtol=1e-4)
    assert "quantization_config" not in json.loads((out / "config.json").read_text())


def test_a_damaged_gguf_file_is_named(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(ModelError, match=r"model\.gguf is no GGUF that transformers can read"):
        checkpoint.from_gguf(tmp_path / "model.gguf", tmp_path)


def test_code_of_a_repository_is_refused_for_what_it_is(llama):
    config = json.loads((llama / "config.json").read_text())
    config |= {"model_type": "brandnew", "auto_map": {"AutoModelForCausalLM": "modeling_brandnew.BrandNewForCausalLM"}}
    (llama / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"^llama: config\.json .*brandnew needs code .*modeling_brandnew\.py.* is never run"
    ):
        intake.complete(llama, DAY)
    assert any("never run" in fault for fault in weight_faults(llama))


def test_sentencepiece_alone(llama, tmp_path):
    """A tokenizer.model without tokenizer.json, as old Llamas came; what is broken is told without tiktoken."""
    for file in llama.glob("tokenizer*.json"):
        file.unlink()
    (llama / "tokenizer.model").write_bytes(b"\x0a\x0b no model")
    (llama / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    with pytest.raises(ModelError, match=r"tokenizer\.model") as refused:
        intake.complete(llama, DAY)
    assert "tiktoken" not in str(refused.value)


@pytest.mark.parametrize(("names", "words"), [(["rag", "tool_use"], "named 'rag', 'tool_use'"), ([], "named nothing")])
def test_named_templates_without_a_default_are_told(llama, names, words):
    file = llama / "tokenizer_config.json"
    named = [{"name": name, "template": CHATML} for name in names]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": named}))
    with pytest.raises(ModelError, match=words):
        intake.complete(llama, DAY)


def test_tokens_beyond_the_embeddings_are_named(llama):
    """An ordinary token that any text may have: an index out of range in the middle of training."""
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens(["antidisestablishmentarianism"])
    tokenizer.save_pretrained(llama)
    with pytest.raises(ModelError, match=r"'antidisestablishmentarianism' has id 259, and the model 259 embeddings"):
        intake.complete(llama, DAY)


def test_control_tokens_that_begin_with_a_space_or_are_spaces(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens([" <sep>", "   "], special_tokens=True)
    chat = Chat(tokenizer)
    assert chat.unmarked("a <sep>    b") == "a < sep>    b"


def test_a_template_that_writes_an_undefined_bos(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.bos_token = None
    tokenizer.chat_template = (
        "{{ bos_token + 'x' }}" + "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    tokenizer.save_pretrained(llama)
    found = intake.complete(llama, DAY)
    assert found.turn.prompt == f"x{QUESTION}</s>"
    assert "writes bos_token" in found.mended[0]


def test_a_quantized_model_is_not_trained(llama):
    config = json.loads((llama / "config.json").read_text())
    quantized = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
    (llama / "config.json").write_text(json.dumps(config | {"quantization_config": quantized}))
    with pytest.raises(ModelError, match=r"llama: its weights are quantized \(gptq\)"):
        intake.complete(llama, DAY, trained=True)
    intake.complete(llama, DAY)
