"""The checker of answers to prompts with constraints: lm-eval's own code of IFEval, strict and loose.

It knows a prompt by its text, as the tiny world's checker does. It takes no part in the loop: `evaluate` asks it of
held-out prompts, and `split_seed` of seed data (`eft_constraints`), which teach the first judge.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from types import ModuleType

from stages.console.errors import SrlmError
from stages.constraints.sentences import KINDS, read

STRICT, LOOSE = "strict", "loose"
SHARES = {"prompt_strict": (STRICT,), "prompt_loose": (LOOSE,)}
"""Answers that keep all constraints of their prompt. Loose: in one of IFEval's eight variants of the answer, without
its first line, its last, its asterisks, or several of these."""
POOLED = {"instruction_strict": tuple(KINDS), "instruction_loose": tuple(f"{name}_loose" for name in KINDS)}
"""Constraints kept, of all constraints of all prompts."""


def possible(prompt: str) -> list[str]:
    """The points for single constraints that an answer to `prompt` can get; none where it has no constraints."""
    names = [constraint.name for constraint in read(prompt)]
    return [*names, *(f"{name}_loose" for name in names)]


def check(prompt: str, response: str) -> tuple[float, list[str]] | None:
    """5 times the share of the constraints that are kept strictly, and the points: the names of these, `NAME_loose` for
    those kept loosely, `strict` and `loose` where all are. None for a prompt without constraints."""
    constraints = read(prompt)
    if not constraints:
        return None
    ifeval = checkers()
    asked = ifeval.InputExample(
        0, [KINDS[c.name].instruction for c in constraints], prompt, [dict(c.arguments) for c in constraints]
    )
    strict = ifeval.test_instruction_following_strict(asked, response)
    loose = ifeval.test_instruction_following_loose(asked, response)
    points = [c.name for c, kept in zip(constraints, strict.follow_instruction_list, strict=True) if kept]
    score = 5 * len(points) / len(constraints)
    points += [f"{c.name}_loose" for c, kept in zip(constraints, loose.follow_instruction_list, strict=True) if kept]
    points += [STRICT] * strict.follow_all_instructions + [LOOSE] * loose.follow_all_instructions
    return score, points


@cache
def checkers() -> ModuleType:
    """lm-eval's task. Raises SrlmError where it is not installed.

    When it is imported, it asks the network for data of nltk that none of KINDS needs, unless it takes itself for a
    second process; without a seed its guesses of a language are random.
    """
    rank = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"
    try:
        import langdetect
        from lm_eval.tasks.ifeval import instructions, utils
    except ImportError as e:
        how = "pip install -c constraints.txt -e '.[eval]'"
        raise SrlmError(f"the checker of constraints needs the package {e.name}. Type: {how}") from None
    finally:
        if rank is None:
            del os.environ["LOCAL_RANK"]
        else:
            os.environ["LOCAL_RANK"] = rank
    langdetect.DetectorFactory.seed = 0
    instructions.logger.setLevel(logging.CRITICAL)  # it logs answers whose language it cannot guess
    module: ModuleType = utils
    return module
