"""Without a terminal, progress is plain lines: one at the end, few in between."""

from stages.console.progress import progress


def test_plain_lines_without_a_terminal(capsys):
    with progress("SFT M1", 3, "steps") as advance:
        for i in range(3):
            advance(note=f"loss {i}")
    out = capsys.readouterr().out
    assert out.startswith("SFT M1: 3/3 steps")
    assert out.strip().endswith("loss 2")
    assert out.count("\n") == 1
