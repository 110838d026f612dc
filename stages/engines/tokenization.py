"""What engines with a model folder share: is it whole, its tokenizer, requests in tokens, tokens in text."""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from os.path import commonprefix
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer

from stages.console.errors import EngineError, ModelError
from stages.engines.logprobs import read_score_logprobs
from stages.engines.request import Completion, Request, ScoreLogprobs
from stages.text.special_tokens import break_special_tokens

ADAPTER = "adapter"
"""Folder in a model folder with a LoRA adapter that goes over the model: adapter_config.json,
adapter_model.safetensors."""
NEEDED = {
    "config.json": ("config.json",),
    "a tokenizer (tokenizer.json)": ("tokenizer.json", "tokenizer.model", "vocab.json"),
    "weights (*.safetensors)": ("*.safetensors",),
}


class ModelTokenizer:
    """The tokenizer of a model folder. Raises ModelError for a folder that lacks a file, or whose tokenizer cannot be
    loaded."""

    def __init__(self, folder: Path) -> None:
        check(folder)
        self.folder = folder
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as e:  # a broken file surfaces as OSError, ValueError, KeyError, a Rust exception, ...
            raise ModelError(f"{folder} cannot be loaded: {e}") from None
        # a tokenizer may put a bos before every text; known once, so that a text that already begins with it gets no
        # second one
        self.adds_bos = self.tokenizer.bos_token_id is not None and self.tokenizer("").input_ids[:1] == [
            self.tokenizer.bos_token_id
        ]
        self.end_ids = _end_ids(folder, self.tokenizer)
        self._choice_tokens: dict[tuple[str, ...], dict[int, str]] = {}

    def render(self, requests: Sequence[Request]) -> list[Request]:
        """The same requests, each with the text that is tokenized for it: after the chat template, and with what spells
        special tokens broken. Raises EngineError for messages that cannot be templated."""
        special = self.tokenizer.all_special_tokens

        def text(r: Request) -> str:
            return break_special_tokens(r.prompt, special) if isinstance(r.prompt, str) else self._template(r, special)

        return [r if r.rendered is not None else r._replace(rendered=text(r)) for r in requests]

    def encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Token ids of each prompt, at least one. A chat template writes its own special tokens; a plain text gets a
        bos if the tokenizer gives one.

        Raises EngineError for messages that cannot be templated.
        """
        texts, bos = [r.rendered for r in self.render(requests)], self.tokenizer.bos_token_id
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        for request, ids in zip(requests, encoded, strict=True):
            if self.adds_bos and isinstance(request.prompt, str) and ids[:1] != [bos]:
                ids.insert(0, bos)
            if not ids:  # a model needs something to continue: an empty prompt is the start of a document
                ids.append(
                    next(i for i in (bos, self.tokenizer.pad_token_id, *sorted(self.end_ids), 0) if i is not None)
                )
        return encoded

    def text(self, ids: list[int]) -> str:
        said: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return said

    def config(self) -> Any:
        """Of the model's text part. Raises ModelError when it cannot be loaded."""
        try:
            return AutoConfig.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False
            ).get_text_config()
        except Exception as e:  # an unknown model_type among others
            raise ModelError(f"{self.folder} cannot be loaded: {e}") from None

    def max_context(self, wanted: int) -> int:
        """`wanted`, or what the model was made for when that is less."""
        limit = getattr(self.config(), "max_position_embeddings", None)
        return min(wanted, limit) if limit else wanted

    def completion(self, request_id: str, n: int, ids: list[int], room: int, stop: Sequence[str]) -> Completion:
        """Token ids as a model wrote them, end token, stop string and padding included."""
        end = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        finished, ids = end < min(room, len(ids)), ids[: min(end, room)]
        text = self.text(ids)
        cut = min((at for s in stop if (at := text.find(s)) >= 0), default=-1)
        if cut >= 0:  # how many tokens it took to write the stop string: what follows is padding
            wrote = bisect.bisect_left(range(len(ids)), True, key=lambda k: any(s in self.text(ids[:k]) for s in stop))
            return Completion(request_id, n, text[:cut], "stop", wrote)
        return Completion(request_id, n, text, "stop" if finished else "length", len(ids))

    def choice_tokens(self, choices: tuple[str, ...]) -> dict[int, str]:
        """Text of every token that can end in one of `choices` after something that is no word: ` 4`, `:4`. Decoded
        behind another token, since some tokenizers drop a leading space."""
        if choices not in self._choice_tokens:
            before = self.tokenizer(":", add_special_tokens=False).input_ids
            texts = self.tokenizer.batch_decode(
                [[*before, i] for i in range(len(self.tokenizer))], clean_up_tokenization_spaces=False
            )
            head = len(self.tokenizer.decode(before, clean_up_tokenization_spaces=False))
            ends = [
                (i, text[head:], choice)
                for i, text in enumerate(texts)
                for choice in choices
                if text[head:].endswith(choice)
            ]
            self._choice_tokens[choices] = {
                i: text for i, text, choice in ends if not any(map(str.isalnum, text.removesuffix(choice)))
            }
        return self._choice_tokens[choices]

    def probs(
        self, probe: ScoreLogprobs, said: Completion, ids: list[int], likely: Callable[[int], Mapping[int, float]]
    ) -> list[float] | None:
        """`Completion.probs`. `likely(step)`: the probability of each token of `choice_tokens` in place of token `step`
        of `ids`."""
        tokens = self.choice_tokens(probe.choices)

        def start_of(step: int) -> int:
            return len(commonprefix((self.text(ids[:step]), said.text)))  # noqa: RUF071  # half a letter is spelt longer

        def by_text(step: int) -> dict[str, float]:
            known: dict[str, float] = defaultdict(float)
            for token, p in likely(step).items():  # several tokens may spell one text: a digit, and its byte
                if token in tokens:
                    known[tokens[token]] += p
            return known

        return read_score_logprobs(probe, said.text, said.tokens or 0, start_of, by_text)

    def _template(self, request: Request, special: list[str]) -> str:
        if not self.tokenizer.chat_template:
            raise EngineError(
                f"the tokenizer in {self.folder} has no chat template, and messages were asked of it. Put a "
                f"chat_template.jinja into the folder, or set "
                "the stage's `chat` to false"
            )
        try:
            messages = [
                {**message, "content": break_special_tokens(message["content"], special)}
                for message in request.prompt
                if isinstance(message, dict)
            ]
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as e:
            raise EngineError(f"the chat template in {self.folder} refuses request {request.id!r}: {e}") from None
        return text


def check(folder: Path) -> None:
    """Raises ModelError for a folder that is not there or lacks what a model needs."""
    if not folder.is_dir():
        raise ModelError(f"no model folder {folder}. Make it with: dvc repro")
    for what, patterns in NEEDED.items():
        if not any(next(folder.glob(p), None) for p in patterns):
            raise ModelError(
                f"{folder} has no {what}. Copy the missing file from where the model comes from, or make the folder "
                f"again with: dvc repro"
            )


def _end_ids(folder: Path, tokenizer: Any) -> set[int]:
    """Every token that the model's or the tokenizer's files call an end: chat models often list the end of a turn
    beside the end of a text."""
    found: set[int] = {tokenizer.eos_token_id} - {None}
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        try:
            said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            ids = said.get("eos_token_id")
        except (ValueError, AttributeError) as e:
            raise ModelError(f"{folder} cannot be loaded: {name}: {e}") from None
        found |= {ids} if isinstance(ids, int) else set(ids or ())
    return found
