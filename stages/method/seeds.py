"""Human seed data (paper 2.1): Open Assistant's messages -> ranked first-turn answers -> IFT, EFT and what is held out,
disjoint by prompt.

Leaves out where messages come from. Knows both shapes of the export: flat messages, and trees with nested `replies`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import polars as pl

from stages.console.errors import SeedDataError
from stages.store.tables import IFT_TRAIN, RANKED, TEST_PROMPTS
from stages.text.ids import content_id, text_key

READY = "ready_for_export"
SCHEMA = "Open Assistant's messages have message_id, parent_id, role, text, lang, rank"
NOT_FIRST_TURN = "later turn"
OTHER_LANGUAGE = "other language"
UNKNOWN_ROLE = "unknown role"
SELECTED = (NOT_FIRST_TURN, OTHER_LANGUAGE)
"""Not used because the method takes first turns, and params one language; all else says something about the data."""


class Message(NamedTuple):
    """A message whose fields are of their types, and why it may not be used, if so."""

    where: str
    message_id: str
    parent_id: str | None
    role: str
    text: str
    lang: str | None
    rank: int | None
    refused: str | None

    @property
    def content(self) -> tuple[Any, ...]:
        return self[2:]


class Counts(NamedTuple):
    """What became of the messages: `prompts` + `answers` + all that is left out = `messages`."""

    messages: int
    prompts: int
    answers: int
    left_out: dict[str, int]
    """Messages by reason, the commonest first."""
    others: dict[str, dict[str, int]]
    """The values behind two of the reasons, the ten commonest: other languages, unknown roles."""


def ranked_answers(
    messages: Iterable[tuple[str, Mapping[str, Any]]], *, lang: str, source: str
) -> tuple[pl.DataFrame, Counts]:
    """RANKED rows, sorted by prompt_id, then rank: first human turns in `lang` with the answers that people ranked; and
    what became of every message. `messages` come with the place that each stands at.

    Taken are prompts (role prompter, no parent, language exactly `lang`) of trees that are ready for export, and their
    answers that carry a rank; neither may be deleted or refused by review. An absent `lang` of a message is another
    language; other absent fields are no objection. Ranks are renumbered from 0 without gaps, equal ranks stay equal. Of
    answers with one text the best-ranked stays; of trees with one prompt text the one with most answers, since ranks of
    two trees cannot be compared. `source_id` is the answer's message_id. Raises SeedDataError when a field of a message
    is of another type, two messages share an id, or nothing is left (saying what was seen).
    """
    left_out: Counter[str] = Counter()
    others: dict[str, Counter[str]] = {OTHER_LANGUAGE: Counter(), UNKNOWN_ROLE: Counter()}
    by_id: dict[str, Message] = {}
    repeated = 0
    for m in _flat(messages):
        first = by_id.setdefault(m.message_id, m)
        if first.content != m.content:
            raise SeedDataError(f"{m.where}: message_id {m.message_id!r} is also of another message: {first.where}")
        repeated += first is not m
    left_out["duplicate message"] = repeated
    prompts = {m.message_id: m for m in by_id.values() if m.role == "prompter" and not m.parent_id and not m.refused}
    answers: dict[str, list[Message]] = {key: [] for key, m in prompts.items() if m.lang == lang}
    for m in by_id.values():
        if reason := _left_out(m, by_id, prompts, lang):
            left_out[reason] += 1
            if reason in others:
                prompt_of = prompts.get(m.parent_id or "", m)
                others[reason][str(m.role if reason == UNKNOWN_ROLE else prompt_of.lang)] += 1
        elif m.parent_id is not None:
            answers[m.parent_id].append(m)
    trees: dict[str, list[Message]] = {}
    for tree_id, ranked in sorted(answers.items()):
        texts: dict[str, Message] = {}
        for m in sorted(ranked, key=lambda m: (m.rank or 0, m.message_id)):
            texts.setdefault(m.text, m)
        left_out["duplicate answer"] += len(ranked) - len(texts)
        prompt = prompts[tree_id].text
        if not texts:
            left_out["prompt without ranked answers"] += 1
        elif prompt not in trees:
            trees[prompt] = [*texts.values()]
        else:
            less, trees[prompt] = sorted(([*texts.values()], trees[prompt]), key=len)  # of equals the earlier stays
            left_out["duplicate prompt"] += 1 + len(less)
    taken = sum(map(len, trees.values()))
    counts = Counts(
        len(by_id) + repeated,
        len(trees),
        taken,
        dict((+left_out).most_common()),
        {reason: dict(values.most_common(10)) for reason, values in others.items() if values},
    )
    if not trees:
        raise SeedDataError(
            f"{source}: no ranked answers in {counts.messages} messages, {len(answers)} first turns in {lang!r}. "
            f"{left_out_text(counts)}. Check split_seed.lang and the file"
        )
    rows = [
        (content_id(prompt, m.text), content_id(prompt), prompt, m.text, dense[m.rank], source, m.message_id)
        for prompt, ranked in trees.items()
        for dense in [{rank: i for i, rank in enumerate(dict.fromkeys(m.rank for m in ranked))}]  # they are sorted
        for m in ranked
    ]
    frame = pl.DataFrame(rows, schema=RANKED.schema, orient="row")
    return frame.sort("prompt_id", "human_rank", "candidate_id"), counts


def left_out_text(counts: Counts) -> str:
    """`39 left out: 30 later turn, 9 other language (6 'de', 3 'EN')`."""
    inside = {reason: [f"{n:,} {value!r}" for value, n in values.items()] for reason, values in counts.others.items()}
    reasons = [
        f"{n:,} {reason}" + (f" ({', '.join(inside[reason][:5])})" if reason in inside else "")
        for reason, n in counts.left_out.items()
    ]
    return f"{sum(counts.left_out.values()):,} left out" + (": " + ", ".join(reasons) if reasons else "")


def warnings(counts: Counts | None, parts: Mapping[str, Mapping[str, int]], left_out: float) -> list[str]:
    """What a person should look at: more than the share `left_out` of the first turns is not used, or a part of the
    split (`requested` and `prompts`) is smaller by more than that."""
    found = []
    if counts:
        selected = counts.messages - sum(counts.left_out.get(reason, 0) for reason in SELECTED)
        lost = selected - counts.prompts - counts.answers
        if lost > left_out * selected:
            found.append(f"{lost / selected:.0%} of {selected:,} messages of first turns are left out")
    return found + [
        f"{name} has {part['prompts']:,} prompts, requested were {part['requested']:,}"
        for name, part in parts.items()
        if part["prompts"] < (1 - left_out) * part["requested"]
    ]


def _left_out(m: Message, by_id: dict[str, Message], prompts: dict[str, Message], lang: str) -> str | None:
    """Why a message is neither a prompt nor a ranked answer to one; None when it is."""
    parent = by_id.get(m.parent_id) if m.parent_id else None
    if m.role not in ("prompter", "assistant"):
        return UNKNOWN_ROLE
    if m.refused:
        return m.refused
    if m.parent_id and not parent:
        return "unknown parent"
    if m.role == "prompter":
        return NOT_FIRST_TURN if parent else None if m.lang == lang else OTHER_LANGUAGE
    if not parent:
        return "answer without parent"
    if parent.role != "prompter" or parent.parent_id:
        return NOT_FIRST_TURN
    if parent.message_id not in prompts:
        return "prompt left out"
    if parent.lang != lang:
        return OTHER_LANGUAGE
    return "no rank" if m.rank is None else None


def _flat(messages: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Message]:
    """Checked messages; those of a nested tree with the parent and the state that nesting implies."""
    for where, m in messages:
        if not isinstance(m.get("prompt"), Mapping):
            yield _checked(m, where)
            continue
        below: list[tuple[Any, str | None]] = [(m["prompt"], None)]
        while below:
            nested, parent = below.pop()
            if not isinstance(nested, Mapping):
                raise SeedDataError(f"{where}: a reply is {nested!r:.40}, expected a message object")
            message = _checked({**nested, "parent_id": parent, "tree_state": m.get("tree_state")}, where)
            yield message
            replies = nested.get("replies") or []
            if not isinstance(replies, list):
                raise SeedDataError(f"{where}: replies is {replies!r:.40}, expected a list of messages")
            below += [(reply, message.message_id) for reply in reversed(replies)]


def _checked(m: Mapping[str, Any], where: str) -> Message:
    for field in ("message_id", "role", "text", "parent_id", "lang", "tree_state"):
        value = m.get(field)
        if not isinstance(value, str) and (value is not None or field in ("message_id", "role", "text")):
            or_null = " or null" if field in ("parent_id", "lang", "tree_state") else ""
            raise SeedDataError(f"{where}: {field} is {value!r:.40}, expected text{or_null}. {SCHEMA}")
        try:
            (value or "").encode()
        except UnicodeEncodeError as e:
            raise SeedDataError(
                f"{where}: {field} holds half of a surrogate pair at character {e.start}, which no file can store. "
                f"Clean it first"
            ) from None
    for field in ("deleted", "review_result"):
        if not isinstance(value := m.get(field), bool | None):
            raise SeedDataError(f"{where}: {field} is {value!r:.40}, expected true, false or null")
    rank = m.get("rank")
    whole = (isinstance(rank, int) and not isinstance(rank, bool)) or (isinstance(rank, float) and rank.is_integer())
    if rank is not None and not (whole and rank >= 0):
        raise SeedDataError(f"{where}: rank is {rank!r:.40}, expected a whole number >= 0 (0 is the best) or null")
    refused = {
        "deleted": m.get("deleted"),
        "refused by review": m.get("review_result") is False,
        "tree not ready": m.get("tree_state") not in (None, READY),
        "empty text": not m["text"].strip(),
    }
    return Message(
        where,
        m["message_id"],
        m.get("parent_id"),
        m["role"],
        m["text"],
        m.get("lang"),
        None if rank is None else int(rank),
        next((reason for reason, holds in refused.items() if holds), None),
    )


PARTS = ("ranked", "ranked_valid", "ift", "ift_valid", "test_prompts")


def split(ranked: pl.DataFrame, sizes: Mapping[str, int], *, seed: int) -> dict[str, pl.DataFrame]:
    """Tables `ift`, `ift_valid` (IFT rows), `ranked`, `ranked_valid` (RANKED rows) and `test_prompts`, each sorted by
    its id; `sizes` are prompts of each.

    No prompt is in two of them, where prompts that differ in case or white space are one. IFT holds each prompt's
    best-ranked answer; the ranked parts take only prompts whose answers have two or more ranks. Where there are too few
    of these, the ranked parts shrink in proportion; where there are too few prompts in all, every part does, down to
    one each. Decided by `seed` and the texts, not by the order of the rows. Raises SeedDataError, with what was seen,
    when there is not one prompt for each part.
    """
    by_key = ranked.with_columns(key=pl.Series([text_key(p) for p in ranked["prompt"]], dtype=pl.String)).sort(
        "prompt_id", "human_rank", "candidate_id"
    )
    apart = by_key.group_by("prompt_id", "key").agg(pl.col("human_rank").n_unique()).filter(pl.col("human_rank") > 1)
    drawn = sorted(set(by_key["key"]), key=lambda key: content_id(seed, key))
    comparable = set(apart["key"])
    seen = (
        f"{', '.join(sorted(set(ranked['source'])))}: found {len(drawn)} prompts, {len(comparable)} of them with "
        f"answers of different rank"
    )
    sizes = {name: sizes[name] for name in PARTS}
    sizes |= _fit({name: sizes[name] for name in PARTS[:2]}, len(comparable), seen)
    sizes = _fit(sizes, len(drawn), seen)

    ranked_first = [key for key in drawn if key in comparable][: sizes["ranked"] + sizes["ranked_valid"]]
    taken = set(ranked_first)
    order = ranked_first + [key for key in drawn if key not in taken]
    rows: dict[str, pl.DataFrame] = {}
    for name, size in sizes.items():
        mine, order = order[:size], order[size:]
        rows[name] = by_key.filter(pl.col("key").is_in(mine))

    best = {
        name: rows[name].unique("key", keep="first", maintain_order=True)
        for name in ("ift", "ift_valid", "test_prompts")
    }
    tables = {
        name: rows[name].join(apart, on="prompt_id", how="semi").select(*RANKED.schema).sort("candidate_id")
        for name in ("ranked", "ranked_valid")
    }
    return {
        "ift": _ift_rows(best["ift"]),
        "ift_valid": _ift_rows(best["ift_valid"]),
        **tables,
        "test_prompts": best["test_prompts"].select(*TEST_PROMPTS.schema).sort("prompt_id"),
    }


def parts(tables: Mapping[str, pl.DataFrame], sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """For each table the prompts `requested`, and those in it: `prompts`."""
    column = {name: "instruction" if name.startswith("ift") else "prompt" for name in tables}
    return {
        name: {"requested": sizes[name], "prompts": len({text_key(p) for p in frame[column[name]]})}
        for name, frame in tables.items()
    }


def _fit(sizes: dict[str, int], room: int, seen: str) -> dict[str, int]:
    """`sizes`, scaled down in proportion where they exceed `room`; one that is not 0 stays 1 at least."""
    total, least = sum(sizes.values()), sum(size > 0 for size in sizes.values())
    if total <= room:
        return sizes
    if least > room:
        raise SeedDataError(
            f"{seen}; {least} are needed at the least, for {', '.join(name for name, size in sizes.items() if size)}. "
            f"Bring more ranked prompts"
        )
    fitted = {name: max(1, size * room // total) if size else 0 for name, size in sizes.items()}
    while sum(fitted.values()) > room:  # only where many parts were lifted to one
        fitted[max(fitted, key=fitted.__getitem__)] -= 1
    return fitted


def _ift_rows(best: pl.DataFrame) -> pl.DataFrame:
    ids = [content_id(prompt, response) for prompt, response in best.select("prompt", "response").iter_rows()]
    return (
        best.with_columns(pl.Series("ift_id", ids, dtype=pl.String), pl.col("prompt").alias("instruction"))
        .select(*IFT_TRAIN.schema)
        .sort("ift_id")
    )
