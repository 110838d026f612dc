"""Human seed data (paper 2.1): Open Assistant's messages -> ranked first-turn answers -> IFT, EFT and what is held out,
disjoint by prompt.

Leaves out where messages come from. Knows both shapes of the export: flat messages, and trees with nested `replies`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from stages.console.errors import SeedDataError
from stages.store.tables import IFT_TRAIN, RANKED, TEST_PROMPTS
from stages.text.ids import content_id, text_key

Message = Mapping[str, Any]
READY = "ready_for_export"


def ranked_answers(messages: Iterable[Message], *, lang: str, source: str) -> pl.DataFrame:
    """RANKED rows, sorted by prompt_id, then rank: first human turns in `lang` with the answers that people ranked.

    Taken are prompts (role prompter, no parent, language exactly `lang`) of trees that are ready for export, and their
    answers that carry a rank; neither may be deleted or refused by review. An absent `lang` of a message is another
    language; other absent fields are no objection. Ranks are renumbered from 0 without gaps, equal ranks stay equal. Of
    answers with one text the best-ranked stays; of trees with one prompt text the one with most answers, since ranks of
    two trees cannot be compared. `source_id` is the answer's message_id. Raises SeedDataError when a message lacks a
    field, or nothing is left (saying what was seen).
    """
    flat = list(_flat(messages, source))
    prompts = {
        m["message_id"]: m for m in flat if m["role"] == "prompter" and m.get("parent_id") is None and _stands(m)
    }
    answers: dict[str, list[tuple[int, str, str]]] = {key: [] for key, m in prompts.items() if m.get("lang") == lang}
    for m in flat:
        if m["role"] == "assistant" and m.get("rank") is not None and m.get("parent_id") in answers and _stands(m):
            answers[m["parent_id"]].append((int(m["rank"]), m["message_id"], m["text"]))
    trees: dict[str, tuple[str, dict[str, tuple[int, str]]]] = {}
    for tree_id in sorted(answers):
        prompt = prompts[tree_id]["text"]
        texts: dict[str, tuple[int, str]] = {}
        for rank, message_id, text in sorted(answers[tree_id]):
            texts.setdefault(text, (rank, message_id))
        if texts and (prompt not in trees or len(texts) > len(trees[prompt][1])):
            trees[prompt] = (tree_id, texts)
    if not trees:
        langs = Counter(str(m.get("lang")) for m in prompts.values())
        raise SeedDataError(
            f"{source}: no ranked answers in {len(flat)} messages: {len(prompts)} first turns "
            f"({', '.join(f'{n} {x}' for x, n in langs.most_common(5))}), "
            f"{len(answers)} in {lang!r}, {sum(m.get('rank') is not None for m in flat)} messages with a rank. "
            "Check split_seed.lang and the file"
        )
    rows = [
        (content_id(prompt, text), content_id(prompt), prompt, text, rank, source, message_id)
        for prompt, (_, texts) in trees.items()
        for text, (rank, message_id) in texts.items()
    ]
    frame = pl.DataFrame(rows, schema=RANKED.schema, orient="row")
    dense = (pl.col("human_rank").rank("dense").over("prompt_id") - 1).cast(pl.Int32)
    return frame.with_columns(human_rank=dense).sort("prompt_id", "human_rank", "candidate_id")


def _flat(messages: Iterable[Message], source: str) -> Iterator[dict[str, Any]]:
    """Flat messages; of a nested tree the prompt and its direct replies, with the parent and the state that nesting
    implies."""
    for number, m in enumerate(messages, 1):
        where = f"{source}, message {number}"
        if isinstance(root := m.get("prompt"), Mapping):
            prompt = _checked({**root, "parent_id": None, "tree_state": m.get("tree_state")}, where)
            yield prompt
            for reply in root.get("replies") or ():
                yield _checked({**reply, "parent_id": prompt["message_id"], "tree_state": m.get("tree_state")}, where)
        else:
            yield _checked(dict(m), where)


def _checked(m: dict[str, Any], where: str) -> dict[str, Any]:
    for field in ("message_id", "role", "text"):
        if not isinstance(m.get(field), str):
            raise SeedDataError(
                f"{where}: {field} is {m.get(field)!r}, text is wanted. Open Assistant's messages have message_id, "
                f"parent_id, role, text, lang, rank"
            )
    try:
        m["text"].encode()
    except UnicodeEncodeError as e:
        raise SeedDataError(
            f"{where}: text holds half of a surrogate pair at character {e.start}, which no file can store. Clean it "
            f"before"
        ) from None
    if not isinstance(rank := m.get("rank"), int | float | None) or (isinstance(rank, float) and not rank.is_integer()):
        raise SeedDataError(f"{where}: rank is {rank!r}, a whole number or null is wanted")
    return m


def _stands(m: Message) -> bool:
    return (
        not m.get("deleted")
        and m.get("review_result") is not False
        and m.get("tree_state") in (None, READY)
        and bool(m["text"].strip())
    )


def split(
    ranked: pl.DataFrame, *, ift: int, ift_valid: int, eft_prompts: int, test_prompts: int, test_ranked: int, seed: int
) -> dict[str, pl.DataFrame]:
    """Tables `ift`, `ift_valid` (IFT rows), `ranked`, `ranked_valid` (RANKED rows) and `test_prompts`, each sorted by
    its id; numbers are prompts.

    No prompt is in two of them, where prompts that differ in case or white space are one. IFT holds each prompt's
    best-ranked answer; the ranked parts take only prompts whose answers have two or more ranks. Where there are too few
    of these, the ranked parts shrink in proportion; where there are too few prompts in all, every part does, down to
    one each. Decided by `seed` and the texts, not by the order of the rows. Raises SeedDataError, with what was found,
    when there is not one prompt for each part.
    """
    by_key = ranked.with_columns(key=pl.Series([text_key(p) for p in ranked["prompt"]], dtype=pl.String)).sort(
        "prompt_id", "human_rank", "candidate_id"
    )
    apart = by_key.group_by("prompt_id", "key").agg(pl.col("human_rank").n_unique()).filter(pl.col("human_rank") > 1)
    drawn = sorted(set(by_key["key"]), key=lambda key: content_id(seed, key))
    comparable = set(apart["key"])
    asked = {
        "ranked": eft_prompts,
        "ranked_valid": test_ranked,
        "ift": ift,
        "ift_valid": ift_valid,
        "test_prompts": test_prompts,
    }
    found = (
        f"{', '.join(sorted(set(ranked['source'])))}: found {len(drawn)} prompts, {len(comparable)} of them with "
        f"answers of different rank"
    )
    sizes = asked | _fit({name: asked[name] for name in ("ranked", "ranked_valid")}, len(comparable), found)
    sizes = _fit(sizes, len(drawn), found)

    ranked_first = [key for key in drawn if key in comparable][: sizes["ranked"] + sizes["ranked_valid"]]
    taken = set(ranked_first)
    order = ranked_first + [key for key in drawn if key not in taken]
    parts: dict[str, pl.DataFrame] = {}
    for name, size in sizes.items():
        mine, order = order[:size], order[size:]
        parts[name] = by_key.filter(pl.col("key").is_in(mine))

    best = {
        name: parts[name].unique("key", keep="first", maintain_order=True)
        for name in ("ift", "ift_valid", "test_prompts")
    }
    tables = {
        name: parts[name].join(apart, on="prompt_id", how="semi").select(*RANKED.schema).sort("candidate_id")
        for name in ("ranked", "ranked_valid")
    }
    return {
        "ift": _ift_rows(best["ift"]),
        "ift_valid": _ift_rows(best["ift_valid"]),
        **tables,
        "test_prompts": best["test_prompts"].select(*TEST_PROMPTS.schema).sort("prompt_id"),
    }


def _fit(asked: dict[str, int], room: int, found: str) -> dict[str, int]:
    """The sizes asked for, scaled down in proportion where they exceed `room`; a part that was asked for keeps one at
    least."""
    total, parts = sum(asked.values()), sum(size > 0 for size in asked.values())
    if total <= room:
        return asked
    if parts > room:
        raise SeedDataError(
            f"{found}; {parts} are needed at the least, for {', '.join(name for name, size in asked.items() if size)}. "
            f"Bring more ranked prompts"
        )
    sizes = {name: max(1, size * room // total) if size else 0 for name, size in asked.items()}
    while sum(sizes.values()) > room:  # only where many parts were lifted to one
        sizes[max(sizes, key=sizes.__getitem__)] -= 1
    return sizes


def _ift_rows(best: pl.DataFrame) -> pl.DataFrame:
    ids = [content_id(prompt, response) for prompt, response in best.select("prompt", "response").iter_rows()]
    return (
        best.with_columns(pl.Series("ift_id", ids, dtype=pl.String), pl.col("prompt").alias("instruction"))
        .select(*IFT_TRAIN.schema)
        .sort("ift_id")
    )
