"""A file is whole or absent, whatever happens while it is written; hashes are those that DVC computes."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.console.errors import SrlmError
from stages.store.files import append_line, atomic_write, md5, read_lines, result_file, write_json


def test_a_failure_leaves_the_old_file_and_no_new_one(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic_write(tmp_path / "M1") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [f.name for f in (tmp_path / "M1").iterdir()] == ["new"]


def test_a_full_disk_is_a_sentence(tmp_path):
    with (
        pytest.raises(SrlmError, match=r"no space left while writing .*a\.json .*Nothing was half-written"),
        atomic_write(tmp_path / "a.json") as partial,
    ):
        partial.write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount a small file system")
def test_a_really_full_disk_is_a_sentence(tmp_path):
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount here")
    try:
        with pytest.raises(SrlmError, match="no space left"):
            write_json(tmp_path / "a.json", "x" * 200_000)
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, r"No permission to write .*a\.json \(.*\)\. Check owner and mode of .*"),
        (errno.EPERM, r"No permission to write .*a\.json "),
        (errno.EROFS, r"No permission to write .*a\.json \(Read-only file system\)"),
    ],
)
def test_each_refusal_is_a_sentence_of_its_own(tmp_path, number, text):
    with pytest.raises(SrlmError, match=text), atomic_write(tmp_path / "a.json"):
        raise OSError(number, os.strerror(number))


def test_a_folder_in_the_place_of_a_file_is_a_sentence(tmp_path):
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(SrlmError, match=r"out\.csv is a folder\. Name a file$"), atomic_write(tmp_path / "out.csv"):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")


def test_a_file_in_the_place_of_a_folder_is_a_sentence(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(SrlmError, match=r"cannot write .*folder/a\.json: .*folder is a file, not a folder$"):
        write_json(tmp_path / "folder/a.json", {})


def test_a_result_makes_no_folder(tmp_path):
    with pytest.raises(SrlmError, match=r"no such folder: .*new\. Create it"):
        result_file(tmp_path / "new/out.csv", tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_told_by_a_rust_library_is_a_sentence(tmp_path):
    """polars and safetensors raise types of their own that hold the number in their text."""
    with pytest.raises(SrlmError, match="no space left"), atomic_write(tmp_path / "model"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    "name", [".", "", "data/AIFT/M1", "/dev/null", "data/AIFT/M1/pairs.parquet", "data/new.csv", ".dvc/config"]
)
def test_a_result_replaces_no_folder_device_or_part_of_the_store(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/AIFT/M1"
    folder.mkdir(parents=True)
    (folder / "pairs.parquet").write_text("precious")
    with pytest.raises(SrlmError, match="Name a file"):
        result_file(Path(name), Path())


def test_a_result_may_replace_a_file(tmp_path):
    (tmp_path / "out.csv").write_text("old")
    assert result_file(tmp_path / "out.csv", tmp_path) == tmp_path / "out.csv"


@pytest.mark.slow
def test_hashes_are_dvcs(tmp_path):
    (tmp_path / "M/sub").mkdir(parents=True)
    (tmp_path / "M/b.txt").write_text("b")
    (tmp_path / "M/ä.txt").write_text("a\r\n")
    (tmp_path / "M/sub/c").write_bytes(bytes(range(256)))
    (tmp_path / "one.txt").write_text("one")
    for command in (["init", "-q", "--no-scm"], ["add", "-q", "M", "one.txt"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    for name in ("M", "one.txt"):
        assert f"md5: {md5(tmp_path / name)}\n" in (tmp_path / f"{name}.dvc").read_text()


def test_log_lines_are_appended_whole(tmp_path, capsys):
    log = tmp_path / "logs/runs.jsonl"
    for i in range(3):
        append_line(log, {"i": i})
    assert [json.loads(line)["i"] for line in log.read_text().splitlines()] == [0, 1, 2]
    log.write_bytes(log.read_bytes() + b'{"i": "cut off \xc3')  # by a full disk
    append_line(log, {"i": 4})
    append_line(log, {"i": 5})
    assert [entry["i"] for entry in read_lines(log)] == [0, 1, 2, 4, 5]
    assert "1 damaged line" in capsys.readouterr().err


def test_an_error_in_words_stays_as_it_is(tmp_path):
    """A checkpoint that had no room, within the writing of a model."""
    error = SrlmError("no room in data/cache: No space left on device (os error 28)")
    with pytest.raises(SrlmError) as e, atomic_write(tmp_path / "M2"):
        raise error
    assert e.value is error
