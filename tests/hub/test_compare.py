"""Row by row: what was published against the table here, and which table that is."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.console.errors import TableError
from stages.hub.audit import Checked, compare, table_at
from stages.hub.configs import schema
from stages.store.tables import JUDGED, JUDGEMENTS, PAIRS, PROMPTS, TABLES


def judged(**changes):
    columns = {"candidate_id": ["a", "b", "c"], "prompt_id": ["p", "p", "q"], "judge": ["M1"] * 3}
    columns |= {"human_rank": [0, 1, 0], "score": [1.5, None, None], "parsed": [2, 0, 0]}
    return pl.DataFrame(columns | changes, schema=JUDGED.schema)


def differing(theirs, ours=None):
    return compare("x", judged() if ours is None else ours, theirs, JUDGED)


def test_equal_rows_are_equal_and_null_is_null():
    assert differing(judged()) == Checked("x", 3, 0, "")


@pytest.mark.parametrize(
    ("changes", "wrong", "first"),
    [
        ({"score": [1.5, None, 2.0]}, 1, "candidate_id=c"),
        ({"score": [None, None, None]}, 1, "candidate_id=a"),
        ({"score": [1.5, 0.0, 0.0]}, 2, "candidate_id=b"),
        ({"prompt_id": ["p", "", "q"]}, 1, "candidate_id=b"),
        (
            {"candidate_id": ["b", "a", "c"]},
            2,
            "candidate_id=a",
        ),  # the order of the rows counts, and the first is named as it is here
    ],
)
def test_a_row_that_differs_is_counted_and_named(changes, wrong, first):
    assert differing(judged(**changes)) == Checked("x", 3, wrong, first)
    assert differing(judged(), judged(**changes)).wrong == wrong


def test_a_row_is_counted_once_however_much_of_it_differs():
    assert differing(judged(prompt_id=["q", "p", "q"], human_rank=[9, 1, 0], parsed=[9, 0, 0])).wrong == 1


def test_a_key_of_two_columns_is_named_whole():
    columns = {
        "candidate_id": ["a", "a"],
        "prompt_id": ["p", "p"],
        "judge": ["M1", "M1"],
        "k": [0, 1],
        "text": ["x", "y"],
    }
    rows = pl.DataFrame(
        columns | {"finish_reason": ["stop", "stop"], "score": [1.0, 2.0], "expected": [None, None]},
        schema=JUDGEMENTS.schema,
    )
    other = rows.with_columns(text=pl.Series(["x", "z"]))
    assert compare("x", rows, other, JUDGEMENTS).first == "candidate_id=a k=1"


def test_lists_are_compared():
    rows = pl.DataFrame([("a", "M1", "x", "M0", ["s", "t"], None)], schema=PROMPTS.schema, orient="row")
    assert compare("x", rows, rows, PROMPTS).wrong == 0
    assert compare("x", rows, rows.with_columns(shots=pl.Series([["t", "s"]])), PROMPTS).wrong == 1


@pytest.mark.parametrize(("ours", "theirs"), [(3, 2), (2, 3), (3, 0), (0, 3)])
def test_another_number_of_rows_is_wrong_from_end_to_end(ours, theirs):
    assert differing(judged()[:theirs], judged()[:ours]) == Checked("x", ours, 3, f"{theirs} rows there")


def test_other_columns_are_named():
    found = differing(judged().rename({"score": "mark"}))
    assert (found.wrong, found.first) == (3, "other columns: mark, score")
    assert (
        differing(judged().drop("parsed")).first
        == differing(judged(), judged().drop("parsed")).first
        == "other columns: parsed"
    )


@given(st.permutations(list(JUDGED.schema)))
def test_the_order_of_columns_does_not_matter(columns):
    assert differing(judged().select(columns)).wrong == 0


def test_two_widths_of_string_are_one_type():
    large = judged().to_arrow()
    small = large.cast(schema(JUDGED))
    assert [str(rows.schema.field("judge").type) for rows in (large, small)] == ["large_string", "string"]
    assert differing(pl.DataFrame(large)).wrong == differing(pl.DataFrame(small)).wrong == 0


@pytest.mark.parametrize("ranks", [[0.5, 1.5, 0.5], ["zero", "one", "zero"]])
def test_values_of_another_type_differ(ranks):
    assert differing(judged().with_columns(human_rank=pl.Series(ranks))).wrong == 3


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_known_by_where_it_lies(table):
    model = "M3-M1" if "{model}" in table.path else None
    assert table_at(table.path.format(model=model)) == (table, model)


@pytest.mark.parametrize(
    "path",
    ["data/IFT/other.parquet", "data/AIFT/M1/pairs.csv", "data/IFT/train.parquet/x", "/data/IFT/train.parquet", ""],
)
def test_where_no_table_lies_is_an_error(path):
    with pytest.raises(TableError, match="no table lies at"):
        table_at(path)


@pytest.mark.parametrize(
    "path",
    [PAIRS.path.format(model=model) for model in ("", "../../elsewhere/M1", "M1/M2")] + ["data/AIFT/pairs.parquet"],
)
def test_a_model_of_a_table_has_a_name(path):
    with pytest.raises(TableError, match="no table lies at"):
        table_at(path)
