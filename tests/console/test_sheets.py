"""One way to write numbers, four forms of a table."""

import csv
import io
import json

import pytest

from stages.console.errors import QueryError
from stages.console.sheets import Code, Figure, Sheet, number, text, to_csv, to_json, to_markdown, to_terminal

EVIL = "a|b\n<b> \x1b[31m `x`"


def written(write, rows, *columns, title=""):
    file = io.StringIO()
    write(Sheet(columns, rows, title), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1234567"),
        (0.123456, "0.1235"),
        (1e-6, "1e-06"),
        (999.96, "1000"),
        (12345.678, "12345.7"),
        (float("nan"), "nan"),
        (True, "True"),
        (Figure(None, n=0), "–"),
        (Figure(0.9, 0.85, 0.95, 40, digits=1, scale=100), "90.0 ±5.0 (40)"),
        (Figure(1.0, n=1, digits=3), "1.000 (1)"),
        (Figure(1.0, n=1, shows_n=False), "1.00"),
        ((Figure(1.0), Figure(2.0), 3), "1.00 → 2.00 → 3"),
    ],
)
def test_values_for_people(value, shown):
    assert text(value) == shown


def test_a_change_has_a_sign():
    assert (number(2, "+"), number(-0.5, "+"), number(0.25, "+")) == ("+2", "-0.5", "+0.25")


def test_a_text_stays_a_text_in_markdown_and_code_is_code():
    out = written(to_markdown, [[EVIL, Code("a_b"), -0.5, (1, 2)]], "text", "code", "n", "c", title="*t*")
    head, _, _, _, row = out.splitlines()
    assert head == r"**\*t\***"
    assert row.endswith("| `a_b` | -0.5 | 1 → 2 |")
    assert "<b>" not in row
    assert row.replace(r"\|", "").count("|") == 5


def test_a_terminal_obeys_no_text_and_long_ones_are_cut():
    out = written(to_terminal, [[EVIL, "x" * 100]], "a", "b")
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2
    assert "x" * 59 + "…" in out
    assert to_terminal(Sheet(["i"], ([i] for i in range(9))), io.StringIO(), 3) == 4, "one more than it wrote"


def test_programs_get_the_values_themselves():
    rows = [[EVIL, Figure(0.5, None, None, 3), None, [1, None]]]
    assert next(csv.reader(io.StringIO(written(to_csv, rows, *"abcd").partition("\r\n")[2])))[0] == EVIL
    assert json.loads(written(to_json, rows, *"abcd")) == [
        {"a": EVIL, "b": {"value": 0.5, "low": None, "high": None, "n": 3}, "c": None, "d": [1, None]}
    ]
    with pytest.raises(QueryError, match="two columns are named a"):
        written(to_json, [[1, 2]], "a", "a")
