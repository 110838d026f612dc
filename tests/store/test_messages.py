"""Seed files: every form is read, and a fault names file and line."""

import gzip
import json

import polars as pl
import pytest

from stages.console.errors import SeedDataError
from stages.store.messages import read_file, read_hub

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
        assert read_file(file) == MESSAGES, file.name


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(MESSAGES[0]) + "\n{'single': 'quotes'}\n")
    with pytest.raises(SeedDataError, match=r"a\.jsonl, line 2: not JSON .*column 2.*single"):
        read_file(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.jsonl", b"[1, 2]\n", "line 1: a message object is wanted, seen list"),
        ("a.jsonl", b"\xff\xfe{}\n", "cannot be read"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.json", b'[{"a": 1},\n oops]', "line 2: not JSON"),
        ("a.json", b'{"a": 1}', "a list of message objects is wanted"),
        ("a.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeedDataError, match=said) as e:
        read_file(tmp_path / name)
    assert name in str(e.value)


def test_a_missing_file_names_the_parameter(tmp_path):
    with pytest.raises(SeedDataError, match=r"split_seed\.path"):
        read_file(tmp_path / "none.jsonl")


def test_a_folder_in_the_hubs_layout_is_read(tmp_path):
    (tmp_path / "repo/data").mkdir(parents=True)
    for split, messages in (("train", MESSAGES), ("validation", [MESSAGES[0] | {"message_id": "3"}])):
        pl.DataFrame(messages, schema_overrides={"parent_id": pl.String, "rank": pl.Int64}).write_parquet(
            tmp_path / f"repo/data/{split}-00000-of-00001.parquet"
        )
    assert read_hub(str(tmp_path / "repo"), "main") == [*MESSAGES, MESSAGES[0] | {"message_id": "3"}]


def test_a_dataset_that_cannot_be_loaded_names_repository_and_revision(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SeedDataError, match=r"OpenAssistant/none at revision 0123abc"):
        read_hub("OpenAssistant/none", "0123abc")
