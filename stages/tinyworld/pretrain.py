"""M0: a Llama of 0.32 M parameters, pretrained from scratch on the world's corpus in a plain PyTorch loop.

Settings were found by experiment. The size is what some minutes of pretraining can feed: in the same time a model of
0.75 M parameters reads four tokens a parameter and this one thirteen, and judges 97 % of unseen pairs right where the
larger one judged 90 %; one of 0.21 M learns to judge on one seed and not on the next. Muon for the matrices is what
makes copying work within minutes: with AdamW alone nothing was right at 500 steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stages.config.sections import Tinyworld
from stages.console.progress import progress
from stages.tinyworld.corpus import documents
from stages.tinyworld.muon import Muon
from stages.tinyworld.tokenizer import CONTEXT, build_tokenizer

TOKENIZER_DOCUMENTS = 8000
"""Enough for every word of the world to occur some hundred times."""
WARMUP = 50
BUCKET = 32
"""Batches of like length are cut from this many batches of documents at a time: less padding, and still mixed kinds in
a batch."""
LOG_EVERY = 10
IGNORED = -100


def pretrain(out: Path, *, seed: int, world: Tinyworld, threads: int) -> list[dict[str, float]]:
    """Train M0 and save it (safetensors), its tokenizer and generation config in the folder `out`, which exists.

    Returns a log: `step`, `loss` (mean over the steps since the last row, nats per token) and `lr`. Float32 throughout:
    without bf16 instructions in the CPU, autocast took thirteen times as long. Threads change floating-point sums,
    hence the weights.
    """
    torch.set_num_threads(threads or torch.get_num_threads())
    tokenizer = build_tokenizer(
        documents(seed, TOKENIZER_DOCUMENTS, world.seed)
    )  # apart, so that a short run has the same vocabulary
    model = build_model(tokenizer, seed)
    texts = documents(seed, world.steps * world.docs_per_step, world.seed)
    log = _train(model, _batches(tokenizer(texts)["input_ids"], world.docs_per_step, seed), world)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return log


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """M0 before training. The init is wider than the usual 0.02: at this width it learns to copy sooner."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=80,
        intermediate_size=240,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        dtype="float32",
        attn_implementation="eager",  # type: ignore[call-arg]  # texts of 40 tokens: plain matrices beat the fused kernel, 6 % of a step
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _batches(rows: list[list[int]], size: int, seed: int) -> Iterator[torch.Tensor]:
    """Token ids [size, longest], padded with IGNORED; rows of like length together, batches in random order."""
    rng = Random(f"{seed}/batches")
    for start in range(0, len(rows), size * BUCKET):
        bucket = sorted(rows[start : start + size * BUCKET], key=len)
        batches = [bucket[i : i + size] for i in range(0, len(bucket), size)]
        rng.shuffle(batches)
        for batch in batches:
            ids = torch.full((len(batch), len(batch[-1])), IGNORED)
            for i, row in enumerate(batch):
                ids[i, : len(row)] = torch.tensor(row)
            yield ids


def _train(model: LlamaForCausalLM, batches: Iterator[torch.Tensor], world: Tinyworld) -> list[dict[str, float]]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = (
        Muon(matrices, lr=world.lr),
        torch.optim.AdamW(others, lr=world.lr, betas=(0.9, 0.95), weight_decay=0.0),
    )
    log: list[dict[str, float]] = []
    total = torch.zeros(())
    since = 0
    model.train()
    with progress("pretrain M0", world.steps, "steps") as advance:
        for step, ids in enumerate(batches, start=1):
            lr = world.lr * min(step / WARMUP, 0.5 + 0.5 * math.cos(math.pi * (step - 1) / world.steps))
            loss = _loss(model, ids)
            loss.backward()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
                optimizer.zero_grad()
            total, since = total + loss.detach(), since + 1
            if step % LOG_EVERY == 0 or step == world.steps:
                log.append({"step": step, "loss": round(total.item() / since, 5), "lr": lr})
                total, since = torch.zeros(()), 0
            advance(1, f"loss {log[-1]['loss']:.2f}" if log else "")
    return log


def _loss(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss. Padding stands on the right, where causal attention never looks back from: no attention
    mask is needed."""
    logits = model(input_ids=ids[:, :-1].clamp(min=0), use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=IGNORED)
