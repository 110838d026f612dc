"""What a dataset repository holds, and the graph of stages that leads to it."""

from __future__ import annotations

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from datasets import Features
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import IFT

from stages.console.errors import HubError
from stages.hub import lineage
from stages.hub.configs import Config, Split, configs, features, schema, write_shards
from stages.store.tables import IFT_TRAIN, PROMPTS, TABLES


def test_what_trains_a_model_is_published_and_raw_is_all_that_it_was_made_from():
    names = {config.name: config.raw for config in configs({"M1": "M2", "M2": ""})}
    assert [name for name, raw in names.items() if not raw] == ["ift", "eft", "aift_m1", "aift_m2"]
    assert {split.table.name for config in configs({"M1": ""}, judge_pairs=True) for split in config.splits} == {
        table.name for table in TABLES if not table.path.startswith(("data/EVAL", "data/REVIEW"))
    }
    with pytest.raises(HubError, match="two datasets would both be config aift_m1, in lower case"):
        configs({"M1": "", "m1": ""})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_card_and_files_have_the_types_that_datasets_reads(table):
    assert Features._from_yaml_list(features(table)) == Features.from_arrow_schema(schema(table))


@settings(deadline=None, max_examples=15)
@given(rows=st.lists(st.text(max_size=30), max_size=20), limit=st.integers(50, 500))
def test_shards_hold_the_rows_in_their_order(tmp_path_factory, rows, limit):
    folder = tmp_path_factory.mktemp("shards")
    values = [IFT[0] | {"ift_id": str(n), "response": text} for n, text in enumerate(rows)]
    frame = pl.DataFrame(values, schema=IFT_TRAIN.schema)
    config = Config("ift", (Split("train", IFT_TRAIN),))
    shards, size = write_shards(frame, config, config.splits[0], folder, limit=limit)
    read = [pq.read_table(shard.file) for shard in shards]
    assert {table.schema for table in read} == {schema(IFT_TRAIN)}
    assert pl.concat([pl.DataFrame(table) for table in read]).equals(frame)
    assert all(len(table) for table in read) or frame.is_empty()
    again = write_shards(pl.concat([frame.head(3), frame.slice(3)]), config, config.splits[0], folder, limit=limit)
    assert again == (shards, size), "equal rows are equal bytes, however they lie in memory"


def test_a_list_and_null_come_back(tmp_path):
    row = {"prompt_id": "p", "model": "M1", "prompt": "x", "writer": "M0", "shots": ["a", "b"], "dropped": None}
    frame = pl.DataFrame([row, row | {"shots": [], "dropped": "repeat"}], schema=PROMPTS.schema)
    config = Config("p", (Split("train", PROMPTS, "M1"),))
    (shard,), _ = write_shards(frame, config, config.splits[0], tmp_path)
    assert pl.read_parquet(shard.file).equals(frame)


# Lineage

STAGES = {
    name: {"cmd": name, "params": {}, "deps": dict.fromkeys(deps, "ab"), "outs": dict.fromkeys(outs, "cd")}
    for name, deps, outs in [
        ("split", ["seed"], ["data/IFT", "data/EFT.parquet"]),
        ("m0", [], ["data/models/M0"]),
        ("sft", ["data/models/M0", "data/IFT/train.parquet"], ["data/models/M1"]),
        ("m10", ["data/models/M1"], ["data/models/M10"]),
        ("other", ["data/EFT.parquet"], ["data/other"]),
    ]
}


@pytest.mark.parametrize(
    ("wanted", "made_by"),
    [
        (["data/models/M0"], ["m0"]),
        (["data/models/M1"], ["split", "m0", "sft"]),
        (["data/models/M10", "data/other"], ["split", "m0", "sft", "m10", "other"]),
    ],
)
def test_what_made_it_in_the_order_of_the_lock(wanted, made_by):
    assert list(lineage.ancestors(STAGES, wanted)) == made_by
    with pytest.raises(HubError, match=r"dvc\.lock has no stage that makes data/models/M9"):
        lineage.ancestors(STAGES, [*wanted, "data/models/M9"])


def test_a_lock_is_read_as_it_is(tmp_path):
    file = tmp_path / "dvc.lock"
    with pytest.raises(HubError, match="no stage ran here yet"):
        lineage.locked(file, ["a"])
    file.write_text(
        "stages:\n a: {cmd: x, deps: [{path: p, md5: q}], outs: [{path: o, md5: r}], params: {f: {k: 1}}}\n"
        " b: {cmd: y, outs: [{path: o2}]}\n"
    )
    stage = {"cmd": "x", "params": {"f": {"k": 1}}, "deps": {"p": "q"}, "outs": {"o": "r"}}
    assert lineage.locked(file, ["a"]) == {"a": stage}
    with pytest.raises(HubError, match="stage b has no 'md5'"):
        lineage.locked(file, ["a", "b"])


def graph(**changes):
    code = {"git": "ab", "dvc_lock": "cd"}
    files = {"data/a.parquet": {"sha256": "ef"}}
    return {
        "format": lineage.FORMAT,
        "code": code,
        "stages": {},
        "files": files,
        "models": {},
        "packages": {},
        "card": {},
    } | changes


def test_a_published_lineage_is_read_back_and_nothing_else_is_taken_for_one():
    assert lineage.parse(lineage.dump(graph())) == graph()
    assert lineage.dump(graph()) == lineage.dump(dict(reversed(graph().items())))
    for broken in (
        {"stages": None},
        {"files": {"a": "ab"}},
        {"files": {"a": {}}},
        {"code": {"git": "--x", "dvc_lock": "cd"}},
        {"format": "another"},
    ):
        assert lineage.parse(json.dumps(graph(**broken))) is None
    for text in (None, "", "[]", "{", "1", "[" * 100_000):
        assert lineage.parse(text) is None
