"""What `srlm check` says of the machine: which profiles fit, which extras are whole, whether the Hub answers, in no
time."""

import json
import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from stages.commands import check, machine
from tests.workspace import Workspace

GIB = 2**30
FACTS = {
    "cores": 2,
    "memory_bytes": 16 * GIB,
    "gpus": [],
    "disk_free_bytes": 10 * GIB,
    "extras": ["eval"],
    "hub": {"address": "https://huggingface.co", "reachable": True},
}
CARD = {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 81_559 * 2**20}


def fit(**changes):
    return [name for name, why in machine.profiles(FACTS | changes).items() if why is None]


def test_the_profiles_that_fit_follow_from_what_is_here():
    assert fit() == ["tiny", "smol", "scripted"]
    assert fit(extras=[]) == ["tiny", "scripted"]
    assert fit(hub=FACTS["hub"] | {"reachable": False}) == ["tiny", "scripted"]
    assert fit(memory_bytes=4 * GIB) == ["tiny", "scripted"]
    assert fit(gpus=[CARD], extras=["vllm"]) == ["tiny", "gpu", "scripted"]
    assert "gpu" not in fit(gpus=[CARD | {"memory_bytes": 40 * GIB}], extras=["vllm"])
    assert "paper" in fit(gpus=[CARD] * 16, extras=["ray", "vllm"])


def test_what_is_missing_is_said_in_three_lines():
    facts = FACTS | {"extras": []}
    first, extras, last = machine.lines(facts | {"profiles": machine.profiles(facts)})
    assert first.startswith("machine: 2 cores, 17.2 GB of memory, no GPU, 10.7 GB free on the disk")
    assert extras == "extras: none"
    assert "profiles that fit: tiny, scripted (smol wants you to install the extra eval; gpu wants a GPU" in last


def test_an_extra_is_there_when_all_of_its_packages_are(monkeypatch):
    lines = ['a ; extra == "one"', 'b>=2 ; extra == "two"', 'a ; extra == "two"', "c", 'a ; extra == "dev"']
    monkeypatch.setattr(machine, "requires", lambda package: lines)
    monkeypatch.setattr(machine, "_installed", lambda name: name == "a")
    assert machine.extras() == ["one"]


@pytest.fixture
def endpoint(monkeypatch):
    """Sets the Hub's address, in a process that may ask it."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return lambda address: monkeypatch.setenv("HF_ENDPOINT", address)


def test_a_hub_that_answers_is_told_from_one_that_does_not(endpoint):
    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint(f"http://127.0.0.1:{server.server_port}")
        assert machine.hub()["reachable"] is True
        server.shutdown()
    assert machine.hub()["reachable"] is False
    endpoint("no address")
    assert machine.hub()["reachable"] is False


def test_a_hub_that_keeps_silent_costs_two_seconds(endpoint):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert machine.hub()["reachable"] is False
        assert time.monotonic() - started < machine.HUB_S + 1


def test_check_tells_the_machine_to_programs(tmp_path, capsys):
    check.show(Workspace(tmp_path).path, as_json=True)
    told = json.loads(capsys.readouterr().out)["machine"]
    assert set(told) == {*FACTS, "profiles"}
    assert told["hub"]["reachable"] is None, "HF_HUB_OFFLINE is set for tests"
    assert told["profiles"]["scripted"] is None


def test_code_of_another_version_is_told(tmp_path):
    space = Workspace(tmp_path)
    assert machine.other_code(space.path) is None
    (space.path / "stages/method/pairing.py").write_text("# mine")
    assert "stages/ here is another version" in machine.other_code(space.path)
    assert machine.other_code(tmp_path / "data") is None, "no project of its own"
