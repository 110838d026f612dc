"""Steps of SFT and DPO beside TRL's defaults and beside what they could be: how much of the device each side uses.

    python -m benchmarks.training MODEL --out FILE

MODEL is a model's folder; a second model of 0.6 B has random weights and the same tokenizer. Rows are pieces of this
project's documentation, 60 to 900 tokens long. A side trains on `equal` rows, which warms it up, then `seconds` long.

One convention: a token costs 6 N FLOPs plus 12 * layers * width of the heads * mean context, the context being what the
token attends to (causal). N counts the input embedding only where it is the output's too. Padding, a reference's
forward and what gradient checkpointing computes again cost time and earn nothing; a prompt that chosen and rejected
share counts once in FLOPs, twice in tokens. Peak: 989e12 dense bfloat16 operations a second (H100, H200).
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
import typer
from torch.nn.attention.varlen import varlen_attn
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PrinterCallback,
    TrainerCallback,
)

from stages.config.load import load_params
from stages.text.chat import Chat

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
STARTED = time.monotonic()
ROOT, PEAK, LR, BETA, LONGEST, NAME = Path(__file__).parents[1], 989e12, 2e-5, 0.1, 1024, "varlen"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
TOKENS_A_WORD = 2.2
LARGE = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
LARGE |= {"num_key_value_heads": 8, "head_dim": 128}
Row = tuple[list[int], list[list[int]]]
"""A prompt and its answers in tokens: one for SFT, chosen and rejected for DPO."""


class Batch(NamedTuple):
    """Rows one behind the other: what the model takes, and which of its outputs predict a label."""

    inputs: dict[str, Any]
    predict: torch.Tensor
    targets: torch.Tensor
    owner: torch.Tensor
    """Of each label: its answer, counted from 0."""
    rows: list[int]
    tokens: int
    computed: int
    context: int
    """Sum of the contexts of the computed tokens."""

    def to_device(self) -> Batch:
        inputs = {k: v.to(DEVICE, non_blocking=True) if torch.is_tensor(v) else v for k, v in self.inputs.items()}
        labels = {k: getattr(self, k).to(DEVICE, non_blocking=True) for k in ("predict", "targets", "owner")}
        return self._replace(inputs=inputs, **labels)


class Data:
    """Rows in texts and in tokens; the first 16 that fit are held out."""

    def __init__(self, folder: Path, rows: int, seed: int = 1) -> None:
        self.tokenizer, drawn = AutoTokenizer.from_pretrained(folder), texts(rows, seed)
        chat, prompts = Chat(self.tokenizer), [prompt for prompt, _, _ in drawn]
        chosen, rejected = (chat.encode(prompts, [row[i] for row in drawn]) for i in (1, 2))
        pairs: list[Row] = [(p, [c, r]) for (p, c), (_, r) in zip(chosen, rejected, strict=True)]
        fit = [i for i, (p, answers) in enumerate(pairs) if len(p) + max(map(len, answers)) <= LONGEST]
        self.held_out, self.pairs = [pairs[i] for i in fit[:16]], [pairs[i] for i in fit[16:]]
        self.texts = [drawn[i] for i in fit[16:]]
        self.rows: list[Row] = [(prompt, answers[:1]) for prompt, answers in self.pairs]


class World:
    """A model, rows, and what is the same for all sides."""

    def __init__(self, name: str, folder: Path, config: LlamaConfig | None, data: Data) -> None:
        self.name, self.folder, self.config, self.data = name, folder, config, data
        self.scorer = self.model(torch.float32, "sdpa").eval().requires_grad_(False)
        c, count = self.scorer.config, sum(p.numel() for p in self.scorer.parameters())
        self.n = count - (0 if c.tie_word_embeddings else c.vocab_size * c.hidden_size)
        self.attention = 12 * c.num_hidden_layers * c.num_attention_heads * c.head_dim
        self.reference = self.held_out_sums()

    def model(self, dtype: torch.dtype, attention: str) -> Any:
        if self.config is None:
            loaded: Any = AutoModelForCausalLM.from_pretrained(self.folder, dtype=dtype, attn_implementation=attention)
        else:
            torch.manual_seed(0)
            with DEVICE:
                loaded = AutoModelForCausalLM.from_config(self.config, dtype=dtype, attn_implementation=attention)
        loaded.config.use_cache = False
        return loaded.to(DEVICE).train()

    def flops(self, computed: Any, context: Any) -> Any:
        return 6.0 * self.n * computed + float(self.attention) * context

    def held_out_sums(self) -> torch.Tensor:
        """Log-probability of both answers to each held-out prompt, padded, under autocast."""
        sums = []
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16):
            for prompt, answers in self.data.held_out:
                width = len(prompt) + max(map(len, answers))
                ids = torch.tensor([(prompt + a + [0] * width)[:width] for a in answers], device=DEVICE)
                logits = self.scorer(input_ids=ids).logits.float().log_softmax(-1)  # causal: what follows is not seen
                logp = logits[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
                sums.append([logp[i, len(prompt) - 1 : len(prompt) - 1 + len(a)].sum() for i, a in enumerate(answers)])
        return torch.tensor([[float(one) for one in row] for row in sums])

    def loss(self, model: Any, kind: str) -> float:
        """On held-out rows, by one computation for all sides."""
        weights = {k.replace("_orig_mod.", ""): v for k, v in model.state_dict().items()}
        self.scorer.load_state_dict(weights, strict=False)
        sums = self.held_out_sums()
        if kind == "dpo":
            gained = sums - self.reference
            return float(-F.logsigmoid(BETA * (gained[:, 0] - gained[:, 1])).mean())
        return float(-sums[:, 0].sum() / sum(len(answers[0]) for _, answers in self.data.held_out))


class Meter:
    """What a side did: all of it until `equal` rows, then what the clock is for."""

    def __init__(self, world: World, kind: str, equal: int, seconds: float) -> None:
        self.world, self.kind, self.equal, self.seconds = world, kind, equal, seconds
        self.loss, self.begun, self.warm = math.nan, time.monotonic(), math.nan
        self.clear()
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
            self.held = torch.cuda.memory_allocated()

    def clear(self) -> None:
        self.steps = self.rows = self.slots = 0
        self.tokens, self.computed, self.context = (torch.zeros((), dtype=torch.float64, device=DEVICE) for _ in "123")

    def add(self, rows: int, slots: int, tokens: Any, computed: Any, context: Any) -> None:
        self.rows, self.slots = self.rows + rows, self.slots + slots
        self.tokens += tokens
        self.computed += computed
        self.context += context

    def add_inputs(self, inputs: dict[str, Any]) -> None:
        """Of a batch of TRL's; nothing waits for the device."""
        mask = inputs.get("attention_mask")
        lengths = (inputs["cu_seq_lens_q"].diff() if mask is None else mask.sum(1)).double().to(DEVICE)
        rows = len(lengths) // (2 if self.kind == "dpo" else 1)
        self.add(rows, inputs["input_ids"].numel(), lengths.sum(), lengths.sum(), (lengths * (lengths + 1) / 2).sum())

    def done(self, model: Any) -> bool:
        """After a step: whether it was the last."""
        self.steps += 1
        if math.isnan(self.warm):
            if self.rows >= self.equal:
                self.loss = self.world.loss(model, self.kind)
                self.clear()
                synchronize()
                self.warm = time.monotonic()
        elif not CUDA or self.steps % 4 == 0:  # between them the host may run ahead
            synchronize()
            self.ended = time.monotonic()
            return self.ended - self.warm > self.seconds
        return False

    def figures(self) -> dict[str, Any]:
        seconds, tokens, computed = self.ended - self.warm, float(self.tokens), float(self.computed)
        share = float(self.world.flops(computed, float(self.context))) / seconds / PEAK
        return {
            "tokens_per_s": round(tokens / seconds),
            "rows_per_s": round(self.rows / seconds, 1),
            "peak_share": round(share, 4),
            "padding": round(1 - computed / self.slots, 4),
            "step_ms": round(1000 * seconds / self.steps, 1),
            "tokens_per_step": round(tokens / self.steps),
            "memory_gib": round((torch.cuda.max_memory_allocated() - self.held) / 2**30, 2) if CUDA else None,
            "loss": round(self.loss, 4),
            "steps": self.steps,
            "warm_up_s": round(self.warm - self.begun, 1),
        }


def texts(rows: int, seed: int) -> list[tuple[str, str, str]]:
    """A prompt and two answers, cut from the documentation: 60 to 900 tokens with the answer, log-normal around 250,
    two fifths of them the prompt's."""
    words = re.findall(r"\S+", "\n".join(file.read_text() for file in sorted(ROOT.glob("docs/*.md"))))
    rng = np.random.default_rng(seed)

    def words_of() -> float:
        return float(np.clip(rng.lognormal(math.log(250), 0.5), 60, 900)) / TOKENS_A_WORD

    def piece(length: float) -> str:
        start = int(rng.integers(len(words) - 1000))
        return " ".join(words[start : start + max(4, int(length))])

    return [
        (piece(0.4 * length), piece(0.6 * length), piece(0.6 * words_of()))
        for length in (words_of() for _ in range(rows))
    ]


def pack(rows: Sequence[Row], size: int, *, shared: bool = False, fill: bool = False) -> list[Batch]:
    """Batches of at most `size` tokens in the order of the rows, the last left out. `shared`: the answers to a prompt
    follow it. `fill`: all batches have the same shapes."""
    batches, group, used = list[Batch](), list[Row](), 0
    for prompt, answers in rows:
        length = sum(map(len, answers)) + len(prompt) * (1 if shared else len(answers))
        if used + length > size:
            batches.append(batch(group, size, shared, fill))
            group, used = [], 0
        group.append((prompt, answers))
        used += length
    return batches


def batch(rows: Sequence[Row], size: int, shared: bool, fill: bool) -> Batch:
    ids, positions, keys, predict, targets, owner = (list[int]() for _ in range(6))
    queries, seen = list[int](), list[int]()
    for prompt, answers in rows:
        first = len(ids)
        for i, answer in enumerate(answers):
            head = [] if shared and i else prompt
            body = len(ids) + len(head)
            ids += head + answer
            positions += range(len(prompt) - len(head), len(prompt) + len(answer))
            if shared:
                keys += [*range(first, first + len(prompt)), *range(body, body + len(answer))]
            before = first + len(prompt) - 1 if shared else body - 1
            predict += [before, *range(body, body + len(answer) - 1)]
            targets += answer
            owner += [len(queries)] * len(answer)
            queries.append(len(head) + len(answer))
            seen.append(len(prompt) + len(answer))
    computed, context, tokens = len(ids), sum(positions) + len(ids), sum(seen)
    if fill:
        while len(ids) < size:  # documents of padding: nothing attends to them, nothing is learnt from them
            extra = min(LONGEST, size - len(ids))
            keys += range(len(ids), len(ids) + extra) if shared else ()
            ids, positions = ids + [0] * extra, [*positions, *range(extra)]
            queries, seen = [*queries, extra], [*seen, extra]
        if (empty := size // 128 - len(queries)) < 0:
            raise ValueError(f"{len(queries)} documents in {size} tokens")
        queries, seen = queries + [0] * empty, seen + [0] * empty
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "cu_seq_lens_q": torch.tensor([0, *itertools.accumulate(queries)], dtype=torch.int32),
        "cu_seq_lens_k": torch.tensor([0, *itertools.accumulate(seen)], dtype=torch.int32),
        "max_length_q": LONGEST,
        "max_length_k": LONGEST,
    }
    if shared:
        inputs["keys"] = torch.tensor(keys)
        torch._dynamo.maybe_mark_dynamic(inputs["keys"], 0)
    labels = (torch.tensor(predict), torch.tensor(targets), torch.tensor(owner))
    return Batch(inputs, *labels, [len(rows)], tokens, computed, context)


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention within documents: torch's variable-length kernel, which needs no further package; on a CPU one document
    after the other."""
    q, k, v = (x[0].transpose(0, 1).to(value.dtype).contiguous() for x in (query, key, value))
    if (keys := kwargs.get("keys")) is not None:
        k, v = k[keys], v[keys]
    ends_q, ends_k = kwargs["cu_seq_lens_q"], kwargs["cu_seq_lens_k"]
    if q.is_cuda:
        longest = (kwargs["max_length_q"], kwargs["max_length_k"])
        return KERNEL(q, k, v, ends_q, ends_k, *longest, scale=scaling, window_size=(-1, 0))[None], None
    return by_document(q, k, v, ends_q, ends_k, scaling)[None], None


def by_document(q: Any, k: Any, v: Any, ends_q: Any, ends_k: Any, scaling: float | None) -> torch.Tensor:
    """The same by plain attention. The last query of a document sees its last key."""
    out = []
    for (a, b), (c, d) in zip(itertools.pairwise(ends_q.tolist()), itertools.pairwise(ends_k.tolist()), strict=True):
        mask = torch.ones(b - a, d - c, dtype=torch.bool, device=q.device).tril(d - c - (b - a))
        one = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        out.append(F.scaled_dot_product_attention(*one, attn_mask=mask, scale=scaling, enable_gqa=True)[0])
    return torch.cat([x.transpose(0, 1) for x in out])


def repeated(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return varlen_attn(q, k, v, *args, **kwargs)


def grouped(*args: Any, **kwargs: Any) -> Any:
    return varlen_attn(*args, **kwargs, enable_gqa=True)


KERNEL: Callable[..., Any] = repeated


def choose_kernel() -> str:
    """How this version of torch computes heads that share keys; each way is compared with plain attention."""
    global KERNEL
    ends_q, ends_k = (torch.tensor(x, dtype=torch.int32, device=DEVICE) for x in ([0, 70, 100, 230], [0, 70, 200, 330]))
    torch.manual_seed(0)
    shapes = ((230, 9, 64), (330, 3, 64), (330, 3, 64))
    q, k, v = (torch.randn(s, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for s in shapes)

    def results(function: Callable[..., Any]) -> list[torch.Tensor]:
        out = function()
        return [out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))]

    right = results(lambda: by_document(q, k, v, ends_q, ends_k, None))
    seen = []
    for way in (grouped, varlen_attn, repeated):
        try:
            found = results(lambda way=way: way(q, k, v, ends_q, ends_k, 128, 130, window_size=(-1, 0)))
            worst = max(float((a - b).float().abs().max()) for a, b in zip(found, right, strict=True))
        except Exception as e:  # a version that has no such argument, or whose kernel cannot
            seen.append(f"{way.__name__}: {reason(e)}")
            continue
        seen.append(f"{way.__name__}: largest difference {worst:.3f}")
        if worst < 0.2:
            KERNEL = way
            break
    return "; ".join(seen)


AttentionInterface.register(NAME, attend)


def token_logps(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each target; the softmax in float32."""
    logits = (hidden @ head.to(hidden.dtype).T).float()
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)


fused_logps: Any = None


class Plan(NamedTuple):
    """A candidate: a loop over packed batches in plain PyTorch, an upper bound of what a trainer can reach."""

    label: str
    kind: str = "sft"
    size: int = 32_768
    weights: str = "master"
    """autocast: float32 weights. bf16: nothing else. master: bf16, and float32 copies that the optimizer moves."""
    layers: str = ""
    """compile: each layer by torch.compile. liger: its kernels."""
    loss: str = "fused"
    """Always at the positions with labels only. plain, fused (torch.compile), liger (fused with the head's product)."""
    shared: bool = False


def run_plan(plan: Plan, world: World, meter: Meter, backend: str, trace: Path | None = None) -> dict[str, Any]:
    global fused_logps
    model = world.model(torch.float32 if plan.weights == "autocast" else torch.bfloat16, NAME)
    if plan.layers == "compile":
        for layer in model.model.layers:
            layer.compile(backend=backend, dynamic=None if plan.shared else False)
    elif plan.layers == "liger":
        from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    fused_logps = fused_logps or torch.compile(token_logps, backend=backend, dynamic=True)
    logps = token_logps if plan.loss == "plain" else fused_logps
    if plan.loss == "liger":
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
    cast = torch.autocast(DEVICE.type, torch.bfloat16) if plan.weights == "autocast" else nullcontext()
    data = world.data.rows if plan.kind == "sft" else world.data.pairs
    batches = pack(data, plan.size, shared=plan.shared, fill=plan.layers == "compile")
    weights = [*model.parameters()]
    masters = [w.detach().float() for w in weights] if plan.weights == "master" else weights
    if masters is not weights:
        for master in masters:
            master.grad = torch.empty_like(master)
    optimizer = torch.optim.AdamW(masters, lr=LR, weight_decay=0.0, fused=CUDA)

    def hidden(one: Batch) -> torch.Tensor:
        states: torch.Tensor = model.model(**one.inputs, use_cache=False).last_hidden_state[0]
        return states.index_select(0, one.predict)

    def sums(one: Batch) -> torch.Tensor:
        found = logps(hidden(one), model.lm_head.weight, one.targets)
        return found.new_zeros(2 * one.rows[0]).index_add(0, one.owner, found).view(-1, 2)

    def loss(one: Batch, reference: torch.Tensor | None) -> torch.Tensor:
        if reference is not None:
            gained = sums(one) - reference
            return -F.logsigmoid(BETA * (gained[:, 0] - gained[:, 1])).mean()
        if plan.loss == "liger":
            return liger(model.lm_head.weight, hidden(one), one.targets)
        return -logps(hidden(one), model.lm_head.weight, one.targets).mean()

    @torch.no_grad()
    def move() -> None:
        if masters is not weights:
            torch._foreach_copy_([m.grad for m in masters], [w.grad for w in weights])
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        if masters is not weights:
            torch._foreach_copy_(weights, masters)
        for weight in weights:
            weight.grad = None

    def step(number: int) -> torch.Tensor:
        at = number % len(batches)
        one = batches[at].to_device()
        with cast:
            value = loss(one, references[at])
        value.backward()
        move()
        meter.add(one.rows[0], one.inputs["input_ids"].numel(), one.tokens, one.computed, one.context)
        return value.detach()

    synchronize()
    begun, references = time.monotonic(), list[Any]([None] * len(batches))
    if plan.kind == "dpo":
        with cast:  # without no_grad, for which the layers would be compiled once more
            references = [sums(one.to_device()).detach() for one in batches]
        synchronize()
    before = time.monotonic() - begun
    losses = []
    for number in itertools.count():
        losses.append(step(number))
        if meter.done(model):
            break
    figures = {"first_loss": round(float(losses[0]), 4), "reference_s": round(before, 1)}
    figures |= meter.figures()
    if trace is not None:
        figures |= profile(step, trace)
    return figures


def profile(step: Callable[[int], Any], out: Path, steps: int = 3) -> dict[str, Any]:
    """The kernels that cost most, and the share of the time in which the device waited for the host."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    synchronize()
    with profiler(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]) as traced:
        begun = time.monotonic()
        for number in range(steps):
            step(number)
        synchronize()
        wall = time.monotonic() - begun
    name = "self_device_time_total" if CUDA else "self_cpu_time_total"
    rows = sorted(
        (
            r
            for r in traced.key_averages()
            if not CUDA or ("CUDA" in str(r.device_type) and not r.key.startswith(("##", "Torch-Compiled")))
        ),
        key=lambda r: -getattr(r, name),
    )
    busy = sum(getattr(r, name) for r in rows) / 1e6
    lines = [f"{getattr(r, name) / steps / 1000:8.2f} ms {r.count // steps:5d} x  {r.key[:100]}" for r in rows[:14]]
    out.write_text(
        "\n".join([f"{steps} steps, {1000 * wall / steps:.1f} ms each, device busy {busy / wall:.0%}", *lines])
    )
    print(out.read_text(), flush=True)
    return {"device_busy": round(busy / wall, 3), "kernels_a_step": sum(r.count for r in rows) // steps}


def run_trainer(trainer: Any, meter: Meter) -> dict[str, Any]:
    """A TRL trainer, stopped by the meter."""

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.begun = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = meter.done(trainer.model)

    def counted(model: Any, inputs: Any, *rest: Any) -> Any:
        meter.add_inputs(inputs)
        return step(model, inputs, *rest)

    step, trainer.training_step = trainer.training_step, counted
    trainer.args.train_sampling_strategy = "sequential"  # the same rows for all sides
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch())
    trainer.train()
    return {}


def common() -> dict[str, Any]:
    """What a benchmark needs, and no choice about speed; one learning rate for all sides."""
    told = {"learning_rate": LR, "lr_scheduler_type": "constant", "max_steps": 10**6, "report_to": "none"}
    return told | {"output_dir": mkdtemp(), "save_strategy": "no", "disable_tqdm": True, "use_cpu": not CUDA}


def trl_sft(world: World, meter: Meter, **chosen: Any) -> dict[str, Any]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"input_ids": p + a, "labels": [-100] * len(p) + a} for p, (a,) in world.data.rows]
    attention = chosen.pop("attention", None)
    model = (
        str(world.folder)
        if attention is None and world.config is None
        else world.model(torch.float32, attention or "sdpa")
    )
    args = SFTConfig(**common(), **chosen)
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=world.data.tokenizer
    )
    return run_trainer(trainer, meter)


def trl_dpo(world: World, meter: Meter) -> dict[str, Any]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    turn = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    rows = [
        {"prompt": turn("user", p), "chosen": turn("assistant", c), "rejected": turn("assistant", r)}
        for p, c, r in world.data.texts
    ]
    model = str(world.folder) if world.config is None else world.model(torch.float32, "sdpa")
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**common(), beta=BETA),
        train_dataset=Dataset.from_list(rows),
        processing_class=world.data.tokenizer,
    )
    return run_trainer(trainer, meter)


def ours(kind: str, world: World, meter: Meter) -> dict[str, Any]:
    """The stage's trainer with the sizes of profile gpu."""
    from stages.trainers.dpo import dpo_trainer
    from stages.trainers.sft import sft_trainer

    params = load_params(ROOT, "stages/config/profiles/gpu.yaml")
    fixed = {"lr": LR, "lr_end": LR, "warmup_steps": 0, "epochs": 100, "dtype": "bfloat16", "max_length": LONGEST}
    told: dict[str, Any] = {"seed": 1, "hardware": params.hardware.model_copy(update={"device": "auto"})}
    out = Path(mkdtemp())
    if kind == "sft":
        rows = pl.DataFrame([row[:2] for row in world.data.texts], schema=["instruction", "response"], orient="row")
        trainer, _ = sft_trainer(world.folder, out, rows, params.train_sft.model_copy(update=fixed), **told)
    else:
        pairs = pl.DataFrame(world.data.texts, schema=["prompt", "chosen", "rejected"], orient="row")
        section = params.train_dpo.model_copy(update=fixed | {"beta": BETA})
        trainer, _ = dpo_trainer(world.folder, out, pairs[:80], section, **told)
    return run_trainer(trainer, meter)


def synchronize() -> None:
    if CUDA:
        torch.cuda.synchronize()


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def sides(small: World, large: World | None, sizes: tuple[int, int, int]) -> list[tuple[str, World, str, Any]]:
    """Label, world, kind, what runs: the most wanted first."""
    low, mid, high = sizes
    padding_free = {"padding_free": True, "max_length": None, "per_device_train_batch_size": max(2, mid // 250)}
    quick = padding_free | {"gradient_checkpointing": False, "optim": "adamw_torch_fused" if CUDA else "adamw_torch"}

    def plan(world: World, **chosen: Any) -> tuple[str, World, str, Any]:
        one = Plan(**chosen)
        return f"loop, {one.label}", world, one.kind, one

    best = {"size": mid, "layers": "compile"}
    found = [
        ("TRL defaults", small, "sft", trl_sft),
        ("ours, profile gpu", small, "sft", lambda w, m: ours("sft", w, m)),
        ("TRL padding_free, no checkpointing", small, "sft", lambda w, m: trl_sft(w, m, attention=NAME, **quick)),
        plan(small, label="eager, plain loss", size=mid, loss="plain"),
        plan(small, label="layers and loss compiled", **best),
        ("TRL defaults", small, "dpo", trl_dpo),
        ("ours, profile gpu", small, "dpo", lambda w, m: ours("dpo", w, m)),
        plan(small, kind="dpo", label="eager, plain loss", size=mid, loss="plain"),
        plan(small, kind="dpo", label="layers and loss compiled", **best),
    ]
    if large is not None:
        found += [plan(large, kind=kind, label="layers and loss compiled", **best) for kind in ("sft", "dpo")]
    return [
        *found,
        plan(small, kind="dpo", label="compiled, prompt shared", **best, shared=True),
        plan(small, label="compiled, the largest batch", size=high, layers="compile"),
        plan(small, label="compiled, float32 weights under autocast", **best, weights="autocast"),
        plan(small, label="compiled, the smallest batch", size=low, layers="compile"),
        plan(small, label="compiled, bf16 weights alone", **best, weights="bf16"),
        *([("TRL defaults", large, "sft", trl_sft)] if large is not None else []),
        # Liger changes the family's functions for all that comes after it
        plan(small, label="Liger's layers, fused loss", size=mid, layers="liger"),
        plan(small, label="Liger's layers and loss", size=mid, layers="liger", loss="liger"),
        (
            "TRL padding_free, Liger",
            small,
            "sft",
            lambda w, m: trl_sft(w, m, attention=NAME, use_liger_kernel=True, **quick),
        ),
    ]


@app.command()
def main(
    model: Path,
    out: Annotated[Path, typer.Option(help="figures, a line of JSON each")] = Path("training.jsonl"),
    rows: Annotated[int, typer.Option()] = 1024,
    equal: Annotated[int, typer.Option(help="rows, or half as many pairs, before the loss is compared")] = 128,
    seconds: Annotated[float, typer.Option(help="of each side's timing")] = 2.0,
    total: Annotated[float, typer.Option(help="seconds after which no side begins")] = 110,
    sizes: Annotated[tuple[int, int, int], typer.Option(help="tokens of a step")] = (16_384, 32_768, 65_536),
    large: Annotated[bool, typer.Option(help="0.6 B too")] = True,
    backend: Annotated[str, typer.Option(help="of torch.compile")] = "inductor",
    only: Annotated[str, typer.Option(help="sides whose label matches")] = "",
) -> None:
    """Each side in turn; one that fails says why, and the next begins."""
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.cache_size_limit = 64

    def write(record: dict[str, Any]) -> None:
        print(json.dumps(record | {"at_s": round(time.monotonic() - STARTED, 1)}), flush=True)
        with out.open("a") as file:
            file.write(json.dumps(record) + "\n")

    device = torch.cuda.get_device_name() if CUDA else "cpu"
    write({"device": device, "torch": torch.__version__, "kernel": choose_kernel() if CUDA else "plain"})
    data = Data(model, rows)
    small = World("model", model, None, data)
    second = None
    if large:
        shape = LlamaConfig(vocab_size=len(data.tokenizer), tie_word_embeddings=True, **LARGE)
        second = World("0.6 B, random", model, shape, data)
    lengths = [len(p) + len(a) for p, (a,) in data.rows]
    spread = {
        "rows": len(lengths),
        "shortest": min(lengths),
        "median": int(np.median(lengths)),
        "longest": max(lengths),
    }
    write(
        spread | {"n": {w.name: w.n for w in (small, second) if w}} | {"ready_s": round(time.monotonic() - STARTED, 1)}
    )
    for label, world, kind, side in sides(small, second, sizes):
        name = {"model": world.name, "kind": kind, "side": label}
        if not re.search(only, f"{kind} {label}"):
            continue
        if time.monotonic() - STARTED > total:
            write(name | {"skipped": "no time left"})
            continue
        try:
            meter = Meter(world, kind, equal // (2 if kind == "dpo" else 1), seconds)
            if isinstance(side, Plan):
                best = kind == "sft" and side.layers == "compile" and not out.with_suffix(".kernels.txt").exists()
                more = run_plan(side, world, meter, backend, out.with_suffix(".kernels.txt") if best else None)
            else:
                more = side(world, meter)
            write(name | (more or meter.figures()))
        except Exception as e:
            write(name | {"failed": reason(e)})
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    app()
