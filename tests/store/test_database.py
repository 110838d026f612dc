"""The store through DuckDB: views with a model column, nothing else to be opened, nothing to be changed."""

import duckdb
import polars as pl
import pytest

from stages.console.errors import QueryError, TableError
from stages.store import catalog
from stages.store.database import connect, left_out, save
from stages.store.files import md5, write_json
from stages.store.tables import CANDIDATES, IFT_TRAIN, JUDGEMENTS, SEED_JUDGEMENTS, TABLES, VERDICTS


def put(root, table, rows, model=None):
    catalog.write(table, pl.DataFrame(rows, schema=table.schema, orient="row"), root, model)


@pytest.fixture
def root(tmp_path):
    put(tmp_path, IFT_TRAIN, [("i1", "it's", "ok", "people", "1")])
    put(tmp_path, SEED_JUDGEMENTS, [("c", "p", "SFT", 0, "said", "stop", None, None)])
    for model, judge in (("M2", "large"), ("M10", "M10")):
        put(tmp_path, JUDGEMENTS, [(f"c{model}", "p", judge, 0, "said", "stop", 4.0, None)], model)
    return tmp_path


def rows(root, sql, **values):
    with connect(root) as store:
        return store.select(sql, values).fetchall()


def test_the_model_of_a_table_is_the_one_in_its_path(root):
    """Whoever judged: AIFT(M2) may be judged by another model than M2."""
    sql = "SELECT model, judge FROM judgements ORDER BY length(model)"
    assert rows(root, sql) == [("M2", "large"), ("M10", "M10")]
    assert rows(root, "SELECT model FROM ift") == [(None,)], "people made it"
    assert rows(root, "SELECT model, judge FROM seed_judgements") == [(None, "SFT")]


def test_models_that_params_do_not_name_are_left_out(root):
    (root / "params.yaml").write_text("aift: {M2: {}}\n")
    assert rows(root, "SELECT model FROM judgements") == [("M2",)]
    assert [path.parent.name for path in left_out(root)["judgements"]] == ["M10"]
    (root / "params.yaml").write_text("aift: {}\n")
    with pytest.raises(TableError, match="table judgements is not there yet"):
        rows(root, "SELECT model FROM judgements")


def test_values_are_bound_not_pasted(root):
    assert rows(root, "SELECT $x", x="'; DROP VIEW ift; --") == [("'; DROP VIEW ift; --",)]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY ift TO 'out.csv'",
        "COPY (SELECT 1) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
        "CREATE TABLE x (a INT)",
        "INSERT INTO metrics VALUES ('a', 'b', 'c', 1, 1, 1)",
        "DROP VIEW ift",
        "SET enable_external_access = true",
        "ATTACH 'x.duckdb'",
        "INSTALL httpfs",
        "SELECT 1; DROP VIEW ift",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "EXPLAIN ANALYZE CREATE OR REPLACE VIEW ift AS SELECT 1",
        "",
        "-- nothing",
        "SELEKT 1",
    ],
)
def test_only_one_select_runs(root, sql):
    file = root / IFT_TRAIN.path
    before = file.read_bytes()
    with pytest.raises(QueryError) as e:
        rows(root, sql.format(file=file))
    assert e.value.exit_code == 2
    assert file.read_bytes() == before
    assert not list(root.glob("out.csv"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM glob('{root}/*')",
        "SELECT * FROM read_parquet('{root}/../**/*.parquet')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    ],
)
def test_no_other_file_is_opened(root, sql):
    secret = root / "secret.csv"
    secret.write_text("password\nhunter2\n")
    with pytest.raises((QueryError, duckdb.Error)) as e:
        rows(root, sql.format(secret=secret, root=root))
    assert "hunter2" not in str(e.value)
    assert "disabled by configuration" in str(e.value) or "not exist" in str(e.value)


def test_a_table_that_no_stage_has_made_names_the_stage(root):
    with pytest.raises(TableError, match="table pairs is not there yet: stage build_pairs makes it"):
        rows(root, "SELECT * FROM pairs")
    with connect(root) as store:
        assert store.select("SELECT count(*) FROM pairs", may_lack=["pairs"]).fetchall() == [(0,)]
        with pytest.raises(TableError, match="table pairs is not there yet"):
            store.select("SELECT * FROM pairs")


def test_an_unknown_table_is_duckdbs_error_with_the_query(root):
    with pytest.raises(QueryError) as e:
        rows(root, "SELECT * FROM pears")
    assert "pears" in str(e.value)
    assert "SELECT * FROM pears" in str(e.value)


def test_a_foreign_file_is_named_with_the_difference(root):
    path = root / JUDGEMENTS.path.format(model="M3")
    path.parent.mkdir()
    pl.DataFrame({"score": [1]}).write_parquet(path)
    with pytest.raises(TableError) as e:
        rows(root, "SELECT 1")
    assert str(path) in str(e.value)
    assert "missing columns" in str(e.value)


def test_a_damaged_file_is_named(root):
    path = root / JUDGEMENTS.path.format(model="M2")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(TableError, match="cannot be read as parquet"):
        rows(root, "SELECT 1")


def test_a_file_that_is_damaged_inside_is_named_when_it_is_read(root, tmp_path):
    path = root / JUDGEMENTS.path.format(model="M2")
    content = bytearray(path.read_bytes())
    content[8:200] = bytes(192)  # the footer is whole
    path.write_bytes(content)
    with connect(root) as store:
        assert store.rows("SELECT count(*) AS n FROM ift") == [{"n": 1}]
        with pytest.raises(TableError, match=r"M2/judgements.parquet is damaged"):
            store.rows("SELECT * FROM judgements")
    with pytest.raises(TableError, match=r"M2/judgements.parquet is damaged"):
        save(root, tmp_path / "store.duckdb")
    assert not list(tmp_path.glob("store.duckdb*"))


def test_a_flipped_byte_that_still_reads_is_seen_against_dvc_lock(root):
    """It changes a text or an id, and joins lose the row without a word."""
    path = root / JUDGEMENTS.path.format(model="M2")
    locked = {"stages": {"x": {"outs": [{"path": JUDGEMENTS.path.format(model="M2"), "md5": md5(path)}]}}}
    write_json(root / "dvc.lock", locked)  # JSON is YAML
    assert rows(root, "SELECT count(*) FROM judgements") == [(2,)]
    put(root, JUDGEMENTS, [("cM3", "p", "large", 0, "said", "stop", 4.0, None)], "M2")
    assert rows(root, "SELECT count(*) FROM ift") == [(1,)], "other tables can be asked"
    for asked in ("judgements", "query_table('judge' || 'ments')", "query('FROM judge' || 'ments')"):
        with pytest.raises(TableError, match=r"M2/judgements.parquet is not the file that dvc.lock records"):
            rows(root, f"SELECT count(*) FROM {asked}")


LOCKED = """\
schema: '2.0'
stages:
  x:
    cmd: x
    outs:
    - path: a
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
"""


@pytest.mark.parametrize(
    "content",
    ["", "\0", "<<<<<<< HEAD\n", "3\n", "a: 2026-13-45\n", "[" * 9999, *(LOCKED[:n] for n in (15, 23, 40, 65, 120))],
)
def test_a_damaged_dvc_lock_is_an_error(root, content):
    """Else nothing would be compared with it."""
    (root / "dvc.lock").write_text(LOCKED)
    assert rows(root, "SELECT count(*) FROM judgements") == [(2,)]
    (root / "dvc.lock").write_text(content)
    with pytest.raises(TableError, match=r"dvc\.lock is damaged.*srlm repro"):
        rows(root, "SELECT count(*) FROM judgements")


def test_a_folder_in_the_place_of_dvc_lock_is_an_error(root):
    (root / "dvc.lock").mkdir()
    with pytest.raises(TableError, match=r"dvc\.lock is damaged"):
        rows(root, "SELECT count(*) FROM judgements")


def test_rows_that_lead_nowhere_are_counted_and_named(root):
    put(root, CANDIDATES, [("other", "p", "M2", 0, "hi", "stop", 1, None)], "M2")
    assert len(rows(root, "FROM judgements")) == 2, "no join, no question"
    with pytest.raises(
        TableError, match=r"1 of 1 rows of judgements@M2\.candidate_id -> candidates\.candidate_id .*, first cM2"
    ):
        rows(root, "SELECT count(*) FROM judgements JOIN candidates USING (model, candidate_id)")


def test_a_folder_in_the_place_of_a_table_is_a_sentence(root):
    (root / JUDGEMENTS.path.format(model="M3")).mkdir(parents=True)
    with pytest.raises(TableError, match=r"M3/judgements.parquet is a folder, expected a parquet file\.[^\n]*$"):
        rows(root, "SELECT 1")


@pytest.mark.slow
def test_every_key_is_one_over_all_files_of_a_table(root):
    """`srlm diff` joins versions on it: one model may meet several others."""
    for other in ("M1", "M2"):
        put(root, VERDICTS, [("t", "M3", other, "greedy", "oracle", "win", "win", "win")], f"M3-{other}")
    for table in TABLES:
        key = ", ".join(dict.fromkeys(("model", *table.key)))
        with connect(root) as store:
            assert (
                store.rows(f"SELECT {key} FROM {table.name} GROUP BY {key} HAVING count(*) > 1", may_lack=[table.name])
                == []
            )


def test_an_empty_store_can_be_asked(tmp_path):
    assert rows(tmp_path, "SELECT count(*) FROM metrics") == [(0,)]
    with pytest.raises(TableError, match="stage judge_candidates makes it"):
        rows(tmp_path, "SELECT * FROM judgements")


def test_an_absent_table_has_the_columns_of_its_contract(tmp_path):
    with connect(tmp_path) as store:
        for table in TABLES:
            found = store.select(f"SELECT * FROM {table.name}", may_lack=[table.name])
            assert set(found.columns) == {"model", *table.schema}


def test_a_saved_database_needs_no_store(root, tmp_path):
    out = tmp_path / "it's.duckdb"
    save(root, out)
    for path in root.rglob("*.parquet"):
        path.unlink()
    with duckdb.connect(str(out), read_only=True) as saved:
        assert saved.sql("SELECT count(*) FROM judgements").fetchall() == [(2,)]
        assert saved.sql("SELECT comment FROM duckdb_tables() WHERE table_name = 'judgements'").fetchall() == [
            (JUDGEMENTS.meaning,)
        ]
    with pytest.raises(QueryError, match="exists already"):
        save(root, out)
    assert not list(tmp_path.glob("*.partial*"))
