"""What every engine promises, on the same requests."""

from __future__ import annotations

import polars as pl
import pytest

from stages.console.errors import EngineError
from stages.engines.request import Completion, Message, Request, Sampling

SAMPLED = Sampling(n=3, temperature=1.0, top_p=0.9, max_tokens=12)
GREEDY = Sampling(n=2, temperature=0.0, top_p=1.0, max_tokens=12)


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


REQUESTS = [
    Request("b", user("Name three fruits.")),
    Request("a", user("Say cat 3 times. " * 3)),
    Request("empty", ""),
    Request("text", "Question: Say cat"),
    Request("unicode", user("Straße 北京 \U0001f34e \u0000 naïve\n\n```py\nx = 1\n```")),
    *(Request(f"r{i}", user(f"Say {i} times cat {'cat ' * i}")) for i in range(8)),
]


def by_id(completions: list[Completion]) -> dict[tuple[str, int], Completion]:
    return {(c.id, c.n): c for c in completions}


@pytest.mark.slow
def test_completions_come_by_request_then_n(opened):
    done = opened().generate(REQUESTS, SAMPLED)
    assert [(c.id, c.n) for c in done] == [(r.id, n) for r in REQUESTS for n in range(3)]
    assert all(c.finish_reason in ("stop", "length") and 0 <= c.tokens <= SAMPLED.max_tokens for c in done)
    assert any(c.text for c in done)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY])
def test_a_text_is_the_same_alone_in_a_batch_and_in_another_order(opened, sampling):
    engine = opened()
    together = by_id(engine.generate(REQUESTS, sampling))
    assert by_id(engine.generate(REQUESTS[::-1], sampling)) == together
    for request in REQUESTS[:5]:
        assert by_id(engine.generate([request], sampling)).items() <= together.items()


@pytest.mark.slow
def test_the_first_completions_do_not_depend_on_how_many_are_asked_for(opened):
    engine = opened()
    assert (
        by_id(engine.generate(REQUESTS, SAMPLED._replace(n=1))).items()
        <= by_id(engine.generate(REQUESTS, SAMPLED)).items()
    )


@pytest.mark.slow
def test_the_chunk_does_not_change_float32_texts_here(opened):
    assert opened(chunk=1).generate(REQUESTS, SAMPLED) == opened(chunk=10**6).generate(REQUESTS, SAMPLED)


def test_greedy_ignores_seed_and_n(opened):
    first, second = opened(seed=1).generate(REQUESTS, GREEDY), opened(seed=1).generate(REQUESTS, GREEDY)
    assert first == second
    texts = by_id(first)
    assert all(texts[r.id, 0].text == texts[r.id, 1].text for r in REQUESTS)


@pytest.mark.slow
def test_sampled_texts_differ_by_n_id_and_seed(opened):
    same_prompt = [Request(str(i), user("Name three fruits.")) for i in range(6)]
    texts = {c.text for c in opened().generate(same_prompt, SAMPLED)}
    assert len(texts) > 12
    assert len({c.text for c in opened(seed=8).generate(same_prompt, SAMPLED)} & texts) < 6


def test_max_tokens_cuts_and_says_so(opened):
    done = opened().generate(REQUESTS, SAMPLED._replace(max_tokens=2))
    assert all(c.tokens <= 2 for c in done)
    assert "length" in {c.finish_reason for c in done}


def test_a_full_context_gives_less_text_or_none_and_never_an_exception(opened):
    engine = opened(max_context=40)
    fits, tight, full = "cat", "cat " * 34, "cat " * 300
    done = by_id(
        engine.generate(
            [Request("fits", fits), Request("tight", tight), Request("full", full)], SAMPLED._replace(max_tokens=30)
        )
    )
    for n in range(3):
        assert done["full", n] == Completion("full", n, "", "length", 0)
        assert done["tight", n].tokens <= 6
    assert max(done["fits", n].tokens for n in range(3)) > 6
    assert engine.prompts_too_long == 1


def test_a_prompt_of_exactly_the_context_leaves_no_room(opened):
    engine = opened(max_context=16)
    (done,) = engine.generate([Request("x", "cat " * 15 + "cat")], SAMPLED._replace(n=1))
    assert done == Completion("x", 0, "", "length", 0)


@pytest.mark.slow
def test_stop_strings_end_a_text_and_are_no_part_of_it(opened):
    engine = opened()
    plain = by_id(engine.generate(REQUESTS, SAMPLED))
    stops = ("a", "e")
    stopped = by_id(engine.generate(REQUESTS, SAMPLED._replace(stop=stops)))
    hit = 0
    for key, before in plain.items():
        cut = min((at for s in stops if (at := before.text.find(s)) >= 0), default=None)
        if cut is None:
            assert stopped[key] == before
        else:
            hit += 1
            assert (stopped[key].text, stopped[key].finish_reason) == (before.text[:cut], "stop")
            assert stopped[key].tokens <= before.tokens
    assert hit > 5


def test_no_requests_no_completions(opened):
    assert opened().generate([], SAMPLED) == []


def test_two_requests_of_one_id_are_refused(opened):
    with pytest.raises(EngineError, match="'b'"):
        opened().generate([REQUESTS[0], REQUESTS[1], REQUESTS[0]], SAMPLED)


@pytest.mark.slow
def test_engines_count_what_they_wrote(opened):
    engine = opened()
    first = engine.generate(REQUESTS, SAMPLED)
    second = engine.generate(REQUESTS, GREEDY)
    assert engine.generated_tokens == sum(c.tokens for c in first) + sum(c.tokens for c in second if c.n == 0)
    assert engine.seconds > 0


@pytest.mark.slow
def test_a_verb_gets_a_table_that_joins(opened):
    engine = opened()
    prompts = pl.DataFrame({"id": ["b", "a"], "prompt": ["Name three fruits.", "Say cat"], "more": [1, 2]})
    table = engine.complete(prompts, SAMPLED)
    asked = [Request(i, user(text)) for i, text, _ in prompts.iter_rows()]
    assert list(map(Completion._make, table.iter_rows())) == engine.generate(asked, SAMPLED)
    plain = engine.complete(prompts, SAMPLED, chat=False)
    assert list(map(Completion._make, plain.iter_rows())) == engine.generate(
        [Request(r.id, r.prompt[0]["content"]) for r in asked], SAMPLED
    )
    assert table.schema == {
        "id": pl.String,
        "n": pl.Int32,
        "text": pl.String,
        "finish_reason": pl.String,
        "tokens": pl.Int32,
        "probs": pl.List(pl.Float64),
    }
    assert table["id"].to_list() == ["b"] * 3 + ["a"] * 3
    assert engine.complete(prompts.clear(), SAMPLED).schema == table.schema
