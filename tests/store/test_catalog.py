"""Contracts are checked at every read and write, and a broken one says what, where and what next."""

import polars as pl
import pytest

from stages.console.errors import TableError
from stages.store import catalog
from stages.store.tables import PAIRS, PROMPTS, TABLES


def prompts(**changes):
    columns = {
        "prompt_id": ["a", "b"],
        "model": ["M1", "M1"],
        "prompt": ["Name a fruit.", "Say cat."],
        "writer": ["M0", "M0"],
        "shots": [["x"], ["y"]],
        "dropped": [None, "repeat"],
    }
    return pl.DataFrame(columns | changes, schema=PROMPTS.schema)


def test_what_is_written_is_read_back(tmp_path):
    catalog.write(PROMPTS, prompts(), tmp_path, "M1")
    assert catalog.read(PROMPTS, tmp_path, "M1").equals(prompts())
    assert [f.name for f in (tmp_path / "data/AIFT/M1").iterdir()] == ["prompts.parquet"], "no temporary file stays"


def test_equal_frames_are_equal_bytes(tmp_path):
    catalog.write(PROMPTS, prompts(), tmp_path, "M1")
    first = catalog.table_path(PROMPTS, tmp_path, "M1").read_bytes()
    catalog.write(PROMPTS, prompts(), tmp_path, "M1")
    assert catalog.table_path(PROMPTS, tmp_path, "M1").read_bytes() == first


def test_the_packages_that_wrote_texts_stand_in_the_file(tmp_path):
    path = catalog.table_path(PROMPTS, tmp_path, "M1")
    for packages in ({}, {"vllm": "0.32", "torch": "2.13"}):
        catalog.write(PROMPTS, prompts(), tmp_path, "M1", packages)
        assert catalog.packages(path) == packages
        assert catalog.read(PROMPTS, tmp_path, "M1").equals(prompts())
    path.write_bytes(b"PAR1")
    for junk in (path, tmp_path / "nothing", tmp_path):
        assert catalog.packages(junk) == {}


def test_columns_are_put_in_the_contracts_order(tmp_path):
    catalog.write(PROMPTS, prompts().select(list(reversed(PROMPTS.schema))), tmp_path, "M1")
    assert catalog.read(PROMPTS, tmp_path, "M1").columns == list(PROMPTS.schema)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (prompts().drop("writer"), ["missing columns ['writer']"]),
        (prompts().with_columns(extra=pl.lit(1)), ["unknown columns ['extra']"]),
        (prompts().with_columns(prompt=pl.lit(1, pl.Int64)), ["column prompt is Int64", "String"]),
        (prompts(prompt=["Name a fruit.", None]), ["column prompt", "null in 1 row(s)", "row=1", "prompt_id=b"]),
        (prompts(prompt_id=["a", "a"]), ["key prompt_id", "more than once", "prompt_id=a"]),
        (prompts().clear(), ["would be empty", "write_prompts"]),
    ],
)
def test_a_broken_contract_is_never_written(tmp_path, frame, said):
    with pytest.raises(TableError) as e:
        catalog.write(PROMPTS, frame, tmp_path, "M1")
    assert all(s in str(e.value) for s in said), e.value
    assert "prompts.parquet" in str(e.value)
    assert not list(tmp_path.rglob("*.parquet*"))


def test_a_broken_contract_is_never_read(tmp_path):
    path = catalog.table_path(PROMPTS, tmp_path, "M1")
    path.parent.mkdir(parents=True)
    prompts().rename({"prompt": "text"}).write_parquet(path)
    with pytest.raises(TableError, match=r"missing columns \['prompt'\], unknown columns \['text'\]"):
        catalog.read(PROMPTS, tmp_path, "M1")


def test_some_columns_are_read_with_the_key_and_the_contract_is_still_checked(tmp_path):
    catalog.write(PROMPTS, prompts(), tmp_path, "M1")
    assert catalog.read(PROMPTS, tmp_path, "M1", ("dropped",)).equals(prompts().select("prompt_id", "dropped"))
    path = catalog.table_path(PROMPTS, tmp_path, "M1")
    prompts(prompt_id=["a", "a"]).write_parquet(path)
    with pytest.raises(TableError, match="stands more than once"):
        catalog.read(PROMPTS, tmp_path, "M1", ("dropped",))
    prompts().drop("writer").write_parquet(path)
    with pytest.raises(TableError, match=r"missing columns \['writer'\]"):
        catalog.read(PROMPTS, tmp_path, "M1", ("dropped",))


def test_a_missing_table_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(TableError, match="dvc repro build_pairs@M1"):
        catalog.read(PAIRS, tmp_path, "M1")


def test_a_damaged_file_is_named(tmp_path):
    path = catalog.table_path(PROMPTS, tmp_path, "M1")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(TableError, match=r"prompts\.parquet cannot be read as parquet"):
        catalog.read(PROMPTS, tmp_path, "M1")


def test_only_types_that_parquet_duckdb_and_the_hub_share():
    allowed = {pl.String(), pl.Int32(), pl.Float64(), pl.List(pl.String())}
    for table in TABLES:
        assert set(table.schema.values()) <= allowed, table.name
        assert set(table.key) <= set(table.schema), table.name
        assert all(c.meaning for c in table.columns)
