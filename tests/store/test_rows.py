"""Seed files: every form is read, and a fault names file and line."""

import gzip
import json
import os

import polars as pl
import pytest

from stages.console.errors import SeedDataError
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
    assert [m for _, m in read_hub(str(tmp_path / "repo"), "main", "default", "validation")] == [messages[2]]
    with pytest.raises(SeedDataError, match=r"has no split 'test'; it has train, validation. Fix split_seed\.split"):
        read_hub(str(tmp_path / "repo"), "main", split="test")
    with pytest.raises(SeedDataError, match=r"config none, at revision main cannot be loaded: .*split_seed\.config"):
        read_hub(str(tmp_path / "repo"), "main", config="none")
