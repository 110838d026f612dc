"""`srlm results`: n beside what a judge is measured by, nothing certain that few values say, nothing of old models."""

import json
import shutil

import pytest

from stages.commands import results
from stages.config.load import load_params
from stages.console.errors import TableError
from stages.store import metrics
from tests.workspace import ROOT

JUDGE = ("pairwise_accuracy", "tie_share", "five_best", "exact_match", "spearman", "kendall", "unreadable_share")


def judge(n, value=1.0, low=1.0, high=1.0):
    return {name: {"value": value, "low": low, "high": high, "n": n} for name in JUDGE}


def writer(score):
    figure = {"value": score, "low": None, "high": None, "n": 0 if score is None else 50}
    return {"oracle_score": figure, "chars": {"value": 9.0, "low": 8.0, "high": 10.0, "n": 50}, "points": {}}


def evaluated(root, model, score=None, **figures):
    decodings = dict.fromkeys(("greedy", "sampled"), writer(score))
    metrics.write(root, "EVAL", model, {"writer": decodings, "judge": judge(**figures)})


@pytest.fixture
def root(tmp_path):
    shutil.copy(ROOT / "stages/config/profiles/scripted.yaml", tmp_path / "params.yaml")
    return tmp_path


def lines(capsys, root, form="table"):
    results.show(root, form)
    return capsys.readouterr().out.splitlines()


def test_n_stands_beside_and_one_pair_is_not_certain(capsys, root):
    evaluated(root, "M1", n=1)
    evaluated(root, "M2", n=40, value=0.75, low=0.5, high=1.0)
    out = [line.split() for line in lines(capsys, root)]
    row = {line[0]: line for line in out if line and line[-1].endswith(")") and line[0] in ("M1", "M2")}
    assert row["M1"][1:3] == ["100.0", "(1)"], "no ± 0.0"
    assert row["M2"][1:4] == ["75.0", "±25.0", "(40)"]


def test_what_no_checker_measured_has_no_column(capsys, root):
    evaluated(root, "M1", n=1)
    assert "oracle score" not in "\n".join(lines(capsys, root))
    evaluated(root, "M2", n=1, score=3.0)
    assert "oracle score" in "\n".join(lines(capsys, root))


def test_verdicts_that_nobody_could_read_are_counted(capsys, root):
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    shares = dict.fromkeys(("win", "tie", "lose"), nothing) | {"n": 0, "unreadable": 16}
    metrics.write(root, "head_to_head", "M2-M1", {"greedy": shares})
    out = lines(capsys, root)
    assert out[1].split() == ["match", "decoding", "n", "unreadable"]
    assert out[2].split() == ["M2", "against", "M1", "greedy", "0", "16"]


def test_models_that_params_do_not_name_are_left_out_in_a_line(capsys, root):
    evaluated(root, "M1", n=30)
    evaluated(root, "M9", n=30)
    results.show(root)
    out, err = capsys.readouterr()
    assert "M9" not in out
    assert "left out: 1 file(s)" in err
    assert "EVAL/M9.json" in err


def test_json_and_markdown(capsys, root):
    evaluated(root, "M1", n=30, value=0.5, low=0.25, high=0.75)
    rows = json.loads("\n".join(lines(capsys, root, "json")))["judges"]
    assert rows[0]["Spearman"] == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 30}
    assert "| M1 | 50.0 ±25.0 (30) |" in "\n".join(lines(capsys, root, "markdown"))


def test_a_truncated_file_is_a_sentence(root):
    evaluated(root, "M1", n=30)
    file = metrics.file_of(root, "EVAL", "M1")
    file.write_text(file.read_text()[:50])
    with pytest.raises(TableError, match=r"EVAL/M1.json cannot be read as JSON.*srlm repro"):
        results.show(root)


def test_nothing_yet(capsys, root):
    assert lines(capsys, root) == ["No metrics yet. Run: srlm repro"]


def test_titles_and_scores_are_of_the_judges_scale(root):
    evaluated(root, "M1", n=30)
    content = metrics.read_all(root)["EVAL", "M1"]
    ranks = {str(score): {"value": 1.5, "low": None, "high": None, "n": 30} for score in (4, 7)}
    metrics.write(root, "EVAL", "M1", content | {"calibration": ranks})
    opinion = {"value": 6.0, "low": None, "high": None, "n": 30}
    part = {"judge": judge(30), "trust": {}}
    metrics.write(root, "bank", "M1", {"authors": {"M1": {"score": opinion, "checker": opinion}}, "ranked": part})
    params = (root / "params.yaml").read_text()
    for scale, ends, best, columns in (
        ("{min: 1, max: 10, letters: null}", "1 to 10", "10-best %", ["4", "7"]),
        ("{min: 1, max: 8, letters: ABCDEFGH}", "1 to 8", "H-best %", ["D", "G"]),
    ):
        (root / "params.yaml").write_text(params.replace("{min: 0, max: 5, letters: null}", scale))
        sheets = results.collect(root, load_params(root))
        assert f"checker 0 to 5, judges {ends}" in sheets["bank_authors"].title
        assert best in sheets["judges"].columns
        assert best in sheets["bank"].columns
        assert sheets["calibration"].columns == ["model", *columns]
        assert [str(cell) for cell in sheets["calibration"].rows[0][1:]] == ["1.5 (30)", "1.5 (30)"], "no share"
