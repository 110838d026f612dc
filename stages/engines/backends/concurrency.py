"""How many requests are on their way to a server at a time: as many as it bears, and as make it faster.

As TCP's window (RFC 5681, RFC 9438): doubled each round until something goes wrong, from then on increased by little;
decreased to a share of what the server still holds when it refuses, breaks or keeps silent. Just under a number that it
did not bear, or that made nothing faster, the limit rests for some rounds before one more is tried. A round is as many
answers as the limit.
"""

from __future__ import annotations

import math

FIRST = 8
LEFT = 0.85
"""Of those that a server still holds when it refuses one: the next limit."""
GROWN, FASTER = 1.8, 1.2
"""So many times the requests must make so many times the speed (tokens a second, all together). Equal speed means that
the others wait in a queue, until they time out."""
REST, LONGEST_REST = 8, 512
"""Rounds under a ceiling before it is tried again; twice as many each time that it is where it was."""


class Concurrency:
    """`limit` is for reading. Each request is told of by `sent`, and by one of `answered`, `refused` or `left`. Times
    are seconds of any clock that does not go back."""

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.ceiling, self.doubles = most, min(FIRST, most), math.inf, True
        self.under_way = self.peak = self.refusals = self.rested = self.tried = 0
        self.rest, self.doubted = REST, False
        self.before: tuple[float, float] | None = None  # requests and speed that later ones are compared with
        self._new_round(0.0)

    def sent(self, now: float) -> None:
        if not self.under_way:
            self._new_round(now)
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)

    def left(self) -> None:
        """Given up, or answered by what tells nothing of the server's load."""
        self.under_way -= 1

    def refused(self, now: float) -> None:
        """Busy, broken or silent."""
        self.under_way -= 1
        self.refusals += 1
        self._below(self.under_way + 1, max(1, int(self.under_way * LEFT)), now)

    def answered(self, now: float, tokens: int) -> None:
        """`tokens`: of the answer; letters where a server does not count them."""
        self.answers += 1
        self.tokens += tokens
        self.at_a_time += self.under_way
        self.under_way -= 1
        if self.under_way >= self.limit:  # more than may be, since it was lowered
            self._new_round(now)
        elif self.answers >= self.limit:
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        requests, speed = self.at_a_time / self.answers, self.tokens / max(now - self.since, 1e-9)
        self._new_round(now)
        if requests * 2 < self.limit:  # there are no more to send: this tells nothing of the limit
            return
        if self.before is None:
            self.before = (requests, speed) if self.limit >= FIRST else None  # the speed of fewer is chance
        elif requests >= GROWN * self.before[0]:
            if speed < FASTER * self.before[1]:
                if not self.doubted:  # a machine with other work has slow seconds: once more
                    self.doubted = True
                    return
                was = max(1, round(self.before[0]))
                return self._below(was + 1, was, now)
            self.before, self.doubted = (requests, speed), False
        if self.limit + 1 < self.ceiling:
            step = self.limit if self.doubles else max(1, self.limit // 4)
            self.limit = int(min(self.limit + step, self.ceiling - 1, self.most))
        elif self.rested < self.rest:
            self.rested += 1
        else:
            self.limit = self.tried = min(self.limit + 1, self.most)
            self.ceiling = math.inf

    def _below(self, ceiling: int, limit: int, now: float) -> None:
        self.ceiling, self.limit = ceiling, min(limit, self.most)
        self.rest = min(2 * self.rest, LONGEST_REST) if ceiling <= self.tried else REST
        self.doubles, self.doubted, self.rested, self.before = False, False, 0, None
        self._new_round(now)

    def _new_round(self, now: float) -> None:
        self.since, self.answers, self.tokens, self.at_a_time = now, 0, 0, 0
