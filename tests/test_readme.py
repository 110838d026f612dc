"""What the README says is so: its commands exist, its tables are generated, its paths are there."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import readme_tables as record
from stages.commands import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = {command.name or command.callback.__name__ for command in cli.app.registered_commands}


def test_tables_are_what_data_results_holds():
    record.main(check=True, root=ROOT)


def test_every_srlm_command_in_it_exists_and_every_command_is_in_it():
    named = set(re.findall(r"srlm ([a-z]+)", README))
    assert named <= COMMANDS
    assert named >= COMMANDS, "a command that the README does not show"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command):
    done = CliRunner().invoke(cli.app, [command, "--help"])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 3


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for line in re.findall(r"^make( [a-z]+)? ", README, flags=re.MULTILINE):
        assert (line.strip() or "repro") in targets


def test_links_and_paths_lead_somewhere():
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:stages|method|trainers|engines|templates)/[\w./]*)`", README):
        assert (ROOT / path).exists() or (ROOT / "stages" / path).exists(), path


def test_anchors_are_headings():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", README, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_stages_of_the_paper_table_are_stages():
    names = {f.stem for f in (ROOT / "stages").glob("*.py")}
    table = README.split("## Paper to code")[1].split("\n\n")[1]
    for line in table.splitlines()[2:]:
        for stage in re.findall(r"`([a-z_]+)`", line.split("|")[2]):
            assert stage in names, stage


def test_profiles_it_names_exist():
    for name in re.search(r"`srlm profile ([a-z| ]+)`", README)[1].split(" | "):
        assert (ROOT / f"stages/config/profiles/{name}.yaml").is_file()
