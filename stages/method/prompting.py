"""New prompts (paper 2.2, step 1): few-shot demonstrations and Self-Instruct's filters (arXiv 2212.10560). Text in,
text out: who writes is the caller's."""

from __future__ import annotations

import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from stages.store.tables import PROMPTS
from stages.text.ids import content_id, text_key

SURPLUS = "surplus"
"""Why a prompt was dropped that came after enough had been accepted."""
MIN_WORDS, MAX_WORDS = 4, 150
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


class RougeL:
    """Texts to compare with by ROUGE-L F-measure; decides exactly as `rouge_score` without stemming does, some thousand
    times faster.

    Tokens are interned as characters, so that rapidfuzz finds the longest common subsequence of two strings. The
    F-measure depends on its length and both texts' lengths only: texts are grouped by length, and each length has a
    least subsequence that would be above the threshold.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._characters: dict[str, str] = {}
        self._by_length: defaultdict[int, list[str]] = defaultdict(list)

    def add(self, text: str) -> None:
        tokens = self._tokens(text)
        self._by_length[len(tokens)].append(
            "".join(self._characters.setdefault(t, chr(len(self._characters) + 1)) for t in tokens)
        )

    def above(self, text: str) -> bool:
        """Whether the F-measure of `text` against any added text is above the threshold."""
        tokens = self._tokens(text)
        query = "".join(self._characters.get(t, "\0") for t in tokens)  # "\0": a word that no added text has
        for length, texts in self._by_length.items():
            least = self._least(len(tokens), length)
            if least <= min(len(tokens), length) and process.extractOne(
                query, texts, scorer=LCSseq.similarity, score_cutoff=least
            ):
                return True
        return False

    def _least(self, a: int, b: int) -> int:
        """The shortest common subsequence of texts of `a` and `b` tokens that is above the threshold; more than both
        when none is."""

        def above(common: int) -> bool:  # in rouge_score's own steps: at the threshold the last bit decides
            precision, recall = common / a, common / b
            return 2 * precision * recall / (precision + recall) > self.threshold

        least = max(1, int(self.threshold * (a + b) / 2) - 1)
        while least <= min(a, b) and not above(least):
            least += 1
        return least

    @staticmethod
    def _tokens(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())


class PromptFilter:
    """Self-Instruct's filters, asked in order of arrival; an accepted prompt joins those that later ones are compared
    with.

    `seeds`: the demonstrations, other human prompts, and those accepted in earlier iterations; `held_out`: prompts of
    test sets, refused by text (see `text_key`), not by likeness; `rouge_l`: the F-measure above which a prompt is too
    similar (Self-Instruct: 0.7).
    """

    def __init__(self, seeds: Iterable[str], held_out: Collection[str], rouge_l: float) -> None:
        self._similar = RougeL(rouge_l)
        self._texts: set[str] = set()
        self._held_out = {text_key(text) for text in held_out}
        for text in seeds:
            self._accept(text)

    def reason(self, text: str, finish_reason: str) -> str | None:
        """Why `text` is dropped, as one short word for SQL; None when it is accepted."""
        why = "cut_off" if finish_reason == "length" else _unfit(" ".join(text.split())) or self._seen(text)
        if why is None:
            self._accept(text)
        return why

    def _seen(self, text: str) -> str | None:
        key = text_key(text)
        if key in self._held_out:
            return "held_out"
        if key in self._texts:
            return "repeat"
        return "too_similar" if self._similar.above(text) else None

    def _accept(self, text: str) -> None:
        if (key := text_key(text)) not in self._texts:
            self._texts.add(key)
            self._similar.add(text)


def _unfit(text: str) -> str | None:
    """The filters that look at one prompt alone; white space is single, as Self-Instruct makes it first."""
    words = len(text.split(" "))
    reasons = {
        "empty": not text,
        "too_short": words < MIN_WORDS,
        "too_long": words > MAX_WORDS,
        "blacklisted_word": NOT_FOR_TEXT.search(text),
        # Self-Instruct capitalises first, so its test ignores case as well
        "starts_with_program": text.lower().startswith("write a program"),
        "starts_with_punctuation": text[:1] in string.punctuation,
        "non_english_start": not text[:1].isascii(),
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
            text = clean(completion)
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
