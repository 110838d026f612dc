"""A random Llama of 80 thousand parameters with a byte-level tokenizer and a chat template, saved as any model folder
is."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stages.config.engines import EngineParams
from stages.config.machine import Hardware, Server

SERVER = Server(
    at_once=4, timeout_s=30.0, attempts=3, usd_per_million_prompt_tokens=None, usd_per_million_completion_tokens=None
)
HARDWARE = Hardware(
    device="cpu",
    threads=1,
    compile=False,
    save_every_s=None,
    report_to=None,
    gpu_memory=0.9,
    tensor_parallel=1,
    workers=2,
    server=SERVER,
)
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ bos_token }}Question: {{ m.content }} Answer:{% endif %}{% endfor %}"
)
TEXT = [
    "Name three fruits.",
    "Sure! apple pear plum.",
    "Say cat 3 times.",
    "cat cat cat.",
    "Question: Answer: Score: 4",
]


def engine_params(
    name: str, *, inner: str = "transformers", max_context: int = 96, chunk: int = 128, block: int = 4
) -> EngineParams:
    return EngineParams(
        name=name,
        inner=inner,
        dtype="float32",
        quantization=None,
        max_context=max_context,
        max_batch_tokens=chunk,
        requests_per_block=block,
        env_prefix="OPENAI",
    )


def build(
    folder: Path, *, seed: int = 0, template: str | None = TEMPLATE, vocab: int = 400, **config: int | float
) -> Path:
    """Write the model into `folder` and return it. `config` overrides LlamaConfig."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.train_from_iterator(
        TEXT * 5,
        trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=["<pad>", "<bos>", "<end>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<bos>", eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = template
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"max_position_embeddings": 128, "initializer_range": 0.2} | config
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=True, **shape
        )
    )
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
