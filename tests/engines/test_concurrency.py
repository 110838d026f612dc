"""How many requests at a time, at servers of an hour each whose seconds are numbers."""

from __future__ import annotations

import heapq
import math
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.engines.backends.concurrency import FIRST, Concurrency


class Server(NamedTuple):
    slots: int
    """Written at the same time."""
    refuses: bool = False
    """What comes besides; else it waits."""
    slower: float = 0.0
    """Each that is written beside another makes it so many times slower."""


def hour(server: Server, texts: int, concurrency: Concurrency, *, fixed: int | None = None, seed: int = 0) -> float:
    """Seconds for some texts of 20 to 700 tokens at 50 tokens a second; what is refused comes again after a second."""
    rng = random.Random(seed)
    left = [max(20, int(rng.lognormvariate(5, 0.5))) for _ in range(texts)]
    now, writing, waiting, again = 0.0, [], [], []
    while left or writing or again:
        while concurrency.under_way < (fixed or concurrency.limit) and (left or (again and again[0][0] <= now)):
            tokens = heapq.heappop(again)[1] if again and again[0][0] <= now else left.pop()
            concurrency.sent(now)
            if len(writing) < server.slots:
                writing.append([float(tokens), tokens])
            elif server.refuses:
                concurrency.refused(now)
                heapq.heappush(again, (now + 1 + rng.random(), tokens))
            else:
                waiting.append([float(tokens), tokens])
        speed = 50 / (1 + server.slower * len(writing))
        steps = [text[0] / speed for text in writing] + [at - now for at, _ in again if at > now]
        step = min(steps)
        now += step
        for text in writing:
            text[0] -= step * speed
        for text in [text for text in writing if text[0] < 1e-6]:
            writing.remove(text)
            concurrency.answered(now, text[1])
            writing += [waiting.pop(0)] if waiting else []
    return now


SERVERS = {
    **{f"{slots}, others wait": Server(slots) for slots in (1, 4, 16)},
    **{f"{slots}, others are refused": Server(slots, refuses=True) for slots in (1, 4, 10, 20, 31)},
    "any number": Server(10**9),
    "any number, slower together": Server(10**9, slower=0.02),
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_it_is_as_fast_as_the_best_fixed_number(server):
    """Of 1 to 32, within a tenth, for 800 texts; and does not fill a queue that makes nothing faster."""
    best = min(hour(server, 800, Concurrency(32), fixed=n) for n in (1, 4, 10, 16, 20, 31, 32) if n <= server.slots)
    concurrency = Concurrency(32)
    assert hour(server, 800, concurrency) < best / 0.9
    assert concurrency.refusals <= (800 / 8 + 10 if server.slots == 1 else 40)
    concurrency = Concurrency(10**4)
    hour(server, 3000, concurrency)
    if server.slots < 100:
        assert concurrency.limit <= 5 * server.slots + 16
    else:
        assert concurrency.peak > 100


def test_it_comes_back_after_a_restart():
    """All that are there are refused: one at a time, and soon as many as before."""
    concurrency = Concurrency(32)
    for _ in range(8):
        concurrency.sent(0.0)
    for _ in range(8):
        concurrency.refused(0.0)
    assert (concurrency.limit, concurrency.under_way) == (1, 0)
    hour(Server(10**9), 400, concurrency)
    assert concurrency.limit == 32


@settings(deadline=None)
@given(st.integers(1, 64), st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100), st.integers(0, 999)), max_size=300))
def test_whatever_happens_one_may_go_and_no_more_than_may_be(most, events):
    concurrency, there, now = Concurrency(most), 0, 0.0
    assert concurrency.limit == min(FIRST, most)
    for what, seconds, tokens in events:
        now += seconds
        if what == 0 and there < concurrency.limit:
            concurrency.sent(now)
            there += 1
        elif what and there:
            if what == 1:
                concurrency.refused(now)
            elif what == 2:
                concurrency.answered(now, tokens)
            else:
                concurrency.left()
            there -= 1
        assert concurrency.under_way == there
        assert 1 <= concurrency.limit <= most
        assert isinstance(concurrency.limit, int)
        assert concurrency.ceiling >= 1
        assert math.isfinite(concurrency.limit)
