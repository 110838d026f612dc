"""Reviews are added, never lost: whole before and after, by several processes at once."""

import subprocess
import sys

import pytest

from stages.console.errors import TableError
from stages.store import reviews

PAIR = {"prompt_id": "p", "chosen_id": "c", "rejected_id": "r"}


def test_a_row_is_added_to_those_that_are_there(tmp_path):
    assert reviews.read(tmp_path, "M1").is_empty()
    first = reviews.append(tmp_path, "M1", **PAIR, decision="agree", who="ann")
    second = reviews.append(tmp_path, "M1", **PAIR, decision="drop", who="ann")
    rows = reviews.read(tmp_path, "M1")
    assert rows.select("decision", "who", "reviewed_at").rows() == [("agree", "ann", first), ("drop", "ann", second)]
    assert first < second
    assert reviews.read(tmp_path, "M2").is_empty()
    assert [file.name for file in (tmp_path / "data/REVIEW").iterdir()] == ["M1.parquet"], (
        "nothing beside it: DVC hashes the folder"
    )


@pytest.mark.parametrize("change", [{"decision": "perhaps"}, {"who": ""}, {"rejected_id": "c"}])
def test_what_breaks_the_contract_leaves_the_rows_as_they_were(tmp_path, change):
    reviews.append(tmp_path, "M1", **PAIR, decision="agree", who="ann")
    before = (tmp_path / "data/REVIEW/M1.parquet").read_bytes()
    with pytest.raises(TableError, match="breaks its contract"):
        reviews.append(tmp_path, "M1", **{**PAIR, "decision": "agree", "who": "ann", **change})
    assert (tmp_path / "data/REVIEW/M1.parquet").read_bytes() == before


@pytest.mark.slow
def test_two_processes_lose_none_of_each_others(tmp_path):
    code = (
        "import sys; from pathlib import Path; from stages.store import reviews\n"
        "for i in range(20): reviews.append(Path(sys.argv[1]), 'M1', prompt_id=f'p{i}', chosen_id='c', "
        "rejected_id='r', decision='agree', who=sys.argv[2])"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in ("ann", "bob")]
    assert [process.wait(60) for process in both] == [0, 0]
    rows = reviews.read(tmp_path, "M1")
    assert rows.group_by("who").len().sort("who").rows() == [("ann", 20), ("bob", 20)]
