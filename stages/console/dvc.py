"""`python -m stages.console.dvc repro ...`, as `srlm` starts it: `dvc`, but when it is stopped it waits for its stage,
says nothing more, and exits as every command here does."""

from __future__ import annotations

import logging
import sys
from types import FrameType

import psutil

from stages.console.command import STOPPED, handle, ignore_what_was_half_made
from stages.console.processes import stages_among


class Stopped(logging.Filter):
    """Keeps from the log that DVC, or a stage, was stopped: whoever stopped it knows. `code` is then the exit code."""

    code: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info and record.exc_info[1]
        while error:
            for signum in STOPPED:
                if str(error).endswith((f", exited with {128 + signum}", f", exited with {-signum}")):
                    self.code = 128 + signum
            error = error.__cause__
        return self.code is None


def main() -> int:
    """`dvc` with the arguments of this command line; its exit code, or 128 and the signal when it was stopped."""
    from dvc import cli

    stopped = Stopped()
    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(stopped)

    def stop(signum: int, frame: FrameType | None) -> None:
        if stopped.code is None and not stages_among(psutil.Process().children(recursive=True)):
            stopped.code = 128 + signum
            raise KeyboardInterrupt

    handle(stop)
    ignore_what_was_half_made(lambda: stopped.code is not None)
    code = cli.main(sys.argv[1:])
    return stopped.code or code


if __name__ == "__main__":
    sys.exit(main())
