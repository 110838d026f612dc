"""Formats of seed data: which one the rows of a file are in, and which of its columns is what. Guessed where it is
plain, and told; docs/data.md shows the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.console.errors import SeedDataError
from stages.method import adapters
from stages.method.record import Message, Record
from stages.text.cell import parsed

Row = tuple[str, Mapping[str, Any]]
"""Its place in the file, and its values by column."""
SAMPLE = 100
"""Rows whose values tell of what type a column is."""


class Field(NamedTuple):
    """`names`: what files call it, our own name first; `otherwise`: where none of them is there; `inside`: the list
    whose objects have it."""

    names: Sequence[str]
    otherwise: Sequence[str] = ()
    inside: str | None = None
    is_list: bool = False


class Format(NamedTuple):
    title: str
    ranked: bool
    read: Callable[[Iterable[Record]], Iterator[Message]]
    needed: dict[str, Field]
    optional: dict[str, Field]

    @property
    def fields(self) -> dict[str, Field]:
        return self.needed | self.optional


PROMPT = Field(("prompt", "instruction", "question", "query"), ("input",))
INPUT = Field(("input", "context"))
RESPONSE = Field(("response", "output", "answer", "completion"))
SCORE = Field(("score", "overall_score", "helpfulness", "rating", "reward"))
SHARED = {"input": INPUT, "system": Field(("system", "system_prompt")), "lang": Field(("lang", "language"))}
FORMATS = {
    "open_assistant": Format(
        "Open Assistant's messages",
        True,
        adapters.open_assistant,
        {name: Field((name,)) for name in ("message_id", "role", "text")},
        {
            name: Field((name,))
            for name in ("parent_id", "lang", "rank", "replies", "tree_state", "deleted", "review_result")
        },
    ),
    "ranked_lists": Format(
        "ranked lists",
        True,
        adapters.ranked_lists,
        {"prompt": PROMPT, "responses": Field(("responses", "completions", "answers", "outputs"), is_list=True)},
        {
            "ranks": Field(("ranks",), is_list=True),
            "scores": Field(("scores", "ratings", "rewards"), is_list=True),
            "response": Field((*RESPONSE.names, "text", "content"), inside="responses"),
            "rank": Field(("rank",), inside="responses"),
            "score": Field(SCORE.names, inside="responses"),
            **SHARED,
        },
    ),
    "scored_answers": Format(
        "answers with a score or rank each",
        True,
        adapters.scored_answers,
        {"prompt": PROMPT, "response": RESPONSE},
        {"rank": Field(("rank",)), "score": SCORE, **SHARED},
    ),
    "pairs": Format(
        "preference pairs",
        True,
        adapters.pairs,
        {"chosen": Field(("chosen", "chosen_response")), "rejected": Field(("rejected", "rejected_response"))},
        {"prompt": PROMPT, **SHARED},
    ),
    "instructions": Format(
        "instructions with one answer each",
        False,
        adapters.instructions,
        {"prompt": PROMPT, "response": RESPONSE},
        SHARED,
    ),
    "chat": Format(
        "conversations",
        False,
        adapters.chat,
        {"messages": Field(("messages", "conversations", "conversation"), is_list=True)},
        {name: SHARED[name] for name in ("system", "lang")},
    ),
}
ALTERNATIVES = {"ranked_lists": ("ranks", "rank", "scores", "score"), "scored_answers": ("rank", "score")}
"""Fields that say the same: at most one is read, and of scored answers one must be there."""


class Reading(NamedTuple):
    """What the rows of `name` are read as: `columns` by our names for the fields."""

    name: str
    format: str
    columns: dict[str, str]

    @property
    def ranked(self) -> bool:
        return FORMATS[self.format].ranked

    def messages(self, rows: Iterable[Row]) -> Iterator[Message]:
        """Raises SeedDataError with place and column for what is not of its type."""
        return FORMATS[self.format].read(Record(values, self.columns, self.name, at) for at, values in rows)

    def __str__(self) -> str:
        fields = FORMATS[self.format].fields
        told = [
            f"{field}={f'{self.columns[inside]}[].' if (inside := fields[field].inside) else ''}{column}"
            for field, column in sorted(self.columns.items(), key=lambda item: item[0] != "prompt")
            if self.format != "open_assistant" or field in FORMATS[self.format].needed or column != field
        ]
        best_first = self.format == "ranked_lists" and not {*ALTERNATIVES["ranked_lists"]} & self.columns.keys()
        return f"read as {FORMATS[self.format].title}{', best first' * best_first}: {', '.join(told)}"


def recognize(
    rows: Sequence[Row], name: str, format: str = "auto", columns: Mapping[str, str] | None = None
) -> Reading:
    """How to read `rows` of the file `name`: in `format`, or the one that fits, where ranks count for more than none;
    with `columns` as given, the others guessed.

    Raises SeedDataError with the columns seen and the formats known.
    """
    seen = _seen(rows)
    tried = {known: _fit(known, seen, columns or {}) for known in (FORMATS if format == "auto" else [format])}
    fits = [known for known, fit in tried.items() if not fit.missing]
    fits = [known for known in fits if FORMATS[known].ranked] or fits
    if len(fits) == 1 and not tried[fits[0]].unclear:
        return Reading(name, fits[0], tried[fits[0]].columns)
    listed = ", ".join(ascii(column)[1:-1][:40] for column in [*seen][:30]) + ", ..." * (len(seen) > 30)
    if len(tried) == 1 or len(fits) == 1:
        known = (fits or [format])[0]
        fault = tried[known].missing or tried[known].unclear
        raise SeedDataError(
            f"{name} as {known}: {fault}. Its columns: {listed}. Rename them, or set split_seed.columns, as "
            f"{{prompt: question}}"
        )
    fit = f"could be read as {' or '.join(fits)}" if fits else "fits no format"
    known_formats = "; ".join(f"{known} ({', '.join(f.needed)})" for known, f in FORMATS.items())
    raise SeedDataError(
        f"{name} {fit}. Its columns: {listed}. Formats, and what each needs: {known_formats}. Rename the "
        f"columns, or set split_seed.format, and split_seed.columns to what the file calls it, as {{prompt: question}}"
    )


class Column(NamedTuple):
    """What was seen of one: whether it holds lists, and the keys of objects in them."""

    has_lists: bool
    keys: dict[str, None]


def _seen(rows: Sequence[Row]) -> dict[str, Column]:
    """The columns of all rows, those of a tree's messages included, in order of appearance."""
    names: dict[str, None] = {}
    for _, row in rows:
        names |= dict.fromkeys(row)
    for tree in (tree for _, row in rows if isinstance(tree := parsed(row.get("prompt")), Mapping)):
        names |= dict.fromkeys(tree)
    sample: dict[str, list[Any]] = {column: [] for column in names}
    for _, row in rows:
        for column, value in row.items():
            if value is not None and len(sample[column]) < SAMPLE:
                sample[column].append(parsed(value))
    return {
        column: Column(
            any(isinstance(value, list) for value in values),
            {
                key: None
                for value in values
                if isinstance(value, list)
                for o in value
                if isinstance(o, Mapping)
                for key in o
            },
        )
        for column, values in sample.items()
    }


class Fit(NamedTuple):
    """Field -> column; what a format needs and the file has not; what could be more than one column."""

    columns: dict[str, str]
    missing: str = ""
    unclear: str = ""


def _fit(name: str, seen: Mapping[str, Column], given: Mapping[str, str]) -> Fit:
    known = FORMATS[name]
    if strange := sorted(given.keys() - known.fields.keys()):
        fault = f"split_seed.columns names {strange[0]}, and there are {', '.join(known.fields)}"
        return Fit({}, fault)
    columns: dict[str, str] = {}
    unclear: dict[str, str] = {}
    for field, (names, otherwise, inside, is_list) in known.fields.items():
        same = ALTERNATIVES.get(name, ())
        if field in same and field not in given and any(one in given or one in columns for one in same):
            continue
        there = [*seen]
        if inside:
            there = [*seen[columns[inside]].keys] if columns[inside] in seen else []
        if field in given:
            unseen = name == "open_assistant" and field in known.optional and given[field] == field  # only in replies
            if given[field] not in there and not unseen:
                return Fit(
                    {}, f"there is no column {json.dumps(given[field])}, which split_seed.columns names for {field}"
                )
            columns[field] = given[field]
            continue
        if not inside:
            taken = {*columns.values(), *given.values()}
            there = [column for column in there if column not in taken and (seen[column].has_lists or not is_list)]
        guesses = [guess for guess in names if guess in there] or [guess for guess in otherwise if guess in there]
        if guesses and (len(guesses) == 1 or guesses[0] == field):
            columns[field] = guesses[0]
        elif guesses:
            unclear[field] = f"{field} could be {' or '.join(guesses)}"
        elif field in known.needed:
            return Fit({}, f"no column for {field}")
        elif name == "open_assistant":  # may be in replies alone, which are not looked at
            columns[field] = field
    if name == "scored_answers" and not {"rank", "score"} & {*columns, *unclear}:
        return Fit({}, "no column for score or rank")
    return Fit(columns, "", "; ".join(unclear.values()))
