"""The prompts of the tiny world: a grammar that both samples and parses, and the split of its texts into train and
test.

Eight kinds: list, alpha, reverse, repeat, opposite, capitals, count, add. A prompt is held out for test by a hash of
its exact text. So that every kind has enough texts to hold out 620 (500 test prompts and 120 ranked sets) without
starving training, the kinds with few arguments were given more phrasings, as verb x noun x closing words ("Show me
three fruits that you know."), which leaves the tasks as hard as they were: the smallest kind (count) has about 800
texts, the others from 1,400 to millions. Every prompt has at least four words, since Self-Instruct's filters drop
shorter ones and the test would else ask what no new prompt can.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animals": ("cat", "dog", "hen", "cow", "pig", "fox", "bee", "owl"),
    "fruits": ("fig", "plum", "pear", "lime", "kiwi", "apple", "peach", "mango"),
    "colours": ("red", "blue", "pink", "gold", "grey", "teal", "brown", "green"),
    "tools": ("saw", "axe", "drill", "clamp", "rake", "spade", "hoe", "wrench"),
    "clothes": ("hat", "coat", "sock", "belt", "scarf", "shirt", "glove", "vest"),
    "vehicles": ("car", "bus", "van", "tram", "bike", "boat", "train", "truck"),
}
NOUNS: tuple[str, ...] = tuple(word for words in CATEGORIES.values() for word in words)
_PAIRS = (
    "hot cold",
    "up down",
    "big small",
    "fast slow",
    "good bad",
    "near far",
    "old new",
    "wet dry",
    "rich poor",
    "long short",
    "open shut",
    "hard soft",
)
OPPOSITE: dict[str, str] = {a: b for pair in _PAIRS for a, b in (pair.split(), pair.split()[::-1])}
HELD_OUT = 0.15
"""Share of all texts that belongs to test."""
LARGEST = 20
"""Largest number of the world."""
CAPITALS: tuple[str, ...] = tuple(word.upper() for word in NOUNS)
NUMBERS: tuple[str, ...] = tuple(map(str, range(LARGEST + 1)))

Kind = Literal["list", "alpha", "reverse", "repeat", "opposite", "capitals", "count", "add"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LENGTHS: dict[Kind, range] = {
    kind: {"repeat": range(2, 6), "count": range(3, 6)}.get(kind, range(2, 5)) for kind in KINDS
}

_NUMBER = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}
_CHOICES: dict[str, tuple[str, ...]] = {
    "verb": ("Name", "List", "Write", "Find", "Pick", "Give me", "Tell me", "Show me"),
    "wish": ("please", "now", "here", "from memory", "that you know", "that you like"),
    "order": ("from A to Z", "in A to Z order", "in letter order", "sorted by letter", "sorted from A to Z"),
    "say": ("Say", "Write", "Repeat"),
    "tell": ("Say", "Write", "List"),
    "way": ("up", "down"),
    "n": tuple(_NUMBER),
    "k": ("one", "two", "three", "1", "2", "3"),
    "category": tuple(CATEGORIES),
    "word": NOUNS,
}
_SEQUENCES = {"words": NOUNS, "opposites": tuple(OPPOSITE), "numbers": tuple(map(str, range(1, 10)))}
PHRASINGS: dict[Kind, tuple[str, ...]] = {
    "list": ("{verb} {n} {category} {wish}.",),
    "alpha": ("{verb} {n} {category} {order}.",),
    "reverse": (
        "Reverse this list: {words}.",
        "Turn this list around: {words}.",
        "{tell} these words backwards: {words}.",
    ),
    "repeat": ("{say} {word} {n} times.", "{say} the word {word} {n} times."),
    "opposite": ("{tell} the opposites of {opposites}.", "Turn these into opposites: {opposites}."),
    "capitals": ("Shout these words: {words}.", "{tell} these words in capitals: {words}."),
    "count": (
        "Count {way} from {a} to {b}.",
        "Count from {a} {way} to {b}.",
        "{tell} the numbers {way} from {a} to {b}.",
        "{tell} the numbers from {a} {way} to {b}.",
    ),
    "add": (
        "Add {k} to each number: {numbers}.",
        "Add {k} to each of these: {numbers}.",
        "Add {k} to these numbers: {numbers}.",
    ),
}


@dataclass(frozen=True)
class Task:
    """What a prompt asks for: `n` items. `given` are the words or numbers in the prompt, `wanted` the one right answer.

    List and alpha have many right answers: `wanted` is empty and `category` says what to draw from.
    """

    kind: Kind
    n: int
    prompt: str
    category: str = ""
    given: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()


def _alternatives(words: tuple[str, ...]) -> str:
    return "|".join(map(re.escape, words))


def _pattern(phrasing: str) -> re.Pattern[str]:
    fields = {name: f"(?P<{name}>{_alternatives(words)})" for name, words in _CHOICES.items()}
    fields |= {
        name: f"(?P<{name}>(?:{_alternatives(words)})(?: (?:{_alternatives(words)}))+)"
        for name, words in _SEQUENCES.items()
    }
    fields |= {name: rf"(?P<{name}>0|[1-9]\d?)" for name in "ab"}
    return re.compile(re.escape(phrasing).replace(r"\{", "{").replace(r"\}", "}").format(**fields))


_FIELD = re.compile(r"\{(\w+)\}")
_PATTERNS = [(kind, _pattern(phrasing)) for kind, phrasings in PHRASINGS.items() for phrasing in phrasings]


def parse(prompt: str) -> Task | None:
    """The task that a prompt states; None for any text that the grammar does not make."""
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(prompt):
            return _task(kind, prompt, match.groupdict())
    return None


def _task(kind: Kind, prompt: str, fields: dict[str, str]) -> Task | None:
    given: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    for name in _SEQUENCES:
        if name in fields:
            given = tuple(fields[name].split(" "))
    match kind:
        case "reverse":
            wanted = given[::-1]
        case "capitals":
            wanted = tuple(word.upper() for word in given)
        case "opposite":
            wanted = tuple(OPPOSITE[word] for word in given)
        case "add":
            wanted = tuple(str(int(number) + _NUMBER[fields["k"]]) for number in given)
        case "repeat":
            given = (fields["word"],)
            wanted = given * _NUMBER[fields["n"]]
        case "count":
            given = (fields["a"], fields["b"])
            a, b = map(int, given)
            wanted = tuple(map(str, range(a, b + 1) if fields["way"] == "up" else range(a, b - 1, -1)))
            if max(a, b) > LARGEST:
                return None
    n = _NUMBER[fields["n"]] if "n" in fields else len(wanted)
    repeats = kind != "add" and len(set(given)) < len(given)
    if n not in LENGTHS[kind] or repeats or (kind == "opposite" and set(given) & set(wanted)):
        return None
    return Task(kind, n, prompt, fields.get("category", ""), given, wanted)


def in_test(prompt: str, split_seed: int) -> bool:
    """Whether this exact text is held out for test in the world of `split_seed`."""
    digest = hashlib.sha256(f"{split_seed}\x1f{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT * 2**64


def sample_task(rng: Random, split: Literal["train", "test"], split_seed: int) -> Task:
    """A random task of the split: the kind first, evenly, then its arguments and its phrasing."""
    kind = rng.choice(KINDS)
    while True:
        prompt = _sample_prompt(kind, rng)
        if in_test(prompt, split_seed) == (split == "test"):
            task = parse(prompt)
            if task is None:
                raise AssertionError(f"the grammar made a text that it cannot read: {prompt!r}")
            return task


def _sample_prompt(kind: Kind, rng: Random) -> str:
    phrasing, n = rng.choice(PHRASINGS[kind]), rng.choice(LENGTHS[kind])
    fields = {}
    for name in _FIELD.findall(phrasing):
        if name == "n":
            fields[name] = rng.choice([word for word, number in _NUMBER.items() if number == n])
        elif name == "opposites":
            fields[name] = " ".join(rng.choice(pair.split()) for pair in rng.sample(_PAIRS, n))
        elif name in _SEQUENCES:
            fields[name] = " ".join(
                rng.choices(_SEQUENCES[name], k=n) if name == "numbers" else rng.sample(_SEQUENCES[name], n)
            )
        elif name in _CHOICES:
            fields[name] = rng.choice(_CHOICES[name])
    if kind == "count":
        low = rng.randrange(LARGEST - n + 2)
        fields["a"], fields["b"] = map(str, (low, low + n - 1) if fields["way"] == "up" else (low + n - 1, low))
    return phrasing.format(**fields)
