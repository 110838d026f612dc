"""How many requests are on their way to a server at a time: as many as it bears, and as make it faster.

As TCP's window (RFC 5681, RFC 9438): doubled each round until something goes wrong, from then on increased by little;
decreased to a share of what the server still holds when it refuses, breaks or keeps silent. Just under a number that it
did not bear, or that made nothing faster, the limit rests for some rounds before one more is tried. A round is as many
answers as the limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

FIRST = 8
LEFT = 0.85
"""Of those that a server still holds when it refuses one: the next limit."""
GROWN, FASTER = 1.5, 1.1
"""So many times the requests must make so many times the speed (tokens a second, all together). Equal speed means that
the others wait in a queue, until they time out."""
REST = 8
"""Rounds under a ceiling before it is tried again."""


class Sent(NamedTuple):
    at: float
    """Seconds, of any clock that does not go back."""
    under_way: int
    cuts: int


class Concurrency:
    """`limit` is for reading; each request is told of by `sent`, and by one of `answered`, `refused` or `left`."""

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.ceiling, self.doubles = most, min(FIRST, most), math.inf, True
        self.under_way = self.peak = self.refusals = self.cuts = self.rests = 0
        self.before: tuple[float, float] | None = None  # requests and speed that later ones are compared with
        self._new_round()

    def sent(self, now: float) -> Sent:
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        return Sent(now, self.under_way, self.cuts)

    def left(self) -> None:
        """Given up, or answered by what tells nothing of the server's load."""
        self.under_way -= 1

    def refused(self) -> None:
        """Busy, broken or silent."""
        self.under_way -= 1
        self.refusals += 1
        self._below(self.under_way + 1, max(1, int(self.under_way * LEFT)))

    def answered(self, sent: Sent, now: float, tokens: int) -> None:
        """`tokens`: of the answer; letters where a server does not count them."""
        self.under_way -= 1
        if sent.cuts < self.cuts:  # it waited behind more than there are now
            return
        seconds = max(now - sent.at, 1e-9)
        self.answers += 1
        self.tokens += tokens
        self.seconds += seconds
        self.weighted += seconds * sent.under_way
        if self.answers >= self.limit:
            self._end_round()

    def _end_round(self) -> None:
        requests = self.weighted / self.seconds  # at a time, while these were under way
        speed = requests * self.tokens / self.seconds
        self._new_round()
        if requests * 2 < self.limit:  # there are no more to send: this tells nothing of the limit
            return
        if self.before is None:
            self.before = requests, speed
        elif requests >= GROWN * self.before[0]:
            if speed < FASTER * self.before[1]:
                was = max(1, round(self.before[0]))
                self.cuts += 1
                return self._below(was + 1, was)
            self.before = requests, speed
        if self.limit + 1 < self.ceiling:
            step = self.limit if self.doubles else max(1, self.limit // 8)
            self.limit = int(min(self.limit + step, self.ceiling - 1, self.most))
        elif (rests := self.rests + 1) < REST:
            self.rests = rests
        else:
            self.limit, self.ceiling, self.rests = min(self.limit + 1, self.most), math.inf, 0

    def _below(self, ceiling: int, limit: int) -> None:
        self.ceiling, self.limit = ceiling, min(limit, self.most)
        self.doubles, self.rests, self.before = False, 0, None
        self._new_round()

    def _new_round(self) -> None:
        self.answers = self.tokens = 0
        self.seconds = self.weighted = 0.0
