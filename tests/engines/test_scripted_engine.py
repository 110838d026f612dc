"""The scripted engine writes what the pipeline must cope with, in the shares that it states."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from tiny_llama import HARDWARE, engine_params

from stages.engines.backends.scripted import DULL, ScriptedEngine
from stages.engines.request import Request, Sampling

SAMPLED = Sampling(n=4, temperature=0.7, top_p=0.9, max_tokens=100)
SCORE = re.compile(r"\nScore: (\d)$")


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(engine_params("scripted", max_context=4096), HARDWARE, Path("nowhere"), model="M1", seed=3)


def ask(text: str):
    return [{"role": "user", "content": text}]


def test_judgements_of_every_kind(engine):
    done = engine.generate(
        [Request(str(i), ask(f"Judge answer {i}. End with Score: <n>")) for i in range(500)], SAMPLED
    )
    cut = [c for c in done if c.finish_reason == "length"]
    scores = Counter(m[1] if (m := SCORE.search(c.text)) else None for c in done if c.finish_reason == "stop")
    assert len(cut) / len(done) == pytest.approx(0.06, abs=0.03)
    assert scores[None] / len(done) == pytest.approx(0.08, abs=0.03)
    assert scores["9"] / len(done) == pytest.approx(0.06, abs=0.03)
    assert set("012345") < set(scores)


def test_a_dull_answer_is_scored_alike_by_all(engine):
    done = engine.generate([Request(str(i), ask(f"Score this: {DULL} answer {i}")) for i in range(50)], SAMPLED)
    assert {m[1] for c in done if (m := SCORE.search(c.text))} == {"3", "9"}


def test_answers_hold_dull_prompts_duplicates_and_cut_offs(engine):
    done = engine.generate([Request(str(i), ask(f"Tell me about {i}.")) for i in range(300)], SAMPLED)
    answers = [done[i : i + 4] for i in range(0, len(done), 4)]
    dull = [all(c.text.startswith(DULL) for c in four) for four in answers]
    assert dull == [any(c.text.startswith(DULL) for c in four) for four in answers]  # of a prompt, not of an answer
    assert sum(dull) / 300 == pytest.approx(0.15, abs=0.07)
    assert 0.1 < sum(len({c.text for c in four}) < 4 for four in answers) / 300 < 0.5
    assert 0.01 < sum(c.finish_reason == "length" for c in done) / len(done) < 0.1
    assert not any("Score" in c.text for c in done)


def test_a_comparison_gets_a_verdict(engine):
    done = engine.generate(
        [Request(str(i), ask(f"Which is better? Say [[A]], [[B]] or [[C]]. {i}")) for i in range(60)], SAMPLED
    )
    marks = Counter(m[1] for c in done if (m := re.search(r"\[\[([ABC])\]\]$", c.text)))
    assert set(marks) == set("ABC")
    assert sum(marks.values()) > 200


def test_a_text_is_continued_with_a_fresh_question(engine):
    done = engine.generate([Request(str(i), f"Tasks:\n* one\n* {i}\n*") for i in range(200)], SAMPLED._replace(n=1))
    assert all(4 <= len(c.text.split()) <= 14 and c.text.isascii() and c.text.endswith("?") for c in done)
    assert len({c.text for c in done}) == 200
    assert 0 < sum(c.finish_reason == "length" for c in done) < 20


def test_two_models_write_differently(engine):
    other = ScriptedEngine(engine_params("scripted"), HARDWARE, Path("nowhere"), model="M2", seed=3)
    requests = [Request("a", ask("Hello there"))]
    assert engine.generate(requests, SAMPLED) != other.generate(requests, SAMPLED)
