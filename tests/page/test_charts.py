"""Charts keep the order of what they count, and show its values."""

import re

import pytest

from stages.page import charts, render, sections


def labels(chart):
    """Texts of each panel, as drawn."""
    return [re.findall(r"<text[^>]*>([^<]*)</text>", panel.svgs[0]) for panel in chart.panels]


def test_scores_stand_in_their_order_whatever_order_they_come_in():
    rows = [
        {"model": model, "score": score, "judgements": 2, "share": 0.2}
        for model, scores in (("M1", (1.0, 10.0, 5.5, 0.5, None)), ("M2", (2.5, 0.0, 9.0, 3.5)))
        for score in scores
    ]
    chart = charts.distribution(rows, "score", "score", "judgements")
    assert [panel.title for panel in chart.panels] == ["M1, n 10", "M2, n 8"]
    order = ["0", "0.5", "1", "2.5", "3.5", "5.5", "9", "10", "unreadable"]
    for texts in labels(chart):
        assert [text for text in texts if text in order] == order
        assert "20" in texts, "the value of a bar"


def test_parts_of_a_bar_carry_their_values_in_one_order():
    rows = [
        {"bar": bar, "fate": fate, "share": share}
        for bar, shares in (("M1", {"tied": 0.3, "chosen": 0.7, "cut_off": 0.0}), ("M2", {"chosen": 0.98, "odd": 0.02}))
        for fate, share in shares.items()
    ]
    chart = charts.stacked(rows, "fate")
    assert [name for name, _ in chart.legend] == ["odd", "chosen", "tied"]
    [texts] = labels(chart)
    assert {"70", "30", "98"} <= set(texts)
    assert "2" not in texts, "no room for it: it stands in the table"
    wide, narrow = chart.panels[0].svgs
    assert ('width="960"' in wide, 'width="340"' in narrow) == (True, True)


def test_an_interval_that_is_not_known_is_a_point_alone():
    rows = [{"panel": "Spearman", "label": "M1  0.50, n 3", "value": 0.5, "low": None, "high": None}]
    [panel] = charts.intervals(rows, "panel").panels
    assert "M1  0.50, n 3" in panel.svgs[0]
    assert "NaN" not in panel.svgs[0]


@pytest.mark.parametrize("steps", [1, 3, 5000])
def test_curves_are_named_with_their_ends(steps):
    rows = [{"measure": "margin", "step": i + 1, "value": float(i * 10 // steps)} for i in range(steps)]
    [panel] = charts.curves({("M2", "margin"): rows}).panels
    assert panel.title == {1: "M2: 0 → 0 in 1 step", 3: "M2: 0 → 6 in 3 steps"}.get(steps, "M2: 0 → 9 in 5,000 steps")
    assert len(panel.svgs[0]) < 40_000


def test_a_model_is_no_more_than_text():
    rows = [{"bar": "<b>\u202e\x00", "fate": "<script>", "share": 1.0}]
    chart = charts.stacked(rows, "fate")
    assert "<script" not in chart.panels[0].svgs[0]
    assert "\u202e" not in chart.panels[0].svgs[0]
    assert chart.legend[0][0] == "<script>", "the template escapes it"


def test_a_minus_is_one_and_zero_has_none():
    row = {"model": "M-1", "metric": "judge.kendall", "value": -0.004, "low": -0.25, "high": 0.2, "n": 9}
    judge, *_ = sections.figures([row])
    assert "M-1  0.00 (−0.25 to 0.20), n 9" in judge.chart.panels[0].svgs[0]
    assert [render.shown(x) for x in (-0.0, -0.173, -3, 12.5)] == ["0", "−0.173", "−3", "12.5"]
    assert render.code("by `srlm bank` <b>") == "by <code>srlm bank</code> &lt;b&gt;"
