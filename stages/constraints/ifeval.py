"""IFEval (arXiv 2311.07911): which instructions a response follows, strictly and loosely, by lm-eval's copy of its
checkers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from stages.console.errors import SrlmError, TableError
from stages.constraints.oracle import checkers


class Kept(NamedTuple):
    """Of one response: the instructions of its prompt, and which are kept."""

    names: list[str]
    strict: list[bool]
    loose: list[bool]


def check(where: str, question: Mapping[str, Any], response: str) -> Kept:
    """Of `question` (a line of input_data.jsonl: key, prompt, instruction_id_list, kwargs). Raises TableError for an
    instruction that IFEval does not have, or that lacks an argument; SrlmError where nltk's data is not installed."""
    ifeval = checkers()
    names, arguments = question.get("instruction_id_list"), question.get("kwargs")
    known = ifeval.instructions_registry.INSTRUCTION_DICT
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments) or not names:
        raise TableError(f"{where}: expected instruction_id_list and as many kwargs, as in input_data.jsonl")
    if unknown := [name for name in names if not isinstance(name, str) or name not in known]:
        raise TableError(f"{where}: IFEval has no instruction {str(unknown[0])[:60]!r}")
    if not all(isinstance(each, dict) for each in arguments):
        raise TableError(f"{where}: kwargs: expected an object for each instruction")
    asked = ifeval.InputExample(0, names, str(question.get("prompt")), arguments)
    try:
        with drawn_from(asked.prompt):
            strict = ifeval.test_instruction_following_strict(asked, response)
        with drawn_from(asked.prompt):
            loose = ifeval.test_instruction_following_loose(asked, response)
    except LookupError as e:
        if "nltk" in str(e).lower():
            raise SrlmError("IFEval counts sentences with nltk. Type: python -m nltk.downloader punkt_tab") from None
        raise TableError(f"{where}: kwargs of {', '.join(names)}: {type(e).__name__}: {e}") from None
    except Exception as e:  # an argument of a wrong type or value: of many types
        raise TableError(f"{where}: kwargs of {', '.join(names)}: {type(e).__name__}: {e}") from None
    return Kept(names, strict.follow_instruction_list, loose.follow_instruction_list)


@contextmanager
def drawn_from(seed: str) -> Iterator[None]:
    """The checkers draw what a prompt does not give, as a letter for `!` in prompt 1129: the same each time, here."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def counts(kept: Sequence[Kept]) -> dict[str, tuple[list[int], list[int]]]:
    """Of each response what it keeps, of how many: prompts and instructions, strict and loose, and strict of each group
    of instructions."""
    ones = [1] * len(kept)
    columns = {
        "prompt_strict": ([int(all(each.strict)) for each in kept], ones),
        "instruction_strict": ([sum(each.strict) for each in kept], [len(each.names) for each in kept]),
        "prompt_loose": ([int(all(each.loose)) for each in kept], ones),
        "instruction_loose": ([sum(each.loose) for each in kept], [len(each.names) for each in kept]),
    }
    for group in sorted({name.split(":")[0] for each in kept for name in each.names}):
        of = [[k for name, k in zip(e.names, e.strict, strict=True) if name.split(":")[0] == group] for e in kept]
        columns[group] = [sum(each) for each in of], [len(each) for each in of]
    return columns
