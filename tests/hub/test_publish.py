"""Publishing a small store on a Hub of our own, with the real client; then what a reader has, and what happens when
things go wrong."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Fault, Server
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi, close_session, get_session
from prov.model import ProvDerivation, ProvDocument, ProvEntity, ProvGeneration, ProvUsage
from ruamel.yaml import YAML
from small_store import METRICS, ROOT, ROWS, Store

from stages.commands import publish as publishing
from stages.commands.verify import verify
from stages.console.errors import HubError, TableError
from stages.hub import card, configs, remote
from stages.hub.card import BEGIN, END
from stages.store.catalog import write
from stages.store.tables import IFT_TRAIN, PAIRS, TABLES

COUNT = itertools.count()
IFT = {table.name: rows for table, rows in ROWS}["ift"]
Publish = Callable[..., None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(remote, "LONGEST_PAUSE_S", 0.0)


@pytest.fixture
def up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """git and DVC are not asked, which takes two seconds."""
    monkeypatch.setattr(publishing, "check_up_to_date", lambda root: None)


@pytest.fixture
def repo() -> str:
    return f"lab/rows-{next(COUNT)}"


def publish(store: Store, hub: Server, repo: str, *models: str, **options: Any) -> None:
    publishing.publish(repo, list(models), endpoint=hub.url, root=store.path, **options)


def commits(hub: Server, repo: str, kind: str = "dataset") -> list[dict[str, Any]]:
    """Without the Hub's own first one."""
    return hub.commits(kind, repo)[1:]


# What a reader has


READ = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
repo, revision = sys.argv[1:]
rows = {(c, s): part.to_list() for c in get_dataset_config_names(repo, revision=revision) for s, part in load_dataset(repo, c, revision=revision).items()}
print(json.dumps([[*key, rows] for key, rows in rows.items()]))
"""


def read_cold(hub: Server, repo: str, revision: str, home: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Every split as a stranger loads it by commit, in a process with empty caches."""
    env = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_ann",
    }
    done = subprocess.run(
        [sys.executable, "-c", READ, repo, revision], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {(config, split): rows for config, split, rows in json.loads(done.stdout.splitlines()[-1])}


def test_every_row_comes_back(made, hub, repo, tmp_path):
    """The whole way: git and DVC asked, a cold reader, and `srlm verify`."""
    publish(made, hub, repo, "M1", "M2", raw=True, tag="v1", private=True)
    (commit,) = commits(hub, repo)
    read = read_cold(hub, repo, commit["oid"], tmp_path)
    names = {
        "ift": ("ift", "train"),
        "ift_valid": ("ift", "valid"),
        "eft": ("eft", "train"),
        "ranked": ("ranked", "train"),
        "ranked_valid": ("ranked", "valid"),
        "seed_judgements": ("seed_judgements", "train"),
        "test_prompts": ("test_prompts", "test"),
        "pairs": ("aift_m1", "train"),
    }
    for table, rows in ROWS:
        assert read.pop(names.get(table.name, (f"aift_m1_{table.name}", "train"))) == rows, table.name
    assert not read
    assert hub.repo("dataset", repo)["private"]
    assert hub.repo("dataset", repo)["tags"] == {"v1": commit["oid"]}
    verify(repo, "v1", hub.url, made.path)
    for model in ("M1", "M2"):
        files = hub.files("model", f"{repo}-{model}")
        assert files["model.safetensors"] == (made.path / f"data/models/{model}/model.safetensors").read_bytes()
        assert set(files) >= {
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "README.md",
            "lineage.json",
        }
        verify(f"{repo}-{model}", None, hub.url, made.path)


def test_only_what_one_trains_on_unless_raw_is_asked_for(made, hub, repo, up_to_date):
    publish(made, hub, repo)
    assert {path.split("/")[1] for path in hub.files("dataset", repo) if path.startswith("data/")} == {
        "ift",
        "eft",
        "aift_m1",
    }
    publish(made, hub, repo, raw=True)
    assert "data/aift_m1_judgements/train-00000-of-00001.parquet" in hub.files("dataset", repo)
    publish(made, hub, repo)
    assert len(commits(hub, repo)) == 2, "what was published once stays up to date without being named again"


def test_verify_sees_one_changed_cell(made, store, hub, repo, up_to_date, capsys):
    publish(made, hub, repo)
    store.rewrite(IFT_TRAIN, [IFT[0] | {"response": "changed"}, *IFT[1:]])
    with pytest.raises(HubError, match="difference"):
        verify(repo, None, hub.url, store.path)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ift,", "train", "5", "1", "ift_id=i0"] in shown
    assert ["ift,", "valid", "1", "0"] in shown


def test_verify_sees_a_file_that_is_not_what_its_lineage_says(made, hub, repo, up_to_date):
    publish(made, hub, repo)
    path = "data/ift/valid-00000-of-00001.parquet"
    changed = CommitOperationAdd(path, hub.files("dataset", repo)["data/ift/train-00000-of-00001.parquet"])
    HfApi(endpoint=hub.url, token="hf_ann").create_commit(repo, [changed], commit_message="x", repo_type="dataset")
    with pytest.raises(HubError, match="difference"):
        verify(repo, None, hub.url, made.path)
    verify(repo, commits(hub, repo)[0]["oid"], hub.url, made.path)


def test_w3c_tools_find_the_seed_rows(made, hub, repo, up_to_date):
    """From the published pairs, over what they were derived from and the stage that made it, to what that stage
    read."""
    publish(made, hub, repo)
    found = ProvDocument.deserialize(content=hub.files("dataset", repo)["lineage.prov.json"].decode(), format="json")
    related = {
        kind: [record.args for record in found.get_records(kind)]
        for kind in (ProvDerivation, ProvGeneration, ProvUsage)
    }
    label = {
        record.identifier: next(iter(record.get_attribute("prov:label"))) for record in found.get_records(ProvEntity)
    }
    (table,) = (args[1] for args in related[ProvDerivation] if "aift_m1" in label[args[0]])
    assert label[table] == "data/AIFT/M1/pairs.parquet"
    (stage,) = (args[1] for args in related[ProvGeneration] if args[0] == table)
    assert [label[args[1]] for args in related[ProvUsage] if args[0] == stage] == ["seed"]


# One commit, or none


def test_the_same_again_makes_no_commit(made, store, hub, repo, up_to_date):
    publish(made, hub, repo, "M2")
    store.path.joinpath("notes.txt").write_text("a commit that changes no data")
    store.commit()
    for again in (made, store):
        publish(again, hub, repo, "M2", tag="v1")
    assert len(commits(hub, repo)) == len(commits(hub, f"{repo}-M2", "model")) == 1


def test_data_and_card_change_in_one_commit(store, hub, repo, up_to_date):
    publish(store, hub, repo, raw=True, tag="v1")
    store.rewrite(IFT_TRAIN, IFT[:3])
    publish(store, hub, repo)
    first, second = (hub.files("dataset", repo, commit["oid"]) for commit in commits(hub, repo))
    path = "data/ift/train-00000-of-00001.parquet"
    assert pl.read_parquet(second[path])["ift_id"].to_list() == ["i0", "i1", "i2"]
    assert {name for name in first if first[name] != second[name]} == {
        path,
        "README.md",
        "lineage.json",
        "lineage.prov.json",
    }
    assert hub.files("dataset", repo, "v1") == first


def test_a_table_in_several_files_and_then_in_one(store, hub, repo, up_to_date, monkeypatch):
    write = configs.write_shards
    monkeypatch.setattr("stages.hub.plan.write_shards", lambda *a: write(*a, limit=150))
    publish(store, hub, repo)
    shards = [path for path in hub.files("dataset", repo) if path.startswith("data/ift/train")]
    assert len(shards) > 1
    verify(repo, None, hub.url, store.path)
    monkeypatch.setattr("stages.hub.plan.write_shards", write)
    publish(store, hub, repo)
    assert [path for path in hub.files("dataset", repo) if path.startswith("data/ift/train")] == [
        "data/ift/train-00000-of-00001.parquet"
    ]
    verify(repo, None, hub.url, store.path)


def test_what_people_wrote_on_the_hub_stays(made, hub, repo, up_to_date):
    publish(made, hub, repo)
    text = hub.files("dataset", repo)["README.md"].decode()
    theirs = text.replace("license: apache-2.0", "license: cc-by-4.0", 1)
    theirs = theirs.replace(BEGIN, f"Read **this** first.\n\n{BEGIN}").replace(END, f"{END}\n\nThanks to all.")
    theirs = theirs.replace("| `ift` | `train` | 5 |", "| `ift` | `train` | 6 |")
    api = HfApi(endpoint=hub.url, token="hf_ann")
    api.create_commit(
        repo, [CommitOperationAdd("README.md", theirs.encode())], commit_message="ours", repo_type="dataset"
    )
    publish(made, hub, repo)
    now = hub.files("dataset", repo)["README.md"].decode()
    assert now == theirs.replace("| `ift` | `train` | 6 |", "| `ift` | `train` | 5 |")


def test_a_dry_run_shows_all_and_sends_nothing(made, hub, repo, up_to_date, capsys):
    publish(made, hub, repo, "M2", tag="v1", dry_run=True)
    shown = capsys.readouterr().out
    assert {asked["path"] for asked in hub.asked() if asked["method"] != "GET"} == {"/api/validate-yaml"}, (
        "which reads only"
    )
    for told in (
        f"dataset {repo}: would be made",
        f"model {repo}-M2: would be made",
        "data/aift_m1/train-00000-of-00001.parquet",
        "model.safetensors",
        "40,000",
        "tag v1",
    ):
        assert told in shown
    assert shown.count(BEGIN) == 2
    publish(made, hub, repo)
    hub.reset()
    publish(made, hub, repo, dry_run=True)
    assert "nothing would change: no commit" in capsys.readouterr().out
    assert {asked["method"] for asked in hub.asked()} <= {"GET", "HEAD"}


def test_a_dry_run_needs_no_token(made, hub, repo, up_to_date, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    publish(made, hub, repo, dry_run=True)
    assert "would be made" in capsys.readouterr().out
    with pytest.raises(HubError, match=r"there is no token\. Type: hf auth login"):
        publish(made, hub, repo)


def test_a_models_card_tells_of_those_that_it_comes_from_alone(store, hub, repo, up_to_date):
    lineage = store.path / "data/models/M2/lineage.json"
    lineage.write_text(lineage.read_text().replace("2.13.0+cpu", "9.9"))
    store.set(external={"large": {"source": "hub", "repo": "org/judge", "revision": "0" * 40}})
    publish(store, hub, repo, "M1", "M2")
    m1, m2, rows = (
        hub.files(kind, name)["README.md"].decode().replace("\\", "")
        for kind, name in (("model", f"{repo}-M1"), ("model", f"{repo}-M2"), ("dataset", repo))
    )
    assert "Packages: torch 2.13.0+cpu, vllm 0.99.\n" in m1
    assert "Packages: torch 2.13.0+cpu and 9.9, vllm 0.99.\n" in m2
    assert [("org/judge of the Hub" in text, "M0 was pretrained here" in text) for text in (m1, m2, rows)] == [
        (False, True),
        (False, True),
        (True, True),
    ]


# Columns that changed


def test_other_columns_need_a_new_name(store, hub, repo, up_to_date, monkeypatch, tmp_path):
    """Those who read the old config go on as before."""
    publish(store, hub, repo)
    before = hub.files("dataset", repo)
    fewer = replace(PAIRS, columns=tuple(column for column in PAIRS.columns if column.name != "rejected_id"))
    monkeypatch.setattr("stages.store.tables.PAIRS", fewer)
    (row,) = {table.name: rows for table, rows in ROWS}["pairs"]
    store.rewrite(fewer, [{key: value for key, value in row.items() if key != "rejected_id"}])
    with pytest.raises(
        HubError, match=r"config aift_m1 is published with other columns \(rejected_id string\).*--new-config v2"
    ):
        publish(store, hub, repo)
    publish(store, hub, repo, new_config="v2")
    now = hub.files("dataset", repo)
    old = "data/aift_m1/train-00000-of-00001.parquet"
    assert now[old] == before[old]
    read = read_cold(hub, repo, commits(hub, repo)[-1]["oid"], tmp_path)
    assert "rejected_id" in read["aift_m1", "train"][0]
    assert "rejected_id" not in read["aift_m1_v2", "train"][0]
    publish(store, hub, repo)
    assert len(commits(hub, repo)) == 2, "the new name is remembered"
    told = json.loads(hub.files("dataset", repo)["lineage.json"])
    assert {path: about["commit"] for path, about in told["kept"].items()} == {old: commits(hub, repo)[0]["oid"]}, (
        "whose lineage tells how it was made"
    )
    assert {about["config"] for about in told["files"].values()} == {"ift", "eft", "aift_m1_v2"}
    monkeypatch.setattr("stages.hub.audit.TABLES", tuple(fewer if table.name == "pairs" else table for table in TABLES))
    verify(repo, None, hub.url, store.path)
    put(hub, repo, old, b"no rows")
    with pytest.raises(HubError, match=r"1 difference"):
        verify(repo, None, hub.url, store.path)
    text = DatasetCard(hub.files("dataset", repo)["README.md"].decode())
    for key in ("configs", "dataset_info"):
        text.data[key] = [entry for entry in text.data[key] if entry["config_name"] != "aift_m1"]
    put(hub, repo, "README.md", str(text).encode())
    with pytest.raises(HubError, match=f"1 file.* changed or deleted on the Hub by somebody else, first '{old}'"):
        publish(store, hub, repo)
    publish(store, hub, repo, replace=True)
    assert old not in hub.files("dataset", repo), "it goes when nobody names it any more"


def test_what_another_version_of_srlm_published_is_not_touched(made, hub, repo, up_to_date):
    publish(made, hub, repo)
    told = json.loads(hub.files("dataset", repo)["lineage.json"])
    put(hub, repo, "lineage.json", json.dumps(told | {"format": "self-rewarding-lm lineage 99"}).encode())
    for ask in (lambda: publish(made, hub, repo), lambda: verify(repo, None, hub.url, made.path)):
        with pytest.raises(
            HubError, match=r"of another version of srlm \(self-rewarding-lm lineage 99; this one writes"
        ):
            ask()
    assert len(commits(hub, repo)) == 2


# What others did there


def amend(store: Store) -> None:
    """Another commit in the last one's place: this branch does not hold what was published from there."""
    store.run(
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "commit",
        "-q",
        "--amend",
        "--allow-empty",
        "-m",
        "another run",
    )


def test_what_another_branch_published_is_not_written_over(store, hub, repo, up_to_date):
    publish(store, hub, repo, "M2")
    amend(store)
    publish(store, hub, repo, "M2")
    assert len(commits(hub, repo)) == 1, "the same data are no other publication"
    store.rewrite(IFT_TRAIN, IFT[:2])
    before = hub.files("dataset", repo)
    for options in ({}, {"dry_run": True}):
        with pytest.raises(
            HubError,
            match=rf"{repo} was last published from commit [0-9a-f]{{12}}, which this branch does not hold.*git pull.*--replace",
        ):
            publish(store, hub, repo, "M2", **options)
    assert hub.files("dataset", repo) == before
    publish(store, hub, repo, "M2", replace=True)
    assert len(commits(hub, repo)) == len(commits(hub, f"{repo}-M2", "model")) == 2
    store.rewrite(IFT_TRAIN, IFT[:3])
    publish(store, hub, repo)
    assert len(commits(hub, repo)) == 3, "this branch goes on"


@pytest.mark.parametrize("content", [b"{}\n", b"x" * (10 * 2**20 + 1), None], ids=["small", "large", "deleted"])
def test_a_file_that_somebody_changed_there_is_not_written_over(store, hub, repo, up_to_date, content):
    publish(store, hub, repo, "M2")
    model, api, path = f"{repo}-M2", HfApi(endpoint=hub.url, token="hf_ann"), "generation_config.json"
    change = CommitOperationDelete(path) if content is None else CommitOperationAdd(path, content)
    api.create_commit(model, [change], commit_message="theirs")
    put(hub, repo, "LICENSE", b"theirs")
    with pytest.raises(
        HubError,
        match=rf"1 file.*{model} were put, changed or deleted on the Hub.*{path}.*{model}/commits/main.*--replace",
    ):
        publish(store, hub, repo, "M2")
    assert hub.files("model", model).get(path) == content
    if content == b"{}\n":
        (store.path / f"data/models/M2/{path}").write_bytes(content)
        publish(store, hub, repo, "M2")
        assert hub.files("model", model)[path] == content, "what was taken over here is written over by nothing"
    publish(store, hub, repo, "M2", replace=True)
    assert hub.files("model", model)[path] == (store.path / f"data/models/M2/{path}").read_bytes()
    assert hub.files("dataset", repo)["LICENSE"] == b"theirs"


def test_a_file_that_somebody_put_there_is_not_written_over(store, hub, repo, up_to_date):
    """One that only the next publication has, too."""
    publish(store, hub, repo, "M2")
    put(hub, f"{repo}-M2", "chat_template.jinja", b"theirs", "model")
    (store.path / "data/models/M2/chat_template.jinja").write_text("ours")
    with pytest.raises(
        HubError,
        match=rf"1 file.*{repo}-M2 were put, changed or deleted on the Hub by somebody else, first 'chat_template.jinja'",
    ):
        publish(store, hub, repo, "M2")
    (store.path / "data/models/M2/chat_template.jinja").write_text("theirs")
    publish(store, hub, repo, "M2")
    (store.path / "data/models/M2/chat_template.jinja").write_text("ours")
    publish(store, hub, repo, "M2", replace=True)
    assert hub.files("model", f"{repo}-M2")["chat_template.jinja"] == b"ours"


def add_config(hub: Server, repo: str, name: str, features: list[Any]) -> None:
    """As somebody does on the Hub."""
    text = DatasetCard(hub.files("dataset", repo)["README.md"].decode())
    text.data["configs"] = [*text.data["configs"], {"config_name": name, "data_files": "theirs.parquet"}]
    text.data["dataset_info"] = [*text.data["dataset_info"], {"config_name": name, "features": features}]
    put(hub, repo, "README.md", str(text).encode())


@pytest.mark.parametrize("theirs", ["aift_m1_clean", "aift_m1"])
def test_somebodys_config_is_not_taken_for_ours(store, hub, repo, up_to_date, theirs):
    """Its name begins as ours, or is ours, and it has the same columns."""
    publish(store, hub, repo)
    told = json.loads(hub.files("dataset", repo)["lineage.json"])
    (features,) = (info["features"] for info in told["card"]["dataset_info"] if info["config_name"] == "aift_m1")
    path = "data/aift_m1/train-00000-of-00001.parquet"
    other = f"{repo}-before"
    publish(store, hub, other)
    for part in ("configs", "dataset_info"):
        told["card"][part] = [entry for entry in told["card"][part] if entry["config_name"] != "aift_m1"]
    text = DatasetCard(hub.files("dataset", other)["README.md"].decode())
    text.data["configs"], text.data["dataset_info"] = told["card"]["configs"], told["card"]["dataset_info"]
    del told["files"][path]
    HfApi(endpoint=hub.url, token="hf_ann").delete_file(path, other, repo_type="dataset")
    put(hub, other, "lineage.json", json.dumps(told).encode())
    put(hub, other, "README.md", str(text).encode())
    add_config(hub, other, theirs, features)
    if theirs == "aift_m1":
        with pytest.raises(HubError, match=r"config aift_m1 is published by somebody else.*--new-config v2"):
            publish(store, hub, other)
        publish(store, hub, other, new_config="v2")
    else:
        publish(store, hub, other)
    configs = {
        entry["config_name"]: entry["data_files"]
        for entry in DatasetCard(hub.files("dataset", other)["README.md"].decode()).data["configs"]
    }
    ours = "aift_m1_v2" if theirs == "aift_m1" else "aift_m1"
    assert configs[theirs] == "theirs.parquet"
    assert configs[ours] == [{"split": "train", "path": [f"data/{ours}/train-00000-of-00001.parquet"]}]


def test_models_of_data_that_became_private_do_not_go_to_the_public(store, hub, repo, up_to_date):
    publish(store, hub, repo, "M2")
    HfApi(endpoint=hub.url, token="hf_ann").update_repo_settings(repo, private=True, repo_type="dataset")
    publish(store, hub, repo)
    (store.path / "data/models/M2/config.json").write_text("{}")
    with pytest.raises(HubError, match=f"{repo}-M2 exists and is public, and what is to be published is private"):
        publish(store, hub, repo, "M2")
    assert len(commits(hub, f"{repo}-M2", "model")) == 1


@pytest.mark.parametrize(
    "url", ["http://localhost:80a", "http://[::1", "localhost:9", "ftp://hub", "http://", "http://a b"]
)
def test_an_address_that_is_none(made, repo, url):
    for ask in (
        lambda: publishing.publish(repo, [], endpoint=url, root=made.path),
        lambda: verify(repo, None, url, made.path),
    ):
        with pytest.raises(HubError, match=r"is no address of a Hub.*--base-url https://"):
            ask()


def test_models_of_private_data_are_private(store, hub, repo, up_to_date, capsys):
    publish(store, hub, repo, private=True)
    publish(store, hub, repo, "M2", dry_run=True)
    assert f"model {repo}-M2: would be made, private" in capsys.readouterr().out
    publish(store, hub, repo, "M2")
    assert hub.repo("model", f"{repo}-M2")["private"]


@pytest.mark.parametrize("options", [{}, {"dry_run": True}])
def test_a_card_that_the_hub_would_refuse(made, hub, repo, up_to_date, options):
    """Which is seen before anything is sent; a Hub that only cannot answer is asked again."""
    said = json.dumps({"errors": [{"message": '"license" must be one of [\x1b apache-2.0, mit]'}], "warnings": []})
    hub.behave(Fault("POST", "validate-yaml", status=400, text=said))
    with pytest.raises(
        HubError,
        match=r'would not take the card of lab/rows-\d+: "license" must be one of \[\\x1b apache-2\.0, mit\]\. Mend',
    ):
        publish(made, hub, repo, "M2", **options)
    assert not (hub.folder / "datasets" / repo).exists()
    hub.behave(Fault("POST", "validate-yaml", status=503, times=1))
    publish(made, hub, repo, "M2", **options)


# What changes here meanwhile


def test_a_table_that_changes_while_it_is_published(store, hub, repo, up_to_date):
    """Its hash in the card would be another's."""
    write(IFT_TRAIN, pl.DataFrame(IFT[:2], schema=IFT_TRAIN.schema), store.path)
    with pytest.raises(HubError, match=r"data/IFT/train\.parquet changed while it was being published.*srlm repro"):
        publish(store, hub, repo)
    assert refused(hub)


def test_a_model_that_changes_while_it_is_published(store, hub, repo, up_to_date, monkeypatch):
    weights = store.path / "data/models/M2/model.safetensors"

    def then(*asked: Any) -> None:
        weights.write_bytes(b"retrained")

    monkeypatch.setattr(remote.Remote, "check_card", then)
    with pytest.raises(HubError, match=rf"{weights} changed while it was being published"):
        publish(store, hub, repo, "M2")
    assert commits(hub, f"{repo}-M2", "model") == []


def test_a_model_may_have_any_name(store, hub, repo, up_to_date):
    params = YAML().load(store.path / "params.yaml")
    store.set(models={"datasets": {**params["models"]["M2"]}}, evaluated=["M1"], head_to_head={})
    lock = (store.path / "dvc.lock").read_text()
    (store.path / "dvc.lock").write_text(lock.replace("data/models/M2", "data/models/datasets"))
    text = (store.path / "dvc.yaml").read_text()
    (store.path / "dvc.yaml").write_text(text.replace("data/models/M2", "data/models/datasets"))
    (store.path / "data/models/M2").rename(store.path / "data/models/datasets")
    publish(store, hub, repo, "datasets")
    assert "data/ift/train-00000-of-00001.parquet" in hub.files("dataset", repo)
    assert "model.safetensors" in json.loads(hub.files("model", f"{repo}-datasets")["lineage.json"])["files"]


def test_the_client_waits_for_a_while_only(made, hub, repo):
    """The library makes another client after a fault."""
    remote.Remote(repo, "dataset", endpoint=hub.url, token="hf_ann")
    for _ in range(2):
        assert get_session().timeout.read == remote.SILENCE_S
        close_session()


def put(hub: Server, repo: str, path: str, content: bytes, kind: str = "dataset") -> None:
    """A commit of one file past the client, which does not let every card through."""
    lines = (
        {"key": "header", "value": {"summary": "theirs"}},
        {"key": "file", "value": {"path": path, "content": b64encode(content).decode()}},
    )
    body, headers = "\n".join(json.dumps(line) for line in lines).encode(), {"Authorization": "Bearer hf_ann"}
    urllib.request.urlopen(
        urllib.request.Request(f"{hub.url}/api/{kind}s/{repo}/commit/main", body, headers, method="POST")
    ).close()


# What is refused before anything is sent


def refused(hub: Server) -> bool:
    """Nothing but questions reached the Hub."""
    return {asked["method"] for asked in hub.asked()} <= {"GET", "HEAD"}


def test_a_change_that_no_commit_holds(store, hub, repo):
    (store.path / "notes.txt").write_text("x")
    with pytest.raises(HubError, match=r"git knows of 1 change.*notes\.txt.*git add -A && git commit"):
        publish(store, hub, repo)
    assert hub.asked() == []


def test_a_stage_that_is_not_up_to_date(store, hub, repo):
    (store.path / "seed/new.txt").write_text("x")
    store.commit()
    with pytest.raises(HubError, match=r"1 stage.* not up to date: make\. Type: srlm repro"):
        publish(store, hub, repo)
    (store.path / "seed/new.txt").unlink()
    (store.path / "data/IFT/train.parquet").unlink()
    store.commit()
    with pytest.raises(HubError, match="not up to date"):
        publish(store, hub, repo)
    assert hub.asked() == []


def test_no_git(store, hub, repo):
    store.run("rm", "-rf", ".git")
    with pytest.raises(HubError, match="git status fails"):
        publish(store, hub, repo)


def test_a_table_that_breaks_its_contract(store, hub, repo, up_to_date):
    path = store.path / "data/IFT/train.parquet"
    pl.DataFrame(IFT).with_columns(response=pl.lit(None, pl.String)).write_parquet(path)
    with pytest.raises(TableError, match="column response of table ift is null in 5 row"):
        publish(store, hub, repo)
    assert refused(hub)


def test_text_that_is_not_utf_8(store, hub, repo, up_to_date):
    path = store.path / "data/IFT/train.parquet"
    raw = pa.array([b"\xff\xfe"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 1, raw.buffers())
    pq.write_table(pa.table({**{name: pa.array(["x"]) for name in IFT_TRAIN.schema}, "response": broken}), path)
    with pytest.raises(TableError, match=r"train\.parquet cannot be read"):
        publish(store, hub, repo)
    assert refused(hub)


def test_a_table_over_the_limit(made, hub, repo, up_to_date, monkeypatch):
    monkeypatch.setattr(configs, "MOST_SHARDS", 0)
    with pytest.raises(HubError, match=r"table ift \(data/IFT/train\.parquet\) holds"):
        publish(made, hub, repo)
    assert refused(hub)


@pytest.mark.parametrize(
    ("name", "token", "said"),
    [
        ("rows", "hf_ann", "names no repository: write organisation/name"),
        ("lab/a--b", "hf_ann", "the Hub takes no repository of the name 'lab/a--b'"),
        ("lab/a/b", "hf_ann", "the Hub takes no repository of the name"),
        ("club/rows", "hf_ann", "ann may not write to club. With this token you may write to: ann, lab"),
        ("other/rows", "hf_ann", "ann may not write to other"),
        ("ann/rows", "hf_reader", "the token of ann may only read"),
        ("other/rows", "hf_fine", r"this token may not do that to other/rows"),
        ("ann/rows", "hf_wrong", "the Hub does not take this token"),
    ],
)
def test_names_and_rights(made, hub, up_to_date, monkeypatch, name, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=said) as told:
        publish(made, hub, name)
    assert token not in str(told.value)
    assert refused(hub) or token == "hf_fine", "what such a token may do only the Hub knows"


def test_a_dry_run_may_be_made_with_a_token_that_may_only_read(made, hub, up_to_date, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    publish(made, hub, "ann/rows", dry_run=True)
    said = capsys.readouterr()
    assert "would be made" in said.out
    assert "warning: the token of ann may only read" in said.err


def test_names_are_one_in_capitals_and_small_letters(made, hub, up_to_date):
    publish(made, hub, "LAB/Rows", dry_run=True)
    remote.Remote("LAB/Rows", "dataset", endpoint=hub.url, token="hf_ann").check_rights()


@contextmanager
def prompts_too_long(limit: int = 2000) -> Iterator[None]:
    """No file may get longer than so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_without_room_is_not_the_hubs_fault(made, hub, repo, up_to_date, tmp_path):
    publish(made, hub, repo)
    hub.reset()
    there = remote.Remote(repo, "dataset", endpoint=hub.url, token="hf_ann")
    found = there.look()
    with pytest.raises(HubError, match=r"this computer's disk, not the Hub: .*File too large"), prompts_too_long():
        there.text("README.md", found, tmp_path)
    assert len([asked for asked in hub.asked() if "README.md" in asked["path"] and asked["method"] == "GET"]) == 1, (
        "it is not tried again"
    )


def test_no_room_for_what_is_to_be_published(made, tmp_path):
    (ift,) = (config for config in configs.configs({}) if config.name == "ift")
    with (
        pytest.raises(HubError, match=r"cannot be written to .*File too large.*export TMPDIR="),
        publishing.disk_in_words(),
        prompts_too_long(100),
    ):
        configs.write_shards(pl.DataFrame(IFT), ift, ift.splits[0], tmp_path)


@pytest.mark.parametrize(
    "option",
    [{"tag": "v 1"}, {"tag": "a..b"}, {"tag": "-x"}, {"tag": "v1.lock"}, {"new_config": "a/b"}, {"new_config": "../x"}],
)
def test_names_that_nobody_takes_are_refused_first(made, hub, repo, up_to_date, option):
    with pytest.raises(HubError, match=r"cannot be a tag|cannot end a config's name"):
        publish(made, hub, repo, "M2", **option)
    assert hub.asked() == []


def test_models_that_are_not_here(store, hub, repo, up_to_date):
    with pytest.raises(HubError, match=r"no model M9 in params\.yaml; there are M0, SFT, M1, M2"):
        publish(store, hub, repo, "M9")
    (store.path / "data/models/M2/model.safetensors").rename(store.path / "data/models/M2/pytorch_model.bin")
    with pytest.raises(publishing.plan.ModelError, match=r"holds no .*safetensors; pickled weights are not published"):
        publish(store, hub, repo, "M2")
    assert refused(hub)


def test_a_folder_in_a_models_folder_is_published_too(store, hub, repo, up_to_date):
    """As an adapter is."""
    adapter = store.path / "data/models/M2/adapter/adapter_config.json"
    adapter.parent.mkdir()
    adapter.write_text("{}")
    publish(store, hub, repo, "M2")
    assert hub.files("model", f"{repo}-M2")["adapter/adapter_config.json"] == b"{}"
    verify(f"{repo}-M2", None, hub.url, store.path)


def test_a_repository_that_holds_something_else(made, hub, repo, up_to_date):
    api = HfApi(endpoint=hub.url, token="hf_ann")
    api.create_repo(repo, repo_type="dataset")
    api.create_commit(
        repo, [CommitOperationAdd("train.csv", b"a,b\n1,2\n")], commit_message="theirs", repo_type="dataset"
    )
    with pytest.raises(HubError, match=r"holds what srlm did not publish, 1 file\(s\), first 'train\.csv'"):
        publish(made, hub, repo)
    assert len(commits(hub, repo)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"---\nlicense: [mit\n---\n", "metadata at the top of README.md are not readable"),
        (b"---\n- a\n---\n", "metadata at the top of README.md are not readable"),
        (b"# \xff\xfe", "README.md of .* is not UTF-8"),
        (f"---\nlicense: mit\n---\n{END}\n".encode(), "holds a part of the lines that mark our section"),
    ],
    ids=["yaml", "list", "bytes", "marks"],
)
def test_a_card_that_cannot_be_merged(made, hub, repo, up_to_date, text, said):
    api = HfApi(endpoint=hub.url, token="hf_ann")
    api.create_repo(repo, repo_type="dataset")
    put(hub, repo, "README.md", text)
    with pytest.raises(HubError, match=said):
        publish(made, hub, repo)
    assert hub.files("dataset", repo)["README.md"] == text


def test_private_is_not_published_where_all_can_read(made, hub, repo, up_to_date):
    HfApi(endpoint=hub.url, token="hf_ann").create_repo(repo, repo_type="dataset", private=False)
    with pytest.raises(HubError, match="exists and is public"):
        publish(made, hub, repo, private=True)
    assert commits(hub, repo) == []


def test_a_tag_does_not_move(store, hub, repo, up_to_date):
    publish(store, hub, repo, tag="v1")
    store.rewrite(IFT_TRAIN, IFT[:2])
    with pytest.raises(HubError, match=r"tag v1 of .* stands for commit .* already"):
        publish(store, hub, repo, tag="v1")
    assert len(commits(hub, repo)) == 1
    publish(store, hub, repo, tag="v2")
    assert hub.repo("dataset", repo)["tags"] == {
        f"v{i}": commit["oid"] for i, commit in enumerate(commits(hub, repo), 1)
    }


# Things that go wrong on the way


def atomic_write(hub: Server, repo: str, kind: str = "dataset") -> bool:
    """Every commit that a reader could see holds all that its card and lineage name."""
    for commit in commits(hub, repo, kind) if (hub.folder / f"{kind}s" / repo).exists() else []:
        files = hub.files(kind, repo, commit["oid"])
        named = [
            path
            for entry in card.metadata_of(files["README.md"].decode()).get("configs", ())
            for data in entry["data_files"]
            for path in data["path"]
        ]
        if not {*named, *json.loads(files["lineage.json"])["files"]} <= set(files):
            return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop=True, times=1),
        Fault(drop_after=True, times=1),
        Fault(status=500, done=True, times=1),
        Fault(drop=True),
    ],
    ids=["dropped", "done and dropped", "done and 500", "gone from then on"],
)
def test_whichever_request_fails_the_second_try_ends_it(made, hub, up_to_date, fault):
    """Request by request, of the first publication of a dataset and a model with a tag."""
    tries: list[int] = []
    told: list[str] = []
    for k in itertools.count():
        repo = f"lab/rows-{next(COUNT)}"
        hub.behave(fault._replace(skip=k))
        hub.reset()
        try:
            publish(made, hub, repo, "M2", tag="v1")
            tries.append(1)
        except HubError as e:
            told.append(str(e))
            assert atomic_write(hub, repo)
            assert atomic_write(hub, f"{repo}-M2", "model")
            hub.forget()
            publish(made, hub, repo, "M2", tag="v1")
            tries.append(2)
        assert len(commits(hub, repo)) == len(commits(hub, f"{repo}-M2", "model")) == 1, f"request {k}"
        assert atomic_write(hub, repo)
        assert atomic_write(hub, f"{repo}-M2", "model")
        assert hub.repo("dataset", repo)["tags"] == {"v1": commits(hub, repo)[0]["oid"]}
        if tries[-1] == 1 and len(hub.asked()) <= k:
            break
    assert len(tries) > 20
    assert all("run the same command again" in sentence for sentence in told)


@pytest.mark.slow
def test_whichever_request_of_an_update_fails_the_second_try_ends_it(made, store, hub, up_to_date, monkeypatch):
    """Of a publication with other rows, other weights and fewer files, over the one before."""
    store.rewrite(IFT_TRAIN, IFT[:2])
    (store.path / "data/models/M2/model.safetensors").write_bytes(b"others")
    changed = "data/ift/train-00000-of-00001.parquet"
    for k in itertools.count():
        repo = f"lab/rows-{next(COUNT)}"
        with monkeypatch.context() as patch:
            patch.setattr(publishing.plan, "write_shards", partial(configs.write_shards, limit=64))
            publish(made, hub, repo, "M2")
        before = hub.files("dataset", repo)
        hub.behave(Fault("P.*", drop=True, skip=k, times=1000))  # those that could change anything
        hub.reset()
        try:
            publish(store, hub, repo, "M2")
            break
        except HubError:
            assert hub.files("dataset", repo) == before or changed in hub.files("dataset", repo), (
                "all of it, or nothing"
            )
        hub.forget()
        publish(store, hub, repo, "M2")
        assert len(commits(hub, repo)) == len(commits(hub, f"{repo}-M2", "model")) == 2, f"request {k}"
        assert atomic_write(hub, repo)
        assert (
            [path for path in hub.files("dataset", repo) if path.startswith("data/ift/train")]
            == [changed]
            != [path for path in before if "ift/train" in path]
        )
        assert hub.files("model", f"{repo}-M2")["model.safetensors"] == b"others"
    assert k > 5


def told_meanwhile(hub: Server, path: str, ours: Callable[[], None], theirs: Callable[[], Any]) -> str:
    """What `ours` raises when `theirs` is done while its request to `path` is on its way."""
    hub.behave(Fault("POST", path, delay=2.0, times=1))
    hub.reset()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ours)
        while not running.done() and not any(path in asked["path"] for asked in hub.asked()):
            time.sleep(0.02)
        theirs()
        return str(running.exception())


def test_another_publisher_in_between_is_not_written_over(made, hub, repo, up_to_date):
    publish(made, hub, repo)
    told = told_meanwhile(
        hub,
        "/preupload/",
        lambda: publish(made, hub, repo, raw=True),
        lambda: put(hub, repo, "NOTES.md", b"from another desk"),
    )
    assert "got another commit" in told
    assert [commit["title"] for commit in commits(hub, repo)][1:] == ["theirs"]
    publish(made, hub, repo, raw=True)
    assert hub.files("dataset", repo)["NOTES.md"] == b"from another desk"
    assert len(commits(hub, repo)) == 3


def test_a_repository_that_somebody_makes_meanwhile_is_not_written_over(made, hub, repo, up_to_date):
    def theirs() -> None:
        HfApi(endpoint=hub.url, token="hf_ann").create_repo(repo, repo_type="dataset")
        put(hub, repo, "train.csv", b"theirs")

    told = told_meanwhile(hub, "/repos/create", lambda: publish(made, hub, repo), theirs)
    assert "was made by somebody else in the meantime, with 'train.csv'" in told
    assert len(commits(hub, repo)) == 1


@pytest.mark.parametrize("data", ["/etc/passwd", "../x.parquet", "https://localhost/x.parquet", "data/../../x"])
def test_verify_reads_nothing_that_a_card_names_elsewhere(made, hub, repo, up_to_date, data):
    publish(made, hub, repo)
    text = hub.files("dataset", repo)["README.md"].decode()
    put(hub, repo, "README.md", text.replace("data/ift/valid-00000-of-00001.parquet", data, 1).encode())
    with pytest.raises(HubError, match="the card names data outside its repository"):
        verify(repo, None, hub.url, made.path)


def test_another_evaluation_is_told_with_the_commit_that_made_it(store, hub, repo, up_to_date):
    """The data are the same, what the card tells of them is not."""
    publish(store, hub, repo)
    (store.path / "data/metrics/AIFT/M1.json").write_text(json.dumps(METRICS | {"warned": []}))
    store.commit()
    publish(store, hub, repo)
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=store.path, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert f"`{git}`" in hub.files("dataset", repo)["README.md"].decode()
    assert len(commits(hub, repo)) == 2


@pytest.mark.parametrize("path", ["/preupload/", "/objects/batch", "/_lfs/", "/commit/", "/tag/"])
def test_killed_in_the_middle(made, hub, repo, path):
    """kill -9 while the request is on its way, then the same command; with git, DVC and the real command line."""
    program = [
        sys.executable,
        "-c",
        "from stages.commands.cli import main; main()",
        "publish",
        "--repo",
        repo,
        "--tag",
        "v1",
        "--base-url",
        hub.url,
    ]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_ann",
    }
    hub.behave(Fault("POST|PUT", path, delay=3.0, times=1))
    with subprocess.Popen(
        program, cwd=made.path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 60
        while not any(path in asked["path"] for asked in hub.asked()):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert atomic_write(hub, repo)
    done = subprocess.run(program, cwd=made.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    time.sleep(3.0)  # what the killed one had asked for is done meanwhile
    assert atomic_write(hub, repo)
    assert hub.files("dataset", repo)["lineage.json"] == hub.files("dataset", repo, "v1")["lineage.json"]


def test_a_hub_that_is_gone(made, hub, repo, up_to_date):
    with pytest.raises(HubError, match=r"does not answer as it should .*run the same command again"):
        publishing.publish(repo, [], endpoint="http://127.0.0.1:9", root=made.path)


def test_the_token_is_never_told(made, hub, repo, up_to_date, capsys):
    for status in (400, 401, 403, 404, 500):
        hub.behave(Fault("POST|GET", status=status, text='{"error": "you sent {authorization}"}'))
        with pytest.raises(HubError) as told:
            publish(made, hub, repo)
        assert "hf_ann" not in str(told.value) + "".join(capsys.readouterr())


# The card


def test_the_card_tells_what_the_store_holds(made, hub, repo, up_to_date):
    publish(made, hub, repo, "M2")
    found = DatasetCard(hub.files("dataset", repo)["README.md"].decode())
    assert found.data.configs[0] == {
        "config_name": "ift",
        "data_files": [
            {"split": "train", "path": ["data/ift/train-00000-of-00001.parquet"]},
            {"split": "valid", "path": ["data/ift/valid-00000-of-00001.parquet"]},
        ],
    }
    for told in (
        "| **candidates** | **3** |",
        "| unreadable (null, never a score) | 1 |",
        "AIFT\\-M1: one score &lt;i&gt;alone&lt;/i&gt;",
        f"| mean score | {METRICS['mean_score']}",
    ):
        assert told in found.text
    assert "<script>" not in found.text
    lineage = json.loads(hub.files("dataset", repo)["lineage.json"])
    assert f"`{lineage['code']['git']}`" in found.text
    assert "data/IFT/train.parquet" in lineage["stages"]["make"]["outs"]
    model = hub.files("model", f"{repo}-M2")["README.md"].decode()
    assert f"[`aift_m1`](<{hub.url}/datasets/{repo}>)" in model, "on the Hub that it was published to"
