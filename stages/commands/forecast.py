"""forecast: how much disk a run takes, before it starts.

    srlm forecast

Up to about: as if everything had to be made, and every text were as long as it may get; seed tables, which are small,
are left out. Where the models that it starts from are neither here nor known to the Hub, it says so and leaves out what
depends on them.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from rich.filesize import decimal
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.config.disk import Forecast, Model, forecast
from stages.config.params import Base, External, Params
from stages.console.terminal import stderr, warn
from stages.store.catalog import model_dir
from stages.store.run import COMPLETION_CACHE

EMBEDDED = Model(weights=400_000, bytes=1_700_000)
"""What neither the tiny world's M0 nor the random one is larger than."""
HUB_S = 10.0
"""How long the Hub is waited for."""


class Place(NamedTuple):
    """A folder that grows: what it needs at most, and what of that it holds already."""

    folder: Path
    needs: int
    holds: int


def show(root: Path, params: Params) -> None:
    """One line, and a warning for each disk that has too little room."""
    for line in look(root, params):
        warn(line)


def look(root: Path, params: Params) -> list[str]:
    """Print what a whole run takes; return a sentence for each disk that has too little room."""
    sizes = {name: size_of(model, model_dir(root, name), root) for name, model in params.input_models.items()}
    known = {name: size for name, size in sizes.items() if size}
    most = forecast(params, known)
    found = places(root, params, most, known)
    parts = {
        "trained models": most.trained,
        "given models": most.given,
        "tables": most.tables,
        "cached completions": most.finished,
    }
    told = ", ".join(f"{what} {decimal(size)}" for what, size in parts.items() if size is not None)
    lines = [
        f"disk: a whole run takes up to about {decimal(sum(place.needs for place in found))}, copies included ({told})"
    ]
    if unknown := sorted(sizes.keys() - known.keys()):
        lines.append(
            f"disk: to this comes what {', '.join(unknown)} and models trained from there take: the Hub did not tell "
            f"their size"
        )
    for line in lines:
        stderr.print(line)
    return list(too_little(found))


def too_little(found: list[Place]) -> Iterator[str]:
    """A sentence for each disk that may get full."""
    wanted: Counter[int] = Counter()
    where: dict[int, Path] = {}
    for place in found:
        disk = existing(place.folder).stat().st_dev
        wanted[disk] += max(0, place.needs - place.holds)
        where.setdefault(disk, place.folder)
    for disk, size in wanted.items():
        if size > (free := shutil.disk_usage(existing(where[disk])).free):
            yield (
                f"up to {decimal(size)} more may be needed on the disk of {where[disk]}, which has {decimal(free)} "
                "left. Make room (srlm cache --prune deletes cached completions, dvc gc --workspace --all-tags "
                "--all-branches what no version names), let DVC link instead of copy (dvc config cache.type "
                "hardlink,symlink), or go on: a full disk loses nothing"
            )


def places(root: Path, params: Params, most: Forecast, sizes: dict[str, Model]) -> list[Place]:
    """DVC holds a copy of what it versions, unless it links; what is downloaded stays in the Hub's own cache, too."""
    from dvc.config import Config, ConfigError

    try:
        config = Config(str((root / ".dvc").resolve())).get("cache", {}) if (root / ".dvc").is_dir() else {}
    except ConfigError:
        config = {}  # DVC will say what is wrong with it
    links = config.get("type", ["reflink"])[0] in ("hardlink", "symlink")
    versioned = most.given + (most.trained or 0) + most.tables
    made = made_before(root / "dvc.lock")
    found = [
        Place(
            root / "data",
            (0 if links else versioned) + most.finished,
            held((root / COMPLETION_CACHE).parent) + (0 if links else made),
        ),
        Place(Path(config.get("dir") or root / ".dvc/cache"), versioned, made),
    ]
    for name, model in params.external.items():
        if model.source == "hub" and name in sizes:
            from huggingface_hub.constants import HF_HUB_CACHE
            from huggingface_hub.file_download import repo_folder_name

            folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=str(model.repo), repo_type="model")
            found.append(Place(folder, sizes[name].bytes, held(folder)))
    return found


def made_before(lock: Path) -> int:
    """Bytes of what the stages of a dvc.lock made: a run that has them to make anew keeps them beside the new ones,
    which is not counted."""
    try:
        stages = (YAML(typ="safe").load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
        return sum(out.get("size", 0) for stage in stages.values() for out in stage.get("outs", ()))
    except (OSError, YAMLError, AttributeError, TypeError):
        return 0  # DVC will say what is wrong with it


def size_of(model: Base | External, folder: Path, root: Path) -> Model | None:
    """From the files in `folder`, where it was made already; else from where it comes. None when the Hub cannot be
    asked."""
    if was_made(model, folder):
        return on_disk(folder)
    if isinstance(model, Base):
        return on_disk(root / model.path) if model.source == "local" else EMBEDDED
    if model.source == "server":
        return Model(0, 0)
    from huggingface_hub import HfApi

    from stages.trainers.checkpoint import ALLOWED

    try:
        info = HfApi().model_info(str(model.repo), revision=model.revision, files_metadata=True, timeout=HUB_S)
    except (
        Exception
    ):  # network, authentication, gating, unknown names: dozens of types; the stage that downloads will say which
        return None
    size = sum(
        file.size or 0
        for file in info.siblings or ()
        if any(Path(file.rfilename).match(pattern) for pattern in ALLOWED)
    )
    return Model(info.safetensors.total if info.safetensors else size // 2, size)


def was_made(model: Base | External, folder: Path) -> bool:
    """Whether what lies in `folder` came from this entry of params.yaml, and not from what stood there before."""
    try:
        return bool(json.loads((folder / "lineage.json").read_bytes())["params"].items() >= model.model_dump().items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
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
    found = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            about = path.lstat()
            found += about.st_size if S_ISREG(about.st_mode) else 0
    return found


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
