"""`srlm export`: the fields of each tool, and what is refused. Whether the tools take them: tests/trainers."""

import json

import pytest

from stages.commands import export
from stages.console.errors import QueryError, SrlmError, TableError
from stages.method import seeds
from stages.method.formats import recognize
from stages.store import catalog
from stages.store.rows import read_file
from stages.store.tables import PAIRS
from stages.text.special_tokens import MARKERS
from stages.train_dpo import as_written
from tests import aift

PAIR_FORMS = ("trl", "llama-factory", "axolotl", "openrlhf")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "out").mkdir()
    return aift.build(tmp_path)


def exported(root, name, form, file="rows.jsonl", **how):
    out = root / "out" / file
    export.export(name, form, out, root=root, **how)
    return [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]


def said(form, row):
    """Prompt, chosen and rejected of a row."""
    match form:
        case "trl":
            return row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]
        case "llama-factory":
            return row["instruction"], row["chosen"], row["rejected"]
        case "axolotl":
            return row["messages"][0]["content"], row["chosen"]["content"], row["rejected"]["content"]
        case "openrlhf":
            assert row["chosen"][0] == row["rejected"][0]
            return row["chosen"][0]["content"], row["chosen"][1]["content"], row["rejected"][1]["content"]


@pytest.mark.parametrize("form", PAIR_FORMS)
def test_pairs_are_those_that_are_trained_here_without_control_tokens(root, form):
    rows = [said(form, row) for row in exported(root, "aift_m1", form)]
    ours = as_written(catalog.read(PAIRS, root, "M1")).select("prompt", "chosen", "rejected").rows()
    assert rows[0] == ours[0]
    assert rows[0][1] == aift.THOUGHT + "apple\npear", "behind its thought"
    assert rows[1][:2] == ours[1][:2] == (aift.EVIL, "no"), "the reversed pair is turned"
    assert MARKERS.search(ours[1][2])
    assert not MARKERS.search(rows[1][2])
    assert rows[1][2].replace("< ", "<") == ours[1][2], "nothing else is changed"


def test_fields_are_those_of_each_tool_and_no_others(root):
    keys = {form: {*exported(root, "aift_m1", form)[0]} for form in PAIR_FORMS}
    assert keys == {
        "trl": {"prompt", "chosen", "rejected"},
        "llama-factory": {"instruction", "chosen", "rejected"},
        "axolotl": {"messages", "chosen", "rejected"},
        "openrlhf": {"chosen", "rejected"},
    }
    assert {form: exported(root, "ift", form) for form in PAIR_FORMS[:1] + PAIR_FORMS[2:]} == {
        "trl": [{"prompt": [export.user("Say 1")], "completion": [export.assistant("1")]}],
        "axolotl": [{"messages": [export.user("Say 1"), export.assistant("1")]}],
        "openrlhf": [{"input": "Say 1", "output": "1"}],
    }


@pytest.mark.parametrize("form", [*PAIR_FORMS, "ultrafeedback"])
def test_a_row_is_a_line_for_any_reader(root, form):
    n = len(exported(root, "aift_m1", form))
    assert n == 2
    text = (root / "out/rows.jsonl").read_text()
    assert len(text.splitlines()) == n, "of Python's readers the strictest: also at U+2028 and U+0085"
    assert not {*text} & {*"\x1b\x7f\x85\u2028"}


def test_ultrafeedback_has_every_answer_with_its_score_and_judgements(root):
    rows = exported(root, "aift_m1", "ultrafeedback")
    assert [row["instruction"] for row in rows] == ["Name two fruits", aift.EVIL], "the dropped prompt is not there"
    first = rows[0]
    assert first["models"] == ["M1"] * 3
    told = [(c["response"], c["overall_score"], c["fate"], c["thought"]) for c in first["completions"]]
    assert told == [row[2:3] + row[4:6] + row[3:4] for row in aift.SCORED[:3]], "texts as they are in the table"
    assert first["completions"][0]["judgements"] == [{"judge": "M1", "k": 0, "score": 4.0, "text": "Score: 4.0"}]


def test_llama_factory_finds_it_by_name(root):
    (root / "out/dataset_info.json").write_text('{"theirs": {"file_name": "theirs.json"}}')
    exported(root, "AIFT_M1", "llama-factory")
    exported(root, "eft", "llama-factory", "eft.jsonl")
    info = json.loads((root / "out/dataset_info.json").read_text())
    assert {*info} == {"theirs", "aift_m1", "eft"}
    assert (info["aift_m1"]["file_name"], info["aift_m1"]["ranking"]) == ("rows.jsonl", True)
    exported(root, "aift_m1", "llama-factory")
    with pytest.raises(SrlmError, match="has another dataset eft"):
        exported(root, "eft", "llama-factory", "other.jsonl")
    assert not (root / "out/other.jsonl").exists()
    (root / "out/dataset_info.json").write_text("[]")
    with pytest.raises(SrlmError, match="is no object of datasets"):
        exported(root, "eft", "llama-factory", "other.jsonl")


@pytest.mark.parametrize(
    ("name", "form", "file", "error", "why"),
    [
        ("aift_m2", "trl", "a.jsonl", QueryError, "no dataset aift_m2; did you mean aift_m1?"),
        ("ift", "ultrafeedback", "a.jsonl", QueryError, "ift has no scored answers: ultrafeedback is for an AIFT"),
        ("aift_m1_judge_pairs", "trl", "a.jsonl", QueryError, "has no rows, so .* was not written"),
        ("ift", "trl", "a.json", SrlmError, "expected a.jsonl, seen a.json$"),
        ("ift", "openrlhf", "a@b.jsonl", SrlmError, "OpenRLHF takes , and @"),
        ("ift", "trl", "no/a.jsonl", SrlmError, "no such folder"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(root, name, form, file, error, why):
    with pytest.raises(error, match=why):
        exported(root, name, form, file)
    assert not list((root / "out").iterdir())


def test_a_table_that_is_not_what_its_stage_wrote_is_not_exported(root):
    lock = "schema: '2.0'\nstages:\n  a:\n    cmd: a\n    outs:\n    - path: data/EFT/train.parquet\n      md5: 0\n"
    (root / "dvc.lock").write_text(lock)
    with pytest.raises(TableError, match=r"is not the file that dvc\.lock records"):
        exported(root, "eft", "trl")
    assert not list((root / "out").iterdir())


def test_models_that_differ_in_capitals_alone_are_named_as_they_are(root):
    aift.build(root, "m1")
    with pytest.raises(QueryError, match="AIFT_M1 is aift_M1 or aift_m1"):
        exported(root, "AIFT_M1", "trl")
    assert len(exported(root, "aift_M1", "trl")) == 2


def test_our_own_seed_data_can_be_what_was_exported(root):
    """UltraFeedback's is a format of docs/data.md: an AIFT of one project is seed data of another."""
    exported(root, "aift_m1", "ultrafeedback")
    rows = read_file(root / "out/rows.jsonl")
    reading = recognize(rows, "rows.jsonl")
    frame, _ = seeds.answered_prompts(reading.messages(rows), lang=None, source="rows", ranked=reading.ranked)
    ranks = {
        (prompt, response): rank
        for prompt, response, rank in frame.select("prompt", "response", "human_rank").iter_rows()
    }
    assert ranks["Name two fruits", "apple\npear"] == 0
    assert ranks["Name two fruits", aift.EVIL.strip()] == 1
