"""Self-Instruct's filter for similar prompts beside rouge_score: one process, one thread, processor seconds.

    python -m benchmarks.rouge FILE... [--column prompt] [--most 100000]

Every prompt, in a drawn order of arrival, is compared with those accepted before it. FILE: what split_seed reads, or a
JSON list of texts; in Open Assistant's schema its first messages. Where the files hold too few prompts, more are made:
chains of words of which each followed the one before somewhere in a real one. Their words are the real ones' alone, so
the vocabulary does not grow, which is hard on an index of words. Prompts of 4 to 150 words, as the other filters leave.

rouge_score is timed on a sample of the pairs and scaled to all, since Self-Instruct compares all. Decisions must be
rouge_score's over the first 300 arrivals, every pair, and those of comparing with every text over the first 3,000.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rapidfuzz import process
from rapidfuzz.distance import LCSseq
from rich.table import Table
from rouge_score import rouge_scorer

from stages.console.terminal import Console
from stages.method.likeness import Interned, RougeL, tokens
from stages.method.prompting import WORDS
from stages.store.rows import read_file

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
THRESHOLD, LANG = 0.7, "en"
WHOLE, EACH, PAIRS = 300, 3_000, 5_000
"""Arrivals that rouge_score decides, that are compared with every text, and pairs that rouge_score is timed on."""
PACKAGES = ("rapidfuzz", "rouge_score", "numpy")
SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def main(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    column: Annotated[str | None, typer.Option()] = None,
    most: Annotated[int, typer.Option(help="the largest number of prompts")] = SIZES[-1],
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    real = [text for text in dict.fromkeys(texts(files, column)) if WORDS[0] <= len(text.split(" ")) <= WORDS[1]]
    if not real:
        raise SystemExit(f"no prompt of {WORDS[0]} to {WORDS[1]} words in the files. Name others, or their --column")
    rng = random.Random(seed)
    rng.shuffle(real)
    console, rows = Console(width=120), list[dict[str, int | float]]()
    shown = Table("prompts", "real", "accepted", "ours s", "us a prompt", "growth", "rouge_score s", "ratio", box=None)
    shown.add_column("tokens kept s, ratio")
    for size in [size for size in SIZES if size <= most]:
        arrivals = [*real[:size], *recombined(real, size - len(real[:size]), rng)]
        rng.shuffle(arrivals)
        started = time.process_time()
        accepted = ours(arrivals)
        seconds = time.process_time() - started
        if size <= EACH:
            check(arrivals, accepted)
        pairs = sum(np.cumsum(accepted)[:-1].tolist())
        by_text, by_tokens = (per_pair * pairs for per_pair in reference(arrivals, accepted, rng))
        row: dict[str, int | float] = {"prompts": size, "real": min(size, len(real)), "accepted": sum(accepted)}
        row |= {"ours_s": round(seconds, 2), "pairs": pairs}
        row |= {"rouge_score_s": round(by_text), "tokens_kept_s": round(by_tokens)}
        growth = "" if not rows else f"{power(rows[-1], row):.2f}"
        ratios = f"{by_text / seconds:,.0f}", f"{by_tokens:,.0f}, {by_tokens / seconds:,.0f}"
        cells = f"{seconds:.2f}", f"{seconds / size * 1e6:.0f}", growth, f"{by_text:,.0f}", *ratios
        shown.add_row(*(f"{row[name]:,}" for name in ("prompts", "real", "accepted")), *cells)
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    console.print(shown)
    console.print(f"{len(real):,} real prompts, the others recombined; growth: seconds grow as prompts to this power")
    print(json.dumps({"rows": rows, "threshold": THRESHOLD, "versions": {name: version(name) for name in PACKAGES}}))


def texts(files: Iterable[Path], column: str | None) -> Iterator[str]:
    for path in files:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        if data.lstrip().startswith(b'["'):
            yield from json.loads(data)
            continue
        for place, row in read_file(path, what="prompts", fix="Name another file"):
            text = row.get(column or next((name for name in ("prompt", "instruction", "text") if name in row), ""))
            if not isinstance(text, str):
                raise SystemExit(f"{path}, {place}: no text. Name its --column: {', '.join(row)}")
            if row.get("parent_id") is None:
                yield text


def recombined(real: Sequence[str], number: int, rng: random.Random) -> Iterator[str]:
    """As long as real ones are, of their words."""
    following = defaultdict(list)
    words = [text.split() for text in real]
    for some in words:
        for one, after in pairwise(some):
            following[one].append(after)
    for _ in range(number):
        chain, length = [rng.choice(words)[0]], len(rng.choice(words))
        while len(chain) < length:
            chain.append(rng.choice(following[chain[-1]] or rng.choice(words)))
        yield " ".join(chain)


def ours(arrivals: Sequence[str]) -> list[bool]:
    """Whether each is accepted."""
    index, accepted = RougeL(THRESHOLD, LANG), []
    for text in arrivals:
        accepted.append(not index.above(text))
        if accepted[-1]:
            index.add(text)
    return accepted


def check(arrivals: Sequence[str], accepted: Sequence[bool]) -> None:
    """Stop where a decision is another than the reference's."""
    interned, before = Interned(LANG), list[str]()
    for at, (text, kept) in enumerate(zip(arrivals[:EACH], accepted, strict=False)):
        string = interned.add(text)
        common = process.cdist([string], before, scorer=LCSseq.similarity)[0] if before and string else np.zeros(0)
        precision, recall = common / max(1, len(string)), common / np.array([max(1, len(one)) for one in before])
        with np.errstate(invalid="ignore"):  # nothing in common: 0 / 0, which is not above
            above = bool((2 * precision * recall / (precision + recall) > THRESHOLD).any())
        if at < WHOLE:
            earlier = (one for one, was in zip(arrivals[:at], accepted, strict=False) if was)
            scores = [SCORER.score(one, text)["rougeL"].fmeasure for one in earlier]
            assert above == any(score > THRESHOLD for score in scores), f"rouge_score decides otherwise: {text!r}"
        assert kept != above, f"comparing with every text decides otherwise: {text!r}"
        if kept:
            before.append(string)


def reference(arrivals: Sequence[str], accepted: Sequence[bool], rng: random.Random) -> tuple[float, float]:
    """Seconds that rouge_score takes for one pair: of two texts, and of their tokens, as Stanford Alpaca calls it."""
    earlier = [at for at, kept in enumerate(accepted) if kept]
    ranks = np.searchsorted(earlier, range(len(arrivals))).tolist()  # how many were accepted before each
    drawn = rng.choices(range(len(arrivals)), weights=ranks, k=PAIRS)
    pairs = [(arrivals[earlier[rng.randrange(ranks[at])]], arrivals[at]) for at in drawn]
    started = time.process_time()
    for one, other in pairs:
        SCORER.score(one, other)
    by_text = time.process_time() - started
    split = [(tokens(one, LANG), tokens(other, LANG)) for one, other in pairs]
    started = time.process_time()
    for one_tokens, other_tokens in split:
        rouge_scorer._score_lcs(one_tokens, other_tokens)
    return by_text / PAIRS, (time.process_time() - started) / PAIRS


def power(before: dict[str, int | float], now: dict[str, int | float]) -> float:
    return float(np.log(now["ours_s"] / before["ours_s"]) / np.log(now["prompts"] / before["prompts"]))


if __name__ == "__main__":
    typer.run(main)
