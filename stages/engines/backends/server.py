"""A server that speaks OpenAI's API: its address, its model, what its untrusted answers say. Asked in `openai.py`; this
costs no client."""

from __future__ import annotations

import base64
import importlib
import json
import math
import os
import re
from os.path import commonprefix
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from stages.console.errors import EngineError, ModelError
from stages.engines.logprobs import read_score_logprobs
from stages.engines.request import Completion, Sampling, before_stop

WORD = 8
"""A secret of fewer letters is a word, too: it is hidden in what people read, where it stands alone, not in texts."""
RUN = 12
"""Letters of a secret in a row that are hidden: an answer may end, or go wrong, within it."""


class BadAnswer(Exception):
    """An answer that cannot be read."""


class Answer(NamedTuple):
    prompt_tokens: int | None
    completion: Completion


class Secrets:
    """What must not be shown or stored: the key, the address's user and password together (`login`, in base64), its
    password (or user, alone) and the values of its query; as they are, in base64, and as addresses and JSON spell
    them."""

    def __init__(self, key: str, address: SplitResult) -> None:
        user, password = unquote(address.username or ""), unquote(address.password or "")
        self.login = _base64(f"{user}:{password}") if user or password else ""
        secrets = {key, self.login, password or user, *(value for _, value in parse_qsl(address.query))} - {""}
        words = sorted((word for s in secrets for word in _spellings(s)), key=len, reverse=True)
        self.words = rf"(?<!\w)(?:{'|'.join(map(re.escape, words)) or '(?!)'})(?!\w)"
        long = [_letters(word)[0] for s in secrets if len(_letters(s)[0]) >= WORD for word in _spellings(s)]
        self.runs = {word[i : i + RUN] for word in long for i in range(max(1, len(word) - RUN + 1))}

    def hide(self, text: str) -> str:
        """For what people read."""
        return re.sub(self.words, "[secret]", self.hide_in_text(text))

    def hide_in_text(self, text: str, end: int | None = None) -> str:
        """For completions, `text` up to `end`: what a server was sent must not be published as its answer."""
        letters, at = _letters(text)
        shown, done = "", 0
        for start, stop in sorted(
            (at[i], at[i + size - 1] + 1)
            for size in {len(run) for run in self.runs}
            for i in range(len(letters) - size + 1)
            if letters[i : i + size] in self.runs
        ):
            if done <= start and (end is None or start < end):
                shown += f"{text[done:start]}[secret]"
            done = max(done, stop)
        return shown + text[done:end]


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
    """`model`, its name at the server, and `revision`, the user's id of the weights behind it, as server.json in
    `model_dir` gives them, else `model` and null. Raises ModelError for a broken server.json."""
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


def markup(model_dir: Path) -> tuple[list[str] | None, str]:
    """Of the model that is served: what no text may spell (`Chat.control`), its special tokens and what its chat
    template writes around a message; and what it writes behind an answer (`Chat.words`); as far as they are at hand.
    None and `''` where its tokenizer.json is not. Raises ModelError for a broken one."""
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        return None, ""
    try:
        added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
        flagged = [token["content"] for token in added if token["special"]]
        if not (model_dir / "tokenizer_config.json").is_file():
            return flagged, ""
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        chat = importlib.import_module("stages.text.chat").Chat(tokenizer)  # by name: stages do not watch it for this
        return [*dict.fromkeys(token.strip() for token in (*flagged, *chat.control))], chat.words
    except Exception as e:  # a broken file surfaces as OSError, ValueError, LookupError, a Rust exception, ...
        raise ModelError(
            f"{path} cannot be read ({type(e).__name__}: {e}). Make the folder again with: dvc repro"
        ) from None


def read_answer(raw: bytes, request_id: str, n: int, sampling: Sampling, secrets: Secrets) -> Answer:
    """The completion number `n` of a request, without `secrets`; a text that did not end by itself, or was filtered, is
    `length`. Raises BadAnswer, and EngineError where probabilities were asked for and none are told."""
    try:
        answer = json.loads(raw)
        choice, usage = answer["choices"][0], answer.get("usage")
        text = (choice["message"]["content"] if "message" in choice else choice["text"]) or ""
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)  # JSON can spell what no table can hold
        tokens, prompt_tokens = _count(usage, "completion_tokens"), _count(usage, "prompt_tokens")
        probs = None
        if sampling.score_logprobs and text:
            entries = (choice.get("logprobs") or {}).get("content")
            if not entries:
                raise EngineError(
                    f"the server tells no probabilities of {request_id!r}. Use judge_candidates.score: sampled, or "
                    f"another server"
                )
            probs = _probs(sampling, text, entries)
        cut = before_stop(text, sampling.stop)  # some servers leave the stop string in
        whole = cut is not None or choice["finish_reason"] == "stop"
        text = secrets.hide_in_text(text, None if cut is None else len(cut))
        completion = Completion(request_id, n, text, "stop" if whole else "length", tokens, probs)
        return Answer(prompt_tokens, completion)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        raise BadAnswer(f"{type(e).__name__}: {e}; it begins: {raw.decode(errors='replace')}") from None


def _probs(sampling: Sampling, text: str, entries: list[dict[str, Any]]) -> list[float] | None:
    """There may be more tokens than the text has (a reasoning part, white space that was stripped); nothing is known
    where the text is not in them."""
    tokens = [_bytes(entry) for entry in entries]
    joined = b"".join(tokens).decode(errors="replace")
    ahead = joined.rfind(text)
    if not sampling.score_logprobs or ahead < 0:
        return None

    def start(i: int) -> int:  # a token may hold a part of a letter, which is spelt longer
        before = commonprefix((b"".join(tokens[:i]).decode(errors="replace"), joined))  # noqa: RUF071
        return max(0, len(before) - ahead)

    def likely(i: int) -> dict[str, float]:
        among = (*(entries[i].get("top_logprobs") or ()), entries[i])
        return {_bytes(t).decode(errors="replace"): _probability(t["logprob"]) for t in among}

    return read_score_logprobs(sampling.score_logprobs, text, len(entries), start, likely)


def _bytes(token: dict[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") is not None else token["token"].encode(errors="replace")


def _probability(logprob: float) -> float:
    if not logprob <= 0.01:  # neither is NaN; rounding may leave a little
        raise ValueError(f"{logprob!r} is no logarithm of a probability")
    return min(1.0, math.exp(logprob))


def _count(usage: Any, name: str) -> int | None:
    """Null where it is not told, or not as a number: the answer is as good as any."""
    tokens = usage.get(name) if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens < 2**31 else None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _spellings(secret: str) -> set[str]:
    coded = _base64(secret)
    return {secret, quote(secret, safe=""), coded, coded.rstrip("="), json.dumps(secret)[1:-1]}


def _letters(text: str) -> tuple[str, list[int]]:
    """The visible letters, case-folded, and where each stands in `text`: what a reader of a wrapped text copies."""
    letters = [(x, i) for i, c in enumerate(text) if c.isprintable() and c != " " for x in c.casefold()]
    return "".join(x for x, _ in letters), [i for _, i in letters]
