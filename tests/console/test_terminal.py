"""What people read is what data, models and files hold, letter by letter."""

import io
import re
from pathlib import Path

from rich.table import Table

from stages.console import progress as console_progress
from stages.console.progress import progress
from stages.console.terminal import Console, warn

ROOT = Path(__file__).parents[2]
TEXT = 'root:x:0 ":smile:" [bold]not bold[/bold] [/]'


def test_no_markup_and_no_emoji_codes_are_read_into_a_text():
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system=None)
    table = Table(TEXT, title=TEXT)
    table.add_row(TEXT)
    console.print(TEXT, table)
    assert out.getvalue().count(TEXT) == 4


def test_nor_into_progress(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(console_progress, "stderr", Console(file=out, width=300, force_terminal=True))
    with progress(TEXT, 1, TEXT) as advance:
        advance(note=TEXT)
    assert re.sub(r"\x1b\[[0-9;?]*\w", "", out.getvalue()).rstrip().rsplit("\r", 1)[-1].count(TEXT) == 3


def test_a_warning_is_one_line(capsys):
    warn("long " * 100)
    assert capsys.readouterr().err == f"warning: {'long ' * 100}\n"


def test_no_other_console_is_used():
    files = [file for folder in ("stages", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    others = [
        str(file)
        for file in files
        if file.name != "terminal.py"
        and re.search(r"rich\.console|from rich import|import rich\b|rich\.print|Text\.from_markup", file.read_text())
    ]
    assert others == []
