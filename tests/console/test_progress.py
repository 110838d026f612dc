"""On a terminal, progress is a bar; without one it is plain lines: one at the end, few in between."""

import io

from rich.console import Console

from stages.console import progress as console_progress
from stages.console.progress import progress


def test_plain_lines_without_a_terminal(capsys):
    with progress("SFT M1", 3, "steps") as advance:
        for i in range(3):
            advance(note=f"loss {i}")
    out = capsys.readouterr().out
    assert out.startswith("SFT M1: 3/3 steps")
    assert out.strip().endswith("loss 2")
    assert out.count("\n") == 1


def test_time_left_is_told_from_what_was_worked_for(capsys, monkeypatch):
    """90 of 100 came for free at once; then one a second: 10 left take 10 s."""
    clock = iter([0.0, 0.0, 20.0, 20.0, 20.0, 40.0, 40.0])
    monkeypatch.setattr(console_progress.time, "monotonic", lambda: next(clock))
    with progress("M1 writes", 120, "texts") as advance:
        advance(90, for_free=True)
        advance(20)
        advance(10)
    out = capsys.readouterr().out
    assert "110/120 texts 20 s, 10 s left" in out
    assert out.endswith("120/120 texts 40 s\n")


def test_on_a_terminal_it_is_a_bar(monkeypatch):
    """What was kept from before tells nothing of the time that is left: 2 of the other 8 took ten seconds each."""
    out, clock = io.StringIO(), [0.0]
    terminal = Console(file=out, force_terminal=True, width=120, color_system=None, get_time=lambda: clock[-1])
    monkeypatch.setattr(console_progress, "stderr", terminal)
    with progress("M1 writes", 108, "texts") as advance:
        advance(100, "100 kept from before", for_free=True)
        for seconds in (10.0, 20.0):
            clock.append(seconds)
            advance(1, "8 tokens/s")
    last = out.getvalue().rpartition("M1 writes")[2]
    assert "102/108 texts 0:00:20 0:01:00 8 tokens/s" in last
