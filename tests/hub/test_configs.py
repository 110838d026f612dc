"""Configs and their files: what `load_dataset` finds is what the store holds, in its types, in its order."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow.parquet as pq
import pytest
from datasets import Features, List, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import HubError
from stages.hub import configs as module
from stages.hub.configs import Config, Split, configs, schema, write_shards
from stages.store.tables import JUDGEMENTS, PROMPTS, SCORES, TABLES

SPLIT = Split("train", PROMPTS, "M1")
CONFIG = Config("aift_m1_prompts", (SPLIT,))


def prompts(texts, dropped=None, shots=None):
    n = len(texts)
    columns = {"prompt_id": [f"p{i}" for i in range(n)], "model": ["M1"] * n, "prompt": texts, "writer": ["M0"] * n}
    return pl.DataFrame(columns | {"shots": shots or [[]] * n, "dropped": dropped or [None] * n}, schema=PROMPTS.schema)


def written(frame, folder, limit=module.SHARD_BYTES):
    return write_shards(frame, CONFIG, SPLIT, Path(folder), limit)


def contents(frame, limit=module.SHARD_BYTES):
    with TemporaryDirectory() as folder:
        return {shard.path: shard.file.read_bytes() for shard in written(frame, folder, limit)}


def table(content):
    return pl.read_parquet(io.BytesIO(content))


def test_what_trains_a_model_is_published():
    made = [config for config in configs({"M1": "M2", "M2": "M3"}) if not config.raw]
    assert [(config.name, [split.name for split in config.splits]) for config in made] == [
        ("ift", ["train", "valid"]),
        ("eft", ["train"]),
        ("aift_m1", ["train"]),
        ("aift_m2", ["train"]),
    ]
    assert [split.path for config in made for split in config.splits][-2:] == [
        "data/AIFT/M1/pairs.parquet",
        "data/AIFT/M2/pairs.parquet",
    ]
    assert [config.trains for config in made][-2:] == ["M2", "M3"]


def test_raw_is_all_that_it_was_made_from_too():
    every = configs({"M1": "M2"})
    of_m1 = [f"aift_m1_{name}" for name in ("prompts", "candidates", "judgements", "scores")]
    assert [config.name for config in every if config.raw] == ["ranked", "seed_judgements", "test_prompts", *of_m1]
    published = {split.table for config in every for split in config.splits}
    assert {t.name for t in TABLES if t not in published} == {"answers", "judged", "verdicts"}, (
        "the evaluation is in the card"
    )


def test_the_splits_of_a_config_have_one_schema():
    for config in configs({"M1": "M2"}):
        assert {schema(split.table) for split in config.splits} == {schema(config.table)}


def test_models_whose_names_differ_in_case_alone_have_one_config():
    with pytest.raises(HubError, match="both be config aift_m1"):
        configs({"M1": "M2", "m1": "M3"})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_contract_has_the_types_that_datasets_has(table):
    kinds = {
        "String": Value("string"),
        "Int32": Value("int32"),
        "Float64": Value("float64"),
        "List(String)": List(Value("string")),
    }
    assert Features.from_arrow_schema(schema(table)) == {c.name: kinds[str(c.dtype)] for c in table.columns}


@pytest.mark.parametrize("table", [PROMPTS, JUDGEMENTS, SCORES], ids=lambda table: table.name)
def test_datasets_reads_the_contract(tmp_path, table):
    values = {"String": ["é", ""], "Int32": [-1, 2], "Float64": [0.5, 4.0], "List(String)": [["a", "b"], []]}
    frame = pl.DataFrame(
        {c.name: [None if c.nullable else values[str(c.dtype)][0], values[str(c.dtype)][1]] for c in table.columns},
        schema=table.schema,
    )
    config = Config("c", (Split("train", table, "M1"),))
    files = [str(shard.file) for shard in write_shards(frame, config, config.splits[0], tmp_path)]
    loaded = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == Features.from_arrow_schema(schema(table))
    assert loaded.to_list() == frame.to_dicts()


ROWS = st.lists(
    st.tuples(st.text(max_size=20), st.none() | st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3)),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(rows=ROWS, limit=st.integers(40, 2000))
def test_shards_hold_the_rows_in_their_order(rows, limit):
    frame = prompts(*(list(column) for column in zip(*rows, strict=True)))
    with TemporaryDirectory() as folder:
        shards = written(frame, folder, limit)
        assert pl.concat([pl.read_parquet(shard.file) for shard in shards]).equals(frame, null_equal=True)
        assert [shard.path for shard in shards] == [
            f"data/aift_m1_prompts/train-{i:05}-of-{len(shards):05}.parquet" for i in range(len(shards))
        ]
        assert [shard.file for shard in shards] == [Path(folder) / shard.path for shard in shards]
        assert [shard.rows for shard in shards] == [pq.read_metadata(shard.file).num_rows for shard in shards]
        assert max(shard.rows for shard in shards) - min(shard.rows for shard in shards) <= 1


def test_a_row_that_looks_like_nothing_is_a_row(tmp_path):
    (shard,) = written(prompts([""]), tmp_path)
    assert (shard.rows, pl.read_parquet(shard.file).equals(prompts([""]), null_equal=True)) == (1, True)


def test_a_file_has_as_many_rows_as_fit():
    frame = prompts(["x" * 1000] * 64)
    assert [len(table(content)) for content in contents(frame, 20_000).values()] == [16] * 4, "65 kB of text, and ids"


def test_every_file_has_a_row():
    assert [len(table(content)) for content in contents(prompts(["x" * 1000]), 100).values()] == [1]


def test_a_file_has_the_schema_of_the_contract(tmp_path):
    (shard,) = written(prompts(["a"]), tmp_path)
    assert pq.read_schema(shard.file) == schema(PROMPTS), "polars' large_string would be another feature"


def in_two(frame):
    return pl.concat([frame[:3], frame[3:]], rechunk=False)


def test_equal_rows_are_equal_bytes():
    frame = prompts(list("abcdefg"), dropped=[None, "repeat", None, None, None, "repeat", None])
    assert in_two(frame).n_chunks() == 2
    assert contents(frame, 200) == contents(frame.clone(), 200) == contents(in_two(frame), 200)
    assert contents(frame, 200) != contents(frame.reverse(), 200)


def test_how_rows_lie_in_memory_does_not_matter():
    frame = prompts(list("abcdefg"), dropped=[None, "repeat", None, None, None, "repeat", None])
    sizes = [rows.to_arrow().cast(schema(PROMPTS)).nbytes for rows in (frame, in_two(frame))]
    assert contents(frame, min(sizes)).keys() == contents(in_two(frame), min(sizes)).keys()


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    frame = prompts(list("abcdef"))
    limit = next(limit for limit in range(1, 10_000) if len(written(frame, tmp_path / "tried", limit)) == 3)
    monkeypatch.setattr(module, "MOST_SHARDS", 3)
    assert len(written(frame, tmp_path / "fits", limit)) == 3
    with pytest.raises(HubError, match=r"table prompts \(data/AIFT/M1/prompts.parquet\) .* more than 3 files"):
        written(frame, tmp_path / "not", limit - 1)
    assert not (tmp_path / "not").exists(), "nothing is written then"
