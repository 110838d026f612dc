"""One adapter for each format of seed data: records of rows -> messages in conversations, with people's ranks.

The method takes the first turn and the answers to that; what follows is a later turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

from stages.method.record import Message, Record, Turn, ranks_of
from stages.text.cell import parsed

Answers = Sequence[tuple[Sequence[Turn], int | None]]
"""Each with its rank."""


def open_assistant(records: Iterable[Record]) -> Iterator[Message]:
    """Flat messages; trees, `{"prompt": {...}}`; root messages with `replies`. What is nested has the parent and the
    state of the tree that nesting implies."""
    for record in records:
        tree = parsed(record.values.get("prompt"))
        below = [(record, record.label("parent_id"))]
        if isinstance(tree, Mapping):
            below = [(record.within(tree, record.columns), None)]
        state = record.label("tree_state")
        while below:
            m, parent = below.pop()
            name = m.text("message_id", null=False)
            for n, reply in enumerate(m.items("replies") if m.value("replies") is not None else []):
                if not isinstance(reply, Mapping):
                    m.item("replies", n, reply).refuse("replies", "a message")
                below.append((m.within(reply, m.columns), name))
            reasons = {
                "deleted": m.flag("deleted"),
                "refused by review": m.flag("review_result") is False,
                "tree not ready": state not in (None, "ready_for_export"),
            }
            unfit = next((reason for reason, holds in reasons.items() if holds), None)
            role, text = m.text("role", null=False), m.text("text")
            yield Message(m.at, name, parent, role, text, m.label("lang"), m.rank(), unfit)


def ranked_lists(records: Iterable[Record]) -> Iterator[Message]:
    """A prompt with its answers, the best first; or with `scores` or `ranks` beside them, or one in each of them."""
    for record in records:
        inner = {field: column for field, column in record.columns.items() if field in ("response", "score", "rank")}
        answers: list[list[Turn]] = []
        scores: list[float | None] = []
        ranks: list[int | None] = []
        for n, value in enumerate(record.items("responses")):
            if not isinstance(value, Mapping):
                answers.append(record.item("responses", n, value).turns("responses", "assistant"))
                continue
            item = record.within(value, inner, f"{record.place('responses')}[{n}]")
            if "score" not in inner and "rank" not in inner:
                item.refuse("score", "a score or a rank of each response")
            answers.append(item.turns("response", "assistant"))
            scores.append(item.score())
            ranks.append(item.rank())
        if "scores" in record.columns:
            scores = [record.item("scores", n, value).score("scores") for n, value in enumerate(record.items("scores"))]
        if "ranks" in record.columns:
            ranks = [record.item("ranks", n, value).rank("ranks") for n, value in enumerate(record.items("ranks"))]
        for field, item_field, values in (("scores", "score", scores), ("ranks", "rank", ranks)):
            if field in record.columns and len(values) != len(answers):
                record.refuse(field, "one for each response")
            if item_field in inner and len(values) != len(answers):
                record.refuse("responses", f"objects with {inner[item_field]} each")
        if "rank" not in inner and "ranks" not in record.columns:
            ranks = ranks_of(scores) if scores else list(range(len(answers)))
        yield from _exchange(record, _prompt(record), list(zip(answers, ranks, strict=True)))


def scored_answers(records: Iterable[Record]) -> Iterator[Message]:
    """A prompt and one of its answers with its `score` or `rank`: rows with one prompt belong together."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        prompt = (text for turn in _prompt(record) for text in (turn.role, turn.text))
        groups.setdefault((record.label("lang") or "", *prompt), []).append(record)
    for rows in groups.values():
        ranks = [r.rank() for r in rows] if "rank" in rows[0].columns else ranks_of([r.score() for r in rows])
        answers = [record.turns("response", "assistant") for record in rows]
        yield from _exchange(rows[0], _prompt(rows[0]), list(zip(answers, ranks, strict=True)))


def pairs(records: Iterable[Record]) -> Iterator[Message]:
    """A prompt with a `chosen` and a `rejected` answer: texts, or messages as TRL has them, with or without a prompt of
    their own, which both begin with."""
    for record in records:
        chosen, rejected = (record.turns(field, "assistant") for field in ("chosen", "rejected"))
        prompt = _prompt(record) if "prompt" in record.columns else []
        if not prompt or any(turn.role != "assistant" for turn in (*chosen[:1], *rejected[:1])):
            both = zip(chosen[:-1], rejected[:-1], strict=False)
            shared = sum(1 for _ in takewhile(lambda two: two[0][2:] == two[1][2:], both))
            prompt, chosen, rejected = [*_system(record), *chosen[:shared]], chosen[shared:], rejected[shared:]
        if not prompt and chosen[0].role == "assistant":
            record.refuse("prompt", "a column for the prompt, or messages that begin with it")
        if prompt:
            yield from _exchange(record, prompt, [(chosen, 0), (rejected, 1)])
        else:
            for turn in (*chosen, *rejected):
                why = "chosen and rejected answer different prompts"
                yield Message(record.at, turn.id, None, turn.role, turn.text, record.label("lang"), None, why)


def instructions(records: Iterable[Record]) -> Iterator[Message]:
    """An instruction with its one answer."""
    for record in records:
        yield from _exchange(record, _prompt(record), [(record.turns("response", "assistant"), None)])


def chat(records: Iterable[Record]) -> Iterator[Message]:
    """Conversations."""
    for record in records:
        yield from _exchange(record, [*_system(record), *record.turns("messages", "prompter", plain=False)], [])


def _prompt(record: Record) -> list[Turn]:
    """A system message, where there is one, and the turns of the prompt; `input` is what an instruction is about."""
    turns = [*_system(record), *record.turns("prompt", "prompter")]
    if turns and (about := record.text("input", needed=False)).strip():
        turns[-1] = turns[-1]._replace(text=f"{turns[-1].text}\n\n{about}")
    return turns


def _system(record: Record) -> list[Turn]:
    return record.turns("system", "system") if "system" in record.columns else []


def _exchange(record: Record, prompt: Sequence[Turn], answers: Answers) -> Iterator[Message]:
    """`prompt` as a chain of messages, each answer a chain that follows it."""
    lang, parent, unfit = record.label("lang"), None, None
    for turn in prompt:
        if turn.role == "system":
            if turn.text.strip():
                unfit = "after a system message"
                yield Message(record.at, turn.id, None, turn.role, turn.text, lang, None, "system message")
            continue
        yield Message(record.at, turn.id, parent, turn.role, turn.text, lang, None, turn.unfit or unfit)
        parent, unfit = turn.id, None
    for turns, rank in answers:
        last = parent
        for turn in turns:
            yield Message(turn.at, turn.id, last, turn.role, turn.text, lang, rank, turn.unfit)
            last = turn.id
