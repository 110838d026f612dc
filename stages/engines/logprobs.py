"""The model's own probabilities at one place of its text (`request.ScoreLogprobs`), from what an engine knows about
each token."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping

from stages.engines.request import ScoreLogprobs


def read_score_logprobs(
    probe: ScoreLogprobs,
    text: str,
    tokens: int,
    start_of: Callable[[int], int],
    likely: Callable[[int], Mapping[str, float]],
) -> list[float] | None:
    """Probability of each of `probe.choices` in the probed place of `text`; None when the pattern is not there or no
    choice could stand there as one token.

    `start_of(i)`: where in `text` token i begins; `likely(i)`: probabilities of tokens, by their text, in place of
    token i. The token there may begin before the place (" 4" after "Score:"): the others are compared with the same
    beginning. A choice that is not among the likely has 0.
    """
    matches = list(re.finditer(probe.pattern, text))
    if not matches:
        return None
    at = matches[-1].start(probe.group)
    step = bisect.bisect_right(range(tokens), at, key=start_of) - 1
    if step < 0:
        return None
    head, known = text[start_of(step) : at], likely(step)
    found = [known.get(head + choice) for choice in probe.choices]
    return None if all(p is None for p in found) else [p or 0.0 for p in found]
