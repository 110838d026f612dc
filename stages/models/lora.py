"""A LoRA adapter becomes a part of the weights that it is for, so that what is trained, judged and published is one
model: `adapter/` in a model's folder, or a folder that holds an adapter alone and names its base."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from stages.console.errors import ModelError
from stages.models.checkpoint import TOKENIZER, copy_local, snapshot
from stages.models.model_files import json_object

CONFIG = "adapter_config.json"
STORED = re.compile(
    r"(?:base_model\.model\.)?(.+?)(?:\.(?:base_layer|modules_to_save|original_module))*"
    r"\.(?:lora_\w+(?:\.weight|\.bias)?|weight|bias)"
)
"""A weight of an adapter, with its module."""


class Base(NamedTuple):
    """What an adapter alone is for."""

    name: str
    """A folder, or a repository on the Hub."""
    revision: str | None
    """Of the repository: what adapter_config.json asks for; once it was fetched, its commit. None for a folder."""
    folder: Path | None
    """None where it must be fetched."""

    def __str__(self) -> str:
        return self.name + (f" at {self.revision}" if self.revision else "")


def base_of(folder: Path, *, downloaded: bool = False) -> Base | None:
    """What adapter_config.json in `folder` names: a path that begins in that folder or here, else a repository; a
    `downloaded` one names no path here. None where there is no such file. Raises ModelError."""
    if not (folder / CONFIG).is_file():
        return None
    refuse_beside_weights(folder.name, [CONFIG, *(file.name for file in folder.glob("*.safetensors"))])
    config = json_object(folder / CONFIG)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not (isinstance(name, str) and name and isinstance(revision, str | None)):
        raise ModelError(
            f"{folder / CONFIG}: base_model_name_or_path is {name!r:.80}, revision {revision!r:.80}. Expected the "
            f"model that it was trained on: a folder, or a repository on the Hub and a commit of it or null"
        )
    places = () if downloaded else (folder / name, Path(name))
    here = next((place for place in places if place.is_dir()), None)
    return Base(name, None if here else revision, here)


def refuse_beside_weights(name: str, files: Collection[str]) -> None:
    """Raises ModelError where `files` of a model are an adapter's and a whole model's."""
    if CONFIG in files and any(f.endswith(".safetensors") and f != "adapter_model.safetensors" for f in files):
        raise ModelError(
            f"{name}: {CONFIG} lies beside full weights, over which transformers would load another model. Delete it "
            f"and adapter_model.safetensors if they are merged already, else move both into the folder adapter/"
        )


def fetch(base: Base) -> Base:
    """`base` with its files here, and with the commit that they are of."""
    if base.folder:
        return base
    folder = snapshot(base.name, base.revision)
    return base._replace(folder=folder, revision=folder.name)


def take_files(folder: Path, base: Path) -> None:
    """What the adapter alone in `folder` has not. Its own tokenizer, with the template that it was trained with, is not
    mixed with the base's."""
    whose = (folder, base) if (folder / "tokenizer_config.json").is_file() else ()
    own = {file.name for place in whose for pattern in TOKENIZER for file in place.glob(pattern)}
    copy_local(base, folder, weights=False, but={*own, CONFIG})
    (folder / CONFIG).unlink()


def merge(folder: Path, base: Base | None, notes: dict[str, Any]) -> list[str]:
    """Merge the adapter in `folder`, which stands alone where it has a `base`, and note of which revision that was;
    returns a sentence, or none where there is no adapter. Raises ModelError."""
    adapter = folder if base else folder / "adapter"
    if not (adapter / CONFIG).is_file():
        return []
    try:
        from peft import PeftModel, get_peft_model_state_dict
        from peft.utils import load_peft_weights
    except ModuleNotFoundError:
        raise ModelError(
            f"{folder.name}: a LoRA adapter needs the package peft. Type: pip install -c constraints.txt -e '.[peft]'"
        ) from None
    from transformers import AutoModelForCausalLM

    try:
        base = fetch(base) if base else None
        below = (base and base.folder) or folder
        if base and any((below / name).exists() for name in (CONFIG, "adapter")):
            raise ValueError("which has an adapter itself; merge that first")
        auto_model: Any = AutoModelForCausalLM
        kinds = {
            "dtype": dtype_of(below),
            "local_files_only": True,
            "use_safetensors": True,
            "trust_remote_code": False,
        }
        model = auto_model.from_pretrained(below, **kinds)
        rows = _tokens(folder) if base else 0
        if rows > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(rows, mean_resizing=False)  # it brings those of the tokens that it adds
        stored, modules = load_peft_weights(str(adapter), device="cpu"), {name for name, _ in model.named_modules()}
        if astray := sorted(key for key in stored if (of := STORED.fullmatch(key)) and of[1] not in modules):
            kind = (model.config.architectures or [type(model).__name__])[0]
            raise ValueError(f"{len(astray)} of its weights are for modules that {kind} has not, first {astray[0]}")
        peft_model: Any = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
        placed = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
        if astray := sorted(key for key in {*stored} ^ {*placed} if "lora_" in key):
            raise ValueError(f"{len(astray)} of its weights and its base's do not fit together, first {astray[0]}")
        merged = peft_model.merge_and_unload(safe_merge=True)
    except Exception as e:  # a missing base, other shapes, no network: dozens of types
        raise ModelError(
            f"{folder.name}: the LoRA adapter cannot be merged into {base or 'the weights beside it'} "
            f"({type(e).__name__}: {' '.join(str(e).split())[:300]}). It needs the model that it was trained on: "
            f"base_model_name_or_path in {CONFIG}"
        ) from None
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    if base:
        take_files(folder, below)
    else:
        shutil.rmtree(adapter)
    merged.save_pretrained(folder)
    if base:
        notes["adapter_base"] = {"name": base.name, "revision": base.revision}
    return [f"its LoRA adapter is merged into the weights of {base or 'its folder'}"]


def dtype_of(folder: Path) -> str:
    """What most of the weights in `folder` are stored in. What config.json says, which `auto` takes, may be less: they
    would be rounded."""
    from safetensors import safe_open

    numbers: Counter[str] = Counter()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # it is no mapping
                part = weights.get_slice(name)
                numbers[part.get_dtype()] += prod(part.get_shape())
    known = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    return known.get(max(numbers, key=numbers.__getitem__, default=""), "auto")


def _tokens(folder: Path) -> int:
    """How many tokens the tokenizer in `folder` has; 0 where there is none."""
    from transformers import AutoTokenizer

    if not any(folder.glob("tokenizer.*")):
        return 0
    return len(AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
