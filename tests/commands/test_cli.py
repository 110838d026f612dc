"""What `srlm --help` shows works: examples are commands with options that exist."""

import shlex

import pytest
import typer.main
from typer.testing import CliRunner

from stages.commands.cli import EXAMPLES, app

GROUP = typer.main.get_command(app)


def test_every_command_has_examples():
    assert all("Example" in (command.epilog or "") for command in app.registered_commands)
    assert {command.callback.__name__ for command in app.registered_commands} >= EXAMPLES.keys()


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_an_example_is_shown_and_can_be_typed(example):
    program, name, *arguments = shlex.split(example)
    assert program == "srlm"
    GROUP.commands[name].make_context(name, arguments)
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert example in shown


def test_version():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("srlm ")
