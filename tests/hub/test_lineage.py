"""Lineage: back from what is published to all that made it, and no further."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.console.errors import HubError
from stages.hub import lineage, prov


def entry(*deps, outs=(), **more):
    listed = {"deps": [{"path": path, "hash": "md5", "md5": f"md5 of {path}", "size": 1} for path in deps]}
    return {
        "cmd": "python -m x",
        **listed,
        "outs": [{"path": path, "hash": "md5", "md5": f"md5 of {path}", "size": 1} for path in outs],
        **more,
    }


LOCK = {
    "schema": "2.0",
    "stages": {
        "split": entry(
            "seed.json", "stages/split.py", outs=["data/ift", "data/eft"], params={"params.yaml": {"seed": 1}}
        ),
        "base": entry("stages/base.py", outs=["data/models/M0"]),
        "sft": entry("data/ift", "data/models/M0/config.json", outs=["data/models/M1"]),
        "evaluate": entry("data/models/M1", outs=["data/metrics/M1.json"]),
        "report": entry("data/metrics", outs=["report.html"]),
        "other": entry("data/eft", outs=["data/other"]),
    },
}
STAGES = lineage.stages(LOCK)
CODE = {"git": "1", "dvc_lock": "2"}


def test_a_stage_is_its_command_parameters_and_hashes():
    assert STAGES["split"] == {
        "cmd": "python -m x",
        "params": {"params.yaml": {"seed": 1}},
        "deps": {"seed.json": "md5 of seed.json", "stages/split.py": "md5 of stages/split.py"},
        "outs": {"data/ift": "md5 of data/ift", "data/eft": "md5 of data/eft"},
    }
    assert list(STAGES) == list(LOCK["stages"])
    assert lineage.stages({"stages": {"bare": {"cmd": "true"}}}) == {
        "bare": {"cmd": "true", "params": {}, "deps": {}, "outs": {}}
    }
    assert lineage.stages({"schema": "2.0"}) == {}


@pytest.mark.parametrize("kind", ["deps", "outs"])
def test_a_stage_that_never_ended_is_named(kind):
    lock = {"stages": {"split": {"cmd": "x", kind: [{"path": "data/ift"}]}}}
    with pytest.raises(HubError, match=r"stage split has no 'md5'. Run: srlm repro"):
        lineage.stages(lock)


@pytest.mark.parametrize(
    ("wanted", "made_by"),
    [
        (["data/models/M0"], ["base"]),
        (["data/models/M1"], ["split", "base", "sft"]),  # it read one file of the folder that base makes
        (
            ["report.html"],
            ["split", "base", "sft", "evaluate", "report"],
        ),  # it read a folder in which evaluate makes a file
        (["data/other", "data/models/M0"], ["split", "base", "other"]),
        (["data/eft"], ["split"]),
        ([], []),
    ],
)
def test_what_made_it_is_found_in_the_order_of_the_lock(wanted, made_by):
    assert list(lineage.ancestors(STAGES, wanted)) == made_by
    assert lineage.ancestors(STAGES, wanted) == {name: STAGES[name] for name in made_by}


def test_a_name_that_only_begins_alike_is_another_folder():
    known = lineage.stages(
        {"stages": {"a": entry(outs=["data/M1"]), "b": entry(outs=["data/M10"]), "c": entry("data/M1", outs=["c"])}}
    )
    assert list(lineage.ancestors(known, ["c"])) == ["a", "c"]


@pytest.mark.parametrize("wanted", ["data/models/M9", "seed.json", "data/models/M0/config.json"])
def test_what_no_stage_makes_is_an_error(wanted):
    with pytest.raises(HubError, match=f"no stage that makes {wanted}. Run: srlm repro"):
        lineage.ancestors(STAGES, ["data/models/M0", wanted])


def makers(path, known):
    """Stage si makes the folder fi and, in a folder of all, the file g/i."""
    return (
        set(known)
        if path == "g"
        else {f"s{path.removeprefix('g/').lstrip('f').split('/')[0]}"}
        if path != "seed.json"
        else set()
    )


@given(st.data())
def test_nothing_that_made_it_is_left_out_and_nothing_else_is_in(data):
    n = data.draw(st.integers(1, 6))
    readable = ["seed.json", "g", *(path for i in range(n) for path in (f"f{i}", f"f{i}/x", f"g/{i}"))]
    reads = st.lists(st.sampled_from(readable), max_size=2, unique=True)
    known = lineage.stages({"stages": {f"s{i}": entry(*data.draw(reads), outs=[f"f{i}", f"g/{i}"]) for i in range(n)}})
    wanted = data.draw(
        st.lists(st.sampled_from([out for stage in known.values() for out in stage["outs"]]), min_size=1)
    )
    needed = set().union(*(makers(path, known) for path in wanted))
    for _ in known:
        needed |= {maker for name in needed for dep in known[name]["deps"] for maker in makers(dep, known)}
    assert list(lineage.ancestors(known, wanted)) == [name for name in known if name in needed]


def document(**changes):
    files = {"data/ift/train.parquet": {"sha256": "ab", "table": "data/ift"}}
    parts = {
        "made_by": STAGES,
        "files": files,
        "models": {"M1": {"parent": "M0", "data": {}, "text": "é\u2028 </script>"}},
        "packages": {},
        "code": CODE,
    }
    return lineage.document(**(parts | changes))


def test_a_document_is_read_back():
    assert lineage.parse(lineage.dump(document())) == document()
    assert (document()["stages"], document()["code"]) == (STAGES, CODE)


def test_equal_lineages_are_equal_bytes():
    backwards = {name: dict(reversed(stage.items())) for name, stage in reversed(STAGES.items())}
    assert lineage.dump(document(made_by=backwards)) == lineage.dump(document())
    assert lineage.dump(document(code=CODE | {"git": "2"})) != lineage.dump(document())
    assert lineage.dump(document()).endswith("}\n")


def test_what_is_not_ours_is_nothing():
    ours = document()
    assert lineage.parse(None) is lineage.parse("") is None
    for junk in (
        [],
        "text",
        1,
        None,
        {},
        ours | {"format": "another"},
        ours | {"format": [1]},
        ours | {"files": []},
        ours | {"kept": 1},
        {"files": {}},
    ):
        assert lineage.parse(json.dumps(junk)) is None
    for junk in ("{", lineage.dump(ours)[:-3], "<html>", "\x00"):
        assert lineage.parse(junk) is None


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "data/../../x"])
def test_files_lie_in_the_repository(path):
    """What was downloaded must not make us read anything else."""
    whole = lineage.document({}, {"data/x.parquet": {"sha256": "0"}}, {}, {}, CODE)
    assert lineage.parse(lineage.dump(whole)) == whole
    for part in ("files", "kept"):
        assert lineage.parse(lineage.dump(whole | {part: {path: {"sha256": "0"}}})) is None


@pytest.mark.parametrize("broken", [{"stages": None}, {"files": {"a.parquet": "ab"}}])
def test_a_document_of_ours_that_somebody_broke_is_not_taken_for_whole(broken):
    assert lineage.parse(json.dumps(document() | broken)) is None


def test_another_commit_alone_is_the_same_data():
    published = lineage.parse(lineage.dump(document()))
    assert lineage.same_but_for_code(published, document(code={"git": "2", "dvc_lock": "3"}))
    assert not lineage.same_but_for_code(None, document())
    assert not lineage.same_but_for_code({}, document())
    for changed in ({"files": {}}, {"models": {}}, {"made_by": {}}, {"packages": {"data/x": {"vllm": "1"}}}):
        assert not lineage.same_but_for_code(published, document(**changed))
    assert not lineage.same_but_for_code(published, document() | {"card": {"license": "mit"}})


def test_two_paths_are_two_entities():
    """Whatever letters they are written with."""
    same = dict.fromkeys(("data/x", "data.x", "data%2Fx"), "ab")
    graph = json.loads(
        prov.document(lineage.document({"make": {"cmd": "x", "params": {}, "deps": {}, "outs": same}}, {}, {}, {}, {}))
    )
    assert {entity["prov:label"] for entity in graph["entity"].values()} == set(same)
