"""What a process frees it keeps: the next tensor is not mapped anew."""

import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from stages.console.memory import keep_freed_memory
{keep}
def faults():
    for _ in range(10):
        torch.ones(2_000_000)  # 8 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(20_000_000)  # 80 MB: above what glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_pages_are_cleared_once_and_not_at_every_step():
    def faults(keep: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", STEPS.format(keep=keep)], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert faults("keep_freed_memory()") < faults("") / 3
