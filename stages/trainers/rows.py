"""Training rows in tokens: what fits is trained, what does not is counted, never cut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import polars as pl

from stages.config.sections import TrainDpo, TrainSft
from stages.config.shared import Adapter
from stages.console.errors import ModelError, TrainingError
from stages.text.chat import Chat
from stages.trainers.adapters import attach, merges, quantization
from stages.trainers.loading import load

NOTHING: Mapping[str, Any] = MappingProxyType({})
BEGINNING = 40
"""Characters of a prompt by which a person knows it again."""


class Prepared(NamedTuple):
    """A model, its tokenizer, and the rows that fit in tokens: prompt_ids, and X_ids for each column X of answers."""

    model: Any
    tokenizer: Any
    rows: dict[str, list[list[int]]]
    too_long: int
    same_tokens: int
    max_length: int
    folder: Path
    adapter: Adapter | None
    source: pl.DataFrame
    """Of the rows that fit: `id`, where they have one, and the prompt."""
    replayed: Mapping[str, Prepared] = NOTHING
    """What is replayed beside them, by name."""

    def name(self, index: int) -> str:
        """A row, for people: its id, or which it is, and how it begins."""
        *known, prompt = self.source.row(index)
        which = next(filter(None, known), f"row {index + 1} of {len(self.source)}")
        return f"{which} ({prompt[:BEGINNING]!r})"


def prepare(folder: Path, rows: pl.DataFrame, params: TrainSft | TrainDpo, key: str, seed: int) -> Prepared:
    """`rows`: the prompt, one or two answers to it, `id` where rows have one, and `max_length` where they have limits
    of their own (null: none). What is longer than its limit or the parameter `max_length` with any of its answers is
    left out: TRL would cut it without a word. So are pairs whose answers are the same tokens. Raises ModelError,
    TrainingError when no row is left."""
    from stages.trainers.masters import add_masters, by_masters

    adapter, masters = params.adapter, by_masters(params.dtype) and not params.adapter
    dtype = params.dtype.removesuffix("_weights") if adapter else "float32"
    read = "float32" if merges(folder, adapter) else dtype
    model, tokenizer = load(folder, params.dropout, read, **quantization(adapter))
    model = attach(model, folder, adapter, seed, dtype)
    if masters:
        add_masters(model, None if merges(folder, adapter) else folder)
    return in_tokens(model, tokenizer, folder, rows, params, key)


def in_tokens(
    model: Any, tokenizer: Any, folder: Path, rows: pl.DataFrame, params: TrainSft | TrainDpo, key: str
) -> Prepared:
    """`prepare` with a model that is in memory."""
    prompt, *answers = (column for column in rows.columns if column not in ("id", "max_length"))
    chat, texts = Chat(tokenizer), rows[prompt].to_list()
    try:
        encoded = {answer: chat.encode(texts, rows[answer].to_list()) for answer in answers}
    except Exception as e:  # a template is a program: any error
        raise ModelError(f"the chat template in {folder} fails on the training data: {type(e).__name__}: {e}") from None
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limit = min(params.max_length, context) if context else params.max_length
    ids: dict[str, list[list[int]]] = {"prompt_ids": [head for head, _ in encoded[answers[0]]]}
    ids |= {f"{answer}_ids": [tail for _, tail in encoded[answer]] for answer in answers}
    tails = [*zip(*(ids[f"{answer}_ids"] for answer in answers), strict=True)]
    same = {i for i, tail in enumerate(tails) if len(tail) > 1 and tail[0] == tail[1]}
    lengths = [len(head) + max(map(len, tail)) for head, tail in zip(ids["prompt_ids"], tails, strict=True)]
    own = rows["max_length"].fill_null(limit) if "max_length" in rows.columns else [limit] * len(rows)
    limits = zip(lengths, own, strict=True)
    fits = [i for i, (length, own) in enumerate(limits) if i not in same and length <= min(own, limit)]
    if not fits:
        raise TrainingError(
            f"none of {len(rows)} rows fits into max_length {limit} tokens. Raise {key}.max_length, or look at the rows"
            + (f"; {len(same)} are the same tokens as chosen and rejected" if same else "")
        )
    source = rows[fits].select(pl.col("^id$"), prompt)
    used = {column: [values[i] for i in fits] for column, values in ids.items()}
    left_out = len(rows) - len(fits) - len(same), len(same)
    return Prepared(model, tokenizer, used, *left_out, limit, folder, params.adapter, source)
