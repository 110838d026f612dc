"""The page: one Jinja template filled once, with autoescape on. Scripts and styles are ours, inlined, and the only ones
that the page's policy lets run."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.page.answer import Answer
from stages.page.sections import Section
from stages.text.escape import for_terminal

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Page:
    title: str
    answer: Answer
    loop: tuple[dict[str, Any], ...]
    """AIFT by AIFT: model, prompts, candidates, judgements, judge, pairs, trains (names)."""
    sections: tuple[Section, ...]
    lineage: tuple[dict[str, Any], ...]
    """The lineage.json of each model."""
    revision: dict[str, str]
    params: str
    pairs_json: str = "[]"
    pairs_shown: int = 0
    pairs_total: int = 0
    models: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Served:
    """What the page of `srlm watch` is beside a file: its script asks the server for what is new."""

    version: str
    """Of what is shown; the page asks for itself again when it is another."""
    live: bool
    """Whether stages may run."""
    token: str = ""
    """With which a pair may be labelled; none, and it is not."""


def render(page: Page, other: Page | None = None, served: Served | None = None) -> str:
    """The whole HTML file; with `other` two versions side by side, which are served."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (HERE / "page.css").read_text(encoding="utf-8")
    template = environment().get_template("page.html.jinja")
    policy = f"{POLICY}; script-src 'sha256-{digest}'" + ("; connect-src 'self'" if served else "")
    return template.render(
        page=page,
        sides=[page, other] if other else [page],
        served=served,
        script=Markup(script),
        policy=Markup(policy),
        style=Markup(style),
    )


@cache
def environment() -> Environment:
    jinja = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    jinja.filters["text"] = shown
    jinja.filters["code"] = code
    jinja.filters["drawn"] = Markup  # an SVG that our own charts drew
    return jinja


def shown(value: Any) -> str:
    """A value as text: figures rounded, control and format characters written out; autoescape does the rest."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return (f"{value:z.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")
    return f"{value:,}".replace("-", "−") if isinstance(value, int) else for_terminal(str(value))


def code(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(for_terminal(text)))))
