"""Texts as they were when `stages/engines/versions.py` was last raised: whoever changes them raises the number.

To renew what is written down, with a new number or new packages:

    GOLDEN=write python -m pytest tests/engines/test_golden.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import VLLM
from openai_server import Fault, Server
from stage_double import Stage
from test_every_engine import user
from tiny_llama import HARDWARE, engine_params

from stages.engines.cached import CachedEngine
from stages.engines.open import open_engine
from stages.engines.request import Completion, Request, Sampling, ScoreLogprobs
from stages.engines.versions import VERSIONS

GOLDEN = Path(__file__).with_name("golden_texts.json")
REQUESTS = [
    Request("chat", user("Name three fruits.")),
    Request("special", user("Say <end> twice, then [/INST] once.")),
    Request("turns", [{"role": "system", "content": "Be kind."}, *user("Score this: 4"), *user("Say é \U0001f34e")]),
    Request("text", "Question: Say cat"),
    Request("empty", ""),
    Request("full", "cat " * 300),
]
CALLS = {
    "sampled": Sampling(3, 1.0, 0.9, 16, stop=("e", "\n")),
    "greedy": Sampling(1, 0.0, 1.0, 16),
    "later": Sampling(2, 0.7, 1.0, 8, first=2),
    "scores": Sampling(2, 1.0, 1.0, 16, score_logprobs=ScoreLogprobs("[a-z]", 0, ("a", "e", "t"))),
}
WITHOUT_PROBABILITIES = ("scripted",)


def plain(completions: Sequence[Completion]) -> list[Any]:
    """As JSON; probabilities in four digits, since the last ones are the machine's."""
    return [[*c[:5], c.probs and [round(p, 4) for p in c.probs]] for c in completions]


def compare(name: str, engine: CachedEngine, texts: dict[str, Any]) -> None:
    """Raises what is to be done when texts, number and file do not go together."""
    file = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}
    now = {"version": VERSIONS[name], "packages": dict(engine.packages), "texts": json.loads(json.dumps(texts))}
    if os.environ.get("GOLDEN") == "write":
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted({**file, name: now}.items())]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return
    if name not in file:
        pytest.skip(f"nothing is written down of {name}; type: GOLDEN=write python -m pytest {Path(__file__).name}")
    before, renew = file[name], f"type: GOLDEN=write python -m pytest tests/engines/{Path(__file__).name}"
    if before["texts"] != now["texts"] and before["packages"] != now["packages"]:
        pytest.skip(f"other packages, other texts: {now['packages']}. If constraints.txt was changed, {renew}")
    raised = f"raise VERSIONS[{name!r}] in stages/engines/versions.py to {before['version'] + 1}, then {renew}"
    changed = [call for call, said in now["texts"].items() if said != before["texts"].get(call)]
    assert before["version"] != now["version"] or not changed, f"the texts of {name} changed ({changed}): {raised}"
    assert before["version"] == now["version"], f"the number of {name} was raised: {renew}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scripted", "transformers", pytest.param("vllm", marks=VLLM)])
def test_texts_change_with_their_number_alone(name: str, tiny: Path, tmp_path: Path) -> None:
    with open_engine(
        engine_params(name),
        HARDWARE.model_copy(update={"workers": 1}),
        tiny,
        model="M1",
        seed=7,
        run=Stage(tmp_path / "c"),
    ) as engine:
        assert isinstance(engine, CachedEngine)
        texts = {
            call: plain(engine.generate(REQUESTS, sampling))
            for call, sampling in CALLS.items()
            if not (sampling.score_logprobs and name in WITHOUT_PROBABILITIES)
        }
    assert sum(bool(c[2]) for said in texts.values() for c in said) > 10
    compare(name, engine, texts)


def test_what_a_server_is_asked_and_how_its_answer_is_read(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is the server's; ours are the request and the reading."""
    pytest.importorskip("openai", reason="needs the extra openai")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    texts: dict[str, Any] = {}
    tokens = [{"token": t, "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -1.0}]} for t in (" ", "a", "!")]
    for call, sampling in CALLS.items():
        choices = [
            {
                "index": i,
                "finish_reason": finish,
                **({"message": {"content": f" a! one{i}\ntwo"}, "text": f" a! one{i}\ntwo"}),
                "logprobs": {"content": tokens} if sampling.score_logprobs else None,
            }
            for i, finish in zip(range(sampling.n), ("stop", "length", "content_filter"), strict=False)
        ]
        answer = {"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 9 * sampling.n}}
        name = f"golden-{call}"
        server.behave(name, Fault(status=200, text=json.dumps(answer)))
        run, machine = (
            Stage(tmp_path / "c"),
            HARDWARE.model_copy(update={"server": HARDWARE.server.model_copy(update={"at_once": 1})}),
        )
        with open_engine(engine_params("openai"), machine, tmp_path, model=name, seed=7, run=run) as engine:
            messages = [r for r in REQUESTS if not (sampling.score_logprobs and isinstance(r.prompt, str))]
            read = plain(engine.generate(messages, sampling))
        asked = server.asked(name)
        for body in asked:
            del body["at"], body["model"]
        texts[call] = {"asked": asked, "read": read}
    assert isinstance(engine, CachedEngine)
    compare("openai", engine, texts)


def test_every_engine_has_a_number_and_texts() -> None:
    """Ray hands out blocks (`test_ray_engine.py`): its texts are those of the engine in its workers."""
    assert set(json.loads(GOLDEN.read_text(encoding="utf-8"))) | {"ray", "vllm"} == set(VERSIONS)
