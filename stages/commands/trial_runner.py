"""Several `dvc repro`, each in a folder of its own, some at a time, with their progress in one line."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from stages.console.command import STOPPED, Interrupted, start_dvc, stop_dvc
from stages.console.errors import SrlmError
from stages.console.progress import progress

STAGE = re.compile(rb"^(?:Running stage|Stage) '([^']+)'", re.MULTILINE)
"""What DVC says of each stage, whether it runs, is restored, or is up to date."""
LOOK_S = 0.2


class Running:
    """One of them, under way."""

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        self.name, self.folder, self.log = name, folder, log
        self.out: IO[bytes] = log.open("ab")
        self.start, self.shown = self.out.tell(), 0
        self.process: subprocess.Popen[bytes] = start_dvc(
            "repro", root=folder, stdout=self.out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def stages(self) -> list[str]:
        """Those that DVC has come to, in their order."""
        with self.log.open("rb") as file:
            file.seek(self.start)
            return list(dict.fromkeys(name.decode(errors="replace") for name in STAGE.findall(file.read())))


def run_all(copies: Sequence[tuple[str, Path]], log: str, jobs: int, stages: int, end: Callable[[Path], None]) -> None:
    """Run the copies (name, folder), `jobs` at a time, of about so many `stages` each; `end` is told of each that is
    finished. Raises SrlmError at the end for those that failed, naming the `log` in their folders; stopped, it stops
    what runs, and raises Interrupted when all have ended in good order."""
    waiting, running, failed = list(copies), list[Running](), list[Running]()
    with progress("try", stages * len(copies), "stages") as advance:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    name, folder = waiting.pop(0)
                    running.append(Running(name, folder, folder / log))
                time.sleep(LOOK_S)
                for each in list(running):
                    code, now = each.process.poll(), each.stages()
                    done = stages if code == 0 else min(len(now), stages)
                    advance(max(0, done - each.shown), note=f"{each.name}: {now[-1]}" if now else each.name)
                    each.shown = done
                    if code is None:
                        continue
                    running.remove(each)
                    each.out.close()
                    if code - 128 in STOPPED:
                        raise Interrupted(code - 128)
                    if code == 0:
                        end(each.folder)
                    else:
                        failed.append(each)
        except BaseException as e:
            stop_dvc([each.process for each in running], getattr(e, "signum", 15))
            raise
    if failed:
        first = failed[0]
        last = next(iter(first.stages()[-1:]), "the first")
        raise SrlmError(
            f"{len(failed)} of {len(copies)} failed, first {first.name} in stage {last}: read {first.log}. When it is "
            f"fixed, the same command goes on from there"
        )
