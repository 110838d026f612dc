"""What runs now, for `srlm watch`: each stage tells of itself in a file of JSON lines, which is begun anew when the
stage is.

First line: `started` and `pid` with `created` (seconds since 1970), which tell whether it still runs. Then `label`,
`done`, `total`, `unit`, `note` and `at` of a progress; `step` with figures of a training; `texts`, a few completions
as they are finished. Last line: `outcome` (done, or the error's class), `error` and `ended`. Nothing fails for it: a
full disk hides no error that matters.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.console.processes import this_process

VARIABLE = "SRLM_LIVE"
"""In the environment: the file of the stage that runs here. Processes that it starts tell into it, too."""
EVERY_S = 1.0
SHARE = 0.002
"""Of the time that has passed, at least so much lies between two lines of progress: a file has some thousand lines."""
TEXTS = 6
"""Of one batch, at most."""
CHARS = 4_000
"""Of one text."""


def begin(path: Path) -> None:
    """Tell of this process in a new file from here on."""
    pid, created = this_process()
    os.environ[VARIABLE] = str(path.absolute())
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    tell(started=time.time(), pid=pid, created=created)


def end(outcome: str, error: str | None = None) -> None:
    tell(outcome=outcome, error=error, ended=time.time())
    os.environ.pop(VARIABLE, None)


def tell(**fields: Any) -> None:
    """One line, written at once, so that two processes cannot mix theirs."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass")
        with suppress(OSError), open(path, "ab", buffering=0) as file:  # noqa: PTH123 - Path.open checks no less
            file.write(line + b"\n")


class Told:
    """A progress as it is told: at its beginning and its end, and now and then between."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.fields: dict[str, Any] = {"label": label, "total": total, "unit": unit, "done": 0, "free": 0, "note": ""}
        self.fields["begun"] = time.time()
        self.started = self.last = self.last_texts = time.time()
        self.last_texts -= EVERY_S
        tell(**self.fields, at=self.started)

    def advance(
        self,
        steps: int,
        note: str,
        *,
        for_free: bool,
        figures: Mapping[str, float] | None = None,
        texts: Iterable[tuple[str, int, str]] = (),
    ) -> None:
        """`figures` of one step of a training, which are always told; `texts` (id, n, text) now and then."""
        f, now = self.fields, time.time()
        f["done"], f["free"], f["note"] = f["done"] + steps, f["free"] + steps * for_free, note or f["note"]
        if figures:
            tell(step=f["done"], **figures)
        wait = max(EVERY_S, SHARE * (now - self.started))
        if now - self.last_texts >= wait and (some := [[i, n, text[:CHARS]] for i, n, text in list(texts)[-TEXTS:]]):
            self.last_texts = now
            tell(texts=some, at=now)
        if now - self.last >= wait or f["done"] >= f["total"]:
            self.last = now
            tell(**f, at=now)


def lines(path: Path) -> list[dict[str, Any]]:
    """What a file tells so far; a line that is being written is left out."""
    found = []
    with suppress(OSError):
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError):
                if isinstance(entry := json.loads(line), dict):
                    found.append(entry)
    return found
