"""LoRA (arXiv 2106.09685) and QLoRA (2305.14314): an adapter is trained over weights that stay as they are.

A model that has one is its base's folder with `adapter/` in it; engines load both."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from stages.config.shared import Adapter
from stages.console.errors import ModelError, TrainingError

FOLDER = "adapter"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
INSTALL = "Type: pip install -c constraints.txt -e '.[{}]'"


def packages(folder: Path, adapter: Adapter | None, kernels: str | None = None) -> list[str]:
    """Those that beside torch decide a training of the model in `folder`, where it or the training has an adapter."""
    used: dict[str, Any] = {"peft": adapter or (folder / FOLDER).is_dir(), "liger-kernel": kernels}
    used |= {"bitsandbytes": adapter and adapter.quantize}
    return [name for name, is_used in used.items() if is_used]


def quantization(adapter: Adapter | None) -> dict[str, Any]:
    """What from_pretrained takes to hold the frozen weights in 4 bits. Raises TrainingError where that cannot be."""
    import torch

    if not (adapter and adapter.quantize):
        return {}
    if not torch.cuda.is_available():
        raise TrainingError("adapter.quantize: nf4 needs a CUDA device, and torch sees none. Set it to null")
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError:
        raise TrainingError(f"adapter.quantize: nf4 needs bitsandbytes. {INSTALL.format('qlora')}") from None
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    how = {"bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    quantized = config(load_in_4bit=True, bnb_4bit_quant_type="nf4", **how)
    gpu = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device()))  # of this process, which has taken none yet
    return {"quantization_config": quantized, "device_map": {"": gpu}}


def merges(folder: Path, adapter: Adapter | None) -> bool:
    """Whether the adapter in `folder` is merged into its weights before `adapter`, or all of them, are trained."""
    return (folder / FOLDER).is_dir() and not (adapter and adapter.parent_adapter == "continue")


def attach(model: Any, folder: Path, adapter: Adapter | None, seed: int, dtype: str) -> Any:
    """`model`, from `folder`, as it is to be trained: all of it, the folder's adapter merged in, or the adapter alone,
    a new one or the folder's. What is merged is float32, so that nothing is lost, and then frozen in `dtype`. Raises
    ModelError for one that does not fit the weights, TrainingError for one that cannot be continued as asked."""
    import torch

    has_one, merged = (folder / FOLDER).is_dir(), merges(folder, adapter)
    if not (adapter or has_one):
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError:
        raise TrainingError(f"LoRA adapters need the package peft. {INSTALL.format('peft')}") from None
    from transformers import set_seed

    from stages.trainers.masters import cast

    if has_one:
        model = _with_adapter(model, folder, None if merged else adapter)
    if merged:
        model = model.merge_and_unload(safe_merge=True).requires_grad_(True)
    if adapter is None:
        return model
    if merged:
        cast(model, getattr(torch, dtype))
    elif has_one:
        config = model.peft_config["default"]
        seen, asked = (config.r, config.lora_alpha), (adapter.r, adapter.alpha)
        if seen != asked:
            raise TrainingError(
                f"the adapter of {folder} has r {seen[0]} and alpha {seen[1]:g}, and r {asked[0]} and alpha "
                f"{asked[1]:g} are asked for. Set these, or parent_adapter: stack"
            )
        return model
    set_seed(seed)  # of its first weights
    modules = adapter.target_modules
    config = LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # any number
        lora_dropout=adapter.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as e:  # no such module
        raise TrainingError(f"adapter.target_modules {modules}: {' '.join(str(e).split())[:300]}") from None


def _with_adapter(model: Any, folder: Path, trained: Adapter | None) -> Any:
    """`model` under the adapter in its folder, which may be `trained` on. Raises ModelError where they do not belong
    together."""
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    try:
        stored = load_peft_weights(str(folder / FOLDER), device="cpu")
        config = LoraConfig.from_pretrained(str(folder / FOLDER))
        config.lora_dropout, config.inference_mode = trained.dropout if trained else 0.0, trained is None
        options = {"config": config, "is_trainable": trained is not None, "local_files_only": True}
        model = PeftModel.from_pretrained(model, folder / FOLDER, **options)
        placed = get_peft_model_state_dict(model, save_embedding_layers=False)
        if astray := sorted({*stored} ^ {*placed}):
            raise ValueError(f"{len(astray)} of its weights and the model's do not fit together, first {astray[0]}")
        return model
    except Exception as e:  # other shapes, a damaged file, a config of another PEFT: dozens of types
        raise ModelError(
            f"{folder / FOLDER} is no LoRA adapter of the model in {folder} ({type(e).__name__}: "
            f"{' '.join(str(e).split())[:300]}). Make it again with: dvc repro"
        ) from None


def save(model: Any, folder: Path, out: Path, adapter: Adapter | None, weights: dict[str, Any] | None = None) -> None:
    """What was trained from `folder`, into `out`: the model, in float32; with an adapter, merged in, or the folder's
    weights as they are and the adapter beside them. `weights`: the state_dict where it is not whole in `model`."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}  # gathered, they no longer share their memory
    given = {} if weights is None else {"state_dict": {name: weights[name] for name in weights if name not in tied}}
    if adapter is None:
        model.save_pretrained(out, **given)
        return
    model.peft_config["default"].base_model_name_or_path = ".."  # the weights beside it, wherever they are moved
    model.save_pretrained(out / FOLDER, selected_adapters=["default"], **given)
    (out / FOLDER / "README.md").unlink(missing_ok=True)  # a card of blanks
    _sort_modules(out / FOLDER / CONFIG)
    if (folder / FOLDER).is_dir() and adapter.parent_adapter == "stack":
        _stack(folder / FOLDER, out / FOLDER)
    if adapter.save == "merge":
        merge(folder, out)
    else:
        for pattern in ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"):
            for file in folder.glob(pattern):
                shutil.copyfile(file, out / file.name)


def _sort_modules(file: Path) -> None:
    """PEFT writes a set, in another order each time."""
    config = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(folder: Path, out: Path) -> None:
    """Merge the adapter in `out` into the weights of `folder`, in float32 and in the computer's memory: what was
    trained over quantized weights goes into the whole ones."""
    from transformers import AutoModelForCausalLM

    auto_model: Any = AutoModelForCausalLM
    local = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    model = _with_adapter(auto_model.from_pretrained(folder, dtype="float32", **local), out, None)
    model.merge_and_unload(safe_merge=True).save_pretrained(out)
    shutil.rmtree(out / FOLDER)


def _stack(below: Path, above: Path) -> None:
    """Make the adapter in `above`, which was trained over that in `below`, one for the weights below both: the sum of
    two products is the product of the matrices side by side, B1 A1 + B2 A2 = [B1 B2] [A1; A2]."""
    import torch
    from safetensors.torch import load_file, save_file

    configs = [json.loads((place / CONFIG).read_text(encoding="utf-8")) for place in (below, above)]
    stored = [load_file(place / WEIGHTS) for place in (below, above)]
    ranks = [config["r"] for config in configs]
    both: dict[str, torch.Tensor] = {}
    for name in sorted({*stored[0], *stored[1]}):
        down = name.endswith("lora_A.weight")
        like = stored[name not in stored[0]][name]
        parts = []
        for config, weights, rank in zip(configs, stored, ranks, strict=True):
            shape = (rank, like.shape[1]) if down else (like.shape[0], rank)
            part = weights.get(name, torch.zeros(shape, dtype=like.dtype))
            parts.append(part if down else part * (config["lora_alpha"] / rank))
        both[name] = torch.cat(parts, dim=0 if down else 1).contiguous()
    modules, rank = sorted({*configs[0]["target_modules"], *configs[1]["target_modules"]}), sum(ranks)
    config = configs[1] | {"r": rank, "lora_alpha": rank, "target_modules": modules}
    save_file(both, above / WEIGHTS, metadata={"format": "pt"})
    (above / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
