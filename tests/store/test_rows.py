"""Seed files: every form is read, and a fault names file and line."""

import gzip
import json
import os
import random
import re

import polars as pl
import pytest

from stages.console.errors import SeedDataError
from stages.method.formats import recognize
from stages.method.seeds import answered_prompts
from stages.store.rows import read_file, read_hub

MESSAGES = [
    {"message_id": "1", "parent_id": None, "text": "Grüße 👋", "role": "prompter", "lang": "en", "rank": None},
    {"message_id": "2", "parent_id": "1", "text": "Hi", "role": "assistant", "lang": "en", "rank": 0},
]


def test_every_form_reads_the_same(tmp_path):
    lines = "\n".join(json.dumps(m) for m in MESSAGES) + "\n\n"
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.json").write_text(json.dumps(MESSAGES))
    pl.DataFrame(MESSAGES).write_parquet(tmp_path / "d.parquet")
    for file in sorted(tmp_path.iterdir()):
        where, messages = zip(*read_file(file), strict=True)
        assert list(messages) == MESSAGES, file.name
        assert where[1] in ("line 2", "object 2", "row 2")
    assert read_file(tmp_path / "a.jsonl")[1][0] == "line 2"
    assert read_file(tmp_path / "a.jsonl", first=1) == [("line 1", MESSAGES[0])]


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(MESSAGES[0]) + "\n{'single': 'quotes'}\n")
    with pytest.raises(SeedDataError, match=r"a\.jsonl, line 2: not JSON .*column 2.*single"):
        read_file(tmp_path / "a.jsonl")


def test_what_editors_and_tools_put_around_messages_is_read(tmp_path):
    """A byte order mark, Windows line ends, lines in .json, a list over many lines, gzip by another name."""
    lines = "\r\n".join(json.dumps(m) for m in MESSAGES).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    (tmp_path / "b.json").write_bytes(lines)
    (tmp_path / "c.json").write_text("\ufeff\n" + json.dumps(MESSAGES, indent=2))
    (tmp_path / "d.jsonl").write_bytes(gzip.compress(lines))
    for file in sorted(tmp_path.iterdir()):
        assert [m for _, m in read_file(file)] == MESSAGES, file.name


ONE = json.dumps(MESSAGES[0]).encode()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.jsonl", b"[1, 2]\n", "line 1: expected an object, seen list"),
        ("a.jsonl", ONE.decode().encode("utf-16"), "is UTF-16 or UTF-32. Save the file as UTF-8"),
        ("a.jsonl", ONE.decode().encode("utf-16-le"), "is UTF-16"),
        ("a.jsonl", ONE + b"\n" + '{"text": "Gr\u00fc\u00dfe"}'.encode("latin-1"), "line 2, byte 13: not UTF-8"),
        ("a.jsonl", ONE + b"\n\n" + ONE[:-9], "line 3: not JSON"),
        ("a.jsonl", ONE.replace(b"null", b"NaN"), "line 1: NaN is no number in JSON"),
        ("a.jsonl", ONE.replace(b"null", b"-Infinity"), "line 1: -Infinity is no number"),
        ("a.jsonl", ONE.replace(b"null", b"9" * 5000), "line 1: Exceeds the limit .* digits"),
        ("a.jsonl", b'{"a": ' + b"[" * 200_000, "line 1: objects nested too deeply"),
        ("a.jsonl.gz", b"no gzip", "line 1: not JSON"),
        ("a.jsonl.gz", gzip.compress(ONE * 99, mtime=0)[:-20], "cannot be read"),
        ("a.jsonl.gz", gzip.compress(ONE * 99, mtime=0)[:30] + b"garbage", "cannot be read"),
        ("a.json", b'[{"a": 1},\n oops]', "line 2: not JSON"),
        ("a.json", b'[{"a": 1},\n', "line 2: not JSON"),
        ("a.json", b'[{"a": 1},\n 2]', "object 2: expected an object, seen int"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.txt", b"message_id,text", r"expected \.jsonl, \.json"),
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeedDataError, match=words) as e:
        read_file(tmp_path / name)
    assert name in str(e.value)
    assert len(str(e.value)) < 400


def test_what_would_never_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "folder.jsonl").mkdir()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(SeedDataError, match="is not a regular file"):
            read_file(path)


TOKENS = [
    b"NaN", b"-1", b"true", b'"false"', b"1e999", b"9" * 5000, b"null", b"[]", b"{}", b"[" * 3000, b'"\\ud800"', b"\xff", b"\0",
    b'"gpt"', b'"', b"\\", b",", b"\n", b"\xef\xbb\xbf", b"10000000000000", b"2.0", b'{"replies": [7]}',
]  # fmt: skip


@pytest.mark.slow
def test_any_mutation_is_read_right_or_refused_by_name(tmp_path):
    """1,000 files of a tree and flat messages, each damaged in one to three places."""
    flat = [m | {"deleted": False, "review_result": True, "tree_state": "ready_for_export"} for m in MESSAGES]
    flat += [flat[0] | {"message_id": "3", "lang": "de"}, flat[1] | {"message_id": "4", "text": "Ho", "rank": 1}]
    nested = {
        "tree_state": "ready_for_export",
        "prompt": flat[0] | {"message_id": "5", "replies": [flat[1] | {"message_id": "6"}]},
    }
    whole = b"\n".join(json.dumps(m).encode() for m in [*flat, nested])
    rng, refused = random.Random(0), []
    for number in range(1000):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            spot = rng.choice([m.start() for m in re.finditer(rb'(?<=: )|["{,]', bytes(body))])
            match rng.randrange(3):
                case 0:
                    body[spot : spot + rng.randint(0, 9)] = rng.choice(TOKENS)
                case 1:
                    del body[spot : spot + rng.randint(1, 200)]
                case _:
                    body[spot] = rng.randrange(256)
        file = tmp_path / rng.choice(["a.jsonl", "a.json"])
        file.write_bytes(body)
        try:
            rows = read_file(file)
            reading = recognize(rows, file.name)
            frame, counts = answered_prompts(reading.messages(rows), lang="en", source=file.name)
        except SeedDataError as e:
            refused.append(f"{number}: {e}")
            continue
        assert counts.prompts + counts.answers + sum(counts.left_out.values()) == counts.messages
        assert len(frame) == counts.answers > 0
    assert 300 < len(refused) < 990, "both happen"
    assert not [message for message in refused if " a.json" not in message and "/a.json" not in message]


def test_a_missing_file_names_the_parameter(tmp_path):
    with pytest.raises(SeedDataError, match=r"split_seed\.path"):
        read_file(tmp_path / "none.jsonl")


def test_a_folder_in_the_hubs_layout_is_read(tmp_path):
    (tmp_path / "repo/data").mkdir(parents=True)
    for split, messages in (("train", MESSAGES), ("validation", [MESSAGES[0] | {"message_id": "3"}])):
        pl.DataFrame(messages, schema_overrides={"parent_id": pl.String, "rank": pl.Int64}).write_parquet(
            tmp_path / f"repo/data/{split}-00000-of-00001.parquet"
        )
    where, messages = zip(*read_hub(str(tmp_path / "repo"), "main"), strict=True)
    assert list(messages) == [*MESSAGES, MESSAGES[0] | {"message_id": "3"}]
    assert where[2] == "split validation, row 1"


def test_a_dataset_that_cannot_be_loaded_names_repository_and_revision(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SeedDataError, match=r"OpenAssistant/none at revision 0123abc"):
        read_hub("OpenAssistant/none", "0123abc")
