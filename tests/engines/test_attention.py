"""The cache that grows by blocks and grouped attention, beside transformers' own."""

from copy import deepcopy

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, MambaConfig, MistralConfig
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from stages.engines.backends import attention

SMALL = {
    "vocab_size": 40,
    "hidden_size": 48,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "head_dim": 8,
}
GROUPED = LlamaConfig(**SMALL, num_key_value_heads=2)


def model(config):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return AutoModelForCausalLM.from_config(deepcopy(config)).eval()


def states(rows, tokens, seed):
    return torch.randn((rows, 2, tokens, 4), generator=torch.Generator().manual_seed(seed))


def assert_holds_the_same(ours, theirs):
    """The same tokens, with zeros behind them that the mask's sizes count."""
    length = theirs.get_seq_length()
    assert ours.get_seq_length() == length
    for got, wanted in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
        assert torch.equal(got[:, :, :length], wanted)
        assert not got[:, :, length:].any()


@pytest.mark.parametrize("lengths", [[1] * 50, [15, 1, 1, 16, 5], [40, 1, 1]])
def test_a_block_layer_holds_what_a_dynamic_one_does(lengths):
    ours, theirs, buffers = attention.BlockLayer(), DynamicLayer(), []
    for seed, tokens in enumerate(lengths):
        sizes = ours.get_mask_sizes(tokens)
        for layer in (ours, theirs):
            layer.update(states(3, tokens, seed), states(3, tokens, seed + 1000))
        assert sizes == (ours.keys.shape[-2], 0)
        assert_holds_the_same(ours, theirs)
        buffers.append(ours.keys)
    assert len({b.data_ptr() for b in buffers}) <= 1 + -(-sum(lengths) // attention.BLOCK), "most steps copy nothing"


def test_a_block_layer_may_be_repeated_and_cut_in_rows():
    ours, theirs = attention.BlockLayer(), DynamicLayer()
    for layer in (ours, theirs):
        layer.update(states(2, 20, 1), states(2, 20, 2))
        layer.batch_repeat_interleave(3)
        layer.update(states(6, 1, 7), states(6, 1, 8))
        layer.batch_select_indices(torch.tensor([5, 0]))
        layer.update(states(2, 1, 9), states(2, 1, 10))
    assert_holds_the_same(ours, theirs)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("width", [1, 12])
def test_grouped_heads_give_the_same_texts(padding, width):
    """The same tokens as transformers' own cache and attention, with left padding and without."""
    llama = model(GROUPED)
    ids = torch.arange(2 * width).reshape(2, width) % 40
    mask = torch.ones_like(ids)
    mask[0, : min(padding, width - 1)] = 0
    settings = GenerationConfig(max_new_tokens=80, do_sample=False, pad_token_id=0, output_logits=True)
    settings.return_dict_in_generate = True

    def generate(cache):
        return llama.generate(ids, attention_mask=mask, past_key_values=cache, generation_config=settings)

    theirs = generate(DynamicCache(config=llama.config))
    attention.group_heads(llama)
    assert llama.config._attn_implementation == attention.NAME
    ours = generate(attention.new_cache(llama))
    assert torch.equal(ours.sequences, theirs.sequences)
    for one, other in zip(ours.logits, theirs.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("repeats", [1, 2])
def test_prompts_read_some_at_a_time_give_the_same_texts(monkeypatch, repeats):
    """The same keys, values and next tokens as prompts that are read together, padded ones among them."""
    llama = model(GROUPED)
    attention.group_heads(llama)
    ids = torch.arange(5 * 7).reshape(5, 7) % 40
    mask = torch.ones_like(ids)
    mask[0, :4] = mask[3, :2] = 0
    read = []
    llama.base_model.register_forward_pre_hook(
        lambda module, args, named: read.append(len(args[0] if args else named["input_ids"])), with_kwargs=True
    )

    def after(numbers):
        monkeypatch.setattr(attention, "READ_AT_ONCE", numbers)
        cache = attention.new_cache(llama)
        with torch.inference_mode():
            attention.read(llama, ids[:, :-1], mask[:, :-1], cache)
            cache.batch_repeat_interleave(repeats)
            settings = GenerationConfig(max_new_tokens=20, do_sample=False, pad_token_id=0)
            rows, seen = (x.repeat_interleave(repeats, 0) for x in (ids, mask))
            return cache, llama.generate(rows, attention_mask=seen, past_key_values=cache, generation_config=settings)

    whole, texts = after(5 * 6 * 48)
    assert read[0] == 5
    read.clear()
    parts, same = after(2 * 6 * 48)
    assert read[:3] == [2, 2, 1]
    assert torch.equal(texts, same)
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert one.get_seq_length() == other.get_seq_length()
        torch.testing.assert_close(one.keys, other.keys)
        torch.testing.assert_close(one.values, other.values)


def test_a_prompt_larger_than_what_is_read_at_once_is_read_alone(monkeypatch):
    monkeypatch.setattr(attention, "READ_AT_ONCE", 1)
    assert attention.rows_at_once(model(GROUPED), 100) == 1


def test_a_window_keeps_its_own_layer_and_recurrent_models_have_no_cache_to_repeat():
    windows = model(MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8))
    assert {type(layer) for layer in attention.new_cache(windows).layers} == {DynamicSlidingWindowLayer}
    grouped = model(GROUPED)
    assert {type(layer) for layer in attention.new_cache(grouped).layers} == {DynamicLayer}
    attention.group_heads(grouped)
    assert {type(layer) for layer in attention.new_cache(grouped).layers} == {attention.BlockLayer}
    recurrent = model(MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, state_size=4))
    assert attention.new_cache(recurrent) is None


def test_another_attention_than_sdpa_is_left_alone():
    llama = model(GROUPED)
    llama.set_attn_implementation("eager")
    attention.group_heads(llama)
    assert llama.config._attn_implementation == "eager"
