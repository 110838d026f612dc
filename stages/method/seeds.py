"""Human seed data (paper 2.1): messages -> first turns with their answers -> IFT, EFT and what is held out, disjoint by
prompt."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from stages.console.errors import SeedDataError
from stages.method.likeness import near_duplicates
from stages.method.record import Message
from stages.store.tables import IFT_TRAIN, RANKED, TEST_PROMPTS
from stages.text.ids import content_id, text_key

NOT_FIRST_TURN, OTHER_LANGUAGE = "later turn", "other language"
PARTS = ("ranked", "ranked_valid", "ift", "ift_valid", "test_prompts")


class Counts(NamedTuple):
    """What became of the messages: `prompts` + `answers` + all that is left out = `messages`."""

    messages: int
    prompts: int
    answers: int
    left_out: dict[str, int]
    """Messages by reason, the commonest first."""
    lang: str | None
    """Which was taken; null where every language was."""


def answered_prompts(
    messages: Iterable[Message], *, lang: str | None, source: str, ranked: bool = True
) -> tuple[pl.DataFrame, Counts]:
    """RANKED rows, sorted by prompt_id, then rank: first human turns in `lang` with the answers that people ranked; and
    what became of every message. Where data are not `ranked`, every answer is taken, with null for its rank. Where
    `lang` is null, or no message has one, so is every language.

    Ranks are renumbered from 0 without gaps, equal ranks stay equal. Of answers with one text the best-ranked stays; of
    prompts with one text the one with most answers, since ranks of two cannot be compared. Raises SeedDataError when
    two messages share an id, or nothing is left.
    """
    by_id: dict[str, Message] = {}
    left_out: Counter[str] = Counter()
    for m in messages:
        if (first := by_id.setdefault(m.id, m)) is m:
            continue
        if first != m._replace(at=first.at):
            raise SeedDataError(f"{source}, {m.at}: message_id {m.id!r} is also of the message of {first.at}")
        left_out["duplicate message"] += 1
    if not any(m.lang for m in by_id.values()):
        lang = None
    answers: defaultdict[str, dict[str, Message]] = defaultdict(dict)  # of each prompt by text, the best first
    prompts: list[Message] = []
    for m in sorted(by_id.values(), key=lambda m: (m.rank or 0, m.id)):
        if reason := _left_out(m, by_id.get(m.parent or ""), lang, ranked):
            left_out[reason] += 1
        elif not m.parent:
            prompts.append(m)
        elif answers[m.parent].setdefault(m.text, m) is not m:
            left_out["duplicate answer"] += 1
    chosen: dict[str, list[Message]] = {}
    for prompt in sorted(prompts, key=lambda m: (-len(answers[m.id]), m.id)):
        if not (own := answers[prompt.id]):
            left_out[f"prompt without {'ranked ' * ranked}answers"] += 1
        elif chosen.setdefault(prompt.text, taken := [*own.values()]) is not taken:
            left_out["duplicate prompt"] += 1 + len(own)
    rows = [
        (content_id(prompt, m.text), content_id(prompt), prompt, m.text, m.rank if ranked else None, source, m.id)
        for prompt, of_prompt in chosen.items()
        for m in of_prompt
    ]
    total = len(by_id) + left_out["duplicate message"]
    counts = Counts(total, len(chosen), len(rows), dict((+left_out).most_common()), lang)
    if not rows:
        raise SeedDataError(
            f"{source}: no {'ranked ' * ranked}answers in {total} messages, {len(prompts)} first turns in "
            f"{lang or 'any language'!r}. {left_out_text(counts)}. Check split_seed.lang and the file"
        )
    dense = (pl.col("human_rank").rank("dense").over("prompt_id") - 1).cast(pl.Int32)
    frame = pl.DataFrame(rows, schema={**RANKED.schema, "human_rank": pl.Int64}, orient="row").with_columns(dense)
    return frame.sort("prompt_id", "human_rank", "candidate_id"), counts


def _left_out(m: Message, parent: Message | None, lang: str | None, ranked: bool) -> str | None:
    """Why a message is neither a first turn nor an answer to one; None when it is."""
    if reason := _unfit(m):
        return reason
    answer = m.role == "assistant"
    if parent is None and (answer or m.parent):
        return "no parent"
    if parent and (not answer or parent.role != "prompter" or parent.parent):
        return NOT_FIRST_TURN
    if parent and _unfit(parent):
        return "prompt left out"
    if lang and (seen := (parent or m).lang) != lang:
        return f"{OTHER_LANGUAGE} {seen!r:.40}"
    return "no rank" if ranked and answer and m.rank is None else None


def _unfit(m: Message) -> str | None:
    if m.unfit:
        return m.unfit
    if m.role not in ("prompter", "assistant"):
        return f"unknown role {m.role[:40]!r}"
    return None if m.text.strip() else "empty text"


def languages(messages: Iterable[Message]) -> Counter[str]:
    """How many first turns are in each."""
    return Counter(m.lang for m in messages if m.lang and m.role == "prompter" and not m.parent)


def left_out_text(counts: Counts) -> str:
    """`39 left out: 30 later turn, 9 other language 'de'`; the ten commonest reasons."""
    reasons = [f"{n:,} {reason}" for reason, n in counts.left_out.items()]
    shown = ", ".join(reasons[:10] + ["..."] * (len(reasons) > 10))
    return f"{sum(counts.left_out.values()):,} left out" + (f": {shown}" if shown else "")


def warnings(counts: Counts, left_out: float) -> list[str]:
    """More than the share `left_out` of the first turns is not used. The method takes first turns, and params one
    language; all else says something about the data."""
    lost = sum(n for why, n in counts.left_out.items() if not why.startswith((NOT_FIRST_TURN, OTHER_LANGUAGE)))
    first_turns = counts.prompts + counts.answers + lost
    few = lost <= left_out * first_turns
    return [] if few else [f"{lost / first_turns:.0%} of {first_turns:,} messages of first turns are left out"]


def small_parts(parts: Mapping[str, Mapping[str, int]], left_out: float) -> list[str]:
    """A part of the split is smaller than requested by more than the share `left_out`."""
    return [
        f"{name} has {part['prompts']:,} prompts, requested were {part['requested']:,}"
        for name, part in parts.items()
        if part["prompts"] < (1 - left_out) * part["requested"]
    ]


def groups(ranked: pl.DataFrame, likeness: float, lang: str | None) -> dict[str, str]:
    """Key of each prompt -> that of its group of near-duplicates: ROUGE-L above `likeness`, directly or over others."""
    texts: dict[str, str] = {}
    for prompt in sorted(set(ranked["prompt"])):
        texts.setdefault(text_key(prompt), prompt)
    keys = [*texts]
    return {
        key: keys[first] for key, first in zip(keys, near_duplicates([*texts.values()], likeness, lang), strict=True)
    }


def split(
    ranked: pl.DataFrame, sizes: Mapping[str, int], *, seed: int, group_of: Mapping[str, str] | None = None
) -> dict[str, pl.DataFrame]:
    """Tables `ift`, `ift_valid` (IFT rows), `ranked`, `ranked_valid` (RANKED rows) and `test_prompts`, each sorted by
    its id; `sizes` are prompts of each.

    No prompt is in two of them, where prompts that differ in case or white space are one; nor are two of one group, if
    `group_of` tells the groups of keys. A part is drawn of groups, one prompt of each; where it then has fewer prompts
    than asked for, it gets the others of its groups. IFT holds each prompt's best-ranked answer; the ranked parts take
    only prompts whose answers have two or more ranks, and are empty where data have no ranks. Where there are too few
    of these, the ranked parts shrink in proportion; where there are too few in all, every part does, down to one each.
    Decided by `seed` and the texts. Raises SeedDataError when there is not one prompt for each part.
    """
    rows = (
        ranked.with_columns(key=pl.Series([text_key(p) for p in ranked["prompt"]], dtype=pl.String))
        .with_columns(comparable=pl.col("human_rank").n_unique().over("prompt_id") > 1)
        .sort("prompt_id", "human_rank", "candidate_id")
    )
    group_of = group_of or {key: key for key in rows["key"]}
    drawn = sorted(set(rows["key"]), key=lambda key: content_id(seed, key))
    comparable = set(rows.filter("comparable")["key"])
    members: dict[str, list[str]] = {}
    for key in drawn:
        members.setdefault(group_of[key], []).append(key)
    apart = list(dict.fromkeys(group_of[key] for key in drawn if key in comparable))
    seen = (
        f"{', '.join(sorted(set(ranked['source'])))}: found {len(members)} prompts, {len(apart)} of them with "
        f"answers of different rank"
    )
    asked = {name: sizes[name] if ranked["human_rank"].count() or "ranked" not in name else 0 for name in PARTS}
    fitted = asked | _fit({name: asked[name] for name in PARTS[:2]}, len(apart), seen)
    fitted = _fit(fitted, len(members), seen)

    ranked_first = apart[: sum(fitted[name] for name in PARTS[:2])]
    order = iter(dict.fromkeys([*ranked_first, *members]))
    part: dict[str, str] = {}
    for name, size in fitted.items():
        of_part = [
            [key for key in members[next(order)] if key in comparable or name not in PARTS[:2]] for _ in range(size)
        ]
        first, others = [keys[0] for keys in of_part], [key for keys in of_part for key in keys[1:]]
        part |= dict.fromkeys([*first, *others][: asked[name]], name)
    rows = rows.with_columns(part=pl.col("key").replace_strict(part, default=None, return_dtype=pl.String))
    best = rows.unique("key", keep="first", maintain_order=True)
    ids = [content_id(*row) for row in best.select("prompt", "response").iter_rows()]
    best = best.with_columns(pl.Series("ift_id", ids, pl.String), instruction="prompt")
    ranked_rows = rows.filter("comparable").select("part", *RANKED.schema).sort("candidate_id")
    ift_rows, tests = best.select("part", *IFT_TRAIN.schema).sort("ift_id"), best.sort("prompt_id")
    return {
        **{name: ift_rows.filter(part=name).drop("part") for name in ("ift", "ift_valid")},
        **{name: ranked_rows.filter(part=name).drop("part") for name in ("ranked", "ranked_valid")},
        "test_prompts": tests.filter(part="test_prompts").select(*TEST_PROMPTS.schema),
    }


def near_counts(tables: Mapping[str, pl.DataFrame], group_of: Mapping[str, str]) -> dict[str, int]:
    """Prompts that have near-duplicates, the `groups` of these, and how many are in no part because one of their group
    is in one that needed no more."""
    size = Counter(group_of.values())
    used = {text_key(p) for frame in tables.values() for p in frame[_prompt_column(frame)]}
    owned = {group_of[key] for key in used}
    return {
        "prompts": sum(n for n in size.values() if n > 1),
        "groups": sum(n > 1 for n in size.values()),
        "left_out": sum(group in owned and key not in used for key, group in group_of.items()),
    }


def _prompt_column(frame: pl.DataFrame) -> str:
    return "instruction" if "instruction" in frame.columns else "prompt"


def parts(tables: Mapping[str, pl.DataFrame], sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """For each table the prompts `requested`, and those in it: `prompts`."""
    return {
        name: {"requested": sizes[name], "prompts": len({text_key(p) for p in frame[_prompt_column(frame)]})}
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
