"""What M0 reads: web-like text of the tiny world, one document per row. No test prompt stands in it.

Most of it is questions with answers, many with a remark on the answer; people remark on bad answers as often as on the
usual ones. The remarks are the checker's, with some findings flipped: noisy, as the web is. One document in seven is a
full review in the very words of the judge's prompt, which is what lets M0 judge zero-shot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

from jinja2 import Template

from stages.tinyworld.demonstrators import CARELESS, WEB, answer
from stages.tinyworld.oracle import Points, score_task
from stages.tinyworld.reviews import NONE, check_text, points_text
from stages.tinyworld.tasks import CAPITALS, CATEGORIES, NOUNS, NUMBERS, OPPOSITE, Task, sample_task

HERE = Path(__file__).parent
END = "<end>"
"""Begins a conversation and ends every text."""
FLIPS = 0.03
WITH_POINTS = 0.6


def documents(seed: int, n: int, split_seed: int) -> list[str]:
    """`n` documents, each with its end token; the same for the same arguments."""
    rng = Random(f"{seed}/{split_seed}/corpus")
    writers, weights = zip(*MIX.items(), strict=True)
    return [write(rng, split_seed) for write in rng.choices(writers, weights, k=n)]


def question(rng: Random, split_seed: int) -> str:
    """A question and an answer, in the chat format of `chat.jinja`."""
    task = sample_task(rng, "train", split_seed)
    return _chat(task.prompt, answer(task, WEB, rng))


def remark(rng: Random, split_seed: int) -> str:
    """A question, an answer, and what someone had to say about it."""
    task, reply, points = _judged(rng, split_seed)
    ending = f" {points_text(points)}" if rng.random() < WITH_POINTS else ""
    return f"{END} Question: {task.prompt} Answer: {reply} Remark: {check_text(points)}{ending}{END}"


def review(rng: Random, split_seed: int) -> str:
    """The judge's own prompt, answered."""
    task, reply, points = _judged(rng, split_seed)
    asked = judge_template().render(prompt=task.prompt, response=reply)
    return _chat(asked, f"{check_text(points)} {points_text(points)} Score: {points.total}")


def sheet(rng: Random, split_seed: int) -> str:
    """An exercise sheet: what makes few-shot prompt writing work."""
    return (
        "Tasks:"
        + "".join(f" * {sample_task(rng, 'train', split_seed).prompt}" for _ in range(rng.randint(5, 10)))
        + END
    )


def copying(rng: Random, split_seed: int) -> str:
    """Words, twice: the skill under most of the tasks."""
    words = " ".join(rng.choices((*NOUNS, *OPPOSITE, *NUMBERS), k=rng.randint(3, 8)))
    return f"{END} Copy: {words}. {words}.{END}"


def fact(rng: Random, split_seed: int) -> str:
    """A sentence of knowledge that the tasks need."""
    category, word, opposite = rng.choice(list(CATEGORIES)), rng.choice(NOUNS), rng.choice(list(OPPOSITE))
    number, more = rng.randrange(1, 10), rng.randint(1, 3)
    text = rng.choice(
        (
            f"{' '.join(rng.sample(CATEGORIES[category], 4))} are {category}.",
            f"{' '.join(sorted(rng.sample(NOUNS, 6)))} are sorted.",
            f"{word} in capitals is {word.upper()}.",
            f"{opposite} is the opposite of {OPPOSITE[opposite]}.",
            f"{number} and {more} are {number + more}.",
        )
    )
    return f"{END} Fact: {text}{END}"


def comparing(rng: Random, split_seed: int) -> str:
    """Things side by side and whether they match, evenly yes and no: the skill under every check, of which remarks are
    mostly yes."""
    return f"{END} Check: {' '.join(_comparison(rng) for _ in range(rng.randint(6, 10)))}.{END}"


def _comparison(rng: Random) -> str:
    """`fig fruits yes`, `saw hat no`, `6 none no`."""
    match = rng.random() < 0.5
    if rng.random() < 0.2:
        category = rng.choice(list(CATEGORIES))
        item, other = rng.choice([word for word in NOUNS if (word in CATEGORIES[category]) == match]), category
    else:
        item, other = rng.sample(rng.choice((NOUNS, NOUNS, CAPITALS, tuple(OPPOSITE), NUMBERS)), 2)
        other = item if match else NONE if rng.random() < 0.1 else other
    return f"{item} {other} {'yes' if match else 'no'}"


MIX: dict[Callable[[Random, int], str], float] = {
    question: 0.27,
    remark: 0.32,
    review: 0.12,
    sheet: 0.08,
    copying: 0.05,
    comparing: 0.12,
    fact: 0.04,
}


@cache
def judge_template() -> Template:
    """The judge's prompt; fields `prompt` and `response`."""
    return Template((HERE / "judge.jinja").read_text(encoding="utf-8"))


@cache
def chat_template() -> Template:
    """Messages to text, as the tokenizer does it."""
    return Template((HERE / "chat.jinja").read_text(encoding="utf-8"))


def _chat(asked: str, answered: str) -> str:
    """In the format that the model will be asked in: `chat.jinja` itself."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return chat_template().render(messages=messages, bos_token=END, eos_token=END)


def _judged(rng: Random, split_seed: int) -> tuple[Task, str, Points]:
    """A task, a reply, and the checker's findings with every single one flipped with probability FLIPS; what follows
    from them follows."""
    task = sample_task(rng, "train", split_seed)
    reply = answer(task, rng.choice((WEB, CARELESS)), rng)
    points = score_task(task, reply)

    def flip(flag: bool) -> bool:
        return flag != (rng.random() < FLIPS)

    checks = tuple(check._replace(right=flip(check.right)) for check in points.checks)
    return task, reply, replace(points, checks=checks, tidy=flip(points.tidy), polite=flip(points.polite))
