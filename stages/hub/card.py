"""Cards: rendered from contracts and metrics, and put beside what people wrote in the repository's card, never over it.

Text of models and data is untrusted: every string that a template prints is escaped for Markdown, except what `code`
lets through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import RepoCard
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.console.errors import HubError
from stages.text.escape import for_markdown, for_terminal

NAME = "README.md"
TEMPLATES = Path(__file__).parents[1] / "templates"
BEGIN = (
    "<!-- srlm publish: what stands between these two lines is written anew each time; what stands above and below "
    "is yours -->"
)
END = "<!-- srlm publish: end -->"
BY_CONFIG = ("configs", "dataset_info")
"""Metadata that say what the repository holds, as a list with a `config_name` in each entry."""


def render(kind: str, **facts: Any) -> str:
    """Our section of the card: stages/templates/{kind}_card.md.jinja filled once with `facts`."""
    return environment().get_template(f"{kind}_card.md.jinja").render(**facts)


def merge(existing: str | None, section: str, metadata: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """The card with our `section` and `metadata` in it. `existing`: the card that is there; `before`: the metadata that
    we wrote last.

    Body: what stands between our two lines is replaced, all else stays; a card that has not got them gets the section
    at its end. Metadata: values that people wrote, changed or took away stay so, and so do configs of other names.
    Raises HubError for metadata that are no YAML mapping, and for broken lines.
    """
    before = before if existing is not None else {}
    card = parsed(existing if existing is not None else f"---\n{{}}\n---\n\n# {metadata.get('pretty_name', '')}\n")
    theirs = card.data.to_dict()
    for key in dict.fromkeys([*metadata, *before]):
        there, last, now = theirs.get(key), before.get(key), metadata.get(key)
        if key in BY_CONFIG:
            entries, gone = by_config(there), by_config(last).keys() - by_config(now)
            entries = {name: entry for name, entry in entries.items() if name not in gone}
            for name, entry in by_config(now).items():  # people may say which config is the default one
                entries[name] = entry | {
                    key: entries[name][key] for key in ("default",) if key in entries.get(name, {})
                }
            there = list(entries.values())
        elif key == "tags":
            tags, last, now = (list(map(str, as_list(some))) for some in (there, last, now))
            stay = [tag for tag in tags if tag in now or tag not in last]  # one of ours that is true no more goes
            there = list(dict.fromkeys([*stay, *(tag for tag in now if tag not in last)]))
        elif there == last:
            there = now  # None takes away what we wrote once
        card.data[key] = there
    return f"---\n{card.data.to_yaml(line_break=chr(10))}\n---\n{_replaced(card.text, section)}"


def by_config(entries: Any) -> dict[str, dict[str, Any]]:
    """The entries of `configs` or `dataset_info` by their config."""
    named = [entry for entry in as_list(entries) if isinstance(entry, dict)]
    return {str(entry.get("config_name", "default")): entry for entry in named}


def metadata_of(existing: str | None) -> dict[str, Any]:
    """The metadata of a card that is there; none for one that cannot be read."""
    try:
        return dict(parsed(existing).data.to_dict()) if existing else {}
    except HubError:
        return {}


def as_list(value: Any) -> list[Any]:
    """What the Hub takes alone or in a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def parsed(text: str) -> RepoCard:
    try:
        return RepoCard(text.removeprefix("\ufeff"))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as e:
        raise HubError(
            f"the metadata at the top of README.md are not readable ({' '.join(str(e).split())[:300]}). Fix them on "
            f"the Hub, then run the same command again"
        ) from None


def _replaced(body: str, section: str) -> str:
    ours = f"{BEGIN}\n\n{section.strip()}\n\n{END}"
    counts = body.count(BEGIN), body.count(END)
    if counts == (0, 0):
        return f"{body.rstrip()}\n\n{ours}\n"
    if counts != (1, 1) or body.index(BEGIN) > body.index(END):
        raise HubError(
            f"README.md holds a part of the lines that mark our section. Put both back, each once and in this order, "
            f"or delete both:\n{BEGIN}\n{END}"
        )
    return f"{body[: body.index(BEGIN)]}{ours}{body[body.index(END) + len(END) :]}"


@cache
def environment() -> Environment:
    """Strings are escaped as they are printed (`finalize`); numbers and what is `Markup` already are not."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown: finalize escapes
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {"code": code, "pre": pre, "ours": Markup, "number": number, "size": size}
    return jinja


def _shown(value: Any) -> Any:
    if value is None:
        return "–"
    return value if isinstance(value, (Markup, int, float)) else Markup(for_markdown(str(value)))


def code(text: str) -> Markup:
    """A name or a hash, printed as it is in code. Raises HubError for anything that could end the code."""
    if not re.fullmatch(r"[\w./:@+ ,=-]+", text):
        raise HubError(f"{text!r} cannot stand in a card's code")
    return Markup(text)


def pre(text: str) -> Markup:
    """Text of any kind, to stand inside <pre>."""
    return Markup(escape("\n".join(for_terminal(line) for line in text.split("\n"))))


def number(value: float | None, digits: int = 2) -> Markup:
    return Markup("–" if value is None else f"{value:,.{digits}f}")


def size(parameters: int) -> Markup:
    """0.3 M, 70.6 B."""
    return Markup(f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M")
