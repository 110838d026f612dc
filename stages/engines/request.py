"""What an engine is asked for and what it answers, and the seeds of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypedDict


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class Request(NamedTuple):
    """One text to continue. `id` must be unique within a call: completions join on it."""

    id: str
    prompt: str | list[Message]
    """A string is continued as it stands; messages are put through the model's chat template, with a generation
    prompt."""
    rendered: str | None = None
    """The text that is tokenized for `prompt`, where it is settled: it is in the completion cache's keys, and a
    template that writes the date writes it once."""


class ScoreLogprobs(NamedTuple):
    """Asks for the model's own probabilities (at temperature 1, nothing cut off) of each of `choices`, given the text
    before, in the place where group `group` of the last match of the regular expression `pattern` begins."""

    pattern: str
    group: int
    choices: tuple[str, ...]


class Sampling(NamedTuple):
    """How to decode: completions number `first` to `first + n - 1` of a request. `temperature` 0 is greedy; `stop`
    strings end a completion and are not part of its text."""

    n: int
    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    first: int = 0
    score_logprobs: ScoreLogprobs | None = None

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.n)


class Completion(NamedTuple):
    id: str
    n: int
    text: str
    finish_reason: Literal["stop", "length"]
    """`stop`: the model ended it (end token or stop string). `length`: cut off, by `max_tokens` or because the context
    was full; a prompt that leaves no room at all gives an empty text with `length`."""
    tokens: int | None
    """Null where a server does not tell."""
    probs: list[float] | None = None
    """What `Sampling.score_logprobs` asked for; they need not add up to 1. Null: not asked for, the pattern is not in
    the text, or the engine has none."""

    @property
    def no_room(self) -> bool:
        """Whether the prompt filled the context, or was refused."""
        return self.finish_reason == "length" and self.tokens == 0


def completion_seed(seed: int, request_id: str, n: int) -> int:
    """63-bit seed of completion `n` of a request: stable across runs, machines and batches."""
    return int.from_bytes(hashlib.sha256(f"{seed}\x1f{request_id}\x1f{n}".encode()).digest()[:8], "big") >> 1


def request_seed(seed: int, request_id: str) -> int:
    """31-bit seed for engines that take one seed for a request's n completions; number i of them then has this seed
    plus i."""
    return completion_seed(seed, request_id, 0) % 2**31


def before_stop(text: str, stop: Iterable[str]) -> str | None:
    """`text` up to the first stop string; None without one."""
    cuts = [at for s in stop if (at := text.find(s)) >= 0]
    return text[: min(cuts)] if cuts else None
