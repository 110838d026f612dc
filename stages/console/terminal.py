"""Consoles that show a text as it is: what comes from data, models and files may look like rich's markup or emoji
codes."""

from __future__ import annotations

from typing import Any

import rich.console


class Console(rich.console.Console):
    """Of standard output by default; reads no `[markup]` and no `:emoji:` into a text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)


stderr = Console(stderr=True, soft_wrap=True)


def warn(message: str) -> None:
    """One yellow line on standard error."""
    stderr.print(f"warning: {message}", style="yellow")
