"""check --model: what a model brings, what is put right on intake, and one exchange as it is trained and answered.

    srlm check --model DIR_OR_FILE_OR_REPO_OR_NAME

The same code as in `get_model` and `get_external` works on a copy of the small files; weights that are here are read,
those of a repository are not downloaded.
"""

from __future__ import annotations

import json
import re
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from stages.commands.disk import on_disk
from stages.commands.profile import REPO
from stages.config.load import load_params
from stages.config.params import Params
from stages.console.errors import ModelError, ParamsError, SrlmError
from stages.console.terminal import stderr
from stages.store.weights import file_faults, weight_faults
from stages.text.escape import for_terminal

SHOWN = 12
"""Control tokens that are listed for people."""


def show(place: str, root: Path, *, as_json: bool = False) -> None:
    """Print what was found. Exits with 1 where the model cannot be used."""
    facts: dict[str, Any]
    try:
        facts = {"ok": True, **look(place, root)}
    except SrlmError as e:
        if not as_json:
            raise
        facts = {"ok": False, "model": place, "fault": str(e)}
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(facts)))
        stderr.print("It can be used. Can it judge? Set it in params.yaml, then: srlm preview judge_seed")
    if not facts["ok"]:
        raise SystemExit(ModelError.exit_code)


def look(place: str, root: Path) -> dict[str, Any]:
    """Facts of the model that `place` names: a folder, a .gguf file, a repository on the Hub, or a name in params.yaml
    or data/models. Raises SrlmError where it cannot be used."""
    from stages.models import checkpoint, intake, lora

    try:
        params: Params | None = load_params(root)
    except ParamsError:  # a model can be looked at without
        params = None
    source, path, revision = _find(place, params, root)
    day = date.fromisoformat(params.template_date) if params else date.today()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / re.sub(r"[^\w.-]", "_", Path(path).resolve().name or "model")
        folder.mkdir()
        merged: list[str] = []
        if source == "hub":
            weights = _small_files(path, revision, folder)
            if under := lora.base_of(folder, downloaded=True):
                base = folder.parent / "base"
                base.mkdir()
                weights = _small_files(under.name, under.revision, base)
                lora.take_files(folder, base)
                merged = [f"its LoRA adapter goes into the weights of {under}"]
        else:
            if source == "gguf":
                checkpoint.from_gguf(Path(path), folder)
            else:
                _link(Path(path), folder)
                merged = lora.merge(folder, lora.base_of(Path(path)), {})
            if faults := weight_faults(folder):
                raise ModelError(f"{place}: " + "; ".join(faults))
            weights = on_disk(folder).weights
        found = intake.complete(folder, day)
    return {
        "model": place,
        "architecture": found.architecture,
        "parameters": weights,
        "weights_read": source != "hub",
        "context": found.context,
        "template": found.template,
        "exchange": intake.describe(found),
        "turn_ends_with": found.turn.stop,
        "stops": found.stops,
        "control": list(found.control),
        "put_right": merged + found.mended,
    }


def _find(place: str, params: Params | None, root: Path) -> tuple[str, str, str | None]:
    """(local, gguf or hub; path or repository; revision) of what `place` names."""
    named = params.input_models.get(place) if params else None
    if named is not None and named.source in ("local", "gguf"):
        return named.source, str(root / named.path), None
    if named is not None and named.source == "hub":
        return "hub", str(named.repo), named.revision
    for folder in (root / place, root / "data/models" / place):
        if folder.is_dir():
            return "local", str(folder), None
    if (root / place).is_file():
        return "gguf", str(root / place), None
    if named is not None and named.source == "server":
        raise ModelError(f"--model {place}: a server has it, which tells nothing of its files")
    if named is not None:
        raise ModelError(f"--model {place}: the run makes it, and has not yet. Type: srlm repro get_model@{place}")
    repo, _, revision = place.partition("@")
    if REPO.fullmatch(place):
        return "hub", repo, revision or None
    names = f", or one of {', '.join(params.input_models)}" if params else ""
    raise ModelError(f"--model {place}: expected a folder, a .gguf file, a repository as ORG/NAME{names}")


def _link(source: Path, folder: Path) -> None:
    """The files that intake reads, copied; the weights, which it only reads, linked."""
    from stages.models import checkpoint

    faults = file_faults(source)
    if faults:
        raise ModelError(f"{source}: " + "; ".join(faults))
    checkpoint.copy_local(source, folder, weights=False)
    for file in [*source.glob("*.safetensors*"), *source.glob("adapter/*.safetensors")]:
        target = folder / file.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(file.resolve())


def _small_files(repo: str, revision: str | None, folder: Path) -> int | None:
    """Download all but the weights; returns how many parameters the Hub says there are."""
    from huggingface_hub import HfApi, snapshot_download

    from stages.models import checkpoint, lora

    try:
        info = HfApi().model_info(repo, revision=revision)
        small = [pattern for pattern in checkpoint.ALLOWED if not pattern.endswith(".safetensors")]
        cached = snapshot_download(repo, revision=info.sha, allow_patterns=small)
    except Exception as e:  # network, authentication, gating, unknown names: dozens of types
        raise ModelError(
            f"{repo} cannot be looked at: {type(e).__name__}: {' '.join(str(e).split())[:300]}. Is it the name of a "
            f"folder here? Else check the name and the network, or log in: hf auth login"
        ) from None
    names = [file.rfilename for file in info.siblings or ()]
    lora.refuse_beside_weights(repo, names)
    if not any(name.endswith(".safetensors") for name in names):
        raise ModelError(f"{repo} has no *.safetensors. Pickled weights are not loaded; use a revision that has them")
    checkpoint.copy_local(Path(cached), folder, weights=False)
    return info.safetensors.total if info.safetensors else None


def _lines(facts: dict[str, Any]) -> list[str]:
    size = f"{facts['parameters'] / 1e6:,.1f} M parameters" if facts["parameters"] else "of unknown size"
    weights = "all weights read" if facts["weights_read"] else "weights not downloaded, so not looked at"
    control = facts["control"]
    listed = " ".join(control[:SHOWN]) + (f" and {len(control) - SHOWN} more" if len(control) > SHOWN else "")
    rows = [
        ("model", f"{facts['model']}: {facts['architecture']}, {size}, context {facts['context'] or 'without limit'}"),
        ("weights", weights),
        ("template", facts["template"]),
        ("turn ends", facts["turn_ends_with"]),
        ("stops at", ", ".join(f"{token} ({i})" for token, i in facts["stops"].items())),
        ("broken up", f"in texts of data and models: {listed}"),
        *(("put right", sentence) for sentence in facts["put_right"]),
        ("exchange", "as it is asked and trained, control tokens marked"),
    ]
    lines = [f"{name:<10} {for_terminal(str(value))}" for name, value in rows]
    return lines + [f"  | {for_terminal(line)}" for line in facts["exchange"].split("\n")]
