"""srlm head-to-head: any models by any judge; what it leaves behind, what SQL, results and report show of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from stages.commands import report
from stages.commands.head_to_head import play
from stages.commands.judges import engine_of
from stages.commands.results import collect
from stages.config.load import load_params
from stages.console.errors import EngineError, ModelError, ParamsError, SrlmError, TableError
from stages.store import catalog, metrics
from stages.store.database import connect
from stages.store.files import read_json
from stages.store.questions import questions
from stages.store.tables import ANSWERS, TEST_PROMPTS, TOURNAMENT
from tests.workspace import ROOT

N = 30


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The scripted profile with answers of SFT, M1 and M2, and models that nobody reads."""
    for name in ("compare.jinja", "constant_answer.txt"):
        file = tmp_path / "stages/templates" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "stages/templates" / name, file)
    params = (ROOT / "stages/config/profiles/scripted.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params)
    prompts = pl.DataFrame(
        [(f"p{i}", f"Say {i}.", "people", str(i)) for i in range(N)], schema=TEST_PROMPTS.schema, orient="row"
    )
    catalog.write(TEST_PROMPTS, prompts, tmp_path)
    for place, model in enumerate(("SFT", "M1", "M2")):
        answers = [
            (f"p{i}", model, how, f"{model} {i}", "stop", 2, float((i + place) % 5), [], None)
            for i in range(N)
            for how in ("greedy", "sampled")
        ]
        catalog.write(ANSWERS, pl.DataFrame(answers, schema=ANSWERS.schema, orient="row"), tmp_path, model)
    for model in ("M0", "M3"):
        (tmp_path / f"data/models/{model}").mkdir(parents=True)
        (tmp_path / f"data/models/{model}/config.json").write_text("{}")
    return tmp_path


def test_a_model_judges_every_match_and_the_constant_answer(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play(["SFT", "M1", "M2"], judge="M0", root=project)
    rows = catalog.read(TOURNAMENT, project, "M0")
    matches = {("M2", "M1"), ("M2", "SFT"), ("M1", "SFT"), ("constant", "SFT"), ("constant", "M1"), ("constant", "M2")}
    assert {*rows.select("model", "other").iter_rows()} == matches
    assert rows.group_by("model", "other").len()["len"].to_list() == [N] * 6
    assert set(rows["decoding"]) == {"greedy"}
    assert set(rows["judge"]) == {"M0"}
    content = read_json(project / "data/metrics/tournament/M0.json")
    assert content["greedy"]["elo"].keys() == {"SFT", "M1", "M2"} == content["greedy"]["constant"].keys()
    assert (project / "data/metrics/tournament/dvc.yaml").read_text() == "metrics:\n- M0.json\n"
    captured = capsys.readouterr()
    assert "Every model against every other" in captured.out
    assert "6 matches of 30 answers" in captured.err
    assert ("gameable" in captured.err) == bool(content["warned"])


def test_what_was_compared_before_costs_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(["M1", "M2"], judge="M0", root=project)
    before = (project / "data/EVAL/tournament/M0.parquet").read_bytes()
    monkeypatch.setattr("stages.engines.backends.scripted.ScriptedEngine.batches", lambda *_: pytest.fail("asked"))
    play(["M1", "M2"], judge="M0", root=project)
    assert (project / "data/EVAL/tournament/M0.parquet").read_bytes() == before


def test_json_is_all_of_standard_output_and_the_figures_that_are_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(["SFT", "M1", "M2"], judge="M0", as_json=True, root=project)
    shown = json.loads(capsys.readouterr().out)
    assert shown == metrics.read_all(project)["tournament", "M0"]
    assert set(shown) == {"judge", "greedy", "warned"}
    assert set(shown["greedy"]) >= {"elo", "share", "points", "constant", "comparisons", "unreadable"}


def test_the_oracle_needs_no_engine_and_no_canary(project: Path) -> None:
    play(["M1", "M2"], judge="oracle", sampled=True, root=project)
    rows = catalog.read(TOURNAMENT, project, "oracle")
    assert set(rows["decoding"]) == {"greedy", "sampled"}
    assert set(rows["model"]) == {"M2"}
    greedy = metrics.read_all(project)["tournament", "oracle"]["greedy"]
    assert greedy["points"]["M2"]["M1"]["value"] == pytest.approx(0.8)  # 4 of 5 scores are one higher


def test_a_model_that_is_not_evaluated_answers_now(project: Path) -> None:
    play(["M1", "M3"], judge="M0", canary=False, root=project)
    rows = catalog.read(TOURNAMENT, project, "M0")
    assert {*rows.select("model", "other").iter_rows()} == {("M3", "M1")}
    assert not (project / "data/EVAL/M3").exists()


def test_results_report_and_sql_show_it(project: Path) -> None:
    play(["SFT", "M1", "M2"], judge="M0", root=project)
    shown = collect(project, load_params(project))["tournament"]
    assert shown.columns[:6] == ["judge", "decoding", "model", "n", "Elo", "points %"]
    assert "against a constant answer %" in shown.columns
    with connect(project) as store:
        asked = questions()["tournament"]
        rows = store.rows(asked.sql, {}, asked.may_lack)
        assert [row["model"] for row in rows] == [row[2] for row in shown.rows]
        assert all(row["n"] + row["unreadable"] == 2 * N for row in rows)
        assert all(row["wins"] + row["ties"] + row["losses"] == row["n"] for row in rows)
        assert store.rows("SELECT count(*) AS n FROM tournament")[0]["n"] == 6 * N
    report.write(project / "page.html", root=project)
    assert "Every model against every other" in (project / "page.html").read_text()


@pytest.mark.parametrize(
    ("models", "options", "error", "said"),
    [
        (["M1"], {}, SrlmError, "needs two models"),
        (["M1", "M1"], {}, SrlmError, "needs two models"),
        (["M1", "M22"], {"judge": "M0"}, ModelError, "no model 'M22'; did you mean M2"),
        (["M1", "../x"], {"judge": "M0"}, ParamsError, "no name of a model"),
        (["M1", "M2"], {"judge": "MO"}, ModelError, "no model 'MO'; there are M0, "),
        (["M1", "M2"], {"judge": "SFT"}, ModelError, "holds no model"),
        (["M1", "M2"], {"judge": "M0", "engine": "vlm"}, ParamsError, "no engine 'vlm'; there are openai"),
        (["M1", "M2"], {"judge": "oracle", "engine": "vllm"}, ParamsError, "the oracle asks none"),
        (["M1", "M3"], {"judge": "oracle"}, ModelError, "srlm repro evaluate@M3"),
        (["M1", "M3"], {"judge": "M0", "sampled": True}, ModelError, "no sampled answers"),
        # nothing is answered before all is known to be there
        (["M3", "M1"], {"judge": "MO"}, ModelError, "no model 'MO'"),
        (["M3", "SFTT"], {"judge": "M0"}, ModelError, "no model 'SFTT'"),
        (["M3", "M1"], {"judge": "M0", "engine": "vlm"}, ParamsError, "no engine 'vlm'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    project: Path,
    models: list[str],
    options: dict[str, object],
    error: type[SrlmError],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.engines.backends.scripted.ScriptedEngine.batches", lambda *_: pytest.fail("asked"))
    with pytest.raises(error, match=said):
        play(models, root=project, **options)  # type: ignore[arg-type]
    assert not (project / "data/EVAL/tournament").exists()
    assert not (project / "data/metrics/tournament").exists()


def test_a_judge_that_cannot_be_read_is_an_error(project: Path) -> None:
    (project / "stages/templates/compare.jinja").write_text("{{ prompt }} {{ answer_a }} {{ answer_b }}")
    with pytest.raises(EngineError, match=r"none of 90 comparisons could be read: M0 wrote no \[\[A\]\]"):
        play(["M1", "M2"], judge="M0", root=project)


def test_answers_to_other_prompts_are_refused(project: Path) -> None:
    answers = catalog.read(ANSWERS, project, "M2").with_columns(prompt_id="q" + pl.col("prompt_id"))
    catalog.write(ANSWERS, answers, project, "M2")
    with pytest.raises(TableError, match="they must answer the same"):
        play(["M1", "M2"], judge="M0", root=project)


@pytest.mark.parametrize("edit", ['{"greedy": {"elo": 3}}', '{"greedy": []}', "[1]", "{"])
def test_an_edited_file_of_figures_is_named(project: Path, edit: str) -> None:
    play(["M1", "M2"], judge="M0", root=project)
    (project / "data/metrics/tournament/M0.json").write_text(edit)
    with pytest.raises(TableError, match=r"tournament/M0\.json"):
        collect(project, load_params(project))


@pytest.mark.slow
def test_dvc_holds_the_rows_and_compares_the_figures(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "data/.gitignore").write_text((ROOT / "data/.gitignore").read_text())
    commit = "git -c user.name=a -c user.email=a@b commit -qm before"
    dvc = (sys.executable, "-m", "dvc")
    for command in (("git", "init", "-q", "."), (*dvc, "init", "-q"), ("git", "add", "-A"), commit.split()):
        subprocess.run(command, check=True)
    play(["M1", "M2"], judge="M0", root=Path())
    pointer = project / "data/EVAL/tournament/M0.parquet.dvc"
    assert pointer.is_file()
    new = subprocess.run(["git", "status", "--short", "-uall"], capture_output=True, text=True, check=True).stdout
    for path in (
        "data/EVAL/tournament/M0.parquet.dvc",
        "data/metrics/tournament/M0.json",
        "data/metrics/tournament/dvc.yaml",
    ):
        assert f"?? {path}" in new
    assert "tournament/M0.parquet\n" not in new
    (project / "data/EVAL/tournament/M0.parquet").unlink()
    subprocess.run((*dvc, "checkout", "-q"), check=True)
    assert len(catalog.read(TOURNAMENT, project, "M0")) == 3 * N
    shown = subprocess.run((*dvc, "metrics", "diff", "--json"), capture_output=True, text=True, check=True).stdout
    assert "greedy.elo.M1.value" in json.loads(shown)["data/metrics/tournament/M0.json"]
    rows = project / "data/EVAL/tournament/M0.parquet"
    rows.chmod(0o644)
    catalog.write(TOURNAMENT, catalog.read(TOURNAMENT, project, "M0").head(7), project, "M0")
    with connect(project) as store, pytest.raises(TableError, match=r"not the file that M0\.parquet\.dvc records"):
        store.rows("FROM tournament")
    pointer.write_text("outs: 3")
    with connect(project) as store, pytest.raises(TableError, match=r"M0\.parquet\.dvc is damaged"):
        store.rows("FROM tournament")


def test_a_servers_model_is_asked_through_a_server() -> None:
    class Server:
        source = "server"

    params = load_params(ROOT)
    served = params.model_copy(update={"external": {"gpt": Server()}})
    assert engine_of("gpt", "head_to_head", None, served).name == "openai"
    assert engine_of("gpt", "head_to_head", "vllm", served).name == "vllm"
    assert engine_of("M0", "head_to_head", None, served).name == params.engine.name
