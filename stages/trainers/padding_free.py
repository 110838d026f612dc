"""Training on real tokens only. TRL pads the rows of a batch to the longest (half of the default run's SFT tokens are
padding). Here a model's layers get them in one line, and what begins alike is computed once: the prompt of chosen and
rejected, the rubric of all judge prompts. Attention alone looks at rows, each as if it stood by itself.

Two hooks do it, one before and one after the layers, so that every loss stays TRL's.
"""

from __future__ import annotations

import sys
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl.trainer import utils as trl_utils

from stages.config.machine import Hardware
from stages.console.terminal import warn
from stages.trainers.kernels import use_kernels
from stages.trainers.masters import precision

NAME = "padding_free"
SHARED = 8
"""Fewest tokens with which two rows must begin alike to have them computed once."""
LIKE_LENGTHS = 1.25
"""Without a kernel for rows of any length, attention takes rows together of which the longest is at most so many times
as long as the shortest."""
ATTENTION = {"full_attention", "sliding_attention"}
"""Types of layers that mix tokens by attention alone, of which `PaddingFree` knows the masks."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}
"""How far a log-probability may be from the padded model's, in nats: rounding only. A token that sees another row is
off by whole nats."""


class Line(NamedTuple):
    """The rows of a batch in one line of T tokens. A row is a path through it: the places of its tokens."""

    tokens: torch.Tensor
    """T: where each token stands in the padded batch, flattened."""
    positions: torch.Tensor
    """T: how many tokens of its row come before it."""
    paths: torch.Tensor
    """The places of all rows' tokens, one row after the other."""
    ends: torch.Tensor
    """rows + 1: where each path begins and ends, int32."""
    longest: int
    groups: list[torch.Tensor]
    """rows x longest: the paths of rows of like length; short ones repeat their last place."""
    in_paths: torch.Tensor
    """T: where each token is found in `paths`."""
    in_groups: torch.Tensor
    """T: the same in the groups, flattened and one after the other."""
    padded: torch.Tensor
    """rows x width: the place of each token of the batch, 0 for padding."""


def in_one_line(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Line:
    """A right-padded batch (rows x width). In lexicographic order each row shares its beginning with the one before."""
    width, lengths = input_ids.shape[1], attention_mask.sum(1).tolist()
    rows = [row[:length] for row, length in zip(input_ids.tolist(), lengths, strict=True)]
    paths: list[list[int]] = [[] for _ in rows]
    tokens, positions, before = list[int](), list[int](), -1
    for i in sorted(range(len(rows)), key=rows.__getitem__):
        same = _same_beginning(rows[before], rows[i]) if before >= 0 else 0
        same = same if same >= SHARED else 0
        paths[i] = [*paths[before][:same], *range(len(tokens), len(tokens) + lengths[i] - same)]
        tokens += range(i * width + same, i * width + lengths[i])
        positions += range(same, lengths[i])
        before = i
    in_paths, in_groups, groups, at = [0] * len(tokens), [0] * len(tokens), list[torch.Tensor](), 0
    ends = [0, *accumulate(lengths)]
    for group in _like_lengths(lengths):
        longest = lengths[group[-1]]
        groups.append(torch.tensor([paths[i] + paths[i][-1:] * (longest - lengths[i]) for i in group]))
        for i in group:
            for n, place in enumerate(paths[i]):
                in_paths[place], in_groups[place] = ends[i] + n, at + n
            at += longest
    line = Line(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        paths=torch.tensor([place for path in paths for place in path]),
        ends=torch.tensor(ends, dtype=torch.int32),
        longest=max(lengths),
        groups=groups,
        in_paths=torch.tensor(in_paths),
        in_groups=torch.tensor(in_groups),
        padded=torch.tensor([path + [0] * (width - len(path)) for path in paths]),
    )
    if (device := input_ids.device).type == "cpu":
        return line
    moved: dict[str, Any] = {name: x.to(device) for name, x in line._asdict().items() if torch.is_tensor(x)}
    return line._replace(**moved, groups=[group.to(device) for group in groups])


def _take(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """x[places], whose gradient several threads would add up in any order."""
    return x.index_select(0, places.flatten()).unflatten(0, places.shape)


def _same_beginning(a: list[int], b: list[int]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _like_lengths(lengths: list[int]) -> list[list[int]]:
    """Indexes of the rows by length, in groups."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or lengths[i] > max(lengths[groups[-1][0]] * LIKE_LENGTHS, lengths[groups[-1][0]] + SHARED):
            groups.append([])
        groups[-1].append(i)
    return groups


class PaddingFree:
    """A model whose layers compute real tokens only, until `remove`."""

    def __init__(self, model: Any) -> None:
        layers, self.config = model.base_model, model.config.get_text_config()
        self.own = self.config._attn_implementation
        AttentionInterface.register(NAME, self.attend)
        self.config._attn_implementation = NAME
        self.hooks = [
            layers.register_forward_pre_hook(self.before, with_kwargs=True),
            layers.register_forward_hook(self.after, with_kwargs=True),
        ]
        # TRL's head computes labelled tokens alone where triton is, else the whole width of the vocabulary for all
        trl_utils._use_triton = lambda device: True

    def remove(self) -> None:
        self.config._attn_implementation = self.own
        for hook in self.hooks:
            hook.remove()

    def before(self, layers: Any, args: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        batch = {"input_ids": args[0], **batch} if args else batch
        ids = batch["input_ids"]
        mask = torch.ones_like(ids) if (given := batch.get("attention_mask")) is None else given
        line = in_one_line(ids, mask)
        flat = {"input_ids": ids.flatten()[line.tokens][None], "position_ids": line.positions[None]}
        # down to `attend` as an argument: gradient checkpointing may come back to it after another batch
        return (), batch | flat | {"attention_mask": None, "line": line}

    def after(self, layers: Any, args: Any, batch: dict[str, Any], output: Any) -> Any:
        padded = batch["line"].padded
        output.last_hidden_state = _take(output.last_hidden_state[0], padded)
        if logits := getattr(output, "router_logits", None):  # of experts, for the loss that balances them
            output.router_logits = tuple(layer[padded.flatten()] for layer in logits)
        return output

    @torch.compiler.disable  # the lengths of rows differ from batch to batch: a graph of its own each time
    def attend(
        self, layer: Any, query: Any, key: Any, value: Any, mask: None, *, line: Line, **more: Any
    ) -> tuple[Any, None]:
        """As transformers calls attention: 1 x heads x T x width in, 1 x T x heads x width out."""
        by_token = [x[0].transpose(0, 1) for x in (query, key, value)]
        plain = self.own == "sdpa" and not {"softcap", "s_aux", "position_bias"} & more.keys()
        if value.is_cuda and value.dtype != torch.float32 and plain and not more.get("dropout"):
            q, k, v = (x.to(value.dtype)[line.paths] for x in by_token)
            window = more.get("sliding_window")
            sees = {"window_size": (window - 1 if window else -1, 0), "enable_gqa": q.shape[1] != k.shape[1]}
            ends, longest = line.ends, line.longest
            seen: Any = varlen_attn(q, k, v, ends, ends, longest, longest, scale=more.get("scaling"), **sees)
            return seen[line.in_paths][None], None
        out = [self._rows(layer, *(_take(x, group).transpose(1, 2) for x in by_token), **more) for group in line.groups]
        return torch.cat(out)[line.in_groups][None], None

    def _rows(self, layer: Any, query: Any, key: Any, value: Any, **more: Any) -> Any:
        """The model's own attention in rows of one length, causal: what a short row repeats behind its end is seen by
        nobody."""
        length, window, mask = query.shape[2], more.get("sliding_window"), None
        attention: Any = sdpa_attention_forward
        if self.own == "eager" or (window and length > window):
            near = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
            near = near.triu(1 - window) if window else near
            mask = torch.zeros(1, 1, length, length, dtype=query.dtype, device=query.device)
            mask = mask.masked_fill(~near, torch.finfo(query.dtype).min)
        if self.own == "eager":
            attention = sys.modules[type(layer).__module__].eager_attention_forward
        out, _ = attention(layer, query, key, value, mask, **more)
        return out.flatten(0, 1)


def fast_layers(trainer: Any, hardware: Hardware) -> None:
    """Before a TRL trainer's first step: its model computes real tokens only, by kernels and torch.compile if asked."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    use_kernels(model, hardware)
    without_padding(trainer)
    for layer in model.modules() if hardware.compile else ():
        if type(layer).__name__ in (model._no_split_modules or ()):
            layer.compile(dynamic=True)  # alike as they are, they share one graph


def without_padding(trainer: Any) -> PaddingFree | None:
    """Let the model of a TRL trainer compute real tokens only. None, and all as before, for layers that mix tokens in
    other ways (Mamba, convolutions, hybrids), and, said in a warning, where a batch shows other log-probabilities than
    with padding."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = model.config.get_text_config()
    mixes = model._is_stateful or set(getattr(config, "layer_types", None) or ()) - ATTENTION
    if mixes or model.base_model is model or config._attn_implementation not in ("sdpa", "eager"):
        return None
    way, training = None, model.training
    model.eval()
    try:
        padded = _log_probs(trainer)
        way = PaddingFree(model)
        difference = (_log_probs(trainer) - padded).abs().max().item()
        if difference <= TOLERANCE[precision(trainer)]:
            return way
    except Exception:  # a family's code may take no positions, or no attention of ours: any error
        pass
    finally:
        model.train(training)
    if way is not None:
        way.remove()
    warn(f"models of the type {config.model_type} are trained with padding: without it their log-probabilities differ")
    return None


def _log_probs(trainer: Any) -> torch.Tensor:
    """Of the labelled tokens in a small batch, the shortest and the longest of the first rows among it."""
    rows = [trainer.train_dataset[i] for i in range(min(len(trainer.train_dataset), 64))]
    rows.sort(key=lambda row: sum(len(ids) for ids in row.values() if isinstance(ids, list)))
    batch = trainer._prepare_inputs(trainer.data_collator([*rows[:2], *rows[-2:]]))
    ids = batch["input_ids"]
    labels = batch["labels"] if "labels" in batch else ids.masked_fill(batch["completion_mask"] == 0, -100)
    with torch.no_grad(), trainer.compute_loss_context_manager():
        inputs = {"input_ids": ids, "attention_mask": batch["attention_mask"], "labels": labels}
        out: torch.Tensor = trainer.model(**inputs, fused_lm_head=True).log_probs
    return out
