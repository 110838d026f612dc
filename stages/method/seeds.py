"""Human seed data (paper 2.1): Open Assistant's messages -> ranked first-turn answers -> IFT, EFT and what is held out,
disjoint by prompt. Both shapes of the export: flat messages, and trees with nested `replies`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import polars as pl
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stages.console.errors import SeedDataError
from stages.store.tables import IFT_TRAIN, RANKED, TEST_PROMPTS
from stages.text.ids import content_id, text_key

NOT_FIRST_TURN, OTHER_LANGUAGE, NO_ANSWERS = "later turn", "other language", "prompt without ranked answers"
PARTS = ("ranked", "ranked_valid", "ift", "ift_valid", "test_prompts")


def _whole(rank: Any) -> Any:
    return int(rank) if isinstance(rank, float) and rank.is_integer() else rank


def _storable(text: str) -> str:
    text.encode()  # half of a surrogate pair is a ValueError
    return text


Text = Annotated[str, AfterValidator(_storable)]


class Message(BaseModel):
    """A message of Open Assistant's, and those below it in a nested tree."""

    model_config = ConfigDict(strict=True)

    message_id: Text
    role: Text
    text: Text
    parent_id: Text | None = None
    lang: Text | None = None
    tree_state: str | None = None
    rank: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_whole)] | None = None
    deleted: bool | None = None
    review_result: bool | None = None
    replies: list[Message] | None = None

    def unfit(self) -> str | None:
        """Why it may not be used; what is absent is no objection."""
        reasons = {
            "deleted": self.deleted,
            "refused by review": self.review_result is False,
            "tree not ready": self.tree_state not in (None, "ready_for_export"),
            "empty text": not self.text.strip(),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


class Counts(NamedTuple):
    """What became of the messages: `prompts` + `answers` + all that is left out = `messages`."""

    messages: int
    prompts: int
    answers: int
    left_out: dict[str, int]
    """Messages by reason, the commonest first."""


def ranked_answers(
    messages: Iterable[tuple[str, Mapping[str, Any]]], *, lang: str, source: str
) -> tuple[pl.DataFrame, Counts]:
    """RANKED rows, sorted by prompt_id, then rank: first human turns in `lang` with the answers that people ranked; and
    what became of every message. `messages` come with the place that each stands at.

    Ranks are renumbered from 0 without gaps, equal ranks stay equal. Of answers with one text the best-ranked stays; of
    trees with one prompt text the one with most answers, since ranks of two trees cannot be compared. Raises
    SeedDataError when a field is of another type, two messages share an id, or nothing is left.
    """
    by_id: dict[str, Message] = {}
    places: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for where, m in _flat(messages):
        if m.message_id not in by_id:
            by_id[m.message_id], places[m.message_id] = m, where
        elif by_id[m.message_id] == m:
            left_out["duplicate message"] += 1
        else:
            place = places[m.message_id]
            raise SeedDataError(f"{where}: message_id {m.message_id!r} is also of another message: {place}")
    answers: defaultdict[str, dict[str, Message]] = defaultdict(dict)  # of each prompt by text, the best first
    prompts: list[Message] = []
    for m in sorted(by_id.values(), key=lambda m: (m.rank or 0, m.message_id)):
        if reason := _left_out(m, by_id.get(m.parent_id or ""), lang):
            left_out[reason] += 1
        elif not m.parent_id:
            prompts.append(m)
        elif answers[m.parent_id].setdefault(m.text, m) is not m:
            left_out["duplicate answer"] += 1
    trees: dict[str, list[Message]] = {}
    for prompt in sorted(prompts, key=lambda m: (-len(answers[m.message_id]), m.message_id)):
        if not (own := answers[prompt.message_id]):
            left_out[NO_ANSWERS] += 1
        elif trees.setdefault(prompt.text, ranked := [*own.values()]) is not ranked:
            left_out["duplicate prompt"] += 1 + len(own)
    rows = [
        (content_id(prompt, m.text), content_id(prompt), prompt, m.text, m.rank, source, m.message_id)
        for prompt, ranked in trees.items()
        for m in ranked
    ]
    total = len(by_id) + left_out["duplicate message"]
    counts = Counts(total, len(trees), len(rows), dict((+left_out).most_common()))
    if not rows:
        raise SeedDataError(
            f"{source}: no ranked answers in {total} messages, {len(prompts)} first turns in {lang!r}. "
            f"{left_out_text(counts)}. Check split_seed.lang and the file"
        )
    dense = (pl.col("human_rank").rank("dense").over("prompt_id") - 1).cast(pl.Int32)
    frame = pl.DataFrame(rows, schema={**RANKED.schema, "human_rank": pl.Int64}, orient="row").with_columns(dense)
    return frame.sort("prompt_id", "human_rank", "candidate_id"), counts


def _left_out(m: Message, parent: Message | None, lang: str) -> str | None:
    """Why a message is neither a first turn nor a ranked answer to one; None when it is."""
    if m.role not in ("prompter", "assistant"):
        return f"unknown role {m.role[:40]!r}"
    if reason := m.unfit():
        return reason
    answer = m.role == "assistant"
    if parent is None and (answer or m.parent_id):
        return "no parent"
    if parent and (not answer or parent.role != "prompter" or parent.parent_id):
        return NOT_FIRST_TURN
    if parent and parent.unfit():
        return "prompt left out"
    if (seen := (parent or m).lang) != lang:
        return f"{OTHER_LANGUAGE} {seen!r}"
    return "no rank" if answer and m.rank is None else None


def _flat(messages: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Message]]:
    """Checked messages; those of a nested tree with the parent and the state that nesting implies."""
    for where, m in messages:
        nested = isinstance(m.get("prompt"), Mapping)
        try:
            below = [Message.model_validate({**m["prompt"], "parent_id": None} if nested else m)]
        except ValidationError as e:
            error = e.errors()[0]
            raise SeedDataError(
                f"{where}: {'.'.join(map(str, error['loc']))}: {error['msg']}, seen {error['input']!r:.40}. Open "
                f"Assistant's messages have message_id, parent_id, role, text, lang, rank"
            ) from None
        while below:
            message = below.pop()
            replies = message.replies or []
            if nested:
                below += [reply.model_copy(update={"parent_id": message.message_id}) for reply in replies]
                message.tree_state = m.get("tree_state")
            message.replies = None
            yield where, message


def left_out_text(counts: Counts) -> str:
    """`39 left out: 30 later turn, 9 other language 'de'`; the ten commonest reasons."""
    reasons = [f"{n:,} {reason}" for reason, n in counts.left_out.items()]
    shown = ", ".join(reasons[:10] + ["..."] * (len(reasons) > 10))
    return f"{sum(counts.left_out.values()):,} left out" + (f": {shown}" if shown else "")


def warnings(counts: Counts | None, parts: Mapping[str, Mapping[str, int]], left_out: float) -> list[str]:
    """More than the share `left_out` of the first turns is not used, or a part of the split is smaller by more."""
    sentences = []
    if counts:  # the method takes first turns, and params one language; all else says something about the data
        lost = sum(n for why, n in counts.left_out.items() if not why.startswith((NOT_FIRST_TURN, OTHER_LANGUAGE)))
        first_turns = counts.prompts + counts.answers + lost
        if lost > left_out * first_turns:
            sentences.append(f"{lost / first_turns:.0%} of {first_turns:,} messages of first turns are left out")
    return sentences + [
        f"{name} has {part['prompts']:,} prompts, requested were {part['requested']:,}"
        for name, part in parts.items()
        if part["prompts"] < (1 - left_out) * part["requested"]
    ]


def split(ranked: pl.DataFrame, sizes: Mapping[str, int], *, seed: int) -> dict[str, pl.DataFrame]:
    """Tables `ift`, `ift_valid` (IFT rows), `ranked`, `ranked_valid` (RANKED rows) and `test_prompts`, each sorted by
    its id; `sizes` are prompts of each.

    No prompt is in two of them, where prompts that differ in case or white space are one. IFT holds each prompt's
    best-ranked answer; the ranked parts take only prompts whose answers have two or more ranks. Where there are too few
    of these, the ranked parts shrink in proportion; where there are too few prompts in all, every part does, down to
    one each. Decided by `seed` and the texts. Raises SeedDataError when there is not one prompt for each part.
    """
    rows = (
        ranked.with_columns(key=pl.Series([text_key(p) for p in ranked["prompt"]], dtype=pl.String))
        .with_columns(comparable=pl.col("human_rank").n_unique().over("prompt_id") > 1)
        .sort("prompt_id", "human_rank", "candidate_id")
    )
    drawn = sorted(set(rows["key"]), key=lambda key: content_id(seed, key))
    comparable = set(rows.filter("comparable")["key"])
    seen = (
        f"{', '.join(sorted(set(ranked['source'])))}: found {len(drawn)} prompts, {len(comparable)} of them with "
        f"answers of different rank"
    )
    sizes = {name: sizes[name] for name in PARTS}
    sizes |= _fit({name: sizes[name] for name in PARTS[:2]}, len(comparable), seen)
    sizes = _fit(sizes, len(drawn), seen)

    ranked_first = dict.fromkeys([key for key in drawn if key in comparable][: sum(sizes[name] for name in PARTS[:2])])
    order = iter(ranked_first | dict.fromkeys(drawn))
    part = {next(order): name for name, size in sizes.items() for _ in range(size)}
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
