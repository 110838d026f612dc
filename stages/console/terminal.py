"""Consoles that show a text as it is: what comes from data, models and files may look like rich's markup or emoji
codes."""

from __future__ import annotations

from typing import Any

import rich.console

from stages.text.escape import for_terminal


class Console(rich.console.Console):
    """Of standard output by default; reads no `[markup]` and no `:emoji:` into a text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)


stderr = Console(stderr=True, soft_wrap=True)


def shown(message: str) -> str:
    """A message as it may be printed: lines stay, any other control character of a text that it quotes is written
    out."""
    return "\n".join(map(for_terminal, message.split("\n")))


def warn(message: str) -> None:
    """One yellow line on standard error."""
    stderr.print(f"warning: {shown(message)}", style="yellow")
