"""Reads and checks `params.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.config.checks import check_loops
from stages.config.explain import explain
from stages.config.params import Params
from stages.console.errors import ParamsError

PARAMS = "params.yaml"
T = TypeVar("T")


def load_params(root: Path = Path(), file: str = PARAMS) -> Params:
    """Read and check `params.yaml` under `root`.

    Raises ParamsError with one line per fault (key, what was seen, what is allowed).
    """
    path = root / file
    try:
        data = YAML(typ="safe", pure=True).load(
            path.read_text(encoding="utf-8")
        )  # the reader that DVC uses: 1e-4 is a number in it
    except FileNotFoundError:
        raise ParamsError(
            f"no {file} in {root.resolve()}. Run this from the project's folder, or copy a profile there: srlm profile "
            f"tiny"
        ) from None
    except (YAMLError, UnicodeDecodeError) as e:
        raise ParamsError(f"{path} is not YAML: {e}") from None
    if not isinstance(data, dict):
        raise ParamsError(
            f"{path} holds {type(data).__name__}, not a mapping of sections. Start from a profile: srlm profile tiny"
        )
    try:
        params = Params.model_validate(data)
    except ValidationError as e:
        raise ParamsError(explain(e, path, Params)) from None
    try:
        check_loops(params)
    except ValueError as e:
        raise ParamsError(f"{path}: {e}\nFix {path.name}, or start from a profile: srlm profile tiny") from None
    return params


def read_mapping(path: Path) -> dict[str, Any] | None:
    """The mapping in a YAML file, unchecked; None where there is none to read."""
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError):
        return None
    return data if isinstance(data, dict) else None


def entry(mapping: dict[str, T], section: str, name: str) -> T:
    """`mapping[name]`. Raises ParamsError that lists the names there are."""
    if name not in mapping:
        raise ParamsError(f"{section} in params.yaml has no entry {name}; there are: {', '.join(mapping)}")
    return mapping[name]
