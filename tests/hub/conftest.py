"""A Hub of the tests' own, a client that talks to it, and a small store to publish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import pytest
from hub_server import USERS, Server, serving
from huggingface_hub.utils._http import default_client_factory
from small_store import Store


@pytest.fixture(scope="module", autouse=True)
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the client reads of its environment it read when it was imported; the tests of other folders are offline,
    and ours may have set its time limit."""
    home = tmp_path_factory.mktemp("home")
    values = {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(huggingface_hub.constants, name, value)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("HF_TOKEN", raising=False)
        huggingface_hub.set_client_factory(default_client_factory)
        yield
    huggingface_hub.set_client_factory(default_client_factory)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("hub"), USERS) as server:
        yield server


@pytest.fixture
def hub(server: Server) -> Server:
    server.forget()
    server.reset()
    return server


@pytest.fixture
def endpoint(hub: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The Hub of whoever names none, as HF_ENDPOINT has it for what is imported later; asked as `ann`."""
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    url = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
    }.items():
        monkeypatch.setattr(f"datasets.config.{name}", value)
    return hub


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have waited."""
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    return waited


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Not to be changed: `store` is."""
    return Store.make(tmp_path_factory.mktemp("store") / "made")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    """As `ann`, without pauses, and without asking git and DVC, which takes two seconds."""
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    monkeypatch.setattr("stages.hub.remote.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("stages.hub.remote.LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr("stages.commands.publish.check_up_to_date", lambda root: None)


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of a test's own."""
    return made.copy(tmp_path / "store")
