"""dvc.yaml says what the code does: every stage watches the code, templates, tables and models that decide its
bytes."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from stages.commands.cli import app
from stages.config.params import Params
from stages.store.tables import TABLES
from tests.test_architecture import closure, path_of

ROOT = Path(__file__).parents[1]
DVC = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
ENGINES = "stages/engines/versions.py"
STAGES = {name: stage.get("do", stage) for name, stage in DVC.items()}
DECIDES = (
    "stages/store/rows.py",
    "stages/text/cell.py",
    "stages/text/ids.py",
    "stages/text/chat.py",
    "stages/text/special_tokens.py",
    "stages/method/",
    "stages/models/",
    "stages/trainers/",
    "stages/tinyworld/",
    "stages/constraints/",
)
"""Code that decides a text or a weight. Plumbing (store, config, console) does not: a change there must not retrain a
model. Of the engines it is `versions.py`, whose numbers are raised when their texts change."""
CHOOSES = ("train_sft", "train_dpo", "train_positive")
"""Trainings, which generate only to choose among the models on their way: another engine makes none anew, and lineage
says which one chose."""
WHOLE = ("stages/models", "stages/trainers")
"""Rooms that are watched as a folder by all stages that reach into them."""


def verb_of(stage: dict) -> str:
    return stage["cmd"].split()[2].removeprefix("stages.")


def paths(entries):
    return [next(iter(e)) if isinstance(e, dict) else e for e in entries]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_watches_the_code_that_decides_its_bytes(name):
    stage = STAGES[name]
    deps = paths(stage["deps"])
    reached = {str(path_of(m).relative_to(ROOT)) for m in closure(f"stages.{verb_of(stage)}")}
    needed = {p for p in reached if p.startswith(DECIDES) and not p.endswith("__init__.py")}
    needed |= {f"stages/{verb_of(stage)}.py"}
    if "stages.engines.open" in closure(f"stages.{verb_of(stage)}") and not name.startswith(CHOOSES):
        needed |= {ENGINES}
    if any(p.startswith("stages/tinyworld/") for p in needed) and any(
        d in deps for d in ("${item.path}", "${split_seed.path}")
    ):
        needed = {
            p for p in needed if not p.startswith("stages/tinyworld/")
        }  # the folder itself is the dep, through params
    for room in WHOLE:
        if inside := {p for p in needed if p.startswith(f"{room}/")}:
            needed = needed - inside | {room}
    assert needed <= set(deps), f"{name} does not watch {sorted(needed - set(deps))}"
    watched_code = {d for d in deps if d in WHOLE or (d.startswith("stages/") and d.endswith(".py"))}
    assert watched_code <= needed, f"{name} watches code that it cannot reach: {sorted(watched_code - needed)}"


@pytest.mark.parametrize("name", STAGES)
def test_hardware_is_tracked_by_no_stage(name):
    assert not [p for p in STAGES[name]["params"] if p.startswith("hardware")]


@pytest.mark.parametrize("name", STAGES)
def test_a_generating_stage_tracks_the_engine(name):
    stage = STAGES[name]
    assert (ENGINES in stage["deps"]) == ("engine" in stage["params"])


def test_every_section_of_params_is_tracked_by_a_stage():
    tracked = {p.split(".")[0] for stage in STAGES.values() for p in stage["params"]}
    in_commands = {"models", "positive_only", "drift", "evaluated", "head_to_head"}
    changes_no_dataset = {"hardware", "publish"}
    assert tracked | in_commands | changes_no_dataset == set(Params.model_fields)


def test_every_table_is_an_out_of_the_verb_that_its_contract_names():
    outs = {
        out.replace("${key}", "{model}").replace("${item}", "{model}"): verb_of(stage)
        for stage in STAGES.values()
        for out in paths(stage.get("outs", []))
    }
    for table in TABLES:
        command = table.made_by.removeprefix("srlm ") if table.made_by.startswith("srlm ") else None
        assert outs.get(table.path) == (None if command else table.made_by), table.name
        assert command is None or command in get_command(app).commands


def test_dvc_resolves_every_stage():
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"build_pairs@M1", "train_dpo@M3", "evaluate@SFT", "head_to_head@M3-M1"} <= set(done.stdout.split())
