"""Reads and checks `params.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.config.explain import explain
from stages.config.finding import Finding, listing, nearest
from stages.config.params import Params, merge_role_engines
from stages.config.rules import faults
from stages.console.errors import ParamsError

PARAMS = "params.yaml"
START = "or start from a profile: srlm profile tiny"
T = TypeVar("T")


def load_params(root: Path = Path(), file: str = PARAMS) -> Params:
    """Read and check `params.yaml` under `root`. Raises ParamsError with a line per fault."""
    params, findings = examine(root, file)
    if findings:
        raise ParamsError(f"{listing(findings, root / file)}\nFix {file}, {START}")
    return params


def examine(root: Path = Path(), file: str = PARAMS) -> tuple[Params, list[Finding]]:
    """The parameters and all that is wrong in them. A section that is wrong in itself is absent from the object, as are
    findings that depend on it. Raises ParamsError when the file is no YAML mapping."""
    data = read_yaml(root, file)
    try:
        params = Params.model_validate(data)
    except ValidationError as e:
        faulty, merged = {error["loc"][0] for error in e.errors()}, merge_role_engines(data)
        sound = Params.model_construct(
            None,
            **{
                name: TypeAdapter[Any](field.annotation or Any).validate_python(merged[name])
                for name, field in Params.model_fields.items()
                if name in merged and name not in faulty
            },
        )
        return sound, [*explain(e, Params), *faults(sound, partial=True)]
    return params, faults(params)


def read_yaml(root: Path, file: str = PARAMS) -> dict[str, Any]:
    """The file's mapping. Raises ParamsError when there is none."""
    path = root / file
    try:  # the reader that DVC uses: 1e-4 is a number in it
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"no {file} in {root.resolve()}. Run this from the project's folder, or copy a profile: srlm profile tiny"
        ) from None
    except OSError as e:
        raise ParamsError(f"{path} cannot be read: {e.strerror}. Expected a file that you may read, {START}") from None
    except MarkedYAMLError as e:
        at = f", line {e.problem_mark.line + 1}, column {e.problem_mark.column + 1}" if e.problem_mark else ""
        raise ParamsError(f"{path} is not YAML{at}: {e.problem}. Fix it there, {START}") from None
    except (YAMLError, ValueError, RecursionError) as e:
        raise ParamsError(f"{path} is not YAML: {e}. Fix it, {START}") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path} holds {type(data).__name__}, not a mapping of sections. Fix it, {START}")
    return data


def read_mapping(path: Path) -> dict[str, Any] | None:
    """The mapping in a YAML file, unchecked; None where there is none to read."""
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def agree(option: str, seen: str, key: str, wanted: str) -> None:
    """Raises ParamsError where a verb's option is not what params.yaml says."""
    if seen != wanted:
        raise ParamsError(
            f"{option} is {seen!r}, and {key} in params.yaml is {wanted}. Run it as dvc.yaml does: dvc repro"
        )


def entry(mapping: dict[str, T], section: str, name: str) -> T:
    """`mapping[name]`. Raises ParamsError that names the nearest entry, or all."""
    if name not in mapping:
        near = nearest(name, mapping)
        raise ParamsError(
            f"{section} in params.yaml has no entry {name!r}"
            + (f"; did you mean {near}?" if near else f"; there are: {', '.join(mapping) or 'none'}")
        )
    return mapping[name]
