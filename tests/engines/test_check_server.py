"""What a seed is worth at a server: srlm check --server."""

from itertools import count

import pytest
from openai_server import Fault

from stages.commands import check_server
from stages.console.errors import EngineError, ParamsError
from stages.engines.backends import openai
from tests.workspace import Workspace

names = (f"seeded-{i}" for i in count())


@pytest.fixture
def asked(server, tmp_path, monkeypatch):
    """`asked(fault)`: the facts of a server that answers so, and what it was asked."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(openai, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(openai, "LONGEST_PAUSE_S", 0.02)

    def look(fault):
        name = next(names)
        served = {"large": {"source": "server", "repo": name, "revision": None}}
        space = Workspace(tmp_path / name, external=served, **{"engine.name": "openai"})
        server.behave(name, fault)
        return check_server.look("large", space.path), server.asked(name)

    return look


def test_a_seed_is_a_seed(asked):
    facts, requests = asked(Fault())
    assert (facts["ok"], facts["same_alone"], facts["same_at_once"]) == (True, 8, 8)
    assert facts["different"] > 1
    assert "a seed is a seed" in facts["seen"]
    assert len(requests) == 24
    assert len({r["seed"] for r in requests}) == 8


def test_seeds_that_are_mixed_up(asked):
    facts, _ = asked(Fault(mixes=True, delay=0.02))
    assert facts["same_alone"] == 8
    assert "mixes up the seeds of requests at a time. Set hardware.server.at_once: 1" in facts["seen"]


def test_a_seed_that_is_not_heeded_or_refused(asked):
    facts, requests = asked(Fault(refuses=("seed",)))
    assert len([r for r in requests if "seed" in r]) < len(requests)
    assert facts["different"] == 1, "it draws as by seed 0"
    assert (facts["ok"], "does not sample" in facts["seen"]) == (False, True)


def test_what_cannot_be_asked(tmp_path, monkeypatch):
    space = Workspace(tmp_path / "a")
    with pytest.raises(ParamsError, match="no engine in it is named openai"):
        check_server.look("M1", space.path)
    with pytest.raises(ParamsError, match="names no model 'x'"):
        check_server.look("x", space.path)
    space.set(**{"engine.name": "openai", "judge_candidates.engine": {"name": "openai", "env_prefix": "JUDGE"}})
    with pytest.raises(ParamsError, match=r"M1@OPENAI or M1@JUDGE"):
        check_server.look("M1", space.path)
    monkeypatch.delenv("JUDGE_BASE_URL", raising=False)
    with pytest.raises(EngineError, match="JUDGE_BASE_URL is not set"):
        check_server.show("M1@JUDGE", space.path)
