"""A row of seed data under our names for its columns: each value is of the type that an adapter needs, or refused with
the place and the column it stands in. And what every adapter makes of rows: messages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from stages.console.errors import SeedDataError
from stages.text.cell import parsed

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "prompter"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "assistant"),
}
"""What data name the two sides -> Open Assistant's names, which are ours."""


class Message(NamedTuple):
    """What somebody wrote, in a conversation."""

    at: str
    """The row that it is from."""
    id: str
    """The data's own, or the row and the column that it stands in."""
    parent: str | None
    """Id of the message that it follows; None for the first."""
    role: str
    """prompter, assistant, or what else the data say."""
    text: str
    lang: str | None = None
    rank: int | None = None
    """0 is best."""
    unfit: str | None = None
    """Why it may not be used."""


class Turn(NamedTuple):
    """A message that is not yet in a conversation."""

    at: str
    column: str
    role: str
    text: str
    unfit: str | None = None

    @property
    def id(self) -> str:
        return f"{self.at}, {self.column}"


class Record:
    """The `values` of a row of the file `name` that stands there `at`, or of an object `inside` one of its columns.

    `columns`: our name for a field -> the column, for those that are there.
    """

    def __init__(self, values: Mapping[str, Any], columns: Mapping[str, str], name: str, at: str, inside: str = ""):
        self.values, self.columns, self.name, self.at, self.inside = values, columns, name, at, inside

    def within(self, values: Mapping[str, Any], columns: Mapping[str, str], inside: str = "") -> Record:
        return Record(values, columns, self.name, self.at, inside)

    def __contains__(self, field: str) -> bool:
        return self.columns.get(field, field) in self.values

    def place(self, field: str) -> str:
        return ".".join(filter(None, (self.inside, self.columns.get(field, field))))

    def value(self, field: str) -> Any:
        """None where it is absent or null."""
        return self.values.get(self.columns[field]) if field in self.columns else None

    def refuse(self, field: str, expected: str) -> NoReturn:
        seen = f"{self.value(field)!r:.40}" if field in self else "nothing"
        raise SeedDataError(f"{self.name}, {self.at}: {self.place(field)}: expected {expected}, seen {seen}")

    def text(self, field: str, *, needed: bool = True, null: bool = True) -> str:
        """A `null` text is empty, where it may be."""
        value = self.value(field)
        if value is None and (not null or (needed and field not in self)):
            self.refuse(field, "text")
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(field, "text")
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            self.refuse(field, "text without halves of surrogate pairs")
        return str(value)

    def label(self, field: str) -> str | None:
        return self.text(field, needed=False) or None

    def rank(self, field: str = "rank") -> int | None:
        value = parsed(self.value(field))
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or (type(value) is int and 0 <= value < 2**63):
            return value
        self.refuse(field, "a whole number of at least 0, or null")

    def score(self, field: str = "score") -> float | None:
        value = parsed(self.value(field))
        if value is None or type(value) is int or (type(value) is float and math.isfinite(value)):
            return value
        self.refuse(field, "a finite number, or null")

    def flag(self, field: str) -> bool | None:
        value = parsed(self.value(field))
        if value is None or isinstance(value, bool):
            return value
        self.refuse(field, "true, false or null")

    def items(self, field: str) -> list[Any]:
        """Null is an empty list."""
        value = parsed(self.value(field))
        if value is None and field in self:
            return []
        if not isinstance(value, list):
            self.refuse(field, "a list")
        return value

    def item(self, field: str, n: int, value: Any) -> Record:
        """Item `n` of a list, as an object with the one field `field`."""
        place = f"{self.place(field)}[{n}]"
        return self.within({place: value}, {field: place})

    def turns(self, field: str, role: str, *, plain: bool = True) -> list[Turn]:
        """A plain text, where it may be one, which `role` wrote; or messages: of chat (role, content) or ShareGPT's
        (from, value)."""
        value = self.value(field)
        messages = parsed(value)
        messages = [messages] if isinstance(messages, Mapping) else messages
        listed = isinstance(messages, list) and messages and all(map(_is_message, messages))
        if plain and isinstance(value, str) and not listed:
            messages = None
        if messages == []:
            return [Turn(self.at, self.place(field), role, "")]
        if messages is None:
            return [Turn(self.at, self.place(field), role, self.text(field))]
        if not isinstance(messages, list):
            self.refuse(field, "text or a list of messages")
        turns = []
        for n, message in enumerate(messages):
            if not _is_message(message):
                self.item(field, n, message).refuse(field, "a message with role and content")
            shape = ("role", "content") if message.keys() >= {"role", "content"} else ("from", "value")
            fields = dict(zip(("role", "content"), shape, strict=True))
            inner = self.within(message, fields, f"{self.place(field)}[{n}]")
            author = inner.text("role")
            turns.append(Turn(self.at, inner.inside, ROLES.get(author, author), *inner.content()))
        return turns

    def content(self) -> tuple[str, str | None]:
        """The text of a message, and why it is more than that: content may be a list of parts."""
        parts = self.value("content")
        if not isinstance(parts, list):
            return self.text("content"), None
        texts = [str(part["text"]) for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
        if len(texts) < len(parts):
            return "", "holds more than text"
        return self.within({"content": "".join(texts)}, {"content": "content"}, self.inside).text("content"), None


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and (value.keys() >= {"role", "content"} or value.keys() >= {"from", "value"})


def ranks_of(scores: Sequence[float | None]) -> list[int | None]:
    """The highest score has rank 0, equal scores have one rank, and none has none."""
    order = {score: rank for rank, score in enumerate(sorted({s for s in scores if s is not None}, reverse=True))}
    return [None if score is None else order[score] for score in scores]
