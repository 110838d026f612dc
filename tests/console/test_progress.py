"""Without a terminal, progress is plain lines: one at the end, few in between."""

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
