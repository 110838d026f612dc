"""Contracts are checked at every read and write, and a broken one says what, where and what next."""

import re

import polars as pl
import pytest

from stages.console.errors import ParamsError, TableError
from stages.store import catalog
from stages.store.tables import (
    ANSWERS,
    CANDIDATES,
    JUDGED,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    RANKED,
    SCORES,
    TABLES,
    VERDICTS,
)


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


def test_what_a_server_would_not_take_stands_in_the_file(tmp_path):
    path = catalog.table_path(PROMPTS, tmp_path, "M1")
    for left_out in ([], ["seed", "top_p"]):
        catalog.write(PROMPTS, prompts(), tmp_path, "M1", None, left_out)
        assert (catalog.left_out(path), catalog.packages(path)) == (left_out, {})
        assert catalog.read(PROMPTS, tmp_path, "M1").equals(prompts())
    pl.read_parquet(path).write_parquet(path, metadata={catalog.LEFT_OUT: '{"seed": 1}'})
    assert catalog.left_out(path) == []
    path.write_bytes(b"PAR1")
    for junk in (path, tmp_path / "nothing", tmp_path):
        assert catalog.left_out(junk) == []


def test_columns_are_put_in_the_contracts_order(tmp_path):
    catalog.write(PROMPTS, prompts().select(list(reversed(PROMPTS.schema))), tmp_path, "M1")
    assert catalog.read(PROMPTS, tmp_path, "M1").columns == list(PROMPTS.schema)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (prompts().drop("writer"), ["missing columns ['writer']"]),
        (prompts().with_columns(extra=pl.lit(1)), ["unknown columns ['extra']"]),
        (prompts().with_columns(prompt=pl.lit(1, pl.Int64)), ["column prompt is Int64", "String"]),
        (prompts(prompt=["Name a fruit.", None]), ["prompt is not null, in 1 row(s)", "row=1", "prompt_id=b"]),
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


ROWS = {
    JUDGEMENTS: {"k": 0, "finish_reason": "stop", "score": 3.5, "expected": 3.25},
    RANKED: {"human_rank": 0},
    CANDIDATES: {"n": 0, "finish_reason": "stop", "tokens": 3},
    SCORES: {"score": 3.0, "spread": 1.0, "parsed": 2, "fate": "chosen"},
    PAIRS: {"chosen": "a", "rejected": "b", "chosen_id": "c1", "rejected_id": "c2", "chosen_score": 4.0}
    | {"rejected_score": 3.0},
    ANSWERS: {"decoding": "greedy", "finish_reason": "stop", "tokens": 0, "oracle_score": 5.0},
    JUDGED: {"human_rank": 0, "score": 2.5, "parsed": 1},
    VERDICTS: {"model": "M2", "other": "M1", "decoding": "greedy", "first": "win", "second": "lose", "verdict": "tie"},
    PROMPTS: {"prompt": "Say cat.", "shots": [], "dropped": None},
}


def one_row(table, **changes):
    usual = {pl.String(): "x", pl.Int32(): 0, pl.Float64(): 0.0, pl.List(pl.String()): []}
    row = {c.name: usual[c.dtype] for c in table.columns} | ROWS[table] | changes
    return pl.DataFrame([row], schema=table.schema)


@pytest.mark.parametrize("table", ROWS, ids=lambda table: table.name)
def test_a_sound_row_keeps_the_rules(table):
    assert len(catalog.check(table, one_row(table), "x")) == 1


@pytest.mark.parametrize(
    ("table", "changes", "told"),
    [
        (
            JUDGEMENTS,
            {"score": 7.0},
            "score is 0 to 5 in halves, in 1 row(s), first at row=0 candidate_id=x judge=x k=0 score=7.0",
        ),
        (JUDGEMENTS, {"score": -1.0}, "score is 0 to 5"),
        (JUDGEMENTS, {"score": 3.3}, "in halves"),
        (JUDGEMENTS, {"score": float("nan")}, "score is a finite number"),
        (JUDGEMENTS, {"expected": 5.5}, "expected is 0 to 5"),
        (JUDGEMENTS, {"finish_reason": "length"}, "cut off has no score"),
        (JUDGEMENTS, {"finish_reason": "error"}, "finish_reason is one of stop, length"),
        (JUDGEMENTS, {"k": -1}, "k is at least 0"),
        (RANKED, {"human_rank": -1}, "human_rank is at least 0"),
        (CANDIDATES, {"tokens": -1}, "tokens is at least 0"),
        (CANDIDATES, {"n": -1}, "n is at least 0"),
        (SCORES, {"fate": "lost"}, "fate is one of chosen,"),
        (SCORES, {"score": None, "spread": None}, "what is chosen, rejected, between or tied has a score"),
        (SCORES, {"fate": "unreadable"}, "what is unreadable has no score"),
        (SCORES, {"spread": -0.5}, "spread is at least 0"),
        (PAIRS, {"chosen_score": 3.0}, "chosen_score is above rejected_score, in 1 row(s), first at row=0 prompt_id=x"),
        (PAIRS, {"rejected_score": float("nan")}, "rejected_score is a finite number"),
        (PAIRS, {"chosen_score": float("inf")}, "chosen_score is a finite number"),
        (PAIRS, {"rejected": "a"}, "chosen and rejected are two texts"),
        (PAIRS, {"rejected_id": "c1"}, "two answers"),
        (ANSWERS, {"decoding": "beam"}, "decoding is one of greedy, sampled"),
        (ANSWERS, {"oracle_score": 6.0}, "oracle_score is 0 to 5"),
        (JUDGED, {"score": 6.0}, "score is 0 to 5"),
        (VERDICTS, {"verdict": "win"}, "verdict is what first and second agree on"),
        (VERDICTS, {"second": None}, "verdict is what first and second agree on"),
        (VERDICTS, {"other": "M2"}, "model and other are two models"),
        (PROMPTS, {"prompt": ""}, "not dropped is not empty"),
    ],
)
def test_rules_between_columns_are_held_at_reading_and_writing(tmp_path, table, changes, told):
    model = "M1" if "{model}" in table.path else None
    with pytest.raises(TableError, match=re.escape(told)):
        catalog.write(table, one_row(table, **changes), tmp_path, model)
    path = catalog.table_path(table, tmp_path, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    one_row(table, **changes).write_parquet(path)
    with pytest.raises(TableError, match=re.escape(told)):
        catalog.read(table, tmp_path, model)


def test_unknown_breaks_no_rule():
    unknown = {"score": None, "expected": None}
    assert len(catalog.check(JUDGEMENTS, one_row(JUDGEMENTS, **unknown, finish_reason="length"), "x")) == 1
    unreadable = {"score": None, "spread": None, "parsed": 0, "fate": "unreadable"}
    assert len(catalog.check(SCORES, one_row(SCORES, **unreadable), "x")) == 1
    verdict = {"first": None, "verdict": None}
    assert len(catalog.check(VERDICTS, one_row(VERDICTS, **verdict), "x")) == 1


def test_a_rule_is_left_out_where_its_columns_are_not_read(tmp_path):
    path = catalog.table_path(PAIRS, tmp_path, "M1")
    path.parent.mkdir(parents=True)
    one_row(PAIRS, chosen_score=1.0).write_parquet(path)
    assert len(catalog.read(PAIRS, tmp_path, "M1", ("chosen", "rejected"))) == 1
    with pytest.raises(TableError, match="chosen_score is above"):
        catalog.read(PAIRS, tmp_path, "M1", ("chosen_score", "rejected_score"))


@pytest.mark.parametrize("name", ["../../../evil", "a/b", "", ".", "..", "/tmp/evil", "-x", "M1\n", "a.b", "x" * 65])
def test_what_is_no_name_is_no_part_of_a_path(tmp_path, name):
    for path in (lambda: catalog.model_dir(tmp_path, name), lambda: catalog.table_path(PAIRS, tmp_path, name)):
        with pytest.raises(ParamsError, match="is no name of a model or match"):
            path()
