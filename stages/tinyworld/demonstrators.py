"""People: writers whose replies have systematic faults, and the seed data made of them.

The faults are habits, not noise (forgotten instructions, "people like threes"), and each writer's habits depend on the
task: that is what leaves room for judging to teach. With random faults the only gain of the loop was politeness.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Literal, NamedTuple

import polars as pl

from stages.config.sections import SplitSeed
from stages.console.errors import SeedDataError
from stages.store.tables import IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS, Table
from stages.text.ids import content_id
from stages.tinyworld.oracle import POLITE, RUDE, score_task
from stages.tinyworld.tasks import CAPITALS, CATEGORIES, NOUNS, NUMBERS, OPPOSITE, Kind, Task, sample_task

Row = dict[str, str | int]
Rows = list[Row]

SOURCE = "tinyworld"
TAILS = ("um ok.", "and so on.", "I guess.")
REPLIES_PER_SET = 4
_MAX_DRAWS = 200_000
"""Draws without a new prompt before the world counts as used up; the smallest shares of it turn up far earlier."""


class Writer(NamedTuple):
    """`right`, `polite`, `tidy`: probabilities of a reply without a fault of that sort; `lazy` scales the habits."""

    right: float
    polite: float
    tidy: float
    lazy: float


WEB = Writer(0.85, 0.3, 0.5, 0.4)
CARELESS = Writer(0.5, 0.4, 0.5, 0.8)
IFT_WRITER = Writer(0.9, 0.5, 0.8, 1.0)
RANKED_WRITERS = (Writer(0.5, 0.3, 0.5, 1.0), Writer(0.75, 0.6, 0.7, 0.5), Writer(0.95, 0.9, 0.9, 0.1))

_FORGETS: dict[Kind, float] = {"alpha": 0.5, "capitals": 0.5, "reverse": 0.35, "opposite": 0.2, "add": 0.2}
_FAULTS = ("wrong", "wrong", "drop", "drop", "swap", "swap", "extra", "duplicate", "off-topic")
_SECOND_FAULT = 0.2
_ONE_MORE = {2: 0.6, 3: 0.2, 4: 0.05}
_ONE_LESS = {2: 0.03, 3: 0.08, 4: 0.5, 5: 0.6}


def answer(task: Task, writer: Writer, rng: Random) -> str:
    """A reply of this writer: `[opening] item item item. [tail]`."""
    items = right_items(task, rng)
    if rng.random() < writer.lazy * _FORGETS.get(task.kind, 0.0):
        items = rng.sample(items, len(items)) if task.kind == "alpha" else list(task.given)
    if rng.random() >= writer.right:
        items = _with_fault(task, items, rng)
        if rng.random() < _SECOND_FAULT:
            items = _with_fault(task, items, rng)
    u = rng.random()
    if u < writer.lazy * _ONE_MORE.get(task.n, 0.0):
        items = [*items, _other(task, items, rng)]
    elif u > 1 - writer.lazy * _ONE_LESS[task.n] and len(items) > 1:
        items = items[:-1]
    return _dressed(items, writer, rng)


def right_items(task: Task, rng: Random) -> list[str]:
    """The right answer, or a random one of many."""
    if task.wanted:
        return list(task.wanted)
    items = rng.sample(CATEGORIES[task.category], task.n)
    return sorted(items) if task.kind == "alpha" else items


def _with_fault(task: Task, items: list[str], rng: Random) -> list[str]:
    items, at = list(items), rng.randrange(len(items))
    match rng.choice(_FAULTS):
        case "wrong":
            items[at] = _stray(task, items, rng)
        case "drop" if len(items) > 1:
            del items[at]
        case "swap" if len(items) > 1:
            first, second = rng.sample(range(len(items)), 2)
            items[first], items[second] = items[second], items[first]
        case "extra":
            items.append(_other(task, items, rng))
        case "duplicate":
            items.insert(at, items[at])
        case _:
            items = [_stray(task, [], rng) for _ in items]
    return items


def _other(task: Task, items: list[str], rng: Random) -> str:
    """One more item that looks like the others."""
    if task.kind == "repeat":
        return task.given[0]
    if task.kind == "count":
        step = int(task.wanted[1]) - int(task.wanted[0])
        return str(max(0, int(items[-1]) + step)) if items[-1].isdigit() else task.wanted[-1]
    pool = CATEGORIES[task.category] if task.category else _words_like(task)
    return rng.choice([word for word in pool if word not in items])


def _stray(task: Task, items: list[str], rng: Random) -> str:
    """An item that is wrong for the task: off its category, or another of its words."""
    pool = [word for word in _words_like(task) if word not in items and word not in task.wanted]
    return rng.choice([word for word in pool if word not in CATEGORIES.get(task.category, ())])


def _words_like(task: Task) -> tuple[str, ...]:
    match task.kind:
        case "opposite":
            return tuple(OPPOSITE)
        case "capitals":
            return CAPITALS
        case "count" | "add":
            return NUMBERS
        case _:
            return NOUNS


def _dressed(items: list[str], writer: Writer, rng: Random) -> str:
    """With opening and tail. An untidy reply opens rudely or goes on after its full stop; a polite one never opens
    rudely."""
    polite, tidy, rude = rng.random() < writer.polite, rng.random() < writer.tidy, rng.random() < 0.5
    opening = rng.choice(POLITE) if polite else "" if tidy or not rude else rng.choice(RUDE)
    tail = "" if tidy or opening in RUDE else rng.choice(TAILS)
    return f"{opening} {' '.join(items)}. {tail}".strip()


def seed_tables(params: SplitSeed, split_seed: int, seed: int) -> dict[str, pl.DataFrame]:
    """The seed data in the contracts of `stages.store.tables`, keyed by table name: ift, ift_valid, ranked,
    ranked_valid, test_prompts.

    Held-out prompts and their ranked replies depend on `split_seed` and the sizes only; training data also on `seed`.
    No prompt stands in two tables. Raises SeedDataError when the world has too few texts for the sizes.
    """
    held_out = Random(f"{split_seed}/held out")
    tests = _tasks(held_out, "test", split_seed)
    test_prompts: Rows = [
        {"prompt_id": content_id(task.prompt), "prompt": task.prompt} for task in _take(tests, params.test_prompts)
    ]
    ranked_valid = [row for task in _take(tests, params.test_ranked) for row in _ranked_set(task, held_out)]
    train = Random(f"{split_seed}/{seed}/train")
    tasks = _tasks(train, "train", split_seed)
    ift, ift_valid = ([_demonstration(task, train) for task in _take(tasks, n)] for n in (params.ift, params.ift_valid))
    ranked = [row for task in _take(tasks, params.eft_prompts) for row in _ranked_set(task, train)]
    rows: dict[Table, Rows] = {
        IFT_TRAIN: ift,
        IFT_VALID: ift_valid,
        RANKED: ranked,
        RANKED_VALID: ranked_valid,
        TEST_PROMPTS: test_prompts,
    }
    return {table.name: _frame(table, table_rows) for table, table_rows in rows.items()}


def _frame(table: Table, rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(
        [{**row, "source": SOURCE, "source_id": f"{table.name}-{i}"} for i, row in enumerate(rows)], schema=table.schema
    )


def _tasks(rng: Random, split: Literal["train", "test"], split_seed: int) -> Iterator[Task]:
    """Tasks with ever new prompts."""
    seen: set[str] = set()
    for _ in range(_MAX_DRAWS):
        task = sample_task(rng, split, split_seed)
        if task.prompt not in seen:
            seen.add(task.prompt)
            yield task


def _take(tasks: Iterator[Task], n: int) -> list[Task]:
    taken = list(islice(tasks, n))
    if len(taken) < n:
        raise SeedDataError(
            f"the tiny world has too few prompts: {n} asked for, {len(taken)} left. Lower the sizes in params.yaml, "
            f"section split_seed"
        )
    return taken


def _demonstration(task: Task, rng: Random) -> Row:
    response = answer(task, IFT_WRITER, rng)
    return {"ift_id": content_id(task.prompt, response), "instruction": task.prompt, "response": response}


def _ranked_set(task: Task, rng: Random) -> Rows:
    """Different replies of random writers, ranked as people would: 0 is best, equal points share a rank. A set without
    any order is drawn again."""
    while True:
        replies = list(dict.fromkeys(answer(task, rng.choice(RANKED_WRITERS), rng) for _ in range(REPLIES_PER_SET)))
        totals = [score_task(task, reply).total for reply in replies]
        best_first = sorted(set(totals), reverse=True)
        if len(replies) == REPLIES_PER_SET and len(best_first) > 1:
            break
    return [
        {
            "candidate_id": content_id(task.prompt, reply),
            "prompt_id": content_id(task.prompt),
            "prompt": task.prompt,
            "response": reply,
            "human_rank": best_first.index(total),
        }
        for reply, total in zip(replies, totals, strict=True)
    ]
