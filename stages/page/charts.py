"""Charts as SVG, drawn by Vega-Lite when the report is written: the page holds pictures, no plotting library.

A chart is a row of panels. Titles and legends stand in the page's own text, so an SVG holds only marks, their values
and an axis, in the colour of the text around it. Shares are 0 to 1; `low` and `high` are 95 % intervals.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt

from stages.text.escape import for_terminal

Rows = Sequence[dict[str, Any]]

WIDTHS = {1: (960, 340), 2: (400,)}
"""In pixels, by how many panels there are (310 for more): one alone is drawn for a wide and for a narrow screen."""
BLUE, ORANGE, GREY = "#6fb1e4", "#f0a35e", "#b4bdc6"
"""Told apart by colour-blind readers, on both backgrounds; dark text can be read on each."""
COLOURS = {
    **{"win": BLUE, "tie": GREY, "lose": ORANGE},
    **{"chosen": BLUE, "rejected": ORANGE, "between": GREY, "tied": "#e6cf68", "duplicate": "#d8dce0"},
    **{"unreadable": "#c79bd8", "cut_off": "#c9a48c"},
    **{"loss": BLUE, "valid_loss": ORANGE, "margin": BLUE, "reward_chosen": "#4fa97f", "reward_rejected": ORANGE},
}
SPARE = ("#e6cf68", "#c79bd8", "#c9a48c", "#8fd0b5", "#f2b8c6", "#d8dce0", GREY, ORANGE)
POINTS = 400
"""Of a line, as many as a screen can show."""
PERCENT: dict[str, Any] = {"format": "%", "tickCount": 5}


class Panel(NamedTuple):
    title: str
    svgs: tuple[str, ...]
    """One picture: for every screen, or for a wide and for a narrow one."""


class Chart(NamedTuple):
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    """Name and colour of each part."""


def stacked(rows: Rows, part: str, panel: str = "") -> Chart:
    """Shares that add up to 1, a bar per `bar`, a panel per value of `panel`. Rows: bar, part, share."""
    rows = drawable(row for row in rows if row["share"])
    order = list(COLOURS)
    parts = sorted({row[part] for row in rows}, key=lambda name: (order.index(name) if name in COLOURS else -1, name))
    spare = iter(SPARE)
    legend = {name: COLOURS.get(name) or next(spare, GREY) for name in parts}

    def draw(own: Rows) -> Any:
        bars = list(grouped(own, "bar"))
        values = [
            {"at": bars.index(row["bar"]), "share": row["share"], "order": parts.index(row[part])}
            | {"colour": legend[row[part]], "label": f"{100 * row['share']:.0f}" if row["share"] >= 0.05 else ""}
            for row in own
        ]
        y = alt.Y("at:O", axis=None)
        x: dict[str, Any] = {"stack": "zero", "title": None, "scale": alt.Scale(domain=[0, 1])}
        base, names = data(values).encode(y=y, order="order:Q"), data({"at": i, "bar": b} for i, b in enumerate(bars))
        return alt.layer(
            base.mark_bar(size=20, yOffset=8, stroke="#8886", strokeWidth=0.5).encode(
                x=alt.X("share:Q", axis=alt.Axis(**PERCENT), **x), color=alt.Color("colour:N", scale=None)
            ),
            base.mark_text(dy=8, color="#111").encode(x=alt.X("share:Q", bandPosition=0.5, **x), text="label:N"),
            names.mark_text(dy=-10, align="left").encode(y=y, x=alt.value(0), text="bar:N"),
        ).properties(height=alt.Step(46))

    return chart(grouped(rows, panel) if panel else {"": rows}, draw, legend)


def intervals(rows: Iterable[dict[str, Any]], panel: str) -> Chart:
    """A panel per value of `panel`, in it a point with its interval for each row. Rows: label, value, low, high; null:
    no interval."""

    def draw(own: Rows) -> Any:
        base = data({**row, "at": i} for i, row in enumerate(own)).encode(y=alt.Y("at:O", axis=None))
        x = alt.X("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
        return alt.layer(
            base.mark_rule(strokeWidth=3, yOffset=9, color=GREY).encode(x=alt.X("low:Q", title=None), x2="high:Q"),
            base.mark_point(filled=True, size=70, opacity=1, yOffset=9, color="#3b82c4").encode(x=x),
            base.mark_text(dy=-7, align="left").encode(x=alt.value(0), text="label:N"),
        ).properties(height=alt.Step(38))

    return chart(grouped(drawable(rows), panel), draw)


def distribution(rows: Rows, x: str, title: str, counted: str, unknown: str = "unreadable") -> Chart:
    """Share of each value of `x` in its order, the `unknown` (null) last, a panel per model. Rows: model, x, share, and
    the number `counted`."""
    rows = drawable(rows)
    values = sorted({row[x] for row in rows}, key=lambda value: (value is None, value))
    name = {value: unknown if value is None else f"{value:g}" for value in values}
    top = alt.Scale(domain=[0, max(row["share"] for row in rows) * 1.1])

    def draw(own: Rows) -> Any:
        shares = dict.fromkeys(name.values(), 0.0) | {name[row[x]]: row["share"] for row in own}
        base = data({"x": x, "share": s, "label": f"{100 * s:.0f}" if s else ""} for x, s in shares.items()).encode(
            x=alt.X("x:N", sort=list(name.values()), title=title, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title=None, axis=alt.Axis(**PERCENT), scale=top),
        )
        bars, labels = base.mark_bar(color=BLUE), base.mark_text(dy=-7).encode(text="label:N")
        return alt.layer(bars, labels).properties(height=170)

    models = grouped(rows, "model")
    return chart({f"{m}, n {sum(row[counted] for row in own):,}": own for m, own in models.items()}, draw)


def curves(lines: Mapping[tuple[str, str], Rows]) -> Chart:
    """A panel per model, a line per measure. (model, measure) to rows: measure, step, value."""
    measures, panels = dict.fromkeys(measure for _, measure in lines), {}
    for model in dict.fromkeys(model for model, _ in lines):
        own = [line for (name, _), line in lines.items() if name == model]
        (first, last), steps = ends(own[0]), own[0][-1]["step"]
        title = for_terminal(f"{model}: {first:.3g} → {last:.3g} in {steps:,} step{'s' * (steps > 1)}")
        panels[title] = [row for line in own for row in line[:: -(-len(line) // POINTS)]]

    def draw(own: Rows) -> Any:
        steps = sorted({row["step"] for row in own})
        ticks: dict[str, Any] = {"values": steps} if len(steps) < 8 else {"tickCount": 5}
        base = data({**row, "colour": COLOURS[row["measure"]]} for row in own).encode(
            x=alt.X("step:Q", axis=alt.Axis(format=",d", grid=False, **ticks)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format=".3~g", tickCount=5)),
            color=alt.Color("colour:N", scale=None),
        )
        return alt.layer(base.mark_line(strokeWidth=2, point=len(steps) < 40)).properties(height=170)

    return chart(panels, draw, {name: COLOURS[name] for name in measures} if len(measures) > 1 else {})


def ends(line: Rows) -> tuple[float, float]:
    """Mean of the first and of the last tenth of a line: single steps are noisy."""
    tenth = max(len(line) // 10, 1)
    first, last = (sum(row["value"] for row in part) / tenth for part in (line[:tenth], line[-tenth:]))
    return first, last


def chart(panels: Mapping[str, Rows], draw: Callable[[Rows], Any], legend: Mapping[str, str] = {}) -> Chart:
    """`draw` makes the Altair chart of a panel, with every property but its width."""
    widths = WIDTHS.get(len(panels), (310,))
    drawn = (Panel(title, tuple(svg(draw(rows).properties(width=w)) for w in widths)) for title, rows in panels.items())
    return Chart(tuple(drawn), tuple(legend.items()))


def grouped(rows: Rows, column: str) -> dict[str, Rows]:
    """Rows by the value of `column`, in order of appearance."""
    return {
        value: [row for row in rows if row[column] == value] for value in dict.fromkeys(row[column] for row in rows)
    }


def data(values: Iterable[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=list(values)))


def drawable(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Control and format characters written out: a NUL in a label aborts the drawing, a direction mark turns others."""
    return [{k: for_terminal(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]


def svg(chart: Any) -> str:
    """The chart in the page's colours. The page tells a screen reader its title and its table: marks are silent."""
    fit = {"type": "fit", "contains": "padding"}
    return drawn(chart, ink="currentColor", autosize=fit).replace("<svg ", '<svg aria-hidden="true" ', 1)


def drawn(chart: Any, *, ink: str, **options: Any) -> str:
    """The chart as SVG, its texts in the colour `ink`, on whatever is behind it; the same bytes each time."""
    out = io.StringIO()
    axis = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "domainColor": "#888", "tickColor": "#888"}
    chart.configure(
        padding=2,
        background="transparent",
        font="system-ui, sans-serif",
        view={"stroke": None},
        text={"color": ink, "fontSize": 12},
        axis={**axis, "gridColor": "#8883"},
        legend={"labelColor": ink, "titleColor": ink},
        **options,
    ).save(out, format="svg")
    return out.getvalue()
