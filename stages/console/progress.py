"""Progress of long work: a rich bar on a terminal, plain lines everywhere else (a log file, CI, DVC without a
terminal)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stages.console.live import Told
from stages.console.terminal import stderr

PLAIN_EVERY_S = 15.0


@contextmanager
def progress(label: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
    """Yields `advance(steps=1, note="")`, to be called as work ends; `note` is a short text beside the count, and steps
    that came `for_free` tell nothing of the time that is left. Without a terminal, a plain line every 15 seconds.
    `srlm watch` is told the same, with the `figures` of a step, and some of the `texts` (id, n, text)."""
    with (_bar if stderr.is_terminal else _lines)(label, total, unit) as show:
        told = Told(label, total, unit)

        def advance(steps: int = 1, note: str = "", *, for_free: bool = False, **more: Any) -> None:
            show(steps, note, for_free=for_free)
            told.advance(steps, note, for_free=for_free, **more)

        yield advance


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(steps: int = 1, note: str = "", *, for_free: bool = False) -> None:
            if for_free:  # the speed is taken from what comes after
                bar.reset(task, completed=int(bar.tasks[0].completed) + steps, note=note)
            else:
                bar.advance(task, steps)
            if note:
                bar.update(task, note=note)

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    done, given, last_note, started = 0, 0, "", time.monotonic()
    printed = started

    def line() -> None:
        took, worked = time.monotonic() - started, done - given
        left = f", {took * (total - done) / worked:.0f} s left" if worked and done < total else ""
        print(f"{label}: {done}/{total} {unit} {took:.0f} s{left} {last_note}".rstrip(), flush=True)

    def advance(steps: int = 1, note: str = "", *, for_free: bool = False) -> None:
        nonlocal done, given, last_note, printed
        done, given, last_note = done + steps, given + steps * for_free, note or last_note
        if time.monotonic() - printed >= PLAIN_EVERY_S and done < total:
            printed = time.monotonic()
            line()

    yield advance
    line()
