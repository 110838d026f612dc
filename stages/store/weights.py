"""Does every weight that a model's config describes lie in its safetensors files, in the right shape, and is it a
number? Libraries draw what is missing at random and go on, and NaN writes noise.

Names and shapes come from headers (torch's `meta` device): 70B take seconds. Then the values are read tensor by tensor,
which takes as long as reading the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model")
WRITES = re.compile("CausalLM|LMHead|ConditionalGeneration")
AGAIN = "Copy the whole checkpoint again"


def check_weights(folder: Path, name: str) -> None:
    """Raises ModelError, beginning with `name`, with every fault of `weight_faults`."""
    if faults := weight_faults(folder):
        raise ModelError(f"{name}: " + "; ".join(faults))


def weight_faults(folder: Path) -> list[str]:
    """What keeps the checkpoint in `folder` from being loaded as its author saved it, a sentence each.

    Files first; only where these are good, every weight's name and shape as transformers maps them, tied heads left
    out; only where these are good, the first value that is no number. A quantized checkpoint or one without a causal
    language model in transformers is looked at file by file only.
    """
    faults = file_faults(folder)
    quantized = "quantization_config" in _json(folder / "config.json")[0]
    faults = faults or ([] if quantized else _wrong_keys(folder))
    return faults or [*islice((fault for file in _files(folder) for fault in _not_numbers(file, quantized)), 1)]


def file_faults(folder: Path) -> list[str]:
    """What is wrong by config.json, the files' names and their headers alone: needs no torch, and no time."""
    config, fault = _json(folder / "config.json")
    if is_adapter(folder):  # merged on intake
        file = folder / "adapter_model.safetensors"
        absent = f"no {file.name} beside adapter_config.json; pickled weights are not loaded"
        fault = _damage(file) if file.is_file() else absent
        return [fault] if fault else []
    if fault:
        return [fault]
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if config.get("is_encoder_decoder") is True or ("For" in str(name) and not WRITES.search(str(name))):
        return [f"config.json describes {name or 'an encoder-decoder'}, expected a causal language model"]
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        return ["no tokenizer.json in the model's folder. Save the tokenizer there too, with save_pretrained"]
    if not any(folder.glob("*.safetensors")):
        return [
            "no *.safetensors in the model's folder. Pickled weights are not loaded; convert them with save_pretrained"
        ]
    faults = [fault for file in _files(folder) if (fault := _damage(file))]
    if (folder / INDEX).exists():
        faults += _absent_shards(folder)
    return faults


def is_adapter(folder: Path) -> bool:
    """Whether an adapter is all that it holds; a copy of its base's config.json may lie beside."""
    weights = {file.name for file in folder.glob("*.safetensors")} - {"adapter_model.safetensors"}
    return (folder / "adapter_config.json").is_file() and not weights


def _files(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("adapter/*.safetensors"))]


def _json(path: Path) -> tuple[dict[str, Any], str | None]:
    if not path.is_file():
        return {}, f"no {path.name} in the model's folder. Expected a transformers checkpoint"
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        return {}, f"{path.name} is not JSON ({e}). {AGAIN}"
    return (data, None) if isinstance(data, dict) else ({}, f"{path.name}: expected a JSON object. {AGAIN}")


def _damage(file: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    with file.open("rb") as f:
        start = f.read(len(POINTER))
    if not start:
        return f"{file.name} is empty. {AGAIN}"
    if start == POINTER:
        return f"{file.name} is a Git LFS pointer, not the weights. Where it comes from, run: git lfs pull"
    try:
        with safe_open(file, "numpy"):  # reads the header, and compares it with the length of the file
            return None
    except (SafetensorError, OSError) as e:
        return f"{file.name} is damaged or cut short ({e}; {file.stat().st_size:,} bytes). {AGAIN}"


def _not_numbers(file: Path, quantized: bool) -> Iterator[str]:
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            weight = tensors.get_tensor(name)
            if not weight.is_floating_point():
                if name.endswith("weight") and not quantized:
                    dtype = str(weight.dtype).removeprefix("torch.")
                    yield f"{file.name}: {name} is {dtype}, expected a floating-point dtype. {AGAIN}"
            # a scalar may be what masks (-inf in old checkpoints); codes of one byte are checked by who reads them
            elif weight.ndim and weight.numel() and weight.itemsize > 1:
                least, most = weight.aminmax()  # NaN when one is
                if not (least.isfinite() and most.isfinite()):
                    yield f"{file.name}: {name} holds NaN or infinity. {AGAIN}, or use another"


def _absent_shards(folder: Path) -> list[str]:
    index, fault = _json(folder / INDEX)
    if fault:
        return [fault]
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        return [f"{INDEX}: expected weight_map, from weights to files. {AGAIN}"]
    # a name with a folder in it would be read from elsewhere
    absent = sorted({name for name in shards.values() if Path(name).name != name or not (folder / name).is_file()})
    some = ", ".join(absent[:3]) + ("" if len(absent) <= 3 else ", ...")
    return [f"{INDEX} names {len(absent)} file(s) that are not in the folder: {some}. {AGAIN}"] if absent else []


def _wrong_keys(folder: Path) -> list[str]:
    import transformers

    logging: Any = transformers.utils.logging
    auto_model: Any = transformers.AutoModelForCausalLM
    plain: Any = transformers.GenerationConfig
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # its table of keys is for a person who asked for it
    logging.disable_progress_bar()
    try:
        model, loading = auto_model.from_pretrained(
            folder,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            generation_config=plain(),  # the file's is looked at on intake
        )
    except Exception as e:  # what a config can hold, dozens of types
        if "Unrecognized configuration class" in str(e):
            return []
        config = _json(folder / "config.json")[0]
        if "auto_map" in config:
            return [
                f"{config.get('model_type')} needs code of its repository (auto_map in config.json), which is never "
                f"run, and transformers {transformers.__version__} has none. Use a model that it knows, or a server"
            ]
        if isinstance(e, KeyError) and (where := [*_keys_of(config, e.args[0])]):
            return [f"config.json: {' and '.join(where)} is {e.args[0]!r}, which transformers does not know. {AGAIN}"]
        why = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
        return [f"config.json describes no model that transformers can build ({why}). {AGAIN}"]
    finally:
        logging.set_verbosity(level)
    keys, one_model = set(model.state_dict()), f"{AGAIN}, weights and config.json of one model"
    faults = []
    if missing := sorted(loading["missing_keys"], key=_by_number):
        faults.append(
            f"{len(missing)} of {len(keys)} weights that config.json describes are in none of the weight files and "
            f"would be random, first {missing[0]}. {one_model}"
        )
    if mismatched := sorted(loading["mismatched_keys"], key=lambda mismatch: _by_number(mismatch[0])):
        key, in_file, in_config = mismatched[0]
        faults.append(
            f"{len(mismatched)} weights have another shape in the file than in config.json and would be random, first "
            f"{key}: {list(in_file)} in the file, {list(in_config)} by config.json. {one_model}"
        )
    # other names are of other heads (a value head, a vision tower) and may stay behind; a layer may not
    layers = {_layer(key) for key in keys}
    if not any("#" in layer for layer in layers):  # a model of no layer at all
        layers = {layer for key in loading["unexpected_keys"] if "#" in (layer := _layer(key))}
    if spare := sorted((key for key in loading["unexpected_keys"] if _layer(key) in layers), key=_by_number):
        faults.append(
            f"the weight files hold {len(spare)} weights of layers that config.json does not describe, first "
            f"{spare[0]}. {one_model}"
        )
    return faults


def _keys_of(config: dict[str, Any], value: object, at: str = "") -> Iterator[str]:
    """Where `value` stands."""
    for key, one in config.items():
        if isinstance(one, dict):
            yield from _keys_of(one, value, f"{at}{key}.")
        elif one == value:
            yield at + key


def _layer(key: str) -> str:
    """The weight's name without the layer's number."""
    return re.sub(r"\d+", "#", key)


def _by_number(key: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in key.split(".")]
