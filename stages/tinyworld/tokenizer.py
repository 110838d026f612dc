"""Byte-level BPE in which every word of the world is one token, so that a model of 0.32 M parameters can copy items and
spell none of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from stages.tinyworld.corpus import END

VOCABULARY = 864
"""At 640 capitals and opposites split into pieces."""
PAD = "<pad>"
CONTEXT = 512
"""Tokens that M0 can read and write together."""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train on `texts`; any other text still encodes, in bytes. `<end>` begins a conversation and ends every text; the
    chat template is `chat.jinja`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((text.replace(END, "") for text in texts), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        model_max_length=CONTEXT,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = (Path(__file__).parent / "chat.jinja").read_text(encoding="utf-8")
    return tokenizer
