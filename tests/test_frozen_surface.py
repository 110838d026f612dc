"""Every key of params.yaml and every command and option: a new one is a deliberate act, written down in surface.txt.

After such an act: `python -m tests.test_frozen_surface > tests/surface.txt`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stages.commands.cli import app
from stages.config.explain import known_keys
from stages.config.params import Params

LIST = Path(__file__).with_name("surface.txt")


def surface() -> Iterator[str]:
    yield from (".".join(key) for key in known_keys(Params))
    commands = typer.main.get_command(app).commands
    for name, command in sorted(commands.items()):
        yield from of_command(f"srlm {name}", command)


def of_command(name: str, command: Any) -> Iterator[str]:
    yield name
    for own, inner in sorted(getattr(command, "commands", {}).items()):
        yield from of_command(f"{name} {own}", inner)
    for parameter in command.params:
        kind = "" if parameter.param_type_name == "option" else "argument "
        yield f"{name} {kind}{' '.join([*parameter.opts, *parameter.secondary_opts])}"


def test_keys_commands_and_options_are_those_that_were_decided():
    now, decided = set(surface()), set(LIST.read_text().splitlines())
    assert (sorted(now - decided), sorted(decided - now)) == ([], []), "(new, gone): see the docstring of this file"


if __name__ == "__main__":
    print("\n".join(surface()))
