"""Answers to prompts with constraints, of which one keeps them all and another breaks some: judgements that nobody has
to write, on texts that differ in nothing else."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, count
from typing import Any

import polars as pl

from stages.constraints.oracle import check
from stages.constraints.sentences import Constraint, add, draw, read
from stages.text.ids import content_id

ALL_KEPT = 5.0
TRIES = 20
"""To find constraints that an answer can be made to keep, and does not keep by itself."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[A-Za-z]{4,}")
EDITED = (
    *("forbidden", "fewer_words", "bullets", "highlights", "no_comma", "title", "end_phrase", "postscript"),
    *("lowercase", "capitals", "quotation"),
)
"""In this order, so that a later edit does not undo an earlier one. The others cannot be had by an edit: an answer
keeps them, or is not taken."""


def checked_answers(ranked: pl.DataFrame, prompts: int, *, seed: int) -> pl.DataFrame:
    """RANKED rows for at most `prompts` new prompts, which are those of `ranked` with constraints: an answer of
    people's, edited so that it keeps all of them (rank 0), and the same with one or all edits left out, ranked by what
    the checker says. Where more are wanted than stand in `ranked`, each makes several, with other constraints.

    Which prompts, answers and constraints is decided by `(seed, prompt_id)`, and fewer rows are the first of more. A
    prompt none of whose answers can be edited so is passed over.
    """
    by_hash = ranked.with_columns(
        order=pl.col("prompt_id").map_elements(lambda i: content_id(seed, "constraints", i), return_dtype=pl.String)
    )
    groups = [
        group.sort(pl.col("response").str.len_chars(), "candidate_id").to_dicts()
        for group in by_hash.sort("order", "human_rank", "candidate_id").drop("order").partition_by("prompt_id")
    ]
    versions: dict[str, list[dict[str, Any]]] = {}
    for draw_no in count():
        before = len(versions)
        for answers in groups:
            if len(versions) == prompts:
                break
            if new := _of_prompt(answers, seed, draw_no):
                versions.setdefault(new[0]["prompt_id"], new)
        if len(versions) in (before, prompts):
            break
    return pl.DataFrame([row for rows in versions.values() for row in rows], ranked.schema)


def _of_prompt(answers: Sequence[Mapping[str, Any]], seed: int, draw_no: int) -> list[dict[str, Any]]:
    for attempt in range(TRIES):
        answer = answers[attempt % len(answers)]
        drawn = draw(seed, content_id(answer["prompt_id"], draw_no * TRIES + attempt))
        prompt = add(answer["prompt"], drawn)
        texts = _versions(answer["response"], read(prompt), random.Random(f"{seed}\x1f{prompt}"))
        scores = {text: checked[0] for text in dict.fromkeys(texts) if text and (checked := check(prompt, text))}
        levels = sorted(set(scores.values()), reverse=True)
        if len(levels) < 2 or levels[0] < ALL_KEPT:
            continue
        prompt_id = content_id(prompt)
        return [
            dict(answer)
            | {
                "candidate_id": content_id(prompt_id, text),
                "prompt_id": prompt_id,
                "prompt": prompt,
                "response": text,
                "human_rank": levels.index(score),
                "source": "constraints",
            }
            for text, score in scores.items()
        ]
    return []


def _versions(text: str, constraints: Sequence[Constraint], rng: random.Random) -> list[str]:
    """All edits, all but one, none."""
    edits = sorted((c for c in constraints if c.name in EDITED), key=lambda c: EDITED.index(c.name))
    if not edits:
        return [text]
    left_out = rng.randrange(len(edits))
    return [_edited(text, edits), _edited(text, [*edits[:left_out], *edits[left_out + 1 :]]), text]


def _edited(text: str, constraints: Sequence[Constraint]) -> str:
    for constraint in constraints:
        text = _edit(text.strip(), constraint)
    return text


def _edit(text: str, constraint: Constraint) -> str:
    arguments = constraint.arguments
    match constraint.name:
        case "no_comma":
            return text.replace(",", "")
        case "lowercase":
            return text.lower()
        case "capitals":
            return text.upper()
        case "quotation":
            return '"' + text.strip('"') + '"'
        case "title":
            return f"<<{' '.join(re.findall(r'[A-Za-z]+', text)[:4])}>>\n{text}"
        case "end_phrase":
            return f"{text} {arguments['end_phrase']}"
        case "postscript":
            return f"{text}\n\nP.S. {SENTENCE_END.split(text)[0]}"
        case "forbidden":
            words = "|".join(map(re.escape, arguments["forbidden_words"]))
            kept = [s for s in SENTENCE_END.split(text) if not re.search(rf"\b({words})\b", s, re.IGNORECASE)]
            return " ".join(kept)
        case "fewer_words":
            sentences = SENTENCE_END.split(text)
            lengths = accumulate(len(sentence.split()) for sentence in sentences)
            return " ".join(sentences[: sum(length < arguments["num_words"] for length in lengths)])
        case "bullets":
            return "\n".join(f"* {' '.join(s.split())}" for s in SENTENCE_END.split(text)[: arguments["num_bullets"]])
        case "highlights":
            return WORD.sub(r"*\g<0>*", text, count=arguments["num_highlights"])
    return text
