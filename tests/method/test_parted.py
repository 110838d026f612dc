"""The judge's opinion of the loop beside the checker's: the alarm sounds where they part, and nowhere else."""

from __future__ import annotations

import pytest

from stages.method.drift import both_scores, parted


@pytest.mark.parametrize(
    ("own", "checked", "alarms"),
    [
        ((3.0, 3.5, 4.0), (4.0, 4.2, 3.9), ["M2"]),  # from the second to the third
        ((3.0, 3.5, 4.0), (4.0, 3.5, 3.0), ["M1", "M2"]),
        ((3.0, 3.5), (4.0, 4.5), []),
        ((3.5, 3.0), (4.5, 4.0), []),  # both fall
        ((3.0, 3.04), (4.0, 3.0), []),  # within the limit
        ((3.0, 4.0), (4.0, 3.96), []),
        ((3.0, None, 4.0), (4.0, 3.0, 2.0), []),
        ((3.0, 4.0), (None, 3.0), []),
        ((), (), []),
    ],
)
def test_the_alarm(own: tuple[float | None, ...], checked: tuple[float | None, ...], alarms: list[str]) -> None:
    models = [f"M{i + 1}" for i in range(len(own))]
    sentences = parted(list(zip(models, own, checked, strict=True)), 0.05)
    assert [sentence.split("(")[1].split(")")[0] for sentence in sentences] == alarms
    assert all("no longer better" in sentence for sentence in sentences)


def test_the_judges_points_are_of_its_scale() -> None:
    """0.05 of five points are 0.1 of ten, and 0.01 of shares."""
    scores = [("M1", 3.0, 4.0), ("M2", 3.07, 3.0)]
    assert [len(parted(scores, 0.05, points)) for points in (1, 5, 10)] == [1, 1, 0]


def test_scores_come_from_the_metrics_of_the_loop() -> None:
    greedy, sampled = ({"oracle_score": {"value": value, "low": None, "high": None, "n": 9}} for value in (1.0, 3.5))
    metrics: dict[tuple[str, str | None], dict[str, object]] = {
        ("AIFT", "M1"): {"mean_score": 2.5},
        ("EVAL", "M1"): {"writer": {"greedy": greedy, "sampled": sampled}},
        ("AIFT", "M2"): {"mean_score": None},
        ("AIFT", "M9"): {"mean_score": 1.0},
    }
    assert both_scores(metrics, ["M1", "M2", "M3"]) == [("M1", 2.5, 3.5), ("M2", None, None)]  # type: ignore[arg-type]
