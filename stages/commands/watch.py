"""watch: the report as a page of this machine's own, live while `srlm repro` runs. `srlm watch`, `srlm watch --rev v1
--other v2`.

It listens on 127.0.0.1 alone, reads the store as `srlm report` does, and what the stages tell of themselves
(console/live.py).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from stages.commands.watch_server import serve
from stages.commands.watch_view import Side, View
from stages.config.load import PARAMS
from stages.console.command import Interrupted
from stages.console.errors import SrlmError
from stages.console.terminal import stderr
from stages.store import versions


def watch(port: int = 0, rev: str | None = None, other: str | None = None, root: Path = Path()) -> None:
    """Serve until Ctrl-C. Raises RevisionError; SrlmError where the port is taken or there is no project here."""
    if not (root / PARAMS).is_file():
        raise SrlmError(f"no {PARAMS} in {root.resolve()}: there is nothing to watch. Go to a project's folder")
    with ExitStack() as opened:
        sides = [
            Side(opened.enter_context(versions.at(root, revision)), revision)
            for revision in ([rev, other] if other else [rev])
        ]
        view = opened.enter_context(View(root, sides))
        try:
            with serve(view, port) as url:
                stderr.print(f"watching {root.resolve()}: {url} (this machine alone; Ctrl-C ends it)")
                view.wait()
        except Interrupted as e:
            stderr.print("srlm watch has ended")
            raise SystemExit(128 + e.signum) from None
