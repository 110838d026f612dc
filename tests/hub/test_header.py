"""Metadata at the top of a card: ours change, people's stay to the letter."""

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.hub.header import rewritten

THEIRS = """\
# by Ann
license:   'mit'   # asked Bob

# languages, both
language:
- en  # mostly
# and
- no

mine: {a: [1, 2]}
# the end"""


def test_an_entry_that_does_not_change_keeps_its_letters():
    assert rewritten(THEIRS, {"license": "mit", "mine": {"a": [1, 2]}, "none": None}) == THEIRS


def test_what_stands_above_an_entry_that_changes_stays():
    assert rewritten(THEIRS, {"license": "cc0-1.0"}) == THEIRS.replace(
        "license:   'mit'   # asked Bob", "license: cc0-1.0"
    )
    shorter = rewritten(THEIRS, {"language": ["no"]})
    assert shorter == THEIRS.replace("- en  # mostly\n# and\n- no\n", "- 'no'\n"), "no is a language, not false"
    assert rewritten(THEIRS, {"mine": None, "new": [1]}) == THEIRS.replace("mine: {a: [1, 2]}\n", "") + "\nnew:\n- 1"


@pytest.mark.parametrize(
    "text",
    [
        "{license: mit, mine: 1}",
        "license: &x mit\nother: *x",
        "? license\n: mit\nmine: 1",
        '{"license": "mit",\n "mine": 1}',
    ],
)
def test_what_cannot_be_changed_by_its_lines_is_written_anew(text):
    assert yaml.safe_load(rewritten(text, {"license": "cc0-1.0", "new": 1})) == yaml.safe_load(text) | {
        "license": "cc0-1.0",
        "new": 1,
    }


@pytest.mark.parametrize("text", ["", "# only a comment", "{}", "---"])
def test_where_there_was_nothing(text):
    assert yaml.safe_load(rewritten(text, {"license": "mit"})) == {"license": "mit"}


PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
MAPPINGS = st.dictionaries(
    st.sampled_from(["license", "language", "tags", "mine"]) | st.text(st.characters(codec="utf-8"), max_size=4),
    VALUES,
    max_size=4,
)


@settings(deadline=None, max_examples=150)
@example({}, {"license": "\x85"}, None)
@example({"mine": "\u2028"}, {"license": "a"}, True)
@given(
    MAPPINGS,
    st.dictionaries(st.sampled_from(["license", "language", "tags"]), VALUES),
    st.sampled_from([None, True, False]),
)
def test_it_says_what_it_shall_and_saying_it_twice_changes_nothing(there, ours, flow):
    text = yaml.safe_dump(there, default_flow_style=flow, allow_unicode=True) if there else ""
    there = (
        yaml.safe_load(text) or {}
    )  # which is not always what was dumped: PyYAML reads a U+0085 that it wrote as a space
    gone = {key for key, value in ours.items() if value is None and there.get(key, "") is not None}
    wanted = {key: value for key, value in (there | ours).items() if key not in gone}
    made = rewritten(text, ours)
    assert (yaml.safe_load(made) or {}) == wanted
    assert rewritten(made, ours) == made
