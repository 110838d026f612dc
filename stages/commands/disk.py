"""About how much disk a whole run takes at most: as if everything had to be made anew, every text as long as it may
get. `srlm check` says it before a run starts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from rich.filesize import decimal

from stages.commands.workload import MOST, kept, works
from stages.config.params import Base, External, Params
from stages.console.terminal import stderr
from stages.store.catalog import model_dir


class Model(NamedTuple):
    """A model that the method does not train."""

    weights: int
    bytes: int


EMBEDDED = Model(weights=400_000, bytes=1_700_000)
"""What neither the tiny world's M0 nor the random one is larger than."""
HUB_S = 10.0
"""How long the Hub is waited for."""
BYTES_OF_TOKEN = 4
"""Of text, about; tables are compressed, so what they take is mostly less."""
BYTES_OF_WEIGHT = 4
"""Trained models are saved in float32, whatever `dtype` they are trained in."""
CHECKPOINT, MASTERS = 12, 2
"""Bytes of a weight in a checkpoint: 4 of its own and 8 of the optimizer's two sums; with masters 2, 4 and 8, a sixth
more."""


def look(root: Path, params: Params) -> list[str]:
    """Print what a whole run takes; return a sentence for each disk that has too little room."""
    sizes = {name: size_of(model, model_dir(root, name), root) for name, model in params.input_models.items()}
    models = {name: size for name, size in sizes.items() if size}
    needs, more = forecast(params, models), needed(root, params, models)
    unknown = ", ".join(sorted(sizes.keys() - models.keys()))
    stderr.print(
        f"disk: a whole run takes up to about {decimal(sum(more.values()))}, copies included "
        f"({', '.join(f'{what} {decimal(size)}' for what, size in needs.items())}"
        f"{f'; without {unknown} and models trained from there: the Hub did not tell their size' if unknown else ''})"
    )
    return too_little(more, held(root / "data"))


def forecast(params: Params, models: Mapping[str, Model]) -> dict[str, int]:
    """Bytes of one copy of each kind of file, at most. SFT and M1 are trained beside those of `models` and
    `positive_only`, all as large as M0."""
    trained = len(params.trained_models)
    tokens = int(sum(work.texts * work.most for work in works(params, MOST)))
    pairs = sum(2 * aift.prompts * params.sample_candidates.max_tokens for aift in params.aift.values())
    masters = "bfloat16_weights" in (params.train_sft.dtype, params.train_dpo.dtype)
    checkpoint = 2 * (CHECKPOINT + MASTERS * masters)  # until the second one has replaced the first
    if params.hardware.save_every_s is None or (params.train_sft.adapter and params.train_dpo.adapter):
        checkpoint = 0  # of an adapter: small
    weights = models["M0"].weights if "M0" in models else 0
    of_weights = {"trained models": trained * BYTES_OF_WEIGHT, "checkpoints": checkpoint}
    to_choose_from = max(kept(work, params) for work in works(params, MOST))
    of_weights |= {"models to choose from": to_choose_from * BYTES_OF_WEIGHT} if to_choose_from else {}
    return ({what: times * weights for what, times in of_weights.items()} if weights else {}) | {
        "given models": sum(model.bytes for model in models.values()),
        "tables": (tokens + pairs) * BYTES_OF_TOKEN,
        "cached completions": tokens * BYTES_OF_TOKEN,
    }


def needed(root: Path, params: Params, models: Mapping[str, Model]) -> dict[Path, int]:
    """Folders that grow, and their bytes at most: DVC's cache has a copy of what it versions, unless it links."""
    from dvc.config import Config, ConfigError

    try:
        config = Config(str((root / ".dvc").resolve())).get("cache", {}) if (root / ".dvc").is_dir() else {}
    except ConfigError:
        config = {}  # DVC will say what is wrong with it
    needs = forecast(params, models)
    cached = sum(needs.pop(what, 0) for what in ("cached completions", "checkpoints", "models to choose from"))
    versioned = sum(needs.values())
    links = config.get("type", ["reflink"])[0] in ("hardlink", "symlink")
    return {
        root / "data": cached + (0 if links else versioned),
        Path(config.get("dir") or root / ".dvc/cache"): versioned,
    }


def too_little(needs: Mapping[Path, int], there: int) -> list[str]:
    """A sentence for each disk that may get full; `there` is what each folder holds already."""
    disks: Counter[int] = Counter()
    where: dict[int, Path] = {}
    for folder, size in needs.items():
        exists = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        disk = exists.stat().st_dev
        disks[disk] += max(0, size - there)
        where.setdefault(disk, exists)
    return [
        f"up to {decimal(size)} more may be needed on the disk of {where[disk]}, which has {decimal(free)} left. Make "
        f"room (srlm cache --prune deletes cached completions, dvc gc --workspace --all-tags --all-branches what no "
        f"version names), or let DVC link instead of copy: dvc config cache.type hardlink,symlink"
        for disk, size in disks.items()
        if size > (free := shutil.disk_usage(where[disk]).free)
    ]


def size_of(model: Base | External, folder: Path, root: Path) -> Model | None:
    """From `folder`, where this entry of params.yaml made it; else from where it comes. None when the Hub cannot be
    asked."""
    if is_of(model, folder):
        return on_disk(folder)
    if isinstance(model, Base):
        if model.source == "gguf":  # 4 to 16 bits a weight become 32
            size = (root / model.path).stat().st_size if (root / model.path).is_file() else 0
            return Model(2 * size, 8 * size)
        return on_disk(root / model.path) if model.source == "local" else EMBEDDED
    if model.source == "server":
        return Model(0, 0)
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    from stages.models.checkpoint import TWICE

    try:
        info = HfApi().model_info(str(model.repo), revision=model.revision, files_metadata=True, timeout=HUB_S)
    except Exception:  # dozens of types; the stage that downloads will say which
        return None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    wanted = filter_repo_objects(sizes, allow_patterns="*.safetensors", ignore_patterns=[*TWICE])
    size = sum(sizes[name] for name in wanted)
    return Model(info.safetensors.total if info.safetensors else size // 2, size)


def is_of(model: Base | External, folder: Path) -> bool:
    """Whether this entry of params.yaml made the model in `folder`."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        made = json.loads((folder / "lineage.json").read_bytes())["params"]
        return bool(made.items() >= model.model_dump().items())
    return False


def on_disk(folder: Path) -> Model:
    """Of a model's folder; a file that is no safetensors, which its stage will refuse, has no weights."""
    from safetensors import SafetensorError, safe_open

    weights = 0
    for file in folder.glob("*.safetensors"):
        with suppress(SafetensorError, OSError), safe_open(file, framework="numpy") as tensors:
            weights += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118  # it is no mapping
    return Model(weights, held(folder))


def held(folder: Path) -> int:
    """Bytes of the files in a folder; 0 for none. One that goes away meanwhile is no fault."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            about = path.lstat()
            total += about.st_size if S_ISREG(about.st_mode) else 0
    return total
