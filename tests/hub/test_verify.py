"""`srlm verify`: each row of what it shows, with a difference that this row alone tells, and with damage that must not
end it."""

from __future__ import annotations

import io
import itertools
import json
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Server
from huggingface_hub import HfApi
from ruamel.yaml import YAML
from small_store import METRICS, ROWS, Store, write_rows

from stages.commands import publish as publishing
from stages.commands import verify as verifying
from stages.commands.verify import verify
from stages.console.errors import HubError, ParamsError, TableError
from stages.store.files import md5
from stages.store.tables import IFT_TRAIN, PAIRS, Table

COUNT = itertools.count()
HERE = (
    "files and folders that stages made, by their md5 in dvc.lock",
    "what stages read, as it is now",
    "what models were made from, by their lineage.json",
)
MADE, READ, TRAINED = HERE
CHOSEN = "pairs@M1.chosen_id -> candidates.candidate_id"
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


@pytest.mark.slow
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
    def failing(path: Path, ignored: Any = None) -> str:
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


def test_a_model_that_was_made_from_a_folder_that_no_stage_makes(store, capsys):
    """As M0 of a local checkpoint, or the base of an adapter."""
    Path("own.txt").write_text("x")
    tell(Path(lineage_of("M2")), data={"own.txt": md5(Path("own.txt"))})
    adopt("data/models/M2")
    assert shown(capsys).wrong == {}
    Path("own.txt").write_text("y")
    assert shown(capsys).wrong == {TRAINED: (2, 1, "M2 was made from another own.txt")}


def test_a_reference_that_names_no_row(store, capsys):
    adopt(path := rewrite(PAIRS, rejected_id="c9"))
    tell(Path(lineage_of("M2")), data={path: md5(Path(path))})
    adopt("data/models/M2")
    found = shown(capsys)
    assert found.wrong == {
        "pairs@M1.rejected_id -> candidates.candidate_id, prompt_id, rejected, rejected_thought as there": (1, 1, "c9"),
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
        ('{"data": ["data/IFT/train.parquet"]}', "ValueError"),
        ('{"data": null}', "TypeError"),
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
        == "data/AIFT/M1/scores.parquet cannot be read as parquet: called `Option::unwrap()` on a `None` value. Delete it and run: srlm repro"
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


TRAIN, VALID = (f"data/ift/{split}-00000-of-00001.parquet" for split in ("train", "valid"))
IN_LINEAGE = [f"{part} in lineage.json" for part in ("commit", "stages", "files", "models", "packages")]
COMMIT, STAGES, FILES, MODELS, PACKAGES = IN_LINEAGE
STRANGE = "files that srlm did not publish"


def put(hub: Server, repo: str, kind: str, files: dict[str, bytes | None]) -> None:
    """A commit past the client, which does not let every card through; None deletes."""
    lines = [
        {"key": "deletedFile", "value": {"path": path}}
        if content is None
        else {"key": "file", "value": {"path": path, "content": b64encode(content).decode()}}
        for path, content in files.items()
    ]
    body = "\n".join(json.dumps(line) for line in [{"key": "header", "value": {"summary": "theirs"}}, *lines]).encode()
    url, headers = f"{hub.url}/api/{kind}s/{repo}/commit/main", {"Authorization": "Bearer hf_ann"}
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST")).close()


@contextmanager
def tampered(hub: Server, repo: str, kind: str, files: dict[str, bytes | None]) -> Iterator[None]:
    """Other files in a repository, for a while."""
    before = hub.files(kind, repo)
    put(hub, repo, kind, files)
    try:
        yield
    finally:
        put(hub, repo, kind, {path: before.get(path) for path in files})


@pytest.mark.slow
def test_what_was_published_is_what_is_here(store, hub, repo, capsys):
    rows = [f"files of {repo}", *IN_LINEAGE, "configs in the card", "dataset_info in the card", STRANGE]
    assert shown(capsys, repo, hub) == Shown(rows, {}, "")
    model = f"{repo}-M1"
    assert shown(capsys, model, hub) == Shown([f"files of {model}", *IN_LINEAGE, STRANGE], {}, "")
    for there in (repo, model):
        with pytest.raises(HubError, match=rf"{there} has no commit, tag or branch 'v9'\. See .*{there}/commits"):
            verify(there, "v9", hub.url)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_what_is_not_here_as_it_was_published(store, hub, repo, capsys, kind):
    repo = repo if kind == "dataset" else f"{repo}-M1"
    lock(lambda stages: stages["make"].update(cmd="cp -r other/data ."))
    found = shown(capsys, repo, hub)
    assert found.wrong == {STAGES: (1, 1, "make")}
    assert found.error.startswith("1 difference(s). Publish anew (srlm publish)")
    Path("data/metrics/AIFT/M1.json").write_text(json.dumps(METRICS | {"pairs": 2}))
    with pytest.raises(TableError, match=r"M1\.json is not the file that dvc\.lock records"):
        shown(capsys, repo, hub)
    adopt("data/metrics/AIFT/M1.json")
    Path("data/models/M1/config.json").write_text('{"a": 1}')
    path = "metrics/AIFT/M1.json" if kind == "dataset" else "config.json"
    assert shown(capsys, repo, hub).wrong[FILES][1:] == (1, path)
    rewrite(PAIRS, chosen="other")
    if kind == "dataset":
        with pytest.raises(HubError, match=r"pairs\.parquet is not what dvc\.lock says"):
            shown(capsys, repo, hub)
        adopt("data/AIFT/M1/pairs.parquet")
        first = "data/aift_m1/train-00000-of-00001.parquet: 1 other row(s), first row 1"
        assert shown(capsys, repo, hub).wrong[f"files of {repo}"] == (6, 2, first)


def test_a_shard_that_another_pyarrow_wrote_is_the_same(store, hub, repo, capsys, monkeypatch):
    write = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda *a, **o: write(*a, **o | {"compression": "gzip"}))
    assert shown(capsys, repo, hub).wrong == {}


def rows_as(change: Callable[[pa.Table], pa.Table]) -> Callable[[dict[str, bytes]], dict[str, bytes | None]]:
    def tamper(there: dict[str, bytes]) -> dict[str, bytes | None]:
        sink = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(there[TRAIN]))), sink)
        return {TRAIN: sink.getvalue()}

    return tamper


def in_lineage(**changes: Any) -> Callable[[dict[str, bytes]], dict[str, bytes | None]]:
    """A dict is merged with what is there, None deletes."""

    def tamper(there: dict[str, bytes]) -> dict[str, bytes | None]:
        graph = json.loads(there["lineage.json"])
        for key, change in changes.items():
            graph[key] = graph[key] | change if isinstance(change, dict) else change
            if isinstance(change, dict):
                graph[key] = {name: value for name, value in graph[key].items() if value is not None}
        return {"lineage.json": json.dumps(graph).encode()}

    return tamper


def in_card(old: str, new: str) -> Callable[[dict[str, bytes]], dict[str, bytes | None]]:
    return lambda there: {"README.md": there["README.md"].decode().replace(old, new, 1).encode()}


CARD = {"configs in the card"}
FOREIGN = "0" * 40
DATASET: list[tuple[Any, set[str], str]] = [
    (rows_as(lambda rows: rows.slice(0, 2)), {"files of"}, "2 rows there, 5 here"),
    (rows_as(lambda rows: rows.take([1, 0, 2, 3, 4])), {"files of"}, "2 other row(s), first row 1"),
    (rows_as(lambda rows: rows.drop_columns("source")), {"files of"}, "other columns or types"),
    (rows_as(lambda rows: rows.replace_schema_metadata({"huggingface": "{}"})), {"files of"}, "other columns"),
    (lambda there: {TRAIN: b"PAR1"}, {"files of"}, "cannot be read"),
    (lambda there: {TRAIN: None}, {"files of"}, "is not there"),
    (lambda there: {TRAIN: there[VALID], VALID: there[TRAIN]}, {"files of"}, "1 rows there"),
    (lambda there: {"params.yaml": b"seed: 2"}, {"files of"}, "is another"),
    (in_lineage(files={TRAIN: None}), {FILES}, TRAIN),
    (in_lineage(files={"../../x": {"sha256": "0"}}), {FILES}, "../../x"),
    (in_lineage(models={"../seed": {}}), {MODELS}, "../seed"),
    (in_lineage(packages={"data/AIFT/M1/candidates.parquet": {"vllm": "1"}}), {PACKAGES}, "candidates.parquet"),
    (in_lineage(code={"git": FOREIGN}), {COMMIT}, "is not in this clone: git fetch"),
    (in_lineage(code={"dvc_lock": "ab"}), {COMMIT}, "is another"),
    (in_card(VALID, "file:/etc/passwd"), CARD, "ift"),
    (in_card(VALID, "../x.parquet"), CARD, "ift"),
    (in_card("- config_name: ift\n", "- config_name: ift\n  data_dir: /etc\n"), CARD, "ift"),
    (in_card("num_examples: 5", "num_examples: 7"), {"dataset_info in the card"}, "ift"),
    (lambda there: {"README.md": b"---\nlicense: \xff\n---\n"}, {*CARD, "dataset_info in the card"}, "ift"),
    (lambda there: {"dataset_infos.json": b"{}"}, {STRANGE}, "dataset_infos.json"),
    (lambda there: {".huggingface.yaml": b"{}"}, {STRANGE}, ".huggingface.yaml"),
    (lambda there: {"theirs/train.csv": b"a,b\n1,2\n", "config.json": b"{}"}, set(), ""),
    (in_card("- config_name: ift\n", "- config_name: ift\n  default: true\n"), set(), ""),
    (in_card("configs:\n", "configs:\n- config_name: x\n  data_files: file:/etc/passwd\n"), set(), ""),
]
MODEL: list[tuple[Any, set[str], str]] = [
    (lambda there: {"tokenizer.json": b'{"a": 1}'}, {"files of"}, "tokenizer.json: is another"),
    (in_lineage(files={"model.safetensors": None}), {FILES}, "model.safetensors"),
    *((lambda there, path=path: {path: b"x"}, {STRANGE}, path) for path in ("vocab.txt", "x/LICENSE.d/modeling_x.py")),
    (lambda there: dict.fromkeys(("LICENSE", "docs/USE.md", "loss.png", "Photo.JPG", "thanks.txt"), b"x"), set(), ""),
]


@pytest.mark.parametrize(
    ("kind", "change", "rows", "first"), [("dataset", *case) for case in DATASET] + [("model", *case) for case in MODEL]
)
def test_what_somebody_changed_on_the_hub(store, hub, repo, capsys, kind, change, rows, first):
    """Each difference is seen, and hostile names, cards and files do no harm."""
    repo = repo if kind == "dataset" else f"{repo}-M1"
    there = hub.files(kind, repo)
    files = change(there)
    assert any(content != there.get(path) for path, content in files.items())
    with tampered(hub, repo, kind, files):
        found = shown(capsys, repo, hub)
    assert {what.partition(f" {repo}")[0] for what in found.wrong} == rows
    assert first in (next(iter(found.wrong.values()))[2] if rows else "")


def test_what_is_not_a_publication_of_ours(store, hub, repo):
    model = f"{repo}-M2"
    graph = json.loads(hub.files("model", model)["lineage.json"])
    for text, message in (
        (b"\xff", r"has no lineage\.json of ours at this revision"),
        (json.dumps(graph | {"format": "self-rewarding-lm lineage 99"}).encode(), r"has no lineage\.json of ours"),
        (json.dumps(graph | {"model": "../M1"}).encode(), r"holds model '\.\./M1', and this store has none"),
    ):
        with tampered(hub, model, "model", {"lineage.json": text}), pytest.raises(HubError, match=message):
            verify(model, None, hub.url)


def test_links_that_lead_out_of_the_snapshot(store, hub, repo, monkeypatch):
    """The Hub's client makes none; another Hub's storage, or another version, might."""
    download = HfApi.snapshot_download

    def linked(api: HfApi, name: str, **options: Any) -> str:
        path = download(api, name, **options)
        file = Path(options["local_dir"]) / VALID
        file.unlink()
        file.symlink_to(Path("data/IFT/valid.parquet").resolve())
        return path

    monkeypatch.setattr(HfApi, "snapshot_download", linked)
    with pytest.raises(HubError, match=r"valid-00000-of-00001.parquet of .* links to a place outside it: nothing was"):
        verify(repo, None, hub.url)
