"""`srlm lm-eval`: the harness itself, on a task of a local file, with a tiny model and no network."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from stages.commands.cli import app
from stages.commands.lm_eval_tasks import PAPER, figures
from stages.console.errors import SrlmError
from stages.store import metrics
from tests.engines.tiny_llama import build
from tests.workspace import ROOT

TASK = """
task: fruit
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "stages/config/profiles/scripted.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_task_of_a_local_file_leaves_its_figures_in_the_metrics(project):
    build(project / "data/models/M1")
    rows = [{"question": f"Name {i}", "choices": ["cat", "apple pear"], "label": i % 2} for i in range(30)]
    (project / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project / "fruit.yaml").write_text(TASK.format(file=project / "q.jsonl"))
    done = CliRunner().invoke(app, ["lm-eval", "M1", "--tasks", "fruit.yaml"])
    assert done.exit_code == 0, done.exception
    content = json.loads((project / "data/metrics/lm_eval/M1.json").read_text())
    figure = content["fruit"]["acc"]
    assert figure["n"] == 30
    assert 0 <= figure["value"] <= 1
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert [(r.kind, r.model, r.metric, r.value) for r in metrics.rows(project) if r.metric == "fruit.acc"] == [
        ("lm_eval", "M1", "fruit.acc", figure["value"])
    ]
    assert (project / "data/metrics/lm_eval/dvc.yaml").read_text() == "metrics:\n- M1.json\n"
    unknown = CliRunner().invoke(app, ["lm-eval", "M1", "--tasks", "no_such_task"])
    assert isinstance(unknown.exception, SrlmError)
    assert "no_such_task" in str(unknown.exception)


def test_a_group_is_one_figure_and_its_parts_are_in_it():
    values = {"acc,none": 0.5, "acc_stderr,none": 0.01, "alias": "mmlu"}
    found = {
        "results": {
            "mmlu": values,
            "mmlu_law": values,
            "gsm8k": {"exact_match,strict-match": 0.2, "exact_match_stderr,strict-match": "N/A"},
        },
        "group_subtasks": {"mmlu": ["mmlu_law", "mmlu_art"], "gsm8k": []},
        "n-samples": {name: {"effective": 70} for name in ("mmlu_law", "mmlu_art", "gsm8k")},
    }
    mmlu = {"value": 0.5, "low": pytest.approx(0.4804), "high": pytest.approx(0.5196), "n": 140}
    strict = {"value": 0.2, "low": None, "high": None, "n": 70}
    assert figures(found) == {"mmlu": {"acc": mmlu}, "gsm8k": {"exact_match_strict_match": strict}}


@pytest.mark.slow
def test_the_tasks_of_the_paper_are_tasks_of_the_harness():
    harness = pytest.importorskip("lm_eval.tasks")
    manager = harness.TaskManager()
    assert [task for task in PAPER if task not in manager.all_tasks] == []


def test_what_cannot_be_evaluated_is_named(project):
    for arguments, why in (
        (["M9"], "no model 'M9': expected one of data/models (there is none yet; run: srlm repro)"),
        (["served"], "served is at a server"),
        (["M1", "--tasks", "none.yaml"], "--tasks none.yaml: no such file"),
        (["M1", "--tasks", ","], "--tasks names none"),
    ):
        for name, file in (("served", "server.json"), ("M1", "config.json")):
            if arguments[0] == name:
                (project / "data/models" / name).mkdir(parents=True, exist_ok=True)
                (project / "data/models" / name / file).write_text("{}")
        done = CliRunner().invoke(app, ["lm-eval", *arguments])
        assert isinstance(done.exception, SrlmError), done.output
        assert why in str(done.exception)
