"""Cards: rendered from contracts and metrics, and put beside what people wrote in the repository's card, never over it.

Text of models and data is untrusted: every string that a template prints is escaped for Markdown, except what `code`
lets through.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.console.errors import HubError
from stages.hub import header
from stages.hub.configs import TYPES, Config
from stages.hub.remote import Kind
from stages.text.escape import for_markdown, for_terminal

NAME = "README.md"
TEMPLATES = Path(__file__).parents[1] / "templates"
BEGIN = (
    "<!-- srlm publish: what stands between these two lines is written anew each time; what stands above and below "
    "is yours -->"
)
END = "<!-- srlm publish: end -->"
ALWAYS_OURS = ("configs", "dataset_info")
"""Metadata that must say what the repository holds; each is a list with a `config_name` in its entries."""


def render(kind: Kind, **facts: Any) -> str:
    """Our section of the card. `facts` fill stages/templates/{kind}_card.md.jinja once; each must be given."""
    return environment().get_template(f"{kind}_card.md.jinja").render(**facts)


def metadata_of_configs(described: Iterable[tuple[Config, Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """`configs` and `dataset_info` of a dataset's card. Each config comes with its splits: `rows`, `bytes` in memory,
    `paths`, and `stored`, their bytes."""
    listed, infos = [], []
    for config, splits in described:
        paths = [{"split": name, "path": split["paths"]} for name, split in splits.items()]
        listed.append({"config_name": config.name, "data_files": paths})
        kinds = [(column.name, str(TYPES[column.dtype])) for column in config.table.columns]
        features = [
            {"name": name, "list": "string"} if kind.startswith("list") else {"name": name, "dtype": FEATURES[kind]}
            for name, kind in kinds
        ]
        infos.append(
            {
                "config_name": config.name,
                "features": features,
                "splits": [
                    {"name": name, "num_bytes": split["bytes"], "num_examples": split["rows"]}
                    for name, split in splits.items()
                ],
                "download_size": sum(split["stored"] for split in splits.values()),
                "dataset_size": sum(split["bytes"] for split in splits.values()),
            }
        )
    return {"configs": listed, "dataset_info": infos}


FEATURES = {"string": "string", "int32": "int32", "double": "float64"}


def merge(
    kind: Kind, existing: str | None, section: str, metadata: Mapping[str, Any], before: Mapping[str, Any]
) -> str:
    """The card with our `section` and `metadata` in it. `existing`: the card that is there; `before`: the metadata that
    we wrote last.

    Body: what stands between our two lines is replaced, all else stays; a card that has not got them gets the section
    at its end. Metadata: what people wrote, changed or took away stays so, with its comments, and so do configs of
    other names, those that we published once too: somebody reads them, and what people add to a config of ours
    (`default: true`). Raises HubError for a card whose metadata are no YAML, or whose lines are broken.
    """
    before = before if existing is not None else {}
    head, body = _parts(
        kind, existing if existing is not None else f"---\n{{}}\n---\n\n# {metadata.get('pretty_name', '')}\n"
    )
    found, new = yaml.safe_load(head) or {}, dict[str, Any]()
    for key in dict.fromkeys([*metadata, *before]):
        there, value = found.get(key), metadata.get(key)
        if key in ALWAYS_OURS:
            ours = [entry["config_name"] for entry in value or ()]
            named = {str(entry.get("config_name")): entry for entry in as_list(there) if isinstance(entry, dict)}
            others = [
                entry for entry in as_list(there) if not isinstance(entry, dict) or entry.get("config_name") not in ours
            ]
            new[key] = others + [{**named.get(entry["config_name"], {}), **entry} for entry in value or ()]
        elif key == "tags":
            tags, ours, still = (list(map(str, as_list(some))) for some in (there, before.get(key), value))
            kept = [tag for tag in tags if tag in still or tag not in ours]  # one of ours that is true no more goes
            new[key] = list(dict.fromkeys([*kept, *(tag for tag in still if tag in tags or tag not in ours)]))
        elif there == before.get(key):
            new[key] = value  # None takes away what we wrote once
    return f"---\n{header.rewritten(head, new)}\n---\n{_replaced(body, section)}"


def metadata_of(existing: str | None) -> dict[str, Any]:
    """The metadata of a card that is there; none for one that cannot be read."""
    try:
        return dict(_parsed("dataset", existing).data.to_dict()) if existing else {}
    except HubError:
        return {}


def files_read(text: str) -> list[str]:
    """Patterns of the files that the configs of a card read; any, for one that names none. Some are said within a
    folder: that is read either way."""
    found = []
    for entry in as_list(metadata_of(text).get("configs")):
        todo = [entry["data_files"]] if isinstance(entry, dict) and "data_files" in entry else ["*"]
        folder = entry.get("data_dir") if isinstance(entry, dict) else None
        while todo:
            named = todo.pop()
            if isinstance(named, str):
                found += [named, f"{folder}/{named}"] if isinstance(folder, str) else [named]
            else:
                todo += named.values() if isinstance(named, dict) else as_list(named)
    return found


def renamed(
    config: Config,
    published: Sequence[Mapping[str, Any]],
    ours: Container[str],
    suffix: str | None,
    taken: Container[str] = (),
) -> Config:
    """The config, under a new name if one that is `published` (as `dataset_info` has it) under this name has another
    schema or is not `ours`: that with `suffix`, or that which it got before. `ours`: names under which we published
    this config; `taken`: names of configs that are others.

    Raises HubError where there is neither.
    """
    (wanted,) = metadata_of_configs([(config, {})])["dataset_info"]
    schemas: dict[str, Any] = {
        str(info.get("config_name")): info.get("features") for info in reversed(published)
    }  # the first that tells counts
    names = [name for name in (config.name, *schemas) if name in ours and schemas.get(name) == wanted["features"]]
    if names or config.name not in schemas:
        return config._replace(name=next(iter(names), config.name))
    if suffix and (name := f"{config.name}_{suffix}") not in schemas and name not in taken:
        return config._replace(name=name)
    seen, needed = (
        [
            f"{feature.get('name')} {feature.get('dtype') or 'list'}"
            for feature in as_list(features)
            if isinstance(feature, dict)
        ]
        for features in (schemas[config.name], wanted["features"])
    )
    differs = ", ".join(sorted(set(seen) ^ set(needed))) or "their order"
    why = f"with other columns ({differs})" if config.name in ours else "by somebody else"
    raise HubError(
        f"config {config.name} is published {why}, and those who read it would break. Publish it under a new name "
        f"beside the old "
        f"one: --new-config {'a name that is not there yet' if suffix else 'v2'}"
    )


def as_list(value: Any) -> list[Any]:
    """What the Hub takes alone or in a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _parsed(kind: Kind, text: str) -> DatasetCard | ModelCard:
    try:
        return (DatasetCard if kind == "dataset" else ModelCard)(text.removeprefix("\ufeff"))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as e:
        raise HubError(
            f"the metadata at the top of README.md are not readable ({_line(e)}). Mend them on the Hub, then run the "
            f"same command again"
        ) from None


def _parts(kind: Kind, text: str) -> tuple[str, str]:
    """The metadata's text, and the body's. Raises HubError as `merge` does."""
    body = _parsed(kind, text).text
    head = REGEX_YAML_BLOCK.search(text.removeprefix("\ufeff"))
    return re.sub("\r\n?", "\n", head.group(2)) if head else "", body


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


def _line(e: Exception) -> str:
    return " ".join(str(e).split())[:300]


@cache
def environment() -> Environment:
    """Strings are escaped as they are printed (`finalize`); numbers and what is `Markup` already are not."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown: finalize escapes
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"code": code, "pre": pre, "percent": percent, "number": number}
    return made


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


def percent(share: float | None) -> Markup:
    return Markup("–" if share is None else f"{100 * share:.1f}")


def number(value: float | None, digits: int = 2) -> Markup:
    return Markup("–" if value is None else f"{value:,.{digits}f}")
