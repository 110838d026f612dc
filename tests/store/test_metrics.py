"""data/metrics: the kind is in the path, params.yaml says which names count, an interval needs enough values."""

import pytest

from stages.console.errors import TableError
from stages.store import metrics
from stages.store.files import md5, write_json
from stages.store.metrics import Row

PARAMS = """
aift: {llama-3-8b: {}, M1: {}}
evaluated: [llama-3-8b, drift-M1]
drift: {M1: {since: llama-3-8b}}
head_to_head: {M1: {model: llama-3-8b, other: drift-M1}}
"""


def test_a_name_may_look_like_a_kind_and_hold_hyphens(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    for kind, name in (
        ("EVAL", "llama-3-8b"),
        ("EVAL", "drift-M1"),
        ("drift", "M1"),
        ("head_to_head", "M1"),
        ("train", "SFT"),
        ("EFT", None),
    ):
        metrics.write(tmp_path, kind, name, {"a": 1})
    rows = {row[:4] for row in metrics.rows(tmp_path)}
    assert rows == {
        ("EVAL", "llama-3-8b", "llama-3-8b", None),
        ("EVAL", "drift-M1", "drift-M1", None),
        ("drift", "M1", "M1", None),
        ("head_to_head", "M1", "llama-3-8b", "drift-M1"),
        ("train", "SFT", "SFT", None),
        ("EFT", None, None, None),
    }


def test_what_params_do_not_name_is_left_out_and_listed(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    for kind, name in (("drift", "M1"), ("AIFT", "M9"), ("EVAL", "M1"), ("train", "M9"), ("old", "M1")):
        metrics.write(tmp_path, kind, name, {"a": 1})
    write_json(tmp_path / "data/metrics/AIFT-M1.json", {"a": 1})
    assert [*metrics.read_all(tmp_path)] == [("drift", "M1")]
    left = {file.relative_to(tmp_path / "data/metrics").as_posix() for file in metrics.left_out(tmp_path)}
    assert left == {"AIFT/M9.json", "EVAL/M1.json", "train/M9.json", "old/M1.json", "AIFT-M1.json"}


@pytest.mark.parametrize("params", [None, "", "[", "drift: 3\nevaluated: null\nhead_to_head: [M1]"])
def test_params_of_any_kind_are_no_traceback(tmp_path, params):
    """Without a mapping all names count; where a section names none, none do."""
    if params is not None:
        (tmp_path / "params.yaml").write_text(params)
    metrics.write(tmp_path, "drift", "M1", {"a": 1})
    assert len(metrics.read_all(tmp_path)) == (0 if params and ":" in params else 1)


def test_numbers_become_rows(tmp_path):
    win = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    metrics.write(tmp_path, "head_to_head", "M3-M1", {"greedy": {"win": win, "n": 90}, "by": "oracle"})
    metrics.write(tmp_path, "AIFT", "M1", {"pairs": 3, "fates": {"tied": 1}, "mean_score": None, "warned": ["a"]})
    assert [*metrics.rows(tmp_path)] == [
        Row("AIFT", "M1", "M1", None, "fates.tied", 1, None, None, None),
        Row("AIFT", "M1", "M1", None, "mean_score", None, None, None, None),
        Row("AIFT", "M1", "M1", None, "pairs", 3, None, None, None),
        Row("head_to_head", "M3-M1", None, None, "greedy.n", 90, None, None, None),
        Row("head_to_head", "M3-M1", None, None, "greedy.win", 0.5, 0.4, 0.6, 90),
    ]


@pytest.mark.parametrize(
    ("n", "low", "high", "shown"),
    [
        (metrics.MIN_N, 0.8, 1.0, True),
        (metrics.MIN_N - 1, 0.8, 1.0, False),
        (500, 1.0, 1.0, False),
        (0, None, None, False),
    ],
)
def test_an_interval_is_shown_only_where_it_means_something(tmp_path, n, low, high, shown):
    """A percentile bootstrap of one pair, or of 500 equal values, says 100.0 ± 0.0."""
    figure = {"value": 0.9 if n else None, "low": low, "high": high, "n": n}
    metrics.write(tmp_path, "drift", "M1", {"spearman": figure})
    read = metrics.read_all(tmp_path)["drift", "M1"]["spearman"]
    assert read == figure | ({} if shown else {"low": None, "high": None})
    assert [row.n for row in metrics.rows(tmp_path)] == [n]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"a": 1',
        "[1]",
        '{"a": {"value": "x"}}',
        "[" * 9999,
        '{"a": 1e999}',
        '{"a": {"value": 1, "n": 1%s}}' % ("0" * 30),
        b"\xff\x00",
    ],
)
def test_a_broken_file_is_named(tmp_path, content):
    file = metrics.file_of(tmp_path, "EVAL", "M1")
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=r"EVAL/M1\.json.*[Rr]un: srlm repro"):
        [*metrics.rows(tmp_path)]


FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
EVAL = {"writer": {"greedy": {"oracle_score": FIGURE, "points": {}}}, "judge": {"pairwise_accuracy": FIGURE}}
SHARES = {"n": 90, "unreadable": 0} | dict.fromkeys(("win", "tie", "lose"), FIGURE)


@pytest.mark.parametrize(
    ("kind", "content", "where"),
    [
        ("EVAL", {}, "writer: missing"),
        ("EVAL", EVAL | {"writer": {}}, "writer.greedy"),
        ("EVAL", EVAL | {"judge": None}, "judge: expected an object"),
        ("EVAL", EVAL | {"judge": {"pairwise_accuracy": {"value": 0.5}}}, "judge.pairwise_accuracy.n"),
        ("EVAL", EVAL | {"writer": {"greedy": {"oracle_score": FIGURE, "tokens": 3}}}, "writer.greedy.tokens"),
        ("AIFT", {"warned": []}, "prompts"),
        ("head_to_head", {"greedy": SHARES | {"n": "90"}}, "greedy.n"),
        ("drift", {"warned": 3}, "warned"),
    ],
)
def test_a_file_of_another_form_is_named_with_the_place(tmp_path, kind, content, where):
    metrics.write(tmp_path, kind, "M1", content)
    with pytest.raises(TableError, match=rf"{kind}/M1\.json: {where}[^\n]*run: srlm repro"):
        metrics.read_all(tmp_path)


def test_an_edited_file_is_seen_against_dvc_lock(tmp_path):
    metrics.write(tmp_path, "EVAL", "M1", EVAL)
    file = metrics.file_of(tmp_path, "EVAL", "M1")
    out = {"path": file.relative_to(tmp_path).as_posix(), "md5": md5(file)}
    write_json(tmp_path / "dvc.lock", {"stages": {"evaluate@M1": {"outs": [out]}}})
    assert metrics.read_all(tmp_path) == {("EVAL", "M1"): EVAL}
    file.write_text(file.read_text().replace("0.5", "0.9"))
    for read in (metrics.read_all, lambda root: [*metrics.rows(root)]):
        with pytest.raises(TableError, match=r"EVAL/M1\.json is not the file that dvc\.lock records.*srlm repro"):
            read(tmp_path)
