"""New prompts (paper 2.2, step 1): few-shot demonstrations and Self-Instruct's filters (arXiv 2212.10560). Text in,
text out: who writes is the caller's."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple
from unicodedata import category

import polars as pl

from stages.method.likeness import CHARACTER, RougeL, tokens
from stages.store.tables import PROMPTS
from stages.text.ids import content_id, text_key
from stages.text.language import is_english
from stages.text.thoughts import answer

SURPLUS = "surplus"
"""Why a prompt was dropped that came after enough had been accepted."""
WORDS, CHARACTERS = (4, 150), (6, 300)
"""Shortest and longest prompt."""
NOT_FOR_TEXT = re.compile(r"\b(?:images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b", re.IGNORECASE)


def draw_shots(
    ift: pl.DataFrame,
    accepted: Sequence[tuple[str, str]],
    *,
    ift_shots: int,
    new_shots: int,
    seed: int,
    request_id: str,
) -> list[tuple[str, str]]:
    """(id, text) of the demonstrations of one request, shuffled: `ift_shots` IFT instructions, `new_shots` of the
    prompts `accepted` before.

    Where fewer prompts were accepted, IFT fills their places. Decided by `(seed, request_id)` and the order of `ift`
    and `accepted`.
    """
    rng = random.Random(f"{seed}\x1f{request_id}")
    new = rng.sample(accepted, min(new_shots, len(accepted)))
    rows = rng.sample(range(len(ift)), min(ift_shots + new_shots - len(new), len(ift)))
    shots = [*new, *ift[rows].select("ift_id", "instruction").iter_rows()]
    rng.shuffle(shots)
    return shots


class PromptFilter:
    """Self-Instruct's filters, asked in order of arrival; an accepted prompt joins those that later ones are compared
    with.

    `seeds`: the demonstrations, other human prompts, and those accepted in earlier iterations; `held_out`: prompts of
    test sets; `rouge_l`: the F-measure above which a prompt is too similar (Self-Instruct: 0.7), `near_duplicates` that
    to held-out ones; `lang`: of the prompts, null for any.
    """

    def __init__(
        self, seeds: Iterable[str], held_out: Collection[str], rouge_l: float, near_duplicates: float, lang: str | None
    ) -> None:
        self._lang = lang
        self._similar, self._like_held_out = RougeL(rouge_l, lang), RougeL(near_duplicates, lang)
        self._texts: set[str] = set()
        self._held_out = {text_key(text) for text in held_out}
        for text in sorted(held_out):
            self._like_held_out.add(text)
        for text in seeds:
            self._accept(text)

    def reason(self, text: str, finish_reason: str) -> str | None:
        """Why `text` is dropped, as one short word for SQL; None when it is accepted."""
        why = "cut_off" if finish_reason == "length" else _unfit(" ".join(text.split()), self._lang) or self._seen(text)
        if why is None:
            self._accept(text)
        return why

    def _seen(self, text: str) -> str | None:
        key = text_key(text)
        if key in self._held_out or self._like_held_out.above(text):
            return "held_out"
        if key in self._texts:
            return "repeat"
        return "too_similar" if self._similar.above(text) else None

    def _accept(self, text: str) -> None:
        if (key := text_key(text)) not in self._texts:
            self._texts.add(key)
            self._similar.add(text)


def _unfit(text: str, lang: str | None) -> str | None:
    """The filters that look at one prompt alone; white space is single, as Self-Instruct makes it first.

    English: Self-Instruct's. Else its rules for words are rules for characters where most of a text has no spaces, and
    English words say nothing.
    """
    english, start = is_english(lang), text[:1]
    length, (least, most) = len(text.split(" ")), WORDS
    if not english and 2 * len(parts := CHARACTER.findall(text)) > len(tokens(text, lang)):
        length, (least, most) = len(parts), CHARACTERS
    reasons = {
        "empty": not text,
        "too_short": length < least,
        "too_long": length > most,
        "blacklisted_word": english and NOT_FOR_TEXT.search(text),
        # Self-Instruct capitalises first, so its test ignores case as well
        "starts_with_program": english and text.lower().startswith("write a program"),
        "starts_with_punctuation": start in string.punctuation
        if english
        else category(start or " ")[0] in "PS" and start not in "¿¡",
        "non_english_start": english and not start.isascii(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class Written(NamedTuple):
    """One prompt as it arrived: its text, the ids of its shots, and why it was dropped (None: accepted)."""

    text: str
    shots: list[str]
    dropped: str | None


def prompt_id(text: str) -> str:
    """Id of a prompt: the same text has the same id everywhere."""
    return content_id(text)


def write_in_rounds(
    complete: Callable[[dict[str, list[str]]], pl.DataFrame],
    accepts: PromptFilter,
    ift: pl.DataFrame,
    *,
    name: str,
    wanted: int,
    ift_shots: int,
    new_shots: int,
    round_size: int,
    max_rounds: int,
    seed: int,
) -> list[Written]:
    """Prompts in order of arrival, until `wanted` are accepted or after `max_rounds`; those accepted in a round are
    shots in the next. What comes after enough is dropped as `surplus`.

    `complete` takes the shots of each request, texts by request id, and returns completions (id, text, finish_reason).
    `name` is part of the ids, so that two iterations with one writer do not ask the same.
    """
    accepted: list[tuple[str, str]] = []
    written: list[Written] = []
    for turn in range(max_rounds):
        ids = [f"{name}-{turn}-{i}" for i in range(round_size)]
        shots = {
            i: draw_shots(ift, accepted, ift_shots=ift_shots, new_shots=new_shots, seed=seed, request_id=i) for i in ids
        }
        completions = complete({i: [text for _, text in shown] for i, shown in shots.items()})
        for i, completion, finish_reason in completions.select("id", "text", "finish_reason").iter_rows():
            text = clean(answer(completion))
            dropped = SURPLUS if len(accepted) == wanted else accepts.reason(text, finish_reason)
            written.append(Written(text, [shot for shot, _ in shots[i]], dropped))
            if dropped is None:
                accepted.append((prompt_id(text), text))
        if len(accepted) == wanted:
            break
    return written


def prompts_frame(written: Sequence[Written], model: str, writer: str) -> pl.DataFrame:
    """PROMPTS rows in order of arrival. A text has its own id once, where it was accepted or else where it came first;
    a repeat's id holds its place too."""
    taken = {one.text for one in written if one.dropped is None}
    rows = []
    for i, one in enumerate(written):
        repeat = one.dropped is not None and one.text in taken
        row_id = content_id(one.text, i) if repeat else prompt_id(one.text)
        taken.add(one.text)
        rows.append((row_id, model, one.text, writer, list(one.shots), one.dropped))
    return pl.DataFrame(rows, schema=PROMPTS.schema, orient="row")


def clean(text: str) -> str:
    """What a writer wrote, without the white space and the list number around the prompt."""
    return re.sub(r"^\d+\s*[.):]\s+", "", text.strip())


def why_dropped(written: Sequence[Written]) -> str:
    """One sentence for people: how many prompts each filter dropped, the commonest first."""
    reasons = Counter(one.dropped for one in written if one.dropped is not None)
    counted = ", ".join(f"{n} {why}" for why, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return f"Of {len(written)} written, {reasons.total()} were dropped" + (f": {counted}." if counted else ".")
