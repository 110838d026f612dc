"""A library's warning or notice does not come between our lines, unless the user asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import warnings, os
from stages.console.command import run
run(lambda: (warnings.warn("advice"), print(os.environ["TRANSFORMERS_VERBOSITY"])))
"""


@pytest.mark.parametrize(
    ("options", "changes", "out", "warned"),
    [((), {}, "error\n", False), (("-W", "default"), {"TRANSFORMERS_VERBOSITY": "info"}, "info\n", True)],
)
def test_libraries_are_quiet_unless_asked(options, changes, out, warned):
    env = {key: value for key, value in os.environ.items() if not key.endswith("VERBOSITY")} | changes
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, *options, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == out
    assert ("advice" in done.stderr) == warned
