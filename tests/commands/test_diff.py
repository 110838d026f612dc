"""`srlm diff`: rows by key, figures side by side."""

import subprocess
import sys

import polars as pl
import pytest

from stages.commands import diff
from stages.console.errors import QueryError, RevisionError
from stages.store import catalog
from stages.store.database import connect
from stages.store.questions import questions
from stages.store.tables import IFT_TRAIN, JUDGEMENTS, PAIRS, VERDICTS
from tests.workspace import ENV


def judged(root, model, *scores):
    rows = [(f"c{i}", "p", model, 0, f"text {score}", "stop", score, None) for i, score in scores]
    catalog.write(JUDGEMENTS, pl.DataFrame(rows, schema=JUDGEMENTS.schema, orient="row"), root, model)


@pytest.fixture
def versions(tmp_path):
    """M1: c0 as it was, c1 changed, c2 gone, c3 new. M2 is new. IFT is the same."""
    old, new = tmp_path / "old", tmp_path / "new"
    judged(old, "M1", (0, 5.0), (1, 4.0), (2, None))
    judged(new, "M1", (0, 5.0), (1, 3.0), (3, 3.0))
    judged(new, "M2", (0, 1.0))
    for root in (old, new):
        catalog.write(
            IFT_TRAIN, pl.DataFrame([("i", "say", "cat", "people", "1")], schema=IFT_TRAIN.schema, orient="row"), root
        )
    return old, new


def test_rows_are_matched_by_key_within_a_model(versions):
    old, new = versions
    with connect(new, old=old, new=new) as store:
        assert diff.changes(store, JUDGEMENTS) == [
            diff.Change("judgements", "M1", added=1, removed=1, changed=1, equal=1),
            diff.Change("judgements", "M2", added=1, removed=0, changed=0, equal=0),
        ]
        assert diff.changes(store, IFT_TRAIN) == [diff.Change("ift", None, 0, 0, 0, 1)], (
            "a null model is one and the same"
        )
        assert diff.changes(store, PAIRS) == []


def test_figures_that_differ_stand_side_by_side(versions):
    old, new = versions
    with connect(old) as left, connect(new) as right:
        found = diff.figures(left, right, questions()["score_distribution"])
        assert diff.figures(left, left, questions()["score_distribution"]) == []
        assert diff.figures(left, right, questions()["score_gap"]) == [], "no version has pairs"
    told = {(f.row, f.name): (f.old, f.new) for f in found}
    assert told["M1 3", "judgements"] == (None, 2)
    assert told["M1 4", "judgements"] == (1, None)
    assert told["M1 –", "share"] == (pytest.approx(1 / 3), None)
    assert ("M1 5", "judgements") not in told, "the same in both"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (0.1 + 0.2, 0.3, True),
        (3.911, 3.912, False),
        (None, 0.0, False),
        (0.0, -1e-16, True),
        (2, 2, True),
        ("a", "b", False),
    ],
)
def test_the_last_digits_of_a_mean_are_no_difference(old, new, same):
    assert diff.alike(old, new) is same


def test_a_model_that_met_several_others_is_matched_match_by_match(tmp_path):
    for root in (tmp_path / "old", tmp_path / "new"):
        for other, verdict in (("M1", "win"), ("M2", "tie")):
            rows = [("t", "M3", other, "greedy", "oracle", verdict, verdict, verdict)]
            catalog.write(VERDICTS, pl.DataFrame(rows, schema=VERDICTS.schema, orient="row"), root, f"M3-{other}")
    with connect(tmp_path / "new", old=tmp_path / "old", new=tmp_path / "new") as store:
        assert diff.changes(store, VERDICTS) == [diff.Change("verdicts", "M3", added=0, removed=0, changed=0, equal=2)]


def test_an_unknown_table_names_those_there_are(tmp_path):
    with pytest.raises(QueryError, match=r"no table pears; did you mean pairs\?"):
        diff.show("v1", None, "pears", tmp_path)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    dvc = (sys.executable, "-m", "dvc")
    for command in (
        ("git", "init", "-q"),
        ("git", "config", "user.name", "a"),
        ("git", "config", "user.email", "a@b.c"),
        (*dvc, "init", "-q"),
    ):
        subprocess.run(command, cwd=root, check=True, env=ENV)
    for tag, score in (("v1", 4.0), ("v2", 5.0)):
        judged(root, "M1", (0, score), (1, 3.0))
        for command in (
            (*dvc, "add", "-q", "data/AIFT/M1/judgements.parquet"),
            ("git", "add", "-A"),
            ("git", "commit", "-qm", tag),
            ("git", "tag", tag),
        ):
            subprocess.run(command, cwd=root, check=True, env=ENV)
    judged(root, "M1", (0, 5.0))
    subprocess.run((*dvc, "add", "-q", "data/AIFT/M1/judgements.parquet"), cwd=root, check=True, env=ENV)
    return root


@pytest.mark.slow
def test_revisions_and_the_workspace_are_compared(capsys, repository):
    diff.show("v1", "v2", None, repository)
    out = capsys.readouterr().out
    assert "judgements  M1     0      0        1        1" in out
    assert "score_distribution" in out
    diff.show("v2", None, "judgements", repository)
    out = capsys.readouterr().out
    assert "judgements  M1     0      1        0        1" in out
    assert "score_distribution" not in out, "one table only"
    diff.show("v2", "v2", None, repository)
    assert "no table differs between v2 and v2" in capsys.readouterr().out
    with pytest.raises(RevisionError, match="v9"):
        diff.show("v9", None, None, repository)
