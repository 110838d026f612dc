"""`srlm verify`: each row of what it shows, with a difference that this row alone tells, and with damage that must not
end it."""

from __future__ import annotations

import itertools
import json
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
import yaml
from hub_server import Server
from huggingface_hub import HfApi
from ruamel.yaml import YAML
from small_store import ROWS, Store, write_rows

from stages.commands import publish as publishing
from stages.commands import verify as verifying
from stages.commands.verify import verify
from stages.console.errors import HubError, ParamsError, TableError
from stages.hub import card
from stages.store.files import md5
from stages.store.tables import IFT_TRAIN, PAIRS, SCORES, TABLES, Table

COUNT = itertools.count()
HERE = (
    "files and folders that stages made, by their md5 in dvc.lock",
    "what stages read, as it is now",
    "what models were made from, by their lineage.json",
)
MADE, READ, TRAINED = HERE
STAGES = "stages that made them: command, parameters, what was read and made"
STRANGE = "files that srlm did not publish"
RETOLD = "commit, lineages of models, packages"
COPIES = "params.yaml and metrics"
HELD = "datasets that its stages made, and that it should hold"
CHOSEN = "pairs@M1.chosen_id -> candidates.candidate_id"
CONFIGS = ("aift_m1, train", "eft, train", "ift, train", "ift, valid")
TRAINED_ON = {"M1": "data/IFT/train.parquet", "M2": "data/AIFT/M1/pairs.parquet"}
OUTS = len(ROWS) + 3
"""Tables, two models, one metric."""


@pytest.fixture(scope="module")
def sound(made: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`made`, and its models name the data that are there. Not to be changed: `store` is."""
    store = made.copy(tmp_path_factory.mktemp("sound") / "store")
    outs = {out["path"]: out["md5"] for out in YAML(typ="safe").load(store.path / "dvc.lock")["stages"]["make"]["outs"]}
    for model, table in TRAINED_ON.items():
        tell(store.path / "seed" / lineage_of(model), data={table: outs[table]})
    store.run(sys.executable, "-m", "dvc", "repro", "-q")
    store.commit()
    return store


@pytest.fixture
def store(sound: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of a test's own, which is the folder that the command runs in."""
    store = sound.copy(tmp_path / "store")
    monkeypatch.chdir(store.path)
    return store


@pytest.fixture(scope="module")
def token(online: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_ann")
        patch.setattr(
            publishing, "check_up_to_date", lambda root: None
        )  # git and DVC are not asked, which takes two seconds
        yield


@pytest.fixture(scope="module")
def repo(sound: Store, server: Server, token: None) -> str:
    """`sound` and its models, on the Hub; not to be changed there."""
    return publish(sound, server)


def publish(store: Store, hub: Server) -> str:
    """The name of the repository."""
    repo = f"lab/verified-{next(COUNT)}"
    publishing.publish(repo, ["M1", "M2"], endpoint=hub.url, root=store.path)
    return repo


def lineage_of(model: str) -> str:
    return f"data/models/{model}/lineage.json"


def tell(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def lock(change: Callable[[dict[str, Any]], Any]) -> None:
    """`change` is done to the stages in dvc.lock."""
    file = Path("dvc.lock")
    found = YAML(typ="safe").load(file)
    change(found["stages"])
    YAML().dump(found, file)


def adopt(*paths: str) -> None:
    """As if the stage had made what lies there now."""
    Store(Path()).adopt(*paths)


def rewrite(table: Table, **changes: Any) -> str:
    """The last row is another; the table's path."""
    write_rows(table, [*ROWS[table][:-1], ROWS[table][-1] | changes], Path())
    return table.path.format(model="M1")


class Shown(NamedTuple):
    rows: list[str]
    """What was checked."""
    wrong: dict[str, tuple[int, int, str]]
    """How many were checked and are wrong, and the first of these, where any is."""
    error: str


def shown(capsys: pytest.CaptureFixture[str], repo: str | None = None, hub: Server | None = None) -> Shown:
    """What `srlm verify` prints in this folder, cells that take several lines put together, and the error that it ends
    with."""
    capsys.readouterr()
    error = ""
    try:
        verify(repo, None, hub and hub.url)
    except HubError as e:
        if "difference(s)" not in (error := str(e)):
            raise
    head, *lines = capsys.readouterr().out.splitlines()
    starts = [head.index(name) for name in ("what", "checked", "wrong", "first")]
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[start:end].strip() for start, end in itertools.pairwise([*starts, len(line)])]
        if cells[1]:
            rows.append(cells)
        else:
            rows[-1] = [f"{whole} {more}".strip() for whole, more in zip(rows[-1], cells, strict=True)]
    wrong = {what: (int(things), int(count), first) for what, things, count, first in rows if count != "0"}
    assert all(first == "" for *_, count, first in rows if count == "0")
    assert (
        error == ""
        if not wrong
        else error.startswith(f"{sum(count for _, count, _ in wrong.values())} difference(s). ")
    )
    return Shown([what for what, *_ in rows], wrong, error)


# Here


def test_a_sound_store(store, capsys):
    found = shown(capsys)
    assert (found.wrong, found.error) == ({}, "")
    assert found.rows[:3] == [*HERE]
    assert {what.split(".")[0] for what in found.rows[3:]} == {
        *("seed_judgements", "eft", "prompts@M1", "candidates@M1", "judgements@M1", "scores@M1", "pairs@M1"),
    }


@pytest.mark.parametrize("path", ["data/metrics/AIFT/M1.json", "data/IFT/train.parquet", "data/models/M2"])
def test_an_out_that_changed(store, capsys, path):
    if path.endswith("parquet"):
        assert rewrite(IFT_TRAIN, response="other") == path
    else:
        (Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)).write_text("{}")
    found = shown(capsys)
    assert found.wrong == {MADE: (OUTS, 1, f"{path}: changed")}
    assert found.error == "1 difference(s). Run: dvc checkout, or srlm repro"


def test_an_out_that_the_disk_does_not_give(store, capsys, monkeypatch):
    def failing(path: Path, *ignored: Any) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verifying, "md5", failing)
    found = shown(capsys).wrong
    assert found[MADE][1:] == (OUTS, "data/AIFT/M1/candidates.parquet: cannot be read")
    assert found[READ] == (1, 1, "make read another seed")


def test_a_dependency_that_changed(store, capsys):
    Path("seed/new.txt").write_text("x")
    assert shown(capsys).wrong == {READ: (1, 1, "make read another seed")}


def test_a_stage_that_read_what_another_makes_otherwise_now(store, capsys):
    """As dvc.lock has it: whether the file is what the stage left is another question."""
    stages = YAML(typ="safe").load(Path("dvc.yaml"))
    stages["stages"]["use"] = {"cmd": "true", "deps": ["data/IFT/train.parquet"]}
    YAML().dump(stages, Path("dvc.yaml"))
    known = md5(Path("data/IFT/train.parquet"))
    rewrite(IFT_TRAIN, response="other")
    for read, wrong in (
        (known, {}),
        (md5(Path("data/IFT/train.parquet")), {READ: (2, 1, "use read another data/IFT/train.parquet")}),
    ):
        entry = {"cmd": "true", "deps": [{"path": "data/IFT/train.parquet", "hash": "md5", "md5": read, "size": 1}]}
        lock(lambda stages, entry=entry: stages.update(use=entry))
        assert shown(capsys).wrong == {MADE: (OUTS, 1, "data/IFT/train.parquet: changed")} | wrong


def test_a_model_that_was_made_from_other_data(store, capsys):
    tell(Path(lineage_of("M2")), data={TRAINED_ON["M2"]: "0" * 32})
    adopt("data/models/M2")
    assert shown(capsys).wrong == {TRAINED: (2, 1, f"M2 was made from another {TRAINED_ON['M2']}")}


def test_a_reference_that_names_no_row(store, capsys):
    adopt(path := rewrite(PAIRS, rejected_id="c9"))
    tell(Path(lineage_of("M2")), data={path: md5(Path(path))})
    adopt("data/models/M2")
    found = shown(capsys)
    assert found.wrong == {
        "pairs@M1.rejected_id -> candidates.candidate_id, prompt_id, rejected as there": (1, 1, "c9"),
        "pairs@M1.rejected_id -> scores.candidate_id, rejected_score as there": (1, 1, "c9"),
    }
    assert found.error.startswith("2 difference(s)")


def test_what_a_stage_did_that_is_gone_is_not_asked_for(store, capsys):
    """DVC leaves it in dvc.lock."""
    files = [
        {"path": path, "hash": "md5", "md5": "0" * 32, "size": 1} for path in ("data/old.parquet", "data/models/M9")
    ]
    lock(lambda stages: stages.update(old={"cmd": "true", "deps": [files[0] | {"path": "old"}], "outs": files}))
    assert "data/models/M9" in Path("dvc.lock").read_text()
    assert shown(capsys).wrong == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "M2", "data": {"data/AI', "Unterminated string"),
        ("", "Expecting value"),
        ("{}", "KeyError: 'data'"),
        ('{"data": ["data/IFT/train.parquet"]}', "its data are a list"),
        ('{"data": null}', "its data are a NoneType"),
        ("[]", "TypeError"),
        ("\xff", "codec can't decode"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_a_damaged_lineage_is_told_and_what_comes_after_is_checked(store, capsys, text, said):
    Path(lineage_of("M1")).write_text(text, encoding="latin-1")
    tell(Path(lineage_of("M2")), data={TRAINED_ON["M2"]: "0" * 32})
    found = shown(capsys)
    assert {what: row[:2] for what, row in found.wrong.items()} == {MADE: (OUTS, 2), TRAINED: (2, 2)}
    assert found.wrong[TRAINED][2].startswith("lineage.json of M1 cannot be read: ")
    assert said in found.wrong[TRAINED][2]
    assert found.rows[-1].startswith("pairs@M1.rejected_id")


def test_a_model_that_a_server_has_leaves_no_lineage(store, capsys):
    Path(lineage_of("M2")).unlink()
    adopt("data/models/M2")
    assert shown(capsys).wrong == {}


def test_a_damaged_table_is_told_and_the_others_are_followed(store, capsys):
    path = Path("data/AIFT/M1/candidates.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    rewrite(PAIRS, chosen_score=3.5)
    found = shown(capsys)
    assert found.wrong.pop(MADE) == (OUTS, 2, f"{path}: changed")
    assert found.wrong.pop("pairs@M1.chosen_id -> scores.candidate_id, chosen_score as there") == (1, 1, "c0")
    assert {what.partition(",")[0] for what in found.wrong} == {
        *("candidates@M1.prompt_id -> prompts.prompt_id", "judgements@M1.candidate_id -> candidates.candidate_id"),
        *("scores@M1.candidate_id -> candidates.candidate_id", CHOSEN, CHOSEN.replace("chosen", "rejected")),
    }
    for things, wrong, first in found.wrong.values():
        assert (things, wrong) == (1, 1)
        assert first.startswith(f"{path} cannot be read as parquet")


def test_a_table_at_which_polars_panics(store, capsys, monkeypatch):
    """It does so at some damaged files (of 3,000 that were cut or got wrong bytes, at 23), with what is no
    Exception."""
    read = pl.read_parquet

    def panicking(path: Path, **options: Any) -> pl.DataFrame:
        if path.name == "scores.parquet":
            raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")
        return read(path, **options)

    monkeypatch.setattr(pl, "read_parquet", panicking)
    found = shown(capsys)
    assert len(found.wrong) == 3
    _, _, first = found.wrong["scores@M1.candidate_id -> candidates.candidate_id, prompt_id as there"]
    assert (
        first
        == "data/AIFT/M1/scores.parquet cannot be read as parquet: called `Option::unwrap()` on a `None` value. Delete it and run: dvc repro"
    )


def test_what_was_found_is_shown_even_if_something_ends_the_checking(store, capsys, monkeypatch):
    def failing(root: Path) -> None:
        raise ParamsError("no params")

    Path("seed/new.txt").write_text("x")
    monkeypatch.setattr(verifying, "load_params", failing)
    with pytest.raises(ParamsError, match="no params"):
        shown(capsys)
    assert "make read another seed" in capsys.readouterr().out


def test_names_of_files_are_no_markup_and_move_no_cursor(store, capsys):
    tell(Path(lineage_of("M2")), data={"[red]\x1b[2J": "0"})
    assert shown(capsys).wrong[TRAINED] == (2, 1, r"M2 was made from another [red]\x1b[2J")


# On the Hub


def test_what_was_published_is_what_is_here(store, hub, repo, capsys):
    assert shown(capsys, repo, hub) == Shown(
        [f"files of {repo} by their sha256 in lineage.json", STAGES, RETOLD, COPIES, HELD, *CONFIGS], {}, ""
    )
    model = f"{repo}-M1"
    assert shown(capsys, model, hub) == Shown(
        [f"files of {model} by their sha256 in lineage.json", STAGES, RETOLD, "files of M1", STRANGE], {}, ""
    )


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_stage_that_is_not_as_it_was_published(store, hub, repo, capsys, kind):
    lock(lambda stages: stages["make"].update(cmd="cp -r other/data ."))
    found = shown(capsys, repo if kind == "dataset" else f"{repo}-M1", hub)
    assert found.wrong == {STAGES: (1, 1, "make")}
    assert found.error.startswith("1 difference(s). Publish anew (srlm publish)")


def test_a_models_file_that_changed_here(store, hub, repo, capsys):
    Path("data/models/M1/config.json").write_text('{"a": 1}')
    assert shown(capsys, f"{repo}-M1", hub).wrong == {"files of M1": (5, 1, "config.json")}
    Path("data/models/M1/model.safetensors").unlink()
    Path("data/models/M1/model.safetensors").mkdir()
    assert shown(capsys, f"{repo}-M1", hub).wrong == {"files of M1": (5, 2, "config.json")}


def test_a_table_here_that_is_damaged_or_gone(store, hub, repo, capsys):
    Path("data/IFT/train.parquet").write_bytes(b"PAR1")
    Path("data/EFT/train.parquet").unlink()
    rewrite(PAIRS, chosen="other")
    found = shown(capsys, repo, hub)
    assert {what: row[:2] for what, row in found.wrong.items()} == dict.fromkeys(
        ("ift, train", "eft, train", "aift_m1, train"), (1, 1)
    )
    assert found.wrong["ift, train"][2].startswith("data/IFT/train.parquet cannot be read as parquet")
    assert found.wrong["eft, train"][2].startswith("data/EFT/train.parquet is not there")
    assert found.wrong["aift_m1, train"][2] == "prompt_id=p0"


def test_a_table_that_this_version_does_not_know(store, hub, repo, capsys, monkeypatch):
    monkeypatch.setattr(verifying, "TABLES", tuple(table for table in TABLES if table is not IFT_TRAIN))
    assert shown(capsys, repo, hub).wrong == {
        "ift, train": (1, 1, "no table lies at data/IFT/train.parquet in this version of srlm")
    }


def put(hub: Server, repo: str, kind: str, files: dict[str, bytes]) -> None:
    """A commit past the client, which does not let every card through."""
    lines = [
        {"key": "file", "value": {"path": path, "content": b64encode(content).decode()}}
        for path, content in files.items()
    ]
    body = "\n".join(json.dumps(line) for line in [{"key": "header", "value": {"summary": "theirs"}}, *lines]).encode()
    asked = urllib.request.Request(
        f"{hub.url}/api/{kind}s/{repo}/commit/main", body, {"Authorization": "Bearer hf_ann"}, method="POST"
    )
    urllib.request.urlopen(asked).close()


@pytest.fixture
def changed(sound: Store, hub: Server, token: None) -> str:
    """A repository of a test's own."""
    return publish(sound, hub)


def test_a_models_file_that_changed_on_the_hub(store, hub, changed, capsys):
    model = f"{changed}-M1"
    put(hub, model, "model", {"tokenizer.json": b'{"a": 1}'})
    assert shown(capsys, model, hub).wrong == {
        f"files of {model} by their sha256 in lineage.json": (5, 1, "tokenizer.json")
    }


def test_files_that_change_what_a_model_loads(store, hub, changed, capsys):
    model = f"{changed}-M1"
    theirs = ("LICENSE", "LICENSE.txt", "NOTES.md", "docs/USE.md", "loss.png", "Photo.JPG", "thanks.txt")
    put(hub, model, "model", dict.fromkeys(theirs, b"x"))
    assert shown(capsys, model, hub).wrong == {}
    there = len(hub.files("model", model))
    harmful = ("adapter_config.json", "LICENSE.d/modeling_x.py", "pytorch_model.bin", "sub/lineage.json", "vocab.txt")
    for wrong, path in enumerate(sorted(harmful, reverse=True), 1):
        put(hub, model, "model", {path: b"x"})
        found = shown(capsys, model, hub)
        assert found.wrong == {STRANGE: (there + wrong, wrong, path)}
        assert "delete there what srlm did not" in found.error


def without(hub: Server, repo: str, kind: str, path: str) -> dict[str, Any]:
    """Their lineage.json as one that no longer names a file of its `files`."""
    told: dict[str, Any] = json.loads(hub.files(kind, repo)["lineage.json"])
    del told["files"][path]
    return told


def test_a_lineage_that_hides_a_models_file(store, hub, changed, capsys):
    """As one of an earlier publication it would be compared with its own sha256 alone."""
    model, path = f"{changed}-M1", "model.safetensors"
    told = without(hub, model, "model", path) | {"kept": {path: {"sha256": sha256(b"theirs").hexdigest()}}}
    put(
        hub,
        model,
        "model",
        {path: b"theirs", "lineage.json": json.dumps(told).encode()},
    )
    assert {what: row[1:] for what, row in shown(capsys, model, hub).wrong.items()} == {STRANGE: (1, path)}


def test_a_lineage_that_hides_a_dataset(store, hub, changed, capsys):
    path = "data/aift_m1/train-00000-of-00001.parquet"
    told = without(hub, changed, "dataset", path)
    put(
        hub,
        changed,
        "dataset",
        {path: b"theirs", "lineage.json": json.dumps(told).encode()},
    )
    assert shown(capsys, changed, hub).wrong == {HELD: (4, 1, "data/AIFT/M1/pairs.parquet")}


def lineage_mismatches(hub: Server, repo: str, **changes: Any) -> dict[str, bytes]:
    """The lineage of a repository of datasets with `changes`."""
    told = json.loads(hub.files("dataset", repo)["lineage.json"]) | changes
    return {"lineage.json": json.dumps(told).encode()}


def test_a_lineage_that_tells_of_another_training(store, hub, changed, capsys):
    models = json.loads(hub.files("dataset", changed)["lineage.json"])["models"]
    put(
        hub,
        changed,
        "dataset",
        lineage_mismatches(hub, changed, models=models | {"M2": models["M2"] | {"parent": "GPT"}}),
    )
    assert shown(capsys, changed, hub).wrong == {RETOLD: (4, 1, "lineage.json of M2 is another here")}
    put(hub, changed, "dataset", lineage_mismatches(hub, changed, models=models | {"../seed": {}}))
    assert shown(capsys, changed, hub).wrong == {RETOLD: (5, 1, "lineage.json of ../seed is another here")}
    Path(lineage_of("M1")).write_text("{")
    put(hub, changed, "dataset", lineage_mismatches(hub, changed, models=models))
    assert shown(capsys, changed, hub).wrong[RETOLD][2].startswith("lineage.json of M1 cannot be read here: ")


@pytest.mark.parametrize("revision", ["0" * 40, "HEAD"])
def test_a_lineage_of_another_commit(store, hub, changed, capsys, revision):
    code = json.loads(hub.files("dataset", changed)["lineage.json"])["code"]
    first = f"commit {revision[:12]} with its dvc.lock is not in this clone: git fetch, or another store's"
    if revision == "HEAD":  # one that is here, with another dvc.lock
        with Path("dvc.lock").open("a") as file:
            file.write("# more\n")
        store.commit()
        revision = publishing.git(store.path, "rev-parse", "HEAD").strip()
        first = f"dvc.lock of commit {revision[:12]} is another"
    put(hub, changed, "dataset", lineage_mismatches(hub, changed, code=code | {"git": revision}))
    assert shown(capsys, changed, hub).wrong == {RETOLD: (4, 1, first)}


def test_a_lineage_that_tells_of_other_packages(store, hub, changed, capsys):
    table = "data/AIFT/M1/candidates.parquet"
    assert json.loads(hub.files("dataset", changed)["lineage.json"])["packages"] == {table: {"vllm": "0.99"}}
    for told in ({}, {table: {"vllm": "1"}}):
        put(hub, changed, "dataset", lineage_mismatches(hub, changed, packages=told))
        assert shown(capsys, changed, hub).wrong == {RETOLD: (4, 1, f"{table} was written with other packages")}


def test_held_out_rows_that_are_shown_as_training_rows(store, hub, changed, capsys):
    """Files, card and lineage say the same: the table of each split is another."""
    there = hub.files("dataset", changed)
    files = json.loads(there["lineage.json"])["files"]
    train, valid = (f"data/ift/{split}-00000-of-00001.parquet" for split in ("train", "valid"))
    swapped = {train: files[valid] | {"split": "train"}, valid: files[train] | {"split": "valid"}}
    card = (
        there["README.md"]
        .decode()
        .replace("num_examples: 4", "num_examples: 0")
        .replace("num_examples: 2", "num_examples: 4")
    )
    body = {
        train: there[valid],
        valid: there[train],
        "README.md": card.replace("num_examples: 0", "num_examples: 2").encode(),
    }
    put(hub, changed, "dataset", body | lineage_mismatches(hub, changed, files=files | swapped))
    found = shown(capsys, changed, hub).wrong
    assert found["ift, train"] == (1, 1, "is said to be data/IFT/valid.parquet, which is ift valid")
    assert found["ift, valid"] == (1, 1, "is said to be data/IFT/train.parquet, which is ift train")


def test_a_config_that_stands_for_another(store, hub, changed, capsys):
    files = json.loads(hub.files("dataset", changed)["lineage.json"])["files"]
    path = "data/eft/train-00000-of-00001.parquet"
    put(
        hub,
        changed,
        "dataset",
        lineage_mismatches(hub, changed, files=files | {path: files[path] | {"config": "ift_candidates"}}),
    )
    assert shown(capsys, changed, hub).wrong == {
        "ift_candidates, train": (1, 1, "is said to be data/EFT/train.parquet, which is eft train")
    }


def test_a_models_repository_that_was_renamed(store, hub, changed, capsys):
    files = hub.files("model", f"{changed}-M1")
    put(hub, f"{changed}-M2", "model", files)
    assert "files of M1" in shown(capsys, f"{changed}-M2", hub).rows
    put(
        hub,
        f"{changed}-M2",
        "model",
        {"lineage.json": json.dumps(json.loads(files["lineage.json"]) | {"model": "../M1"}).encode()},
    )
    with pytest.raises(HubError, match="does not say which model it is"):
        shown(capsys, f"{changed}-M2", hub)


@pytest.mark.parametrize("name", [".huggingface.yaml", "dataset_infos.json"])
def test_what_counts_more_than_the_card_is_not_read(store, hub, changed, capsys, name):
    put(hub, changed, "dataset", {name: b"{}"})
    with pytest.raises(HubError, match=f"^{name} there says in the card's place what is read"):
        shown(capsys, changed, hub)


@pytest.mark.parametrize(
    "pattern",
    [
        *("/etc/passwd", "../x.parquet", "data/../../x", "~/x", "file:/etc/passwd", "local:/etc/passwd", "file:x"),
        *("https://localhost/x.parquet", "hf://datasets/a/b/x.parquet", "zip://x::/etc/passwd", "C:/x", "a\\..\\x"),
    ],
)
@pytest.mark.parametrize("entry", ["path", "data_files", "list", "data_dir"])
def test_verify_opens_only_names_inside_the_snapshot(tmp_path, pattern, entry):
    shapes = {"path": [{"split": "train", "path": [pattern]}], "data_files": pattern, "list": ["a.csv", pattern]}
    config = {"config_name": "x", **({"data_dir": pattern} if entry == "data_dir" else {"data_files": shapes[entry]})}
    readme = tmp_path / card.NAME
    readme.write_text(
        f"---\n{yaml.safe_dump({'configs': [{'config_name': 'ift', 'data_files': 'data/*'}, config]})}---\n"
    )
    with pytest.raises(HubError, match=r"the card names data outside its repository.*nothing of it is read"):
        verifying.check_names_inside(tmp_path)


def test_a_card_that_reads_files_of_this_computer(store, hub, changed, capsys):
    text = hub.files("dataset", changed)["README.md"].decode()
    secret = Path("secret.parquet").resolve()
    secret.write_bytes(Path("data/IFT/valid.parquet").read_bytes())
    theirs = text.replace("data/ift/valid-00000-of-00001.parquet", f"file:{secret}", 1)
    put(hub, changed, "dataset", {"README.md": theirs.encode()})
    with pytest.raises(HubError, match="the card names data outside its repository"):
        shown(capsys, changed, hub)


def test_links_that_lead_out_of_the_snapshot(store, hub, repo, monkeypatch, tmp_path):
    """The Hub's client makes none; another Hub's storage, or another version, might."""
    download = HfApi.snapshot_download

    def linked(api: HfApi, name: str, **options: Any) -> str:
        path = download(api, name, **options)
        file = Path(options["local_dir"]) / "data/ift/valid-00000-of-00001.parquet"
        file.unlink()
        file.symlink_to(Path("data/IFT/valid.parquet").resolve())
        return path

    monkeypatch.setattr(HfApi, "snapshot_download", linked)
    with pytest.raises(HubError, match=r"valid-00000-of-00001.parquet of .* links to a place outside it: nothing was"):
        verify(repo, None, hub.url)


def test_a_revision_that_is_not_there(store, hub, repo):
    for kind in (repo, f"{repo}-M1"):
        with pytest.raises(HubError, match=rf"{kind} has no commit, tag or branch 'v9'\. See .*{kind}/commits"):
            verify(kind, "v9", hub.url)


def test_a_copy_that_is_another(store, hub, repo, capsys):
    Path("data/metrics/AIFT/M1.json").write_text("{}")
    with Path("params.yaml").open("a") as file:
        file.write("# more\n")
    assert shown(capsys, repo, hub).wrong == {COPIES: (2, 2, "metrics/AIFT/M1.json")}


def changes_of(theirs: pl.DataFrame) -> tuple[int, str]:
    ours = pl.DataFrame(ROWS[SCORES], schema=SCORES.schema)
    return verifying.compare("x", ours, theirs, SCORES)[2:]


def test_rows_are_compared_one_by_one():
    ours = pl.DataFrame(ROWS[SCORES], schema=SCORES.schema)
    assert changes_of(ours.select(reversed(ours.columns))) == (0, "")
    assert changes_of(ours.with_columns(score=pl.lit(1.5))) == (2, "candidate_id=c0"), "null is a value"
    assert changes_of(ours.reverse()) == (2, "candidate_id=c0"), "in their order"
    assert changes_of(ours.head(1)) == (3, "1 rows there")
    assert changes_of(ours.drop("fate")) == (3, "other columns: fate")
    assert changes_of(ours.with_columns(pl.col("parsed").cast(pl.Int64))) == (3, "other types: parsed Int64")


def test_a_table_is_known_by_where_it_lies():
    for table in TABLES:
        model = "M-1_b" if "{model}" in table.path else None
        assert verifying.table_at(table.path.format(model=model)) == (table, model)
    for path in ("data/AIFT/../pairs.parquet", "data/AIFT/M1/x/pairs.parquet", "data/IFT/train.parquet\n"):
        with pytest.raises(TableError, match="no table lies at"):
            verifying.table_at(path)


def test_people_add_files_to_datasets(store, hub, changed, capsys):
    put(hub, changed, "dataset", {"theirs/train.csv": b"a,b\n1,2\n", "config.json": b"{}"})
    assert shown(capsys, changed, hub).wrong == {}


def test_cards_and_lineages_that_are_no_utf_8(store, hub, changed, capsys):
    put(hub, changed, "dataset", {"README.md": b"---\nlicense: \xff\n---\n"})
    found = shown(capsys, changed, hub)
    assert list(found.wrong) == [*CONFIGS]
    assert {row[:2] for row in found.wrong.values()} == {(1, 1)}
    assert all(first.startswith("does not load: ") for *_, first in found.wrong.values())
    put(hub, f"{changed}-M1", "model", {"lineage.json": b"\xff"})
    with pytest.raises(HubError, match=r"has no lineage\.json of ours at this revision"):
        shown(capsys, f"{changed}-M1", hub)
