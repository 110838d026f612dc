"""`srlm query`: what a person types and sees."""

import csv
import io
import json
import shutil
import subprocess
import sys

import polars as pl
import pytest

from stages.commands import query
from stages.console.errors import QueryError, RevisionError
from stages.store import catalog, versions
from stages.store.database import connect
from stages.store.questions import questions
from stages.store.tables import JUDGEMENTS, PAIRS, PROMPTS
from tests.workspace import ENV, ROOT

DVC = (sys.executable, "-m", "dvc")
EVIL = "a|b\n<script>alert(1)</script> \x1b[31m[bold]red[/] \u202etxt.exe \u200b`x` **y**"


def judged(root, *scores, text="fine"):
    rows = [(f"c{i}", "p", "M1", 0, text, "stop", s, None) for i, s in enumerate(scores)]
    catalog.write(JUDGEMENTS, pl.DataFrame(rows, schema=JUDGEMENTS.schema, orient="row"), root, "M1")
    return root


@pytest.fixture
def root(tmp_path):
    return judged(tmp_path, 5.0, 4.0, None, text=EVIL)


def shown(capsys, root, what, *given, **how):
    query.ask(what, list(given), root=root, **how)
    return capsys.readouterr().out


def test_the_list_has_every_question(capsys):
    query.show_list()
    out = capsys.readouterr().out
    for name in questions():
        assert name in out


def test_a_question_is_answered_as_a_table(capsys, root):
    lines = shown(capsys, root, "score_distribution").splitlines()
    assert lines[0].split() == ["model", "score", "judgements", "share"]
    assert lines[1].split() == ["M1", "4", "1", "0.3333"]
    assert lines[3].split() == ["M1", "–", "1", "0.3333"], "null"


def test_a_terminal_obeys_no_text(capsys, root):
    out = shown(capsys, root, "SELECT text FROM judgements LIMIT 1")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert r"a|b\n<script>" in out
    assert "[bold]" in out


def test_markdown_stays_text(capsys, root):
    row = shown(capsys, root, "SELECT text FROM judgements LIMIT 1", form="markdown").splitlines()[2]
    assert "<script>" not in row
    assert row.replace(r"\|", "").count("|") == 2, "one cell"
    assert r"\*\*y\*\*" in row
    assert r"\`x\`" in row


def test_csv_and_json_give_the_text_itself(capsys, root):
    rows = list(
        csv.reader(
            io.StringIO(
                shown(capsys, root, "SELECT text, score, [1, 2] AS l FROM judgements ORDER BY score", form="csv")
            )
        )
    )
    assert rows == [["text", "score", "l"], [EVIL, "4.0", "[1, 2]"], [EVIL, "5.0", "[1, 2]"], [EVIL, "", "[1, 2]"]]
    assert json.loads(
        shown(capsys, root, "SELECT text, score FROM judgements ORDER BY score LIMIT 1", form="json")
    ) == [{"text": EVIL, "score": 4.0}]
    assert json.loads(shown(capsys, root, "SELECT text FROM judgements WHERE false", form="json")) == []


def test_parquet_goes_into_a_file(root, tmp_path):
    out = tmp_path / "out.parquet"
    query.ask("SELECT text, score FROM judgements ORDER BY score", [], form="parquet", out=out, root=root)
    assert pl.read_parquet(out)["score"].to_list() == [4.0, 5.0, None]
    with pytest.raises(QueryError, match="add --out"):
        query.ask("SELECT 1 AS a", [], form="parquet", root=root)


def test_a_query_that_fails_half_way_leaves_no_file(root, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(QueryError, match="Conversion Error"):
        query.ask("SELECT text::INT FROM judgements", [], form="csv", out=out, root=root)
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["out.csv"]


def test_a_long_answer_is_cut_on_the_screen_only(capsys, root):
    sql = "SELECT * FROM range(120) AS r(i)"
    query.ask(sql, [], root=root)
    out, said = capsys.readouterr()
    assert len(out.splitlines()) == 1 + query.SHOWN
    assert "only the first 50 rows; --out FILE.csv has all" in said
    assert len(shown(capsys, root, sql, form="csv").splitlines()) == 121
    query.ask(sql, [], out=root / "all.txt", root=root)
    assert len((root / "all.txt").read_text().splitlines()) == 121, "a table in a file is whole"


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(capsys, root):
    sql = "SELECT " + ", ".join(f"{i} AS a_rather_long_name_{i}" for i in range(20))
    assert len(shown(capsys, root, sql).splitlines()[0].split()) == 20


def test_no_rows_are_told(capsys, root):
    query.ask("SELECT text FROM judgements WHERE false", [], root=root)
    assert "no rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ending", "start"), [("csv", "i\n0\n"), ("json", '[\n{"i": 0},'), ("md", "| i |\n|---|"), ("txt", "i\n0\n")]
)
def test_the_ending_of_the_file_tells_the_format(root, tmp_path, ending, start):
    out = tmp_path / f"out.{ending}"
    query.ask("SELECT * FROM range(3) AS r(i)", [], out=out, root=root)
    assert out.read_text().startswith(start)


def test_sql_may_be_one_word(capsys, root):
    assert shown(capsys, root, "FROM(VALUES(1))t(a)", form="csv").splitlines() == ["a", "1"]


def test_what_is_not_in_the_answer_is_told(capsys, root):
    (root / "params.yaml").write_text("aift: {M1: {}, M2: {}}")
    for model in ("M2", "M9"):
        rows = [("p", model, "say", "M0", [], None)]
        catalog.write(PROMPTS, pl.DataFrame(rows, schema=PROMPTS.schema, orient="row"), root, model)
    query.ask("FROM judgements", [], root=root)
    assert "not there yet, so not in the answer: judgements@M2. Run: srlm repro" in capsys.readouterr().err
    query.ask("FROM prompts", [], root=root)
    err = capsys.readouterr().err
    assert "left out, since params.yaml does not name its model" in err
    assert "M9/prompts.parquet" in err


def test_json_holds_what_json_can(capsys, root):
    sql = (
        "SELECT 'nan'::DOUBLE AS a, sum(i) AS b, 1.5::DECIMAL(3, 1) AS c, [1, 'inf'::DOUBLE] AS d FROM range(4) AS r(i)"
    )
    assert json.loads(shown(capsys, root, sql, form="json")) == [{"a": None, "b": 6, "c": 1.5, "d": [1, None]}]
    with pytest.raises(QueryError, match="two columns are named a"):
        shown(capsys, root, "SELECT 1 AS a, 2 AS a FROM range(1)", form="json")


@pytest.mark.parametrize(
    ("what", "given", "said"),
    [
        ("fate", [], "no question fate; did you mean fates?"),
        ("zzz", [], "no question zzz; there are bank"),
        ("SELECT", ["1"], "SQL is one argument: put it in quotes"),
        ("pairs", [], 'pairs is a table, not a question. Type: srlm query "FROM pairs LIMIT 10"'),
        ("FROM paris", [], "no table paris; did you mean pairs?"),
        ("FROM zzz", [], "no table zzz; there are ift, "),
        ("fates", ["model=M1"], "fates does not take model=M1; it takes: none"),
        ("doubtful_pairs", ["modle=M1"], "doubtful_pairs does not take modle=M1; it takes: model=..."),
        ("doubtful_pairs", ["model"], "does not take model; it takes: model=..."),
    ],
)
def test_what_cannot_be_asked_is_told(root, what, given, said):
    with pytest.raises(QueryError) as e:
        query.ask(what, given, root=root)
    assert said in str(e.value)


def test_the_command_exits_with_2_and_shows_the_query(root):
    program = [
        sys.executable,
        "-c",
        "from stages.commands.cli import app; from stages.console.command import run; run(app)",
    ]
    command = [*program, "query", "SELECT nope FROM judgements"]
    done = subprocess.run(
        command, cwd=root, env=ENV | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "SELECT nope FROM judgements" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def repository(tmp_path):
    """A project under git and DVC with two versions of one table: tag v1 has one pair, the workspace two."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    for command in (
        ("git", "init", "-q"),
        ("git", "config", "user.name", "a"),
        ("git", "config", "user.email", "a@b.c"),
        (*DVC, "init", "-q"),
    ):
        subprocess.run(command, cwd=root, check=True)
    for tag, n in (("v1", 1), ("v2", 2)):
        rows = [(f"p{i}", "M1", "say", "a", "b", f"c{i}", f"d{i}", 5.0, 4.0, None, None, None, None) for i in range(n)]
        catalog.write(PAIRS, pl.DataFrame(rows, schema=PAIRS.schema, orient="row"), root, "M1")
        subprocess.run([*DVC, "add", "-q", "data/AIFT/M1/pairs.parquet"], cwd=root, check=True, env=ENV)
        subprocess.run(["git", "add", "-A"], cwd=root, check=True)
        subprocess.run(["git", "commit", "-qm", tag], cwd=root, check=True)
        subprocess.run(["git", "tag", tag], cwd=root, check=True)
    return root


@pytest.mark.slow
def test_a_revision_is_asked_as_it_was(capsys, repository):
    count = "SELECT count(*) AS n FROM pairs"
    assert shown(capsys, repository, count).split() == ["n", "2"]
    assert shown(capsys, repository, count, revision="v1").split() == ["n", "1"]
    assert shown(capsys, repository, count).split() == ["n", "2"], "the workspace was not touched"


@pytest.mark.slow
def test_an_unknown_revision_is_told(repository):
    with pytest.raises(RevisionError, match="git knows no revision v9"):
        query.ask("SELECT 1 AS a", [], revision="v9", root=repository)


@pytest.mark.slow
def test_a_revision_whose_data_are_gone_says_what_to_pull(repository):
    shutil.rmtree(repository / ".dvc/cache")
    with pytest.raises(RevisionError) as e:
        query.ask("SELECT * FROM pairs", [], revision="v1", root=repository)
    assert "data/AIFT/M1/pairs.parquet of revision v1 is in no cache or remote" in str(e.value)
    assert "dvc fetch" in str(e.value)


@pytest.mark.slow
def test_only_what_a_query_names_is_fetched(capsys, repository):
    shutil.rmtree(repository / ".dvc/cache")
    assert shown(capsys, repository, "SELECT count(*) AS n FROM metrics", revision="v1").split() == ["n", "0"]


@pytest.mark.slow
def test_an_empty_revision_is_none(repository):
    with pytest.raises(RevisionError, match="the revision is empty"):
        query.ask("SELECT 1 AS a", [], revision="", root=repository)


@pytest.mark.slow
def test_a_folder_that_is_in_no_cache_is_told(repository):
    """DVC keeps a listing per folder; without it nothing inside is known."""
    model = repository / "data/models/M1"
    model.mkdir(parents=True)
    (model / "lineage.json").write_text("{}")
    subprocess.run([*DVC, "add", "-q", "data/models/M1"], cwd=repository, check=True, env=ENV)
    for command in (("git", "add", "-A"), ("git", "commit", "-qm", "v3"), ("git", "tag", "v3")):
        subprocess.run(command, cwd=repository, check=True)
    for listing in (repository / ".dvc/cache").rglob("*.dir"):
        listing.unlink()
    shutil.rmtree(repository / ".dvc/tmp")
    assert shown_count(repository) == 2
    with pytest.raises(RevisionError, match="dvc fetch"), versions.at(repository, "v3"):
        pass


def shown_count(repository):
    with versions.at(repository, "v3", ["pairs"]) as folder, connect(folder) as store:
        return store.rows("SELECT count(*) AS n FROM pairs")[0]["n"]


def test_a_folder_without_git_has_no_revisions(root):
    with pytest.raises(RevisionError):
        query.ask("SELECT 1 AS a", [], revision="v1", root=root)
