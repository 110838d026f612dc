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
import pytest
import yaml
from hub_server import Fault, Server
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi, close_session, get_session
from small_store import IFT, METRICS, PATHS, ROOT, ROWS, Store, write_rows

from stages.commands import publish as publishing
from stages.commands.verify import verify
from stages.console.errors import HubError, ModelError, TableError
from stages.hub import card, configs, plan, remote
from stages.hub.card import BEGIN, END
from stages.store.tables import IFT_TRAIN, PAIRS

COUNT = itertools.count()
TRAIN, VALID = (f"data/ift/{split}-00000-of-00001.parquet" for split in ("train", "valid"))
AIFT = "data/aift_m1/train-00000-of-00001.parquet"


@pytest.fixture
def repo(patient: None) -> str:
    return f"lab/rows-{next(COUNT)}"


def publish(store: Store, hub: Server, repo: str, *models: str, **options: Any) -> None:
    publishing.publish(repo, list(models), endpoint=hub.url, root=store.path, **options)


def commits(hub: Server, repo: str, kind: str = "dataset") -> list[dict[str, Any]]:
    """Without the Hub's own first one."""
    return hub.commits(kind, repo)[1:]


def lineage_of(hub: Server, repo: str) -> dict[str, Any]:
    return json.loads(hub.files("dataset", repo)["lineage.json"])


def put(hub: Server, repo: str, path: str, content: bytes, kind: str = "dataset") -> None:
    """A commit of one file past the client, which does not let every card through."""
    lines = (
        {"key": "header", "value": {"summary": "theirs"}},
        {"key": "file", "value": {"path": path, "content": b64encode(content).decode()}},
    )
    body, headers = "\n".join(json.dumps(line) for line in lines).encode(), {"Authorization": "Bearer hf_ann"}
    url = f"{hub.url}/api/{kind}s/{repo}/commit/main"
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST")).close()


def metadata_of(hub: Server, repo: str) -> dict[str, Any]:
    return card.metadata_of(hub.files("dataset", repo)["README.md"].decode())


def nothing_sent(hub: Server) -> bool:
    return {asked["method"] for asked in hub.asked()} <= {"GET", "HEAD"}


# What a reader has


READ = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
repo, revision = sys.argv[1:]
names = get_dataset_config_names(repo, revision=revision)
splits = {name: load_dataset(repo, name, revision=revision) for name in names}
print(json.dumps([[name, split, rows.to_list()] for name in names for split, rows in splits[name].items()]))
"""


def read_cold(hub: Server, repo: str, revision: str, home: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Every split as a stranger loads it by commit, in a process with empty caches."""
    env = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_ann"}
    command = [sys.executable, "-c", READ, repo, revision]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {(config, split): rows for config, split, rows in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.slow
def test_every_row_comes_back(made, hub, monkeypatch, tmp_path):
    """The whole way: git and DVC asked, a cold reader, and `srlm verify`."""
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    repo = "lab/whole"
    publish(made, hub, repo, "M1", "M2", raw=True, tag="v1", private=True)
    (commit,) = commits(hub, repo)
    assert hub.repo("dataset", repo)["tags"] == {"v1": commit["oid"]}
    assert hub.repo("dataset", repo)["private"]
    read = read_cold(hub, repo, commit["oid"], tmp_path)
    home = {
        split.path: (config.name, split.name) for config in configs.configs({"M1": "M2"}) for split in config.splits
    }
    assert read == {home[path]: rows for path, rows in zip(PATHS, ROWS.values(), strict=True)}
    verify(repo, "v1", hub.url, made.path)
    verify(f"{repo}-M2", None, hub.url, made.path)
    files = hub.files("model", f"{repo}-M2")
    assert files["model.safetensors"] == (made.path / "data/models/M2/model.safetensors").read_bytes()


def test_the_card_and_the_files_beside_it(made, hub, repo):
    publish(made, hub, repo, "M1", "M2")
    files, graph = hub.files("dataset", repo), lineage_of(hub, repo)
    assert {path.split("/")[1] for path in files if path.startswith("data/")} == {"ift", "eft", "aift_m1"}
    assert files["params.yaml"] == (made.path / "params.yaml").read_bytes()
    assert json.loads(files["metrics/AIFT/M1.json"]) == METRICS
    assert "data/IFT/train.parquet" in graph["stages"]["make"]["outs"]
    found = DatasetCard(files["README.md"].decode())
    paths = [{"split": "train", "path": [TRAIN]}, {"split": "valid", "path": [VALID]}]
    assert found.data.configs[0] == {"config_name": "ift", "data_files": paths}
    for text in ("| candidates | 3 |", "one score &lt;i&gt;alone&lt;/i&gt;", "| mean score | 2.75 |"):
        assert text in found.text
    assert "<script>" not in found.text
    assert f"`{graph['code']['git']}`" in found.text
    model = hub.files("model", f"{repo}-M2")["README.md"].decode()
    assert yaml.safe_load(model.split("---\n")[1])["base_model"] == f"{repo}-M1", "which was published with it"
    assert f"[`aift_m1`](<{hub.url}/datasets/{repo}>)" in model, "on the Hub that it was published to"
    assert "TestForCausalLM, 2 layers" in model


def test_what_was_published_raw_once_stays_up_to_date(made, hub, repo):
    publish(made, hub, repo, raw=True)
    publish(made, hub, repo)
    assert "data/aift_m1_judgements/train-00000-of-00001.parquet" in hub.files("dataset", repo)
    assert len(commits(hub, repo)) == 1


# One commit, or none


def test_few_requests(made, hub, repo):
    """`upload_folder` takes six of the same files: without our look at what is there."""
    publish(made, hub, repo)
    first = [(asked["method"], asked["path"].split("?")[0].split("/")[-1]) for asked in hub.asked()]
    assert len([path for method, path in first if method != "PUT"]) <= 8, first
    hub.reset()
    publish(made, hub, repo)
    assert len(hub.asked()) == 3, "repository, card, lineage"


def test_the_same_again_makes_no_commit(made, store, hub, repo):
    publish(made, hub, repo, "M2")
    store.path.joinpath("notes.txt").write_text("a commit that changes no data")
    store.commit()
    for again in (made, store):
        publish(again, hub, repo, "M2", tag="v1")
    assert len(commits(hub, repo)) == len(commits(hub, f"{repo}-M2", "model")) == 1


def test_data_and_card_change_in_one_commit_and_tags_do_not_move(store, hub, repo):
    publish(store, hub, repo, raw=True, tag="v1")
    store.rewrite(IFT_TRAIN, IFT[:3])
    with pytest.raises(HubError, match=r"tag v1 of .* names commit [0-9a-f]{12}, and tags do not move"):
        publish(store, hub, repo, tag="v1")
    publish(store, hub, repo, tag="v2")
    first, second = (hub.files("dataset", repo, commit["oid"]) for commit in commits(hub, repo))
    assert pl.read_parquet(second[TRAIN])["ift_id"].to_list() == ["i0", "i1", "i2"]
    assert {name for name in first if first[name] != second[name]} == {TRAIN, "README.md", "lineage.json"}
    tags = {f"v{i}": commit["oid"] for i, commit in enumerate(commits(hub, repo), 1)}
    assert hub.repo("dataset", repo)["tags"] == tags


def test_a_table_in_several_files_and_then_in_one(store, hub, repo, monkeypatch):
    write = plan.write_shards
    monkeypatch.setattr(plan, "write_shards", partial(write, limit=100))
    publish(store, hub, repo)
    assert len([path for path in hub.files("dataset", repo) if path.startswith("data/ift/train")]) > 1
    verify(repo, None, hub.url, store.path)
    monkeypatch.setattr(plan, "write_shards", write)
    publish(store, hub, repo)
    assert [path for path in hub.files("dataset", repo) if path.startswith("data/ift/train")] == [TRAIN]


def test_another_evaluation_is_published_with_the_commit_that_made_it(store, hub, repo):
    """The data are the same, what the card says of them is not."""
    publish(store, hub, repo)
    (store.path / "data/metrics/AIFT/M1.json").write_text(json.dumps(METRICS | {"warned": []}))
    store.adopt("data/metrics/AIFT/M1.json")
    store.commit()
    publish(store, hub, repo)
    assert f"`{store.run('git', 'rev-parse', 'HEAD')}`" in hub.files("dataset", repo)["README.md"].decode()
    assert len(commits(hub, repo)) == 2


def test_what_people_wrote_on_the_hub_stays(made, hub, repo):
    publish(made, hub, repo)
    text = hub.files("dataset", repo)["README.md"].decode()
    theirs = text.replace("license: apache-2.0", "license: cc-by-4.0", 1)
    theirs = theirs.replace(BEGIN, f"Read **this** first.\n\n{BEGIN}").replace(END, f"{END}\n\nThanks to all.")
    put(hub, repo, "README.md", theirs.replace("| `ift` | train | 5 |", "| `ift` | train | 6 |").encode())
    publish(made, hub, repo)
    assert hub.files("dataset", repo)["README.md"].decode() == theirs


# A dry run


def test_a_dry_run_shows_all_and_sends_nothing(made, hub, repo, monkeypatch, capsys):
    for token in ("hf_ann", "hf_reader"):
        monkeypatch.setenv("HF_TOKEN", token)
        publish(made, hub, repo, "M2", tag="v1", dry_run=True)
        shown = capsys.readouterr().out
        texts = ["would be made", AIFT, "model.safetensors", "40,0", "tag v1", "metrics/AIFT/M1.json"]
        assert [text for text in texts if text not in shown] == []
        assert shown.count(BEGIN) == 2
    reads_only = {"/api/validate-yaml"}
    assert {asked["path"] for asked in hub.asked() if asked["method"] != "GET"} == reads_only
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    publish(made, hub, repo)
    publish(made, hub, repo, dry_run=True)
    assert "nothing would change: no commit" in capsys.readouterr().out


def test_a_dry_run_without_network_and_token(made, repo, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        publishing.publish(repo, ["M2"], endpoint="http://127.0.0.1:9", root=made.path, dry_run=True)
        out, err = capsys.readouterr()
        assert "what would change is unknown" in err
        assert out.count("what it holds is unknown") == 2
        assert AIFT in out
        assert out.count(BEGIN) == 2
    with pytest.raises(HubError, match=r"no token for the Hub\. Type: hf auth login"):
        publishing.publish(repo, [], endpoint="http://127.0.0.1:9", root=made.path)


# Columns that changed, and configs of others


@pytest.mark.slow
def test_other_columns_are_not_written_over_the_old_ones(store, hub, repo, monkeypatch):
    """Those who read the old config go on with its commit, and what is gone here is gone there."""
    publish(store, hub, repo, raw=True, tag="v1")
    fewer = replace(PAIRS, columns=tuple(c for c in PAIRS.columns if c.name != "rejected_thought"), rules=())
    monkeypatch.setattr("stages.store.tables.PAIRS", fewer)
    store.rewrite(fewer, [{key: value for key, value in ROWS[PAIRS][0].items() if key != "rejected_thought"}])
    with pytest.raises(HubError, match=r"has config aift_m1 by somebody else, or with other columns.*--replace"):
        publish(store, hub, repo)
    publish(store, hub, repo, replace=True)
    files = [hub.files("dataset", repo, revision) for revision in ("v1", "main")]
    columns = [pl.read_parquet(there[AIFT]).columns for there in files]
    assert ["rejected_thought" in names for names in columns] == [True, False]
    verify(repo, None, hub.url, store.path)
    monkeypatch.setattr(plan, "configs", lambda trains, **on: configs.configs(trains, **on)[:2])
    publish(store, hub, repo)
    names = [entry["config_name"] for entry in metadata_of(hub, repo)["configs"]]
    assert names == ["ift", "eft"]
    assert {path.split("/")[1] for path in hub.files("dataset", repo) if path.startswith("data/")} == {*names}


@pytest.mark.parametrize("theirs", ["aift_m1_clean", "aift_m1"])
def test_somebodys_config_is_not_taken_for_ours(made, hub, repo, theirs):
    publish(made, hub, repo)
    graph, text = lineage_of(hub, repo), DatasetCard(hub.files("dataset", repo)["README.md"].decode())
    (info,) = (info for info in text.data["dataset_info"] if info["config_name"] == "aift_m1")
    for part, entry in (("configs", {"data_files": "theirs.parquet"}), ("dataset_info", info)):
        graph["card"][part] = [ours for ours in graph["card"][part] if ours["config_name"] != "aift_m1"]
        text.data[part] = [*graph["card"][part], {**entry, "config_name": theirs}]
    del graph["files"][AIFT]
    HfApi(endpoint=hub.url, token="hf_ann").delete_file(AIFT, repo, repo_type="dataset")
    put(hub, repo, "lineage.json", json.dumps(graph).encode())
    put(hub, repo, "README.md", str(text).encode())
    if theirs == "aift_m1":
        with pytest.raises(HubError, match=r"has config aift_m1 by somebody else, or with other columns.*--replace"):
            publish(made, hub, repo)
    publish(made, hub, repo, replace=theirs == "aift_m1")
    files = {entry["config_name"]: entry["data_files"] for entry in metadata_of(hub, repo)["configs"]}
    assert files["aift_m1"] == [{"split": "train", "path": [AIFT]}]
    assert files.get("aift_m1_clean") == ("theirs.parquet" if theirs == "aift_m1_clean" else None)


# What others did there


def test_what_another_version_of_srlm_published_is_not_touched(made, hub, repo):
    publish(made, hub, repo)
    put(hub, repo, "lineage.json", json.dumps(lineage_of(hub, repo) | {"format": "another"}).encode())
    with pytest.raises(HubError, match="holds what this version of srlm did not publish"):
        publish(made, hub, repo, replace=True)
    assert len(commits(hub, repo)) == 2


def test_what_another_branch_published_is_not_overwritten(store, hub, repo):
    publish(store, hub, repo, "M2")
    store.commit("--amend", "--allow-empty", "-m", "another run")
    publish(store, hub, repo, "M2")
    assert len(commits(hub, repo)) == 1, "the same data are no other publication"
    store.rewrite(IFT_TRAIN, IFT[:2])
    for options in ({}, {"dry_run": True}):
        with pytest.raises(HubError, match=r"from commit [0-9a-f]{12}, which this branch does not hold.*--replace"):
            publish(store, hub, repo, "M2", **options)
    assert len(commits(hub, repo)) == 1
    publish(store, hub, repo, "M2", replace=True)
    store.rewrite(IFT_TRAIN, IFT[:3])
    publish(store, hub, repo)
    assert len(commits(hub, repo)) == 3, "this branch goes on"


@pytest.mark.parametrize("content", [b"{}\n", b"x" * (10 * 2**20 + 1), None], ids=["small", "large", "deleted"])
def test_a_file_that_somebody_changed_there_is_not_overwritten(store, hub, repo, content):
    publish(store, hub, repo, "M2")
    model, path = f"{repo}-M2", "generation_config.json"
    change = CommitOperationDelete(path) if content is None else CommitOperationAdd(path, content)
    HfApi(endpoint=hub.url, token="hf_ann").create_commit(model, [change], commit_message="theirs")
    put(hub, repo, "LICENSE", b"theirs")
    message = rf"1 file.*{model} were put, changed or deleted on the Hub.*{path}.*{model}/commits/main.*--replace"
    with pytest.raises(HubError, match=message):
        publish(store, hub, repo, "M2")
    if content == b"{}\n":
        (store.path / f"data/models/M2/{path}").write_bytes(content)
        publish(store, hub, repo, "M2")
        assert hub.files("model", model)[path] == content, "what was taken over here is overwritten by nothing"
    publish(store, hub, repo, "M2", replace=True)
    assert hub.files("model", model)[path] == (store.path / f"data/models/M2/{path}").read_bytes()
    assert hub.files("dataset", repo)["LICENSE"] == b"theirs"


def test_a_file_that_somebody_put_there_is_not_overwritten(store, hub, repo):
    """One that only the next publication has, too."""
    publish(store, hub, repo, "M2")
    put(hub, f"{repo}-M2", "chat_template.jinja", b"theirs", "model")
    (store.path / "data/models/M2/chat_template.jinja").write_text("ours")
    with pytest.raises(HubError, match=r"changed or deleted on the Hub by somebody else, first 'chat_template.jinja'"):
        publish(store, hub, repo, "M2")
    publish(store, hub, repo, "M2", replace=True)
    assert hub.files("model", f"{repo}-M2")["chat_template.jinja"] == b"ours"


def test_a_hash_that_the_hub_does_not_tell_is_not_a_change(store, hub, repo):
    """Some Hubs leave git's hash out of the listing of a repository."""
    publish(store, hub, repo, "M2")
    head = commits(hub, repo)[0]["oid"]
    hub.forgetful(["listing"])
    publish(store, hub, repo, "M2")
    assert commits(hub, repo)[-1]["oid"] == head
    put(hub, f"{repo}-M2", "config.json", b"theirs", "model")
    with pytest.raises(HubError, match=r"1 file.* changed or deleted on the Hub by somebody else, first 'config.json'"):
        publish(store, hub, repo, "M2")


def test_a_repository_that_holds_something_else(made, hub, repo):
    HfApi(endpoint=hub.url, token="hf_ann").create_repo(repo, repo_type="dataset")
    put(hub, repo, "train.csv", b"a,b\n1,2\n")
    with pytest.raises(
        HubError, match=r"holds what this version of srlm did not publish, 1 file\(s\), first 'train\.csv'"
    ):
        publish(made, hub, repo)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"---\nlicense: [mit\n---\n", "metadata at the top of README.md are not readable"),
        (b"---\n- a\n---\n", "metadata at the top of README.md are not readable"),
        (b"# \xff\xfe", "README.md of .* is not UTF-8"),
        (f"---\nlicense: mit\n---\n{END}\n".encode(), "holds a part of the lines that mark our section"),
    ],
    ids=["yaml", "list", "bytes", "marks"],
)
def test_a_card_that_cannot_be_merged(made, hub, repo, text, message):
    HfApi(endpoint=hub.url, token="hf_ann").create_repo(repo, repo_type="dataset")
    put(hub, repo, "README.md", text)
    with pytest.raises(HubError, match=message):
        publish(made, hub, repo)
    assert hub.files("dataset", repo)["README.md"] == text


# What is private


def test_private_data_and_their_models_never_become_public(store, hub, repo, capsys):
    api = HfApi(endpoint=hub.url, token="hf_ann")
    api.create_repo(repo, repo_type="dataset", private=False)
    with pytest.raises(HubError, match="exists and is public, and what is to be published is private"):
        publish(store, hub, repo, private=True)
    publish(store, hub, repo, "M1")
    api.update_repo_settings(repo, private=True, repo_type="dataset")
    publish(store, hub, repo, "M2", dry_run=True)
    assert f"model {repo}-M2: would be made, private" in capsys.readouterr().out
    publish(store, hub, repo, "M2")
    assert hub.repo("model", f"{repo}-M2")["private"]
    (store.path / "data/models/M1/config.json").write_text("{}")
    with pytest.raises(HubError, match=f"{repo}-M1 exists and is public, and what is to be published is private"):
        publish(store, hub, repo, "M1")
    assert len(commits(hub, f"{repo}-M1", "model")) == 1


# What is refused before anything is sent


def test_what_git_and_dvc_say(store, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    (store.path / "notes.txt").write_text("x")
    with pytest.raises(HubError, match=r"git has 1 uncommitted change.*notes\.txt.*git add -A && git commit"):
        publish(store, hub, "lab/x")
    (store.path / "data/IFT/train.parquet").unlink()
    store.commit()
    with pytest.raises(HubError, match=r"1 stage.* not up to date: make\. Type: srlm repro"):
        publish(store, hub, "lab/x")
    store.run("rm", "-rf", ".git")
    with pytest.raises(HubError, match="git status fails"):
        publish(store, hub, "lab/x")
    assert hub.asked() == []


def test_tables_that_break_their_contract_or_change_meanwhile(store, hub, repo, monkeypatch):
    path = store.path / "data/IFT/train.parquet"
    frame = pl.DataFrame(IFT, schema=IFT_TRAIN.schema)
    for rows, message in (
        (frame.with_columns(response=pl.lit(None, pl.String)), "contract that response is not null, in 5 row"),
        (frame.head(2), r"data/IFT/train\.parquet is not what dvc\.lock says.*srlm repro"),
    ):
        rows.write_parquet(path)
        with pytest.raises((TableError, HubError), match=message):
            publish(store, hub, repo)
    write_rows(IFT_TRAIN, IFT, store.path)
    monkeypatch.setattr(configs, "MOST_SHARDS", 0)
    with pytest.raises(HubError, match=r"table ift \(data/IFT/train\.parquet\) holds"):
        publish(store, hub, repo)
    assert nothing_sent(hub)


def test_a_model_that_changes_meanwhile(store, hub, repo, monkeypatch):
    weights = store.path / "data/models/M2/model.safetensors"
    monkeypatch.setattr(remote.Remote, "check_card", lambda *a: weights.write_bytes(b"retrained"))
    with pytest.raises(HubError, match=rf"{weights} changed while it was published"):
        publish(store, hub, repo, "M2")
    assert commits(hub, f"{repo}-M2", "model") == []


def test_models_that_cannot_be_published(store, hub, repo):
    with pytest.raises(HubError, match="M9 is no model that is trained here; there are M0, SFT, M1, M2"):
        publish(store, hub, repo, "M9")
    (store.path / "data/models/M2/model.safetensors").rename(store.path / "data/models/M2/pytorch_model.bin")
    with pytest.raises(ModelError, match=r"cannot be read as a model|holds no \*\.safetensors"):
        publish(store, hub, repo, "M2")
    assert nothing_sent(hub)


def test_an_adapter_is_published_as_one(store, hub, repo):
    """With the weights that it goes over, and the card says how both are loaded."""
    adapter = store.path / "data/models/M2/adapter/adapter_config.json"
    adapter.parent.mkdir()
    adapter.write_text("{}")
    publish(store, hub, repo, "M2")
    there = hub.files("model", f"{repo}-M2")
    assert there["adapter/adapter_config.json"] == b"{}"
    card = there["README.md"].decode()
    assert "library_name: peft" in card
    assert f'PeftModel.from_pretrained(model, "{repo}-M2", subfolder="adapter")' in card
    verify(f"{repo}-M2", None, hub.url, store.path)


@pytest.mark.parametrize("option", [{"tag": "v 1"}, {"tag": "a..b"}, {"tag": "v1.lock"}])
def test_names_that_nobody_takes(made, hub, repo, option):
    with pytest.raises(HubError, match="cannot be a tag"):
        publish(made, hub, repo, "M2", **option)
    assert hub.asked() == []


@pytest.mark.parametrize("url", ["http://localhost:80a", "http://[::1", "localhost:9", "ftp://hub", "http://a b"])
def test_an_address_that_is_none(made, repo, url):
    for ask in (partial(publishing.publish, repo, [], endpoint=url), partial(verify, repo, None, url)):
        with pytest.raises(HubError, match=r"no address of a Hub.*--base-url"):
            ask(root=made.path)


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("rows", "hf_ann", "names no repository. Expected organisation/name"),
        ("lab/a--b", "hf_ann", "'lab/a--b' cannot be the name of a repository"),
        ("club/rows", "hf_ann", "no permission to write dataset club/rows with this token.*hf auth whoami"),
        ("ann/rows", "hf_reader", "no permission to write dataset ann/rows with this token"),
        ("ann/rows", "hf_wrong", "the Hub does not accept this token.*hf auth login"),
    ],
)
def test_names_and_rights(made, hub, repo, monkeypatch, name, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message) as error:
        publish(made, hub, name)
    assert token not in str(error.value)
    assert not (hub.folder / "datasets" / name).exists()


def test_a_card_that_the_hub_would_refuse(made, hub, repo):
    """Which is seen before anything is sent; a Hub that only cannot answer is asked again."""
    text = json.dumps({"errors": [{"message": '"license" must be one of [\x1b apache-2.0, mit]'}], "warnings": []})
    hub.behave(Fault("POST", "validate-yaml", status=400, text=text))
    with pytest.raises(HubError, match=r'would refuse the card of lab/rows-\d+: "license" must be one of \[\\x1b apac'):
        publish(made, hub, repo, "M2")
    assert not (hub.folder / "datasets" / repo).exists()
    hub.behave(Fault("POST", "validate-yaml", status=503, times=1))
    publish(made, hub, repo, "M2")


@contextmanager
def file_limit(limit: int) -> Iterator[None]:
    """No file may get longer than so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_no_room_on_this_disk(made, hub, repo, tmp_path):
    (ift,) = (config for config in configs.configs({}) if config.name == "ift")
    frame = pl.DataFrame(IFT, schema=IFT_TRAIN.schema)
    message = r"could not write .*File too large.*export TMPDIR="
    with pytest.raises(HubError, match=message), publishing.disk_explained(), file_limit(100):
        plan.write_shards(frame, ift, ift.splits[0], tmp_path)
    publish(made, hub, repo, "M2")
    there = remote.Remote(f"{repo}-M2", "model", endpoint=hub.url, token="hf_ann")
    with pytest.raises(HubError, match=r"this computer's disk, not the Hub: .*File too large"), file_limit(30_000):
        there.snapshot("main", tmp_path / "hub")


# Things that go wrong on the way


def whole(hub: Server, repo: str, kind: str = "dataset") -> bool:
    """Every commit that a reader could see holds all that its card and lineage name."""
    for commit in commits(hub, repo, kind) if (hub.folder / f"{kind}s" / repo).exists() else []:
        files = hub.files(kind, repo, commit["oid"])
        entries = yaml.safe_load(files["README.md"].decode().split("---\n")[1]).get("configs", ())
        named = [path for entry in entries for split in entry["data_files"] for path in split["path"]]
        if not {*named, *json.loads(files["lineage.json"])["files"]} <= {*files}:
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
def test_whichever_request_fails_the_second_try_ends_it(made, hub, repo, fault):
    """Request by request, of the first publication of a dataset and a model with a tag."""
    errors: list[str] = []
    for k in itertools.count():
        name = f"{repo}-{k}"
        hub.behave(fault._replace(skip=k))
        hub.reset()
        try:
            publish(made, hub, name, "M2", tag="v1")
            tries = 1
        except HubError as e:
            tries = 2
            errors.append(str(e))
            assert whole(hub, name)
            assert whole(hub, f"{name}-M2", "model")
            hub.forget()
            publish(made, hub, name, "M2", tag="v1")
        assert len(commits(hub, name)) == len(commits(hub, f"{name}-M2", "model")) == 1, f"request {k}"
        assert whole(hub, name)
        assert hub.repo("dataset", name)["tags"] == {"v1": commits(hub, name)[0]["oid"]}
        if tries == 1 and len(hub.asked()) <= k:
            break
    assert k > 12
    assert [error for error in errors if "run the same command again" not in error] == []


@pytest.mark.slow
def test_whichever_request_of_an_update_fails_the_second_try_ends_it(made, store, hub, repo, monkeypatch):
    """Of a publication with other rows, other weights and fewer files, over the one before."""
    store.rewrite(IFT_TRAIN, IFT[:2])
    other = (made.path / "data/models/M1/model.safetensors").read_bytes()
    (store.path / "data/models/M2/model.safetensors").write_bytes(other)
    for k in itertools.count():
        name = f"{repo}-{k}"
        with monkeypatch.context() as patch:
            patch.setattr(plan, "write_shards", partial(plan.write_shards, limit=64))
            publish(made, hub, name, "M2")
        before = hub.files("dataset", name)
        hub.behave(Fault("P.*", drop=True, skip=k, times=1000))  # those that could change anything
        try:
            publish(store, hub, name, "M2")
            break
        except HubError:
            assert hub.files("dataset", name) == before or TRAIN in hub.files("dataset", name), "all of it, or nothing"
        hub.forget()
        publish(store, hub, name, "M2")
        assert len(commits(hub, name)) == len(commits(hub, f"{name}-M2", "model")) == 2, f"request {k}"
        assert [path for path in hub.files("dataset", name) if path.startswith("data/ift/train")] == [TRAIN]
        assert hub.files("model", f"{name}-M2")["model.safetensors"] == other
    assert k > 5


def error_when(hub: Server, path: str, ours: Callable[[], None], theirs: Callable[[], Any]) -> str:
    """What `ours` raises when `theirs` is done while its request to `path` is on its way."""
    hub.behave(Fault("POST", path, delay=0.7, times=1))
    hub.reset()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ours)
        while not running.done() and not any(path in asked["path"] for asked in hub.asked()):
            time.sleep(0.02)
        theirs()
        return str(running.exception())


def test_another_publisher_in_between_is_not_overwritten(made, hub, repo):
    publish(made, hub, repo)
    ours, theirs = partial(publish, made, hub, repo, raw=True), partial(put, hub, repo, "NOTES.md", b"theirs")
    assert "got another commit" in error_when(hub, "/preupload/", ours, theirs)
    assert [commit["title"] for commit in commits(hub, repo)][1:] == ["theirs"]
    publish(made, hub, repo, raw=True)
    assert hub.files("dataset", repo)["NOTES.md"] == b"theirs"


def test_a_repository_that_somebody_makes_meanwhile_is_not_overwritten(made, hub, repo):
    def theirs() -> None:
        HfApi(endpoint=hub.url, token="hf_ann").create_repo(repo, repo_type="dataset")
        put(hub, repo, "train.csv", b"theirs")

    error = error_when(hub, "/repos/create", lambda: publish(made, hub, repo), theirs)
    assert "was made by somebody else in the meantime, with 'train.csv'" in error
    assert len(commits(hub, repo)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/_lfs/", "/commit/"])
def test_killed_in_the_middle(made, hub, path):
    """kill -9 while the request is on its way, then the same command; with git, DVC and the real command line."""
    repo = f"lab/killed{path.count('_')}"
    main = "from stages.commands.cli import main; main()"
    options = ["--repo", repo, "--tag", "v1", "--base-url", hub.url]
    program = [sys.executable, "-c", main, "publish", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    env["HF_TOKEN"] = "hf_ann"
    hub.behave(Fault("POST|PUT", path, delay=1.5, times=1))
    with subprocess.Popen(program, cwd=made.path, env=env, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not any(path in asked["path"] for asked in hub.asked()):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert whole(hub, repo)
    done = subprocess.run(program, cwd=made.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    time.sleep(1.5)  # what the killed one had asked for is done meanwhile
    assert whole(hub, repo)
    assert hub.files("dataset", repo)["lineage.json"] == hub.files("dataset", repo, "v1")["lineage.json"]


def test_the_client_waits_for_a_while_only(made, hub, repo):
    """The library makes another client after a fault."""
    remote.Remote(repo, "dataset", endpoint=hub.url, token="hf_ann")
    for _ in range(2):
        assert get_session().timeout.read == remote.SILENCE_S
        close_session()
    with pytest.raises(HubError, match=r"unexpected response from .*run the same command again"):
        publishing.publish(repo, [], endpoint="http://127.0.0.1:9", root=made.path)


def test_the_token_is_never_shown(made, hub, repo, capsys):
    for status in (400, 401, 403, 404, 500):
        hub.behave(Fault("POST|GET", status=status, text='{"error": "you sent {authorization}"}'))
        with pytest.raises(HubError) as error:
            publish(made, hub, repo)
        assert "hf_ann" not in str(error.value) + "".join(capsys.readouterr())


def test_the_codes_address_has_no_token(store):
    for address, page in (
        ("https://ann:ghp_secret@github.com/lab/srlm.git", "https://github.com/lab/srlm"),
        ("git@github.com:lab/srlm.git", "https://github.com/lab/srlm"),
        ("ssh://git@host.org/lab/srlm", "https://host.org/lab/srlm"),
        ("../srlm", None),
        ("https://x.org/a`b", None),
    ):
        store.run("git", "config", "remote.origin.url", address)
        assert publishing.code_url(store.path) == page


# Xet, the client's default where hf_xet is installed


@pytest.fixture
def xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)


@pytest.mark.parametrize(
    ("status", "tries", "message"),
    [
        (404, 1, r"did not accept an upload over Xet .*type: export HF_HUB_DISABLE_XET=1"),
        (403, 1, r"no permission to write dataset lab/"),
        (401, 1, r"does not accept this token"),
    ],
)
def test_a_hub_without_xet(made, hub, repo, xet, status, tries, message):
    """What to set, at once: a refusal that cannot pass is not tried again."""
    hub.behave(Fault("GET", "xet-write-token", status=status, text="{}"))
    with pytest.raises(HubError, match=message):
        publish(made, hub, repo)
    assert len([asked for asked in hub.asked() if "xet-write-token" in asked["path"]]) == tries
    assert commits(hub, repo) == []
