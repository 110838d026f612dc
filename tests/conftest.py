"""Two workers on two cores: one thread each. Set before torch is imported anywhere."""

import os

import pytest
from filelock import FileLock

from tests.workspace import Workspace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """The folder of a whole run of profile scripted from nothing, one for all workers. Not to be changed: copy it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            Workspace(folder).repro()
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, those of whole runs before all: else one of them is left to the end, and one worker
    waits for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: len(item.path.parts) if item.path in slow else 1000)
