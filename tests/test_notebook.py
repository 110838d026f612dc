"""`from srlm import Store`: five calls, of the folder as it is and of a revision."""

import hashlib
import inspect
import subprocess
import sys

import datasets
import polars as pl
import pytest

import srlm
from srlm import Store
from stages.console.errors import MissingTableError, QueryError, RevisionError, SrlmError, TableError
from stages.hub.configs import configs, write_shards
from stages.store import catalog
from stages.store.tables import JUDGED, PAIRS, RANKED_VALID, TEST_JUDGEMENTS
from tests import aift
from tests.workspace import ROOT

PARAMS = "aift: {M1: {}}\nmodels: {M2: {prev: M1}}\nevaluated: [M1]\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Not to be changed."""
    root = aift.build(tmp_path_factory.mktemp("project"))
    (root / "params.yaml").write_text(PARAMS)
    own = {"prompt_id": "r", "human_rank": 0}
    ranked = [own | {"candidate_id": f"r{i}", "prompt": "r", "response": str(i), **aift.HAND} for i in range(2)]
    aift.put(root, RANKED_VALID, ranked)
    aift.put(root, JUDGED, [own | {"candidate_id": f"r{i}", "judge": "M1", "parsed": i} for i in (1, 0)], "M1")
    said = [("r1", 1, "b"), ("r1", 0, "a")]
    judgement = {"prompt_id": "r", "judge": "M1", "finish_reason": "stop"}
    aift.put(root, TEST_JUDGEMENTS, [judgement | {"candidate_id": i, "k": k, "text": t} for i, k, t in said], "M1")
    return root


def test_pairs_are_the_table(project):
    assert Store(project).pairs("M1").equals(catalog.read(PAIRS, project, "M1"))


def test_a_judge_is_its_scores_beside_people_and_what_it_said(project):
    frame = Store(str(project)).judge("M1")
    assert frame.columns[:6] == ["candidate_id", "prompt_id", "prompt", "response", "human_rank", "score"]
    rows = frame.select("candidate_id", "response", "parsed", "texts").rows()
    assert rows == [("r1", "1", 1, ["a", "b"]), ("r0", "0", 0, None)], "none is lost"


def test_sql_asks_every_table_or_a_question_by_its_name(project):
    store = Store(project)
    frame = store.sql(
        "SELECT fate, count(*) AS n FROM scores WHERE score > $least GROUP BY fate ORDER BY fate", least=1.7
    )
    assert frame.rows() == [("chosen", 2), ("rejected", 1)]
    assert store.sql("pair_quality")["model"].to_list() == ["M1"]
    assert store.sql("pair_lineage", prompt_id="p1")["id"][0] == "p1c0"
    with pytest.raises(QueryError, match="pair_quality does not take x; it takes: none"):
        store.sql("pair_quality", x=1)
    with pytest.raises(QueryError, match="a query only reads the store"):
        store.sql("DROP VIEW pairs")
    with pytest.raises(QueryError, match=r"no table pears; did you mean pairs\?"):
        store.sql("FROM pears")
    with pytest.raises(QueryError):
        store.sql(f"FROM read_csv('{project / 'params.yaml'}')")
    with pytest.raises(QueryError, match="Conversion Error"):
        store.sql("SELECT prompt::INT FROM pairs")


def test_a_dataset_is_the_one_that_is_published(project, tmp_path):
    rows = Store(project).dataset("AIFT_M1")
    config = next(config for config in configs({"M1": ""}) if config.name == "aift_m1")
    write_shards(catalog.read(PAIRS, project, "M1"), config, config.splits[0], tmp_path)
    files = str(tmp_path / "data/aift_m1/*.parquet")
    published = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=tmp_path / "cache")
    assert rows.features == published.features
    assert rows.to_list() == published.to_list()
    assert Store(project).dataset("ift", split="valid").num_rows == 1
    with pytest.raises(QueryError, match="ift has no split test; it has train and valid"):
        Store(project).dataset("ift", "test")
    with pytest.raises(QueryError, match=r"no dataset aift_m2; did you mean aift_m1\?"):
        Store(project).dataset("aift_m2")


def test_what_is_doubtful_is_a_warning(project, tmp_path):
    aift.build(tmp_path, "M7")
    (tmp_path / "params.yaml").write_text(PARAMS)
    aift.build(tmp_path)
    with pytest.warns(UserWarning, match="left out, since params.yaml does not name its model"):
        assert Store(tmp_path).sql("SELECT DISTINCT model FROM pairs").rows() == [("M1",)]


def test_what_is_not_there_is_said_in_a_sentence(project, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/params.yaml").write_text(PARAMS)
    with pytest.raises(MissingTableError, match=r"has no table pairs of M1: stage build_pairs@M1 makes it\. Run: "):
        Store(tmp_path / "new").pairs("M1")
    with pytest.raises(MissingTableError, match=r"has no table pairs of m1: there are M1$"):
        Store(project).pairs("m1")
    with pytest.raises(MissingTableError, match=r"has no table judged of M9: did you mean M1\?$|: there are M1$"):
        Store(project).judge("M9")
    with pytest.raises(SrlmError, match="no folder 'nowhere'"):
        Store("nowhere")
    with pytest.raises(SrlmError, match=r"holds no params\.yaml"):
        Store(tmp_path)
    with pytest.raises(SrlmError, match="no name of a model"):
        Store(project).pairs("../M1")


def test_a_revision_is_read_through_dvc_and_leaves_nothing(project, tmp_path):
    """A table under DVC, as it was and as it is now."""
    root = tmp_path / "versions"
    data = (project / PAIRS.path.format(model="M1")).read_bytes()
    name = hashlib.md5(data).hexdigest()
    files = {
        "params.yaml": PARAMS.encode(),
        ".dvc/config": b"",
        ".gitignore": b"*.parquet\n/.dvc/cache\n/.dvc/tmp\n",
        PAIRS.path.format(model="M1") + ".dvc": f"outs:\n- md5: {name}\n  size: {len(data)}\n  hash: md5\n  path: pairs.parquet\n".encode(),
        f".dvc/cache/files/md5/{name[:2]}/{name[2:]}": data,
    }  # fmt: skip
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "a"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    store = Store(root, "v1")
    frame = store.pairs("M1")
    assert frame.equals(catalog.read(PAIRS, project, "M1"))
    assert store.dataset("aift_m1").num_rows == store.sql("SELECT count(*) FROM pairs")[0, 0] == 2
    folders = [*store._folders.values()]
    assert folders
    assert all(folder.is_dir() for folder in folders)
    del store
    assert not any(folder.exists() for folder in folders)
    with pytest.raises(MissingTableError, match="pairs"):
        Store(root).pairs("M1")
    with pytest.raises(RevisionError, match="v9"):
        Store(root, rev="v9").pairs("M1")
    (root / PAIRS.path.format(model="M1")).write_bytes(data + b" ")
    with pytest.raises(TableError):
        Store(root).pairs("M1")


def test_nothing_else_is_public_and_all_is_typed():
    assert [name for name in dir(srlm) if not name.startswith("_")] == srlm.__all__ == ["Store"]
    assert {name for name in vars(Store) if not name.startswith("_")} == {"pairs", "judge", "sql", "dataset"}
    for name in ("__init__", "pairs", "judge", "sql", "dataset"):
        signature = inspect.signature(getattr(Store, name))
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(
            p.annotation is not inspect.Parameter.empty for key, p in signature.parameters.items() if key != "self"
        )
        assert name == "__init__" or inspect.getdoc(getattr(Store, name))
    assert (ROOT / "srlm/py.typed").is_file(), "type checkers look at it"


def test_a_notebook_starts_without_torch():
    code = "import sys, srlm; print([m for m in ('torch', 'transformers', 'datasets', 'dvc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_a_frame_of_polars(project):
    assert isinstance(Store(project).sql("SELECT 1 AS a"), pl.DataFrame)
