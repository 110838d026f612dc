"""How alike two texts are: ROUGE-L over the words of their language. In English it decides exactly as `rouge_score`
without stemming does, some thousand times faster."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from unicodedata import normalize

import numpy as np
import regex
from rapidfuzz import process
from rapidfuzz.distance import Indel, LCSseq

from stages.text.language import is_english

_SPACELESS = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
)
CHARACTER = regex.compile(rf"[[{_SPACELESS}]&&[\p{{L}}\p{{N}}]]\p{{M}}*", regex.V1)
"""Of scripts that put no spaces between words, or (Korean) few."""
_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_SPACELESS}]]+"
_TOKEN = regex.compile(rf"{CHARACTER.pattern}|{_WORD}", regex.V1)
WORDS = 4
"""Of 64 bits, in the hashed set of a text's tokens."""
CHUNK = 256
UNSEEN = chr(0x10FFFF)
SLACK = 1e-6
"""Rounding must not rule out what the last bit decides."""


def tokens(text: str, lang: str | None) -> list[str]:
    """English: rouge_score's. Else words of Unicode, and characters of scripts without spaces."""
    if is_english(lang):
        return re.findall(r"[a-z0-9]+", text.lower())
    return [str(token) for token in _TOKEN.findall(normalize("NFKC", text).casefold())]


class Interned:
    """Texts whose tokens are characters, so that rapidfuzz finds the longest common subsequence of two strings."""

    def __init__(self, lang: str | None) -> None:
        self.lang = lang
        self._characters: dict[str, str] = {}

    def add(self, text: str) -> str:
        known = self._characters
        return "".join(known.setdefault(t, chr(1 + len(known) % 0x10FFFE)) for t in tokens(text, self.lang))

    def look_up(self, text: str) -> str:
        """With the last character for what no added text has."""
        return "".join(self._characters.get(t, UNSEEN) for t in tokens(text, self.lang))


class RougeL:
    """Texts to compare with by ROUGE-L F-measure.

    A common subsequence of n tokens is n tokens that both texts hold. Let one order sort the tokens of each text, rare
    first: the first that both hold has the others behind it, in either. So an index of the tokens that sorted texts
    begin with finds whatever can be alike, and little else (prefix and positional filters: Bayardo et al. 2007, Xiao et
    al. 2008).
    """

    def __init__(self, threshold: float, lang: str | None) -> None:
        self.threshold = threshold
        self._interned = Interned(lang)
        self._texts: list[str] = []
        self._index: dict[str, array[int]] = {}
        """Token -> number of a text, its length, the length of the longest that may be alike; of the next text, ..."""

    def add(self, text: str) -> None:
        string = self._interned.add(text)
        for token, longest in self._beginning(string):
            self._index.setdefault(token, array("I")).extend((len(self._texts), len(string), longest))
        self._texts.append(string)

    def above(self, text: str) -> bool:
        """Whether the F-measure of `text` against any added text is above the threshold."""
        query = self._interned.look_up(text)
        indexed = [(self._index[token], most) for token, most in self._beginning(query) if token in self._index]
        if not indexed:
            return False
        number, length, longest = np.frombuffer(b"".join(rows for rows, _ in indexed), np.uint32).reshape(-1, 3).T
        fits = length <= np.repeat([most for _, most in indexed], [len(rows) // 3 for rows, _ in indexed])
        candidates = (self._texts[i] for i in number[fits & (longest >= len(query))].tolist())
        alike = process.extract_iter(
            query, candidates, scorer=Indel.normalized_similarity, score_cutoff=self.threshold - SLACK
        )  # the F-measure, but for its last bit
        return any(_f_measure(query, other) > self.threshold for other, _, _ in alike)

    def _beginning(self, string: str) -> Iterator[tuple[str, int]]:
        """The tokens that a text is found by, rare first, and how long another text may be where this is the first
        token of both. The newest token counts as the rarest, so that the order of two never changes; a token's second
        occurrence is a token of its own."""
        counts, length = Counter(string), len(string)
        shortest = length * self.threshold / (2 - self.threshold) - SLACK
        in_order = (token * n for token in sorted(counts, reverse=True) for n in range(counts[token], 0, -1))
        for at, token in enumerate(in_order):
            longest = int(2 * (length - at) / self.threshold - length + SLACK)
            if longest < shortest:
                break
            yield token, longest


def _f_measure(a: str, b: str) -> float:
    """In rouge_score's own steps: at the threshold the last bit decides."""
    common = LCSseq.similarity(a, b)
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall)


def near_duplicates(texts: Sequence[str], threshold: float, lang: str | None) -> list[int]:
    """For each text the first text of its group: whatever has a ROUGE-L F-measure above `threshold`, directly or over
    others, is in one group.

    Pairs are compared only where they can be alike: a common subsequence holds no token that one text has not, which a
    hashed set of each text's tokens shows.
    """
    interned = Interned(lang)
    strings = [interned.add(text) for text in texts]
    order = np.array(sorted(range(len(texts)), key=lambda i: len(strings[i])), dtype=np.int64)
    by_length = [strings[i] for i in order]
    lengths = np.array([len(string) for string in by_length], dtype=np.int64)
    signatures = np.array([_signature(string) for string in by_length], dtype=np.uint64).reshape(-1, WORDS)
    group = np.arange(len(texts))
    for at in range(len(texts) if threshold < 1 else 0):
        length = lengths[at]
        start = int(
            np.searchsorted(lengths, max(1, length * threshold / (2 - threshold) - SLACK))
        )  # shorter is too short
        shared = np.full(max(0, at - start), length)
        for word in range(WORDS):
            shared -= np.bitwise_count(signatures[at, word] & ~signatures[start:at, word])
        rest = start + np.flatnonzero(2 * shared > threshold * (length + lengths[start:at]) - SLACK)
        alike: set[int] = set()
        while len(rest):
            some, rest = rest[:CHUNK], rest[CHUNK:]
            common = process.cdist([by_length[at]], [by_length[i] for i in some], scorer=LCSseq.similarity)[0]
            some, common = some[common > 0], common[common > 0]
            precision, recall = common / length, common / lengths[some]
            above = 2 * precision * recall / (precision + recall) > threshold  # in rouge_score's own steps
            alike |= set(group[some[above]].tolist())
            rest = rest[~np.isin(group[rest], [*alike])] if alike else rest
        if len(alike) > 1:
            group[np.isin(group, [*alike])] = min(alike)
        group[at] = min(alike, default=at)
    first = np.full(len(texts), len(texts))
    np.minimum.at(first, group, order)
    of_text = np.empty(len(texts), dtype=np.int64)
    of_text[order] = first[group]
    return [int(i) for i in of_text]


def _signature(string: str) -> list[int]:
    bits = 0
    for character in {*string}:
        bits |= 1 << (ord(character) * 0x9E3779B1 >> 16) % (64 * WORDS)
    return [bits >> 64 * word & 2**64 - 1 for word in range(WORDS)]
