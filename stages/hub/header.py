"""The metadata at the top of a card, as people wrote them: what is not ours keeps its letters, its order and its
comments."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import yaml
from huggingface_hub.utils import yaml_dump


def rewritten(text: str, values: Mapping[str, Any]) -> str:
    """The YAML mapping `text` with these values: an entry that has its value already is left as it is; one that has
    another is written anew in its place, or taken out for None; new ones come last. What cannot be changed by its lines
    (`{a: 1}`, anchors) is written anew as a whole.

    Raises yaml.YAMLError for what is no YAML.
    """
    there = yaml.safe_load(text) or {}
    changed = {key: value for key, value in values.items() if there.get(key) != value}
    wanted = {key: value for key, value in {**there, **changed}.items() if value is not None or key not in changed}
    made = "\n".join(
        [*_kept(text, changed), *_dumped({key: value for key, value in changed.items() if key not in there})]
    )
    try:
        return made if yaml.safe_load(made) == wanted else "\n".join(_dumped(wanted))
    except yaml.YAMLError:
        return "\n".join(_dumped(wanted))


def _kept(text: str, changed: Mapping[str, Any]) -> list[str]:
    """The lines of a text, those of changed entries replaced. Comments above an entry stay."""
    lines = text.split("\n") if text.strip() else []
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = [(key.value, key.start_mark.line) for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    made = lines[: entries[0][1]] if entries else lines
    for (name, start), (_, end) in pairwise([*entries, ("", len(lines))]):
        entry = lines[start:end]
        if name in changed:
            after = len(entry)
            while after > 1 and (not entry[after - 1].strip() or entry[after - 1].startswith("#")):
                after -= 1
            entry = (
                _dumped({key: value for key, value in changed.items() if key == name and value is not None})
                + entry[after:]
            )
        made += entry
    return made


def _dumped(values: Mapping[str, Any]) -> list[str]:
    text = yaml_dump(dict(values), sort_keys=False, line_break="\n").strip()
    if yaml.safe_load(text) != values:  # PyYAML writes U+0085 and its like as they are, and reads spaces
        text = yaml.safe_dump(dict(values), sort_keys=False).strip()
    return text.split("\n") if values else []
