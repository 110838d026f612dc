"""What a server's refusal of a request says: its words, and which of the fields that it was sent it does not take.

Servers name a field in `error.param` (OpenAI, vLLM), in pydantic's `loc` (FastAPI, Mistral), or only in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from openai import APIStatusError

OPTIONAL = ("seed", "top_p", "stop", "top_logprobs", "logprobs", "max_completion_tokens", "max_tokens", "temperature")
READ = 100_000
"""Letters of a server's words that are read."""
FEWER_LIKELY = 5
"""For top_logprobs, where the server does not tell as many as were asked for."""
MEANS = {
    "seed": "its texts cannot be had again",
    "top_p": "its texts are drawn from all tokens, or as the server does by itself",
    "stop": "texts are cut here, after the server wrote, and billed, the rest",
    "max_completion_tokens": "its texts are as long as the model or the server lets them be",
    "max_tokens": "max_completion_tokens is sent instead",
    "top_logprobs": f"{FEWER_LIKELY} are asked for",
    "temperature": "1, which was asked for, is taken to be its only value",
}
"""What it means for the texts that a field is left out."""
NOT_TAKEN = re.compile(
    r"support|unrecognized|unknown|unexpected|extra|(not|never) (permitted|allowed|implemented|available)|forbidden"
    r"|unavailable|invalid|must|should|range|too (many|large|high|big)|at most|cannot find|maximum|exceed",
    re.IGNORECASE,
)
NO_ROOM = re.compile(r"context|too (large|long|many tokens)|maximum|exceed|length", re.IGNORECASE)
"""Of `max_tokens`: there is too little room behind the prompt."""


def words(e: Exception) -> str:
    """What the server says, wherever it says it, or why there is no answer."""
    if not isinstance(e, APIStatusError):
        return str(e.__cause__ or e)
    body: Any = e.body
    message = body.get("message") or body.get("detail") or body if isinstance(body, dict) else body
    return f"{e.status_code}: {message or 'nothing'}"


def refused_fields(e: APIStatusError, sent: Mapping[str, Any]) -> list[str]:
    """The optional fields of `sent` that a refusal names as what it does not take, the likeliest first; none where it
    refuses for another reason."""
    said, pointed = words(e)[:READ], set(_pointed(e.body))
    room = NO_ROOM.search(re.sub(r"max\w*_tokens", "", said))
    there = [field for field in OPTIONAL if field in sent and not (room and field.startswith("max_"))]
    named = [field for field in there if NOT_TAKEN.search(said) and _names(said, field)]
    return sorted(
        {*named, *(field for field in there if field in pointed)},
        key=lambda f: (f not in pointed, f in named and said.find(f)),
    )


def changed(sent: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """`sent` without `fields`; some have a second spelling, or a smaller number, before they are left out. One that is
    named twice is changed twice."""
    body = dict(sent)
    for field in fields:
        value = body.pop(field, None)
        if field == "max_tokens" and value:
            body["max_completion_tokens"] = value
        elif field == "top_logprobs" and value and value > FEWER_LIKELY:
            body[field] = FEWER_LIKELY
    return body


def told(fields: Sequence[str]) -> list[str]:
    """What `changed` does, for a log."""
    names = {field: field for field in fields}
    if "max_tokens" in names and "max_completion_tokens" not in names:
        names["max_tokens"] = "max_tokens (sent as max_completion_tokens)"
    if fields.count("top_logprobs") == 1:
        names["top_logprobs"] = f"top_logprobs over {FEWER_LIKELY}"
    return sorted(names.values())


def _pointed(body: Any) -> Iterator[str]:
    """Names in `param` and `loc`, at any depth: `body.stop` and ["body", "stop"] are `stop`."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            if key in ("param", "loc"):
                parts: Iterable[Any] = value.split(".") if isinstance(value, str) else value or ()
                yield from (part for part in parts if isinstance(part, str))
            elif key != "input":  # pydantic repeats what it was sent
                yield from _pointed(value)
    elif isinstance(body, list):
        for value in body:
            yield from _pointed(value)


def _names(said: str, field: str) -> bool:
    """Whether the words speak of the field, not of something that is spelt like it ("please stop")."""
    if "_" in field or field.endswith("probs"):
        return bool(re.search(rf"\b{field}\b", said))
    quoted = rf"""["'`]{field}["'`]|\b{field}\s*[:=]"""
    before = rf"\b(parameters?|fields?|arguments?|supplied|propert(y|ies)|names?|options?|keys?|inputs?)\W*\s{field}\b"
    after = rf"\b{field} (is|are|was|does|must|should|cannot|has|parameters?|fields?|not|unsupported)\b"
    return bool(re.search(f"{quoted}|{before}|{after}", said))
