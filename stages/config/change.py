"""Changes to params.yaml as people type them, `sample_candidates.n=4`: read, combined, and written into a file whose
comments stay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from stages.config.finding import nearest
from stages.console.errors import ParamsError

Change = dict[str, Any]
"""Dotted key of params.yaml to its value."""


class _Nulls(RoundTripRepresenter):
    """Writes null as `null`, as the profiles do, and not as nothing."""


_Nulls.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))


def parse(words: Sequence[str], params: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Key to its values, in YAML and separated by commas: `seed=1,2,3`, `write_prompts.stop=["*"]`. Raises ParamsError
    for what is no change, and for a key that `params` does not have; whether a value fits is not looked at."""
    changes: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ParamsError(f"{word!r} changes nothing. Expected KEY=VALUE, as sample_candidates.n=4")
        if key in changes:
            raise ParamsError(f"{key} is given twice. All its values in one, as {key}=1,2")
        _check_key(key, params)
        try:  # the reader that DVC uses: 1e-4 is a number in it
            values = YAML(typ="safe", pure=True).load(f"[{text}]")
        except (YAMLError, ValueError, RecursionError) as e:
            why = getattr(e, "problem", None) or e
            raise ParamsError(f"{word}: {text!r} is no value of YAML ({why}). Quote a text: {key}='\"a: b\"'") from None
        if not isinstance(values, list) or not values:
            raise ParamsError(f"{word} has no value. Expected one, or several behind commas; null is a value")
        changes[key] = list({written(value): value for value in values}.values())
    return changes


def combinations(changes: Mapping[str, Sequence[Any]]) -> list[Change]:
    """Each value of each key with every other: the last key changes first."""
    return [dict(zip(changes, values, strict=True)) for values in product(*changes.values())]


def written(value: Any) -> str:
    """A value on one line, equal for equal values only: 1, 1.0 and true are three."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str, separators=(",", ": "))


def words_of(change: Change) -> list[str]:
    """A change as it is typed, a word each: `seed=1`, `sample_candidates.n=4`."""
    return [f"{key}={_typed(value)}" for key, value in change.items()]


def _typed(value: Any) -> str:
    """A value as it would be typed: a text without quotes where it stays one."""
    try:
        plain = isinstance(value, str) and YAML(typ="safe", pure=True).load(f"[{value}]") == [value]
    except (YAMLError, ValueError):
        plain = False
    return value if plain else written(value)


def applied(params: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """`params` with the change."""
    result: dict[str, Any] = json.loads(json.dumps(params, default=str))
    for key, value in change.items():
        section, last = _place(result, key)
        section[last] = value
    return result


def write(source: Path, target: Path, change: Change) -> None:
    """Write params.yaml `source` with the change as `target`; comments, order and all else stay. Raises ParamsError for
    a key that it does not have."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes, yaml.Representer = 10_000, True, _Nulls
    params = yaml.load(source.read_text(encoding="utf-8"))
    for key, value in change.items():
        section, last = _place(params, key)
        section[last] = yaml.load(written(value))  # as the profiles write it: on one line
    with target.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def keys(params: Any, at: str = "") -> Iterator[str]:
    """All dotted keys, of sections, too."""
    for key, value in params.items() if isinstance(params, Mapping) else ():
        yield (name := f"{at}{key}")
        yield from keys(value, f"{name}.")


def _place(params: Any, key: str) -> tuple[Any, str]:
    """The section that holds a key, and its last part."""
    _check_key(key, params)
    *path, last = key.split(".")
    for part in path:
        params = params[part]
    return params, last


def _check_key(key: str, params: Mapping[str, Any]) -> None:
    section: Any = params
    parts = key.split(".")
    for i, part in enumerate(parts):
        if not isinstance(section, Mapping):
            whole = ".".join(parts[:i])
            how = f". Set it whole: {whole}={{{part}: ...}}" if section is None else ""
            raise ParamsError(f"params.yaml has no {key}: {whole} is {written(section)}, with nothing in it{how}")
        if part not in section:
            known = [*keys(params)]
            alike = [k for k in known if k.endswith(f".{parts[-1]}")]  # its section was forgotten
            near = nearest(key, alike, cutoff=0) or nearest(key, known)
            raise ParamsError(
                f"params.yaml has no {key}" + (f"; did you mean {near}?" if near else ". docs/configuration.md has all")
            )
        section = section[part]
