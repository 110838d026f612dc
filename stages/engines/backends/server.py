"""A server that speaks OpenAI's API, seen from outside: its address, its model, what its answers say. Answers are
untrusted, and servers differ in what the API leaves open, and may repeat what is secret. The asking is in `openai.py`;
this costs no client."""

from __future__ import annotations

import base64
import html
import json
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from os.path import commonprefix
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote, urlsplit

from stages.console.errors import EngineError, ModelError
from stages.engines.logprobs import read_score_logprobs
from stages.engines.request import Completion, Sampling

HALF_PAIR = re.compile("[\ud800-\udfff]")
SPELLINGS: tuple[Callable[[str], str], ...] = (
    quote,
    partial(quote, safe=""),
    quote_plus,
    lambda text: re.sub("%..", lambda octet: octet[0].lower(), quote(text, safe="")),
    html.escape,
    lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("/", r"\/"),
    lambda text: repr(text)[1:-1],
    lambda text: repr(text.encode())[2:-1],
)
"""How others write a text that is not only ASCII's letters and digits."""
SHORT = 4
"""A secret of fewer letters is hidden only where it stands alone: it is a part of other words."""
LOGGERS = [
    *(f"httpx{v}" for v in ("", "2")),
    *(f"httpcore{v}.{of}" for v in ("", "2") for of in ("connection", "http11", "http2", "proxy", "socks")),
]
"""Of the HTTP client, whose records hold addresses with their query, and headers."""


class BadAnswer(Exception):
    """An answer that cannot be read."""


class Answer(NamedTuple):
    prompt_tokens: int
    generated_tokens: int
    completions: list[Completion]


class Step(NamedTuple):
    """One token of a text: where it begins, and the probabilities of likely tokens in its place, by their text."""

    start: int
    likely: dict[str, float]


class Secrets(logging.Filter):
    """What must not be shown: the key, user and password of the address together (`login`, in base64), its password
    (its user, where it has no password) and the values of its query. As a filter of a logger, it hides them in the
    records."""

    def __init__(self, key: str, address: SplitResult) -> None:
        super().__init__()
        user, password = unquote(address.username or ""), unquote(address.password or "")
        login = f"{user}:{password}".encode() if user or password else b""
        self.login = base64.b64encode(login).decode()
        coded = [self.login, base64.urlsafe_b64encode(login).decode()]
        secrets = {
            key,
            password or user,
            *coded,
            *(code.rstrip("=") for code in coded),
            *(value for _, value in parse_qsl(address.query)),
        } - {""}
        self.pattern = re.compile("|".join(map(_spelt, sorted(secrets, key=len, reverse=True))) or "(?!)")

    def hide(self, text: str) -> str:
        return self.pattern.sub("[secret]", text)

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.hide(record.getMessage()), ()
        return True


def server_address(variable: str) -> SplitResult:
    """What the environment `variable` holds. Raises EngineError when it is not set, or not the address of a server;
    nobody is asked by default."""
    url = os.environ.get(variable, "").strip()
    try:
        address = urlsplit(url)
        usable = (
            address.scheme in ("http", "https")
            and address.hostname
            and address.port != 0
            and re.fullmatch("[!-~]+", url)
        )
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        seen = "is not the address of a server" if url else "is not set, and the engine openai asks the server there"
        raise EngineError(
            f"{variable} {seen}. Type: export {variable}=http://localhost:8000/v1 (or https://api.openai.com/v1)"
        )
    return address


def public_url(address: SplitResult) -> str:
    """The address without password and query."""
    return address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")


def served_model(model_dir: Path, model: str) -> dict[str, str | None]:
    """Whose texts they are, wherever the server is: `model`, its name there, and `revision`, null or the user's id of
    the weights behind it: as server.json in `model_dir` gives them, else `model` and null.

    Raises ModelError for a broken server.json.
    """
    path = model_dir / "server.json"
    if not path.is_file():
        return {"model": model, "revision": None}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        served, revision = content["model"], content.get("revision")
        if not (isinstance(served, str) and served and isinstance(revision, str | None)):
            raise ValueError(f"model is {served!r}, revision {revision!r}")
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as e:
        raise ModelError(
            f"{path} does not name a model ({type(e).__name__}: {e}). "
            'Write into it {"model": "its name at the server", "revision": null}'
        ) from None
    return {"model": served, "revision": revision}


def special_tokens(model_dir: Path) -> list[str] | None:
    """Special tokens of the model that is served, None where its tokenizer.json is not at hand. Raises ModelError for
    one that cannot be read."""
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        return [
            token["content"]
            for token in json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
            if token["special"]
        ]
    except (OSError, ValueError, TypeError, LookupError) as e:
        raise ModelError(
            f"{path} cannot be read ({type(e).__name__}: {e}). Make the folder again with: dvc repro"
        ) from None


def read_answer(raw: bytes, request_id: str, sampling: Sampling) -> Answer:
    """The completions of one call, by their index: at least one, at most `sampling.n`.

    A text that did not end by itself, or was filtered, is not whole: `length`. The server counts the tokens of a call
    together. They are shared out by the log-probabilities of each text, one for each token, where they were asked for,
    or else by length. Raises BadAnswer.
    """
    try:
        answer = json.loads(raw)
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        if not 0 < len(choices) <= sampling.n:
            raise ValueError(f"{len(choices)} choices, wanted {sampling.n}")
        prompt_tokens, generated_tokens = (
            _count(answer["usage"]["prompt_tokens"]),
            _count(answer["usage"]["completion_tokens"]),
        )
        texts = [(choice["message"]["content"] if "message" in choice else choice["text"]) or "" for choice in choices]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text that is none")
        steps = [
            _steps(choice.get("logprobs") or {}, text) if sampling.score_logprobs else []
            for choice, text in zip(choices, texts, strict=True)
        ]
        if sampling.score_logprobs and any(texts) and not any(choice.get("logprobs") for choice in choices):
            raise EngineError(
                f"the server tells no probabilities of {request_id!r}. Use judge_candidates.score: sampled, or another "
                f"server"
            )
        tokens = share_out(generated_tokens, [len(s) or len(text) + 1 for s, text in zip(steps, texts, strict=True)])
        said = []
        for n, choice, text, tokens_of_text, steps_of_text in zip(
            sampling.numbers, choices, texts, tokens, steps, strict=False
        ):
            text = HALF_PAIR.sub("\ufffd", text)  # JSON can spell what no table can hold
            cut = min((at for stop in sampling.stop if (at := text.find(stop)) >= 0), default=-1)
            if cut >= 0:  # some servers leave the stop string in
                text = text[:cut]
            whole = cut >= 0 or choice["finish_reason"] == "stop"
            said.append(
                Completion(
                    request_id,
                    n,
                    text,
                    "stop" if whole else "length",
                    tokens_of_text,
                    _probs(sampling, text, steps_of_text),
                )
            )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        raise BadAnswer(f"{type(e).__name__}: {e}; it begins: {raw.decode(errors='replace')}") from None
    return Answer(prompt_tokens, generated_tokens, said)


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts that go with the weights and add up to it."""
    ends = [total * end // sum(weights) for end in accumulate(weights)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _steps(logprobs: dict[str, Any], text: str) -> list[Step]:
    """The tokens of `text`. In /chat/completions they are entries of one list, in /completions lists side by side;
    llama.cpp has entries in both.

    There may be more tokens than the text has (a reasoning part, white space that was stripped); none are known where
    the text is not in them, or not where they say: vLLM tells "" for a byte that is no letter, and counts its places
    without the U+FFFD that its text has there.
    """
    if entries := logprobs.get("content"):
        tokens = [_bytes(entry) for entry in entries]
        joined = b"".join(tokens).decode(errors="replace")
        # a token may hold a part of a letter, which is spelt longer
        starts = [
            len(commonprefix((b"".join(tokens[:i]).decode(errors="replace"), joined)))  # noqa: RUF071
            for i in range(len(tokens))
        ]
        likely = [
            {_bytes(t).decode(errors="replace"): t["logprob"] for t in (*(entry.get("top_logprobs") or ()), entry)}
            for entry in entries
        ]
    elif logprobs.get("top_logprobs"):
        starts = [
            offset - logprobs["text_offset"][0] for offset in logprobs["text_offset"]
        ]  # some count from the beginning of the prompt
        joined = text  # here nothing is left out, and half a letter in a token cannot be joined
        if not all(_stands(token, text[start:]) for token, start in zip(logprobs["tokens"], starts, strict=True)):
            return []
        own = zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
        likely = [{**(top or {}), token: logprob} for token, logprob, top in own]
    else:
        return []
    ahead = joined.rfind(text)
    if ahead < 0:
        return []
    return [
        Step(max(0, start - ahead), {t: _probability(p) for t, p in among.items()})
        for start, among in zip(starts, likely, strict=True)
    ]


def _stands(token: str, text: str) -> bool:
    """Whether a text goes on with a token, or ends in it. Of a part of a letter, which servers spell as they like,
    nothing can be said."""
    return "\ufffd" in token or token.startswith("bytes:") or token.startswith(text[: len(token)])


def _probs(sampling: Sampling, text: str, steps: Sequence[Step]) -> list[float] | None:
    if not sampling.score_logprobs or not steps:
        return None
    return read_score_logprobs(
        sampling.score_logprobs, text, len(steps), lambda i: steps[i].start, lambda i: steps[i].likely
    )


def _bytes(token: dict[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") is not None else token["token"].encode(errors="replace")


def _probability(logprob: float) -> float:
    if not logprob <= 0.01:  # neither is NaN; rounding may leave a little
        raise ValueError(f"{logprob!r} is no logarithm of a probability")
    return min(1.0, math.exp(logprob))


def _count(tokens: Any) -> int:
    if not (isinstance(tokens, int) and 0 <= tokens < 2**31):
        raise ValueError(f"{tokens!r} is no number of tokens")
    return tokens


def _spelt(secret: str) -> str:
    """A pattern of a secret as it stands, or as URLs, JSON, Python and HTML spell it, one in another too (JSON in
    JSON)."""
    once = {secret, *(way(secret) for way in SPELLINGS)}
    twice = once | {way(text) for text in once for way in SPELLINGS}
    pattern = "|".join(map(re.escape, sorted(twice, key=len, reverse=True)))
    return rf"(?<!\w)(?:{pattern})(?!\w)" if len(secret) < SHORT else pattern
