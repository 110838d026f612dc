"""Files and folders that `params.yaml` names, looked at before anything runs: DVC would hash them only when their stage
starts, and hang at a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stages.config.finding import Finding, listing
from stages.config.params import Params
from stages.console.errors import ParamsError

TEMPLATE_BYTES = 1_000_000
WRITTEN = (
    ".git",
    ".dvc",
    *(f"data/{name}" for name in ["IFT", "EFT", "TEST", "AIFT", "EVAL", "models", "metrics", "plots", "cache", "logs"]),
)
EXPECTED = {
    "template": "a text file",
    "file": "a file of ranked answers",
    "model": "a model's folder",
    "gguf": "a GGUF file",
    "code": "code of the project",
    "launch": "a config of accelerate",
}


def faults(p: Params, root: Path) -> list[Finding]:
    """What is wrong with the paths of `p`, of which sections may be absent."""
    return [Finding(key, *fault) for key, path, want in _named(p) if (fault := _fault(root.resolve(), path, want))]


def require(p: Params, root: Path) -> None:
    """Raises ParamsError with all that is wrong with the paths of `p`: under plain `dvc repro` the first stages ask."""
    if findings := faults(p, root):
        raise ParamsError(f"{listing(findings, 'params.yaml')}\nEverything else is looked at by: srlm check")


def _named(p: Params) -> Iterator[tuple[str, str, str]]:
    """Key, path, and what it should be, a key of EXPECTED."""
    for section in ("judge", "write_prompts"):
        if hasattr(p, section):
            yield f"{section}.template", getattr(p, section).template, "template"
    if hasattr(p, "judge_pairs"):
        yield "judge_pairs.meta_judge.template", p.judge_pairs.meta_judge.template, "template"
    if hasattr(p, "judge_seed") and not p.judge_seed.model and not p.judge_seed.path.startswith("data/"):
        yield "judge_seed.path", p.judge_seed.path, "template" if p.judge_seed.source == "ranks" else "code"
    if hasattr(p, "split_seed"):
        yield "split_seed.path", p.split_seed.path, "file" if p.split_seed.source == "file" else "code"
    if hasattr(p, "hardware") and (launch := p.hardware.launch) and launch.endswith(".yaml"):
        yield "hardware.launch", launch, "launch"
    for name, model in p.base.items() if hasattr(p, "base") else ():
        yield f"base.{name}.path", model.path, {"local": "model", "gguf": "gguf"}.get(model.source, "code")


def _fault(root: Path, path: str, want: str) -> tuple[str, str] | None:
    """(what was seen, what to set); None when the path can be used as what is wanted, a key of EXPECTED."""
    wanted = f"expected {EXPECTED[want]}"
    if not path.strip() or not path.isprintable():
        return f"{wanted}, seen {path!r}", "Name one"
    full = Path(os.path.normpath(root / path))
    if want in ("template", "code") and not full.is_relative_to(root):
        return f"{path} is outside of the project, where git does not version it", "Copy it into the project"
    if want == "code" and not full.is_relative_to(root / "stages"):
        seen = f"{path} would never be read: with this source, path names the code under stages/"
        return seen, "For data of yours set source to file, for a model to local"
    try:
        about = full.stat()
        real = full.resolve()
        for place in WRITTEN:
            if real.is_relative_to(root / place) or (root / place).is_relative_to(real):
                return f"{path} is, holds, or lies in {place}, which the run writes", "Keep it elsewhere"
        if not (full.is_file() or full.is_dir()):
            return f"{path} is a pipe or a device, which would never end; {wanted}", "Name a regular file"
        if want in ("template", "file", "gguf", "launch"):
            if full.is_dir():
                return f"{path} is a folder; {wanted}", "Name a file in it"
            with full.open("rb") as file:
                start = file.read(TEMPLATE_BYTES)
        if want == "template" and about.st_size > TEMPLATE_BYTES:
            return f"{path} has {about.st_size:,} bytes; a template has at most {TEMPLATE_BYTES:,}", "Name another"
        if want == "template":
            start.decode("utf-8")
        if want == "file" and not start:
            return f"{path} is empty; {wanted}", "Name another"
        if want == "gguf" and start[:4] != b"GGUF":
            return f"{path} does not begin as a GGUF file does; {wanted}", "For a folder set source to local"
        if want == "model":
            if not any((full / file).is_file() for file in ("config.json", "adapter_config.json")):
                return f"{path} is no model: it has no config.json", "Name a folder as save_pretrained writes it"
            for each in full.rglob("*"):
                if not each.is_dir() and not (each.is_file() and os.access(each, os.R_OK)):
                    seen = f"{path} holds {each.relative_to(full)}, which is no file that can be read"
                    return seen, "Remove it, if it is a pipe or a broken link, or give yourself the right to read it"
    except UnicodeDecodeError as e:
        return f"{path} is not UTF-8 text, from byte {e.start} on", "Save it as UTF-8"
    except (OSError, RuntimeError) as e:
        gone = isinstance(e, FileNotFoundError | NotADirectoryError)
        why = "is not there" if gone else f"cannot be read: {e.strerror if isinstance(e, OSError) else e}"
        return f"{path} {why}; {wanted}", "A path begins in the project's folder; ~ is not followed"
    return None
