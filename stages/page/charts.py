"""Charts of the report as SVG, drawn by Vega-Lite when the report is made: the page holds pictures, no plotting
library.

Rows are dicts as the canned questions give them. Shares are 0 to 1; `low` and `high` are 95 % intervals.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import altair as alt

from stages.text.escape import for_terminal

Rows = Sequence[dict[str, Any]]

WIDTH = 480
FATES = {
    "chosen": "#2a9d5c",
    "rejected": "#d1495b",
    "between": "#8aa1b1",
    "tied": "#e0a526",
    "duplicate": "#b9bec4",
    "unreadable": "#8e5ea2",
    "cut_off": "#7a5c48",
}
VERDICTS = {"win": "#2a9d5c", "tie": "#b9bec4", "lose": "#d1495b"}
MODELS = alt.Scale(scheme="tableau10")


def distribution(rows: Rows, x: str, title: str) -> str:
    """Share of each value of `x`, a bar per model. Rows: model, x, share."""
    rows = drawable(rows)
    values = [{**row, x: "unreadable" if row[x] is None else f"{row[x]:g}"} for row in rows]
    models = list(dict.fromkeys(row["model"] for row in rows))
    chart = (
        alt.Chart(alt.InlineData(values=values), width=WIDTH, height=200)
        .mark_bar()
        .encode(
            x=alt.X(f"{x}:N", title=title, sort=None, axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("model:N", sort=models),
            y=alt.Y("share:Q", title="share", axis=alt.Axis(format="%")),
            color=alt.Color("model:N", sort=models, scale=MODELS, title=None, legend=alt.Legend(orient="bottom")),
        )
    )
    return svg(chart)


def stacked(rows: Rows, bar: str, part: str, colours: dict[str, str] | None = None, interval: str | None = None) -> str:
    """Shares that add up to 1, a horizontal bar per `bar`. Rows: bar, part, share; with `interval`, the first part,
    also its low and high."""
    rows = drawable(rows)
    bars, parts = list(dict.fromkeys(row[bar] for row in rows)), list(dict.fromkeys(row[part] for row in rows))
    if colours:
        parts = [name for name in colours if name in parts]
    values = [{**row, "order": parts.index(row[part])} for row in rows if row[part] in parts]
    scale = (
        alt.Scale(domain=parts, range=[colours[name] for name in parts])
        if colours
        else alt.Scale(domain=parts, scheme="tableau20")
    )
    chart = (
        alt.Chart(alt.InlineData(values=values), width=WIDTH, height=34 * len(bars))
        .mark_bar()
        .encode(
            y=alt.Y(f"{bar}:N", sort=bars, title=None),
            x=alt.X("share:Q", title=None, stack="zero", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(f"{part}:N", scale=scale, title=None, legend=alt.Legend(orient="bottom", columns=4)),
            order="order:Q",
        )
    )
    if interval:
        own = [row for row in rows if row[part] == interval]
        line = alt.Chart(alt.InlineData(values=own)).mark_rule(strokeWidth=2, color="#1b1b1b")
        chart += line.encode(y=alt.Y(f"{bar}:N", sort=bars), x="low:Q", x2="high:Q")
    return svg(chart)


def with_intervals(rows: Rows) -> str:
    """A small panel per metric, a point with its interval per model. Rows: model, metric (its title), value, low, high;
    null: no interval."""
    rows, panels = drawable(rows), []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        own = [row for row in rows if row["metric"] == metric]
        base = alt.Chart(alt.InlineData(values=own)).encode(
            x=alt.X("model:N", sort=None, title=None, axis=alt.Axis(labelAngle=0))
        )
        scale, colour = alt.Scale(zero=False), alt.Color("model:N", sort=None, scale=MODELS, legend=None)
        panel = alt.layer(
            base.mark_line(color="#8aa1b1", strokeDash=[3, 3]).encode(y=alt.Y("value:Q", title=None, scale=scale)),
            base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q", color=colour),
            base.mark_point(filled=True, size=60, opacity=1).encode(
                y=alt.Y("value:Q", title=None, scale=scale), color=colour
            ),
        )
        panels.append(svg(panel.properties(width=200, height=130, title=metric)))
    return "".join(panels)


def drawable(rows: Rows) -> Rows:
    """The rows with control and format characters written out: a NUL in a label aborts the drawing, and a direction
    mark would turn others around."""
    return [
        {name: for_terminal(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    ]


def svg(chart: Any) -> str:
    """The chart as SVG on no background, to be coloured by the page, light or dark."""
    out = io.StringIO()
    grey = {"gridColor": "#8884", "domainColor": "#888", "tickColor": "#888"}
    chart.configure(background="transparent").configure_view(stroke=None).configure_axis(**grey).save(out, format="svg")
    return out.getvalue()
