"""The table of the real model says what rises, falls, or does neither."""

from benchmarks.smol import SHORT, table


def figure(value, half=0.05, n=60):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def evaluated(kept, loose, judge):
    writer = {
        "instruction_strict": figure(kept, n=120),
        "instruction_loose": figure(loose),
        "oracle_score": figure(kept),
    }
    return {"writer": {"greedy": writer, "sampled": writer}, "judge": {"pairwise_accuracy": figure(judge, n=400)}}


def test_intervals_decide_what_is_said():
    outcome = {name: figure(0.25) for name in ("win", "tie", "lose")}
    parts = {name: {"requested": 9, "prompts": 9} for name in ("ift", "ranked_valid")}
    metrics = {
        "EVAL": {"M3": evaluated(0.5, 0.2, 0.62), "SFT": evaluated(0.1, 0.1, 0.1), "M1": evaluated(0.3, 0.4, 0.6)},
        "AIFT": {"M1": {"prompts": 60, "pairs": 50}},
        "EFT": {"eft": 200},
        "head_to_head": {"M3-SFT": {"greedy": outcome}},
        "seed": {"parts": parts},
    }
    text = table({"60 prompts": {"metrics": metrics, "stages": {"a": {"seconds": 90.0, "peak_mb": 4000}}}}, SHORT)
    lines = text.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| SFT", "| M1", "| M3"]
    assert "| 50.0 ±5.0 | 50.0 ±5.0 | 20.0 ±5.0 |" in lines[4]
    assert lines[4].endswith("| 25/25/25 |")
    assert "60 held-out prompts with 120 constraints" in text
    assert "2 minutes, at most 4.2 GB" in text
    assert lines[-1].endswith(
        " From M1 to M3: rises: constraints kept %, greedy, constraints kept %, sampled; falls: loosely, greedy, loosely, "
        "sampled; stays within the intervals: judge: pairwise acc. %."
    )
