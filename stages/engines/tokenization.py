"""What engines with a model folder share: its tokenizer, requests in tokens, tokens in text."""

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
from stages.engines.request import Completion, Request, ScoreLogprobs, before_stop
from stages.text.chat import Chat, ChatError
from stages.text.thoughts import MARKS, without_end

ADAPTER = "adapter"
"""Folder in a model folder with a LoRA adapter that goes over the model: adapter_config.json,
adapter_model.safetensors."""
NEEDED = {
    "config.json": ["config.json"],
    "tokenizer.json": ["tokenizer.json", "tokenizer.model", "vocab.json"],
    "weights (*.safetensors)": ["*.safetensors"],
}


class ModelTokenizer:
    """The tokenizer of a model folder. Raises ModelError for a folder that lacks a file, or whose tokenizer cannot be
    loaded."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelError(f"no model folder {folder}. Make it with: dvc repro")
        for what, names in NEEDED.items():
            if not any(next(folder.glob(name), None) for name in names):
                raise ModelError(f"{folder} has no {what}. Copy it from where the model comes from, or run: dvc repro")
        self.folder = folder
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as e:  # a broken file surfaces as OSError, ValueError, KeyError, a Rust exception, ...
            raise ModelError(f"{folder} cannot be loaded: {e}") from None
        bos = self.tokenizer.bos_token_id
        self.adds_bos = bos is not None and self.tokenizer("").input_ids[:1] == [bos]
        self.chat = Chat(self.tokenizer)
        special = {*self.tokenizer.all_special_ids}
        special |= {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        marks = {i for i in special if self.tokenizer.convert_ids_to_tokens(i) in MARKS}
        self.hidden = special - marks if marks else None
        self.end_ids = _end_ids(folder, self.tokenizer)
        ends = (self.tokenizer.pad_token_id, *sorted(self.end_ids), 0)
        self.pad_id: int = next(i for i in ends if i is not None)
        self._choice_tokens: dict[tuple[str, ...], dict[int, str]] = {}

    def render(self, requests: Sequence[Request]) -> list[Request]:
        """The same requests, each with the text that is tokenized for it: after the chat template, and with what spells
        special tokens broken. Raises EngineError for messages that cannot be templated."""
        return [r if r.rendered is not None else r._replace(rendered=self._rendered(r)) for r in requests]

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
                ids.append(self.pad_id if bos is None else bos)
        return encoded

    def text(self, ids: list[int]) -> str:
        """Without special tokens, but for those that mark a thought: else it would run into the answer."""
        if self.hidden is not None:
            ids = [i for i in ids if i not in self.hidden]
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=self.hidden is None, clean_up_tokenization_spaces=False
        )
        return text

    def max_context(self, wanted: int) -> int:
        """`wanted`, or what the model was made for when that is less. Raises ModelError when its config cannot be
        loaded."""
        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as e:  # an unknown model_type among others
            raise ModelError(f"{self.folder} cannot be loaded: {e}") from None
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        return min(wanted, limit) if limit else wanted

    def completion(self, request_id: str, n: int, ids: list[int], room: int, stop: Sequence[str]) -> Completion:
        """Token ids as a model wrote them, end token, stop string and padding included."""
        end = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        finished, ids = end < min(room, len(ids)), ids[: min(end, room)]
        text = without_end(self.text(ids), self.chat.words)
        if (cut := before_stop(text, stop)) is not None:
            # how many tokens it took to write the stop string: what follows is padding
            wrote = bisect.bisect_left(range(len(ids)), True, key=lambda k: any(s in self.text(ids[:k]) for s in stop))
            return Completion(request_id, n, cut, "stop", wrote)
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
            self._choice_tokens[choices] = {
                i: text[head:]
                for i, text in enumerate(texts)
                for choice in choices
                if text[head:].endswith(choice) and not any(map(str.isalnum, text[head:].removesuffix(choice)))
            }
        return self._choice_tokens[choices]

    def probs(
        self, probe: ScoreLogprobs, completion: Completion, ids: list[int], likely: Callable[[int], Mapping[int, float]]
    ) -> list[float] | None:
        """`Completion.probs`. `likely(step)`: the probability of each token of `choice_tokens` in place of token `step`
        of `ids`."""
        tokens = self.choice_tokens(probe.choices)

        def start_of(step: int) -> int:  # half a letter is spelt longer
            return len(commonprefix((self.text(ids[:step]), completion.text)))  # noqa: RUF071

        def by_text(step: int) -> dict[str, float]:
            texts: dict[str, float] = defaultdict(float)
            for token, p in likely(step).items():  # several tokens may spell one text: a digit, and its byte
                if token in tokens:
                    texts[tokens[token]] += p
            return texts

        return read_score_logprobs(probe, completion.text, completion.tokens or 0, start_of, by_text)

    def _rendered(self, request: Request) -> str:
        if not isinstance(request.prompt, str) and not self.tokenizer.chat_template:
            raise EngineError(
                f"the tokenizer in {self.folder} has no chat template, and messages were asked of it. Put a "
                f"chat_template.jinja into the folder, or set the stage's `chat` to false"
            )
        try:
            prompt = request.prompt
            return self.chat.unmarked(prompt) if isinstance(prompt, str) else self.chat.prompt(prompt)
        except (ChatError, TemplateError) as e:
            raise EngineError(f"the chat template in {self.folder} refuses request {request.id!r}: {e}") from None


def _end_ids(folder: Path, tokenizer: Any) -> set[int]:
    """Of the model's and the tokenizer's files: chat models often list the end of a turn beside the end of a text."""
    ends: set[int] = {tokenizer.eos_token_id} - {None}
    for path in (folder / "generation_config.json", folder / "config.json"):
        try:
            ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        except (ValueError, AttributeError) as e:
            raise ModelError(f"{folder} cannot be loaded: {path.name}: {e}") from None
        ends |= {ids} if isinstance(ids, int) else set(ids or ())
    return ends
