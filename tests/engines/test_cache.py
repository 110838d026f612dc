"""Cached completions: found as written, or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Container, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import EngineError
from stages.engines.cache import CompletionCache
from stages.engines.request import Completion


def key(i: int) -> bytes:
    return i.to_bytes(32, "big")


def rows(*numbers: int, text: str = "text") -> list[tuple[bytes, Completion]]:
    return [(key(i), Completion(f"r{i}", 0, f"{text} {i}", "stop", i)) for i in numbers]


def keep(
    cache: CompletionCache, *numbers: int, model: str = "M1", stage: str = "judge_candidates@M1", text: str = "text"
) -> None:
    cache.put(rows(*numbers, text=text), model=model, stage=stage)


def find(
    cache: CompletionCache, keys: Iterable[bytes], numbers: Container[int] = range(9)
) -> dict[bytes, list[list[object]]]:
    """What is kept of each key, without the id of its request."""
    asked, found = {k.hex(): k for k in keys}, dict[bytes, list[list[object]]]()
    for request_id, *row in cache.get(asked, numbers):
        found.setdefault(asked[request_id], []).append(row)
    return found


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.text(), st.sampled_from(["stop", "length"]), st.integers(0, 10**6), st.none() | st.lists(st.floats(0, 1)))
def test_what_was_kept_is_found_as_it_was(tmp_path_factory, text, reason, tokens, probs):
    path = tmp_path_factory.mktemp("kept") / "f.sqlite"
    with CompletionCache(path) as cache:
        cache.put(
            [(key(1), Completion("r", 2, text, reason, tokens, probs)), (key(1), Completion("r", 3, "", "stop", 0))],
            model="M1",
            stage="s",
        )
    with CompletionCache(path) as cache:
        assert find(cache, [key(1), key(2)]) == {key(1): [[2, text, reason, tokens, probs], [3, "", "stop", 0, None]]}


@pytest.mark.parametrize("asked_for", [4000, 400], ids=["some are missing", "more are there"])
def test_many_keys_are_asked_for(tmp_path, asked_for):
    with CompletionCache(tmp_path / "f.sqlite") as cache:
        assert find(cache, [key(1)]) == {}
        keep(cache, *range(3000))
        more = [(key(i), Completion(f"r{i}", 1, "more", "stop", 1)) for i in range(0, 3000, 2)]
        cache.put(more, model="M1", stage="s")
        found = find(cache, [key(i) for i in range(2900 - asked_for // 2, 2900 + asked_for // 2)])
        assert found.keys() == {key(i) for i in range(max(0, 2900 - asked_for // 2), 3000)}
        assert found[key(2901)] == [[0, "text 2901", "stop", 2901, None]]
        assert sorted(row[:2] for row in found[key(2902)]) == [[0, "text 2902"], [1, "more"]]
        assert set(find(cache, map(key, range(asked_for)), numbers=[1])) == {
            key(i) for i in range(0, min(asked_for, 3000), 2)
        }
        assert find(cache, []) == {}


def test_the_first_text_of_a_number_stays(tmp_path):
    """Whichever process wrote it."""
    with CompletionCache(tmp_path / "f.sqlite") as one, CompletionCache(tmp_path / "f.sqlite") as other:
        keep(one, 1, text="first")
        more = [Completion("r1", n, f"second {n}", "stop", 1) for n in range(3)]
        other.put([(key(1), c) for c in more], model="M1", stage="s")
        assert [row[1] for row in find(one, [key(1)])[key(1)]] == ["first 1", "second 1", "second 2"]


def in_a_process(program: str) -> subprocess.Popen[str]:
    paths = f"import sys; from pathlib import Path; sys.path[:0] = {[str(Path.cwd()), str(Path(__file__).parent)]!r}"
    return subprocess.Popen(
        [sys.executable, "-c", f"{paths}\nfrom test_cache import CompletionCache, keep\n{program}"],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_share_it(tmp_path):
    """They open it at the same moment, which makes it."""
    path = tmp_path / "f.sqlite"
    program = "with CompletionCache(Path({!r})) as cache:\n    for i in range({}, {}):\n        keep(cache, i)"
    processes = [in_a_process(program.format(str(path), 1000 * t, 1000 * t + 40)) for t in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with CompletionCache(path) as cache:
        assert len(find(cache, [key(1000 * t + i) for t in range(3) for i in range(40)])) == 120


@given(st.text(st.characters(codec=None)))
@settings(max_examples=30, deadline=None)
def test_any_text_of_python_is_kept(tmp_path_factory, text):
    """A server's JSON can hold lone surrogates."""
    with CompletionCache(tmp_path_factory.mktemp("kept") / "f.sqlite") as cache:
        cache.put([(key(1), Completion("r", 0, text + "\ud800", "stop", 1))], model="M1", stage="s")
        assert find(cache, [key(1)]) == {key(1): [[0, text + "\ud800", "stop", 1, None]]}


def test_what_was_kept_survives_kill_9(tmp_path):
    path = tmp_path / "f.sqlite"
    program = f"cache = CompletionCache(Path({str(path)!r}))\nfor i in range(10**6):\n    keep(cache, 2 * i, 2 * i + 1)\n    print(i, flush=True)"
    process = in_a_process(program)
    assert process.stdout
    for told in process.stdout:
        if int(told) == 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with CompletionCache(path) as cache:
        found = find(cache, [key(i) for i in range(10_000)])
    assert len(found) >= 42
    assert len(found) % 2 == 0, "a batch is there whole or not at all"


@pytest.mark.parametrize("damage", ["no database", "zeros inside", "cut short", "another text", "no text", "bad byte"])
def test_a_damaged_database_is_an_error_never_a_wrong_text(tmp_path, damage):
    path = tmp_path / "f.sqlite"
    with CompletionCache(path) as cache:
        keep(cache, *range(500))
    content = bytearray(path.read_bytes())
    if damage == "no database":
        path.write_text("not a database, but long enough to be taken for one" * 100)
    elif damage == "zeros inside":
        content[4096 : len(content) - 4096] = bytes(len(content) - 8192)
        path.write_bytes(content)
    elif damage == "cut short":
        path.write_bytes(content[: len(content) // 3])
    elif damage == "bad byte":
        content[content.index(b"text 7") + 2] ^= 0x80
        path.write_bytes(content)
    else:
        change = "replace(cast(json AS TEXT), 'text', 'word')" if damage == "another text" else "5"
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE texts SET json = {change} WHERE key = ?", [key(7)])
        connection.close()
    with (
        pytest.raises(EngineError, match=r"f\.sqlite is damaged \(.*\)\. Type: srlm cache --prune"),
        CompletionCache(path) as cache,
    ):
        find(cache, [key(i) for i in range(500)])


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path):
    with CompletionCache(tmp_path / "f.sqlite") as cache:
        keep(cache, 1)
        pages = cache.connection.execute("PRAGMA page_count").fetchone()[0]
        cache.connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(EngineError, match=r"cannot be cached in .*full.*Check the room on its disk"):
            cache.put(
                [(key(i), Completion("r", 0, "long " * 1000, "stop", 1)) for i in range(2, 50)], model="M1", stage="s"
            )
        assert set(find(cache, [key(i) for i in range(50)])) == {key(1)}
        cache.connection.execute("PRAGMA max_page_count = 100000")
        keep(cache, 2)
        assert set(find(cache, [key(1), key(2)])) == {key(1), key(2)}


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be cached"):
        CompletionCache(tmp_path / "file" / "f.sqlite")
    with pytest.raises(EngineError, match="cannot be cached"):
        CompletionCache(tmp_path)


def test_sizes_and_pruning_by_model_and_age(tmp_path):
    with CompletionCache(tmp_path / "f.sqlite") as cache:
        keep(cache, 1, 2)
        keep(cache, 3, model="M2", stage="sample_candidates@M2", text="é")
        cache.connection.execute("UPDATE texts SET created = 100 WHERE key = ?", [key(1)])
        sizes = cache.sizes()
        assert [(s.model, s.stage, s.completions, s.bytes) for s in sizes] == [
            ("M1", "judge_candidates@M1", 2, 48),
            ("M2", "sample_candidates@M2", 1, 22),
        ]
        assert sizes[0].oldest == 100
        assert cache.prune(before=101) == 1
        assert set(find(cache, [key(i) for i in (1, 2, 3)])) == {key(2), key(3)}
        assert cache.prune(model="M2") == 1
        assert set(find(cache, [key(i) for i in (1, 2, 3)])) == {key(2)}
