"""Text of others that is a program (a template) runs in a process of its own, with bounded time and memory."""

from __future__ import annotations

import resource
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

import psutil

T = TypeVar("T")


class BoundedError(Exception):
    """The function raised, or was stopped; the message says which."""


def bounded(function: Callable[[], T], *, seconds: int = 5, memory: int = 2**30) -> T:
    """What `function` returns (picklable), computed in a fork with `seconds` of CPU time and `memory` more bytes.

    Raises BoundedError.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(function, theirs, seconds, memory))
    child.start()
    theirs.close()
    try:
        result, error = ours.recv()
    except EOFError:  # the kernel ended it
        raise BoundedError(f"it crashed, or did not end within {seconds} s") from None
    finally:
        child.join()
    if error:
        raise BoundedError(error)
    return result  # type: ignore[no-any-return]


def _run(function: Callable[[], T], out: Connection, seconds: int, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    room = psutil.Process().memory_info().vms + memory
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (room if hard == resource.RLIM_INFINITY else min(room, hard), hard))
    try:
        out.send((function(), None))
    except Exception as e:
        out.send((None, f"{type(e).__name__}: {e}" if str(e) else type(e).__name__))
