"""Costs by formula are those of counted parameters and counted operations."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MixtralConfig, Qwen2Config

from stages.config.flops import READ, TRAINED, card_of, causal, continued, shape_like, shape_of

SIZES = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2}


def model_of(config):
    experts = {"experts_implementation": "eager"} if isinstance(config, MixtralConfig) else {}  # others are not counted
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager", **experts)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES, tie_word_embeddings=True),
        LlamaConfig(**SIZES, tie_word_embeddings=False, head_dim=32),
        MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
    ],
    ids=["tied", "untied", "experts"],
)
def test_parameters_and_flops_are_those_that_are_counted(config):
    model, batch, length = model_of(config), 2, 48
    shape = shape_of(json.loads(config.to_json_string(use_diff=False)))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    ids = torch.randint(config.vocab_size, (batch, length))
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=ids, labels=ids).loss
    read = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    trained = read + counter.get_total_flops()
    whole = batch * length * length  # what the plain kernel computes: the masked half, too
    assert shape.flops(batch * length, whole, READ) == pytest.approx(read, rel=0.05)
    assert shape.flops(batch * length, whole, TRAINED) == pytest.approx(trained, rel=0.05)
    assert causal([length] * batch) == batch * length * (length + 1) / 2


def test_what_is_counted_goes_before_what_a_config_says():
    """Biases, a second norm: what the formula does not know is in the header of the weights."""
    config = Qwen2Config(**SIZES)
    counted = sum(p.numel() for p in model_of(config).parameters())
    plain, exact = shape_of(config.to_dict()), shape_of(config.to_dict(), counted)
    assert plain.parameters == pytest.approx(counted, rel=0.01)
    assert exact.parameters == counted > plain.parameters


def test_a_text_that_is_continued_costs_as_much_as_one_that_is_read():
    assert continued(5, 7) == causal([12])
    assert continued(0, 12) == causal([12])


@pytest.mark.parametrize("config", [{}, {"hidden_size": 8}, {"hidden_size": "8", "num_hidden_layers": True}])
def test_a_config_that_says_too_little_gives_no_shape(config):
    assert shape_of(config) is None


def test_a_model_that_is_known_by_its_size_alone_is_of_a_usual_form():
    llama = shape_of(
        {
            **{"vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80},
            **{"num_attention_heads": 64, "num_key_value_heads": 8, "tie_word_embeddings": False},
        }
    )
    assert llama.parameters == pytest.approx(68.98e9, rel=1e-3)
    like = shape_like(llama.parameters)
    for field in ("multiplied", "layers", "hidden", "kv_width"):
        assert getattr(like, field) == pytest.approx(getattr(llama, field), rel=0.2), field
    assert shape_like(3e5).parameters == 300_000


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("AMD Instinct MI300X", 1307e12),
        ("h200", 989e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 165e12),
        ("NVIDIA L40", None),
        ("x86_64", None),
    ],
)
def test_a_peak_is_that_of_the_card_that_torch_names_or_unknown(name, peak):
    card = card_of(name)
    assert (card and card.peak("bfloat16")) == peak
    assert card is None or card.peak("float32") < card.peak("bfloat16")
    assert card is None or card.peak("float32", tf32=True) == peak / 2


def test_training_takes_sixteen_bytes_a_parameter_and_what_a_step_holds():
    shape = shape_like(1e9)
    held = shape.training_bytes(0, dtype="float32", checkpointing=False)
    assert held == 16e9
    step = [shape.training_bytes(4096, dtype="bfloat16", checkpointing=each) for each in (False, True)]
    lora, four = (
        shape.training_bytes(0, dtype="bfloat16", checkpointing=True, rank=16, four_bit=each) for each in (False, True)
    )
    assert 2e9 < lora < 2.6e9, "weights in bfloat16; gradients and moments of the adapter alone"
    assert lora - four == 1.5e9
    assert step[0] > step[1] > shape.training_bytes(0, dtype="bfloat16", checkpointing=True) == 18e9


def test_the_config_of_a_real_family_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4}))
    config = AutoConfig.from_pretrained(tmp_path).to_dict()
    assert shape_of(config).kv_bytes("bfloat16") == 2 * 2 * 64 * 2
