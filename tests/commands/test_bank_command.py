"""srlm bank: drawn once, judged by any model, shown by results and SQL."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from stages.commands.bank import measure
from stages.commands.report import warnings
from stages.commands.results import collect, show
from stages.config.load import load_params
from stages.console.errors import ModelError, ParamsError, SrlmError, TableError
from stages.store import catalog, metrics
from stages.store.database import connect
from stages.store.tables import ANSWERS, BANK, BANK_SCORES, RANKED_VALID, TEST_PROMPTS
from tests.workspace import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    params = (ROOT / "stages/config/profiles/scripted.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params)
    template = load_params(tmp_path).judge.template
    (tmp_path / template).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "stages/templates").mkdir(exist_ok=True)
    for file in (template, "stages/templates/constant_answer.txt"):
        shutil.copy(ROOT / file, tmp_path / file)
    prompts = [(f"p{i}", f"Say {i}.", "people", str(i)) for i in range(25)]
    ranked = [(f"r{i}{k}", f"q{i}", f"Ask {i}.", f"answer {k}", k, "s", str(i)) for i in range(8) for k in range(3)]
    catalog.write(TEST_PROMPTS, pl.DataFrame(prompts, TEST_PROMPTS.schema, orient="row"), tmp_path)
    catalog.write(RANKED_VALID, pl.DataFrame(ranked, RANKED_VALID.schema, orient="row"), tmp_path)
    for place, model in enumerate(load_params(tmp_path).evaluated):
        answers = [
            (f"p{i}", model, how, f"{model} {i} {how}", "stop", 2, float((i + place + k) % 6), [], None)
            for i in range(25)
            for k, how in enumerate(("greedy", "sampled"))
        ]
        catalog.write(ANSWERS, pl.DataFrame(answers, ANSWERS.schema, orient="row"), tmp_path, model)
        (tmp_path / f"data/models/{model}").mkdir(parents=True)
        (tmp_path / f"data/models/{model}/config.json").write_text("{}")
    return tmp_path


def test_the_bank_is_drawn_once_and_judged_by_all(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure([], candidates=60, root=project)
    bank = catalog.read(BANK, project)
    evaluated = load_params(project).evaluated
    assert len(bank.filter(source="ranked")) == 24
    assert 60 <= len(bank.filter(source="candidates")) < 60 + 2 * len(evaluated)
    for model in evaluated:
        scores = catalog.read(BANK_SCORES, project, model)
        assert scores["candidate_id"].to_list() == bank["candidate_id"].to_list()
    assert 0 <= metrics.read_all(project)["bank", "M1"]["constant"]["value"] <= 1
    before = (project / "data/EVAL/bank.parquet").read_bytes()
    measure(["M1"], candidates=10, root=project)
    assert (project / "data/EVAL/bank.parquet").read_bytes() == before
    assert "Judges on the frozen bank" in capsys.readouterr().out
    with connect(project) as store:
        assert store.rows("SELECT count(*) AS n FROM bank")[0]["n"] == len(bank)
        assert store.notes("SELECT * FROM bank") == []
    sheets = collect(project, load_params(project))
    assert {(row[0], row[1]) for row in sheets["bank"].rows} == {
        (m, s) for m in evaluated for s in ("ranked", "candidates")
    }
    assert sheets["bank_authors"].columns[:2] == ["answers of", "checker"]
    assert {row[0] for row in sheets["bank_authors"].rows} == {*evaluated}
    assert {name for kind, name in metrics.read_all(project) if kind == "bank"} == {*evaluated}


def test_json_is_all_of_standard_output_and_the_figures_that_are_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(["M1", "M2"], candidates=60, as_json=True, root=project)
    shown = json.loads(capsys.readouterr().out)
    assert shown == {name: metrics.read_all(project)["bank", name] for name in ("M1", "M2")}
    assert {"ranked", "candidates", "constant", "authors", "warned"} <= shown["M1"].keys()


def test_the_bank_of_another_run_is_taken(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    measure(["M1"], candidates=20, root=project)
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(project, other)
    measure(["M1"], candidates=50, draw_anew=True, root=other)
    drawn = catalog.read(BANK, other)
    assert len(drawn) > len(catalog.read(BANK, project))
    measure(["M1"], take=project / "data/EVAL/bank.parquet", root=other)
    assert catalog.read(BANK, other).equals(catalog.read(BANK, project))


def test_judges_of_a_bank_that_is_gone_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(["M1", "M2"], candidates=20, root=project)
    show(project)
    assert "another bank" not in capsys.readouterr().err
    measure(["M1"], candidates=50, draw_anew=True, root=project)
    assert "M2 judged another bank" in (again := " ".join(capsys.readouterr().err.split())), again
    show(project)
    assert "M2 judged another bank than data/EVAL/bank.parquet is now" in " ".join(capsys.readouterr().err.split())
    assert any("Run: srlm bank M2" in warning for warning in warnings(project))


def test_bad_input_is_one_sentence_and_leaves_nothing(project: Path) -> None:
    with pytest.raises(ModelError, match="no model 'M33'; did you mean M3"):
        measure(["M33"], root=project)
    with pytest.raises(ModelError, match="M0 holds no model"):
        measure(["M1", "M0"], root=project)
    with pytest.raises(ParamsError, match="no engine 'vlm'"):
        measure(["M1"], engine="vlm", root=project)
    (project / "no.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match=r"no\.parquet cannot be read as a bank"):
        measure(["M1"], take=project / "no.parquet", root=project)
    with pytest.raises(TableError, match="missing columns"):
        measure(["M1"], take=project / "data/TEST/prompts.parquet", root=project)
    assert not (project / "data/EVAL/bank.parquet").exists()
    catalog.write(RANKED_VALID, catalog.read(RANKED_VALID, project).clear(), project)
    with pytest.raises(SrlmError, match="nothing to draw a bank from"):
        measure(["M1"], candidates=0, root=project)


@pytest.mark.parametrize("edit", ['{"authors": 3}', '{"authors": {}, "ranked": {"judge": {}}}', "{"])
def test_an_edited_file_of_figures_is_named(project: Path, edit: str) -> None:
    metrics.write(project, "bank", "M1", {})
    (project / "data/metrics/bank/M1.json").write_text(edit)
    with pytest.raises(TableError, match=r"bank/M1\.json"):
        collect(project, load_params(project))
