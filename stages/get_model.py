"""get_model: make or copy a model that the method starts from: M0, and optionally a separate prompt writer.

    python -m stages.get_model M0

Sources (params `base.<name>`): `tinyworld` pretrains the embedded model; `local` copies a folder; `gguf` dequantizes a
file; `random` makes a small untrained Llama, to try a pipeline. All end in one form (`models/intake.py`). Models that
others keep come through `get_external`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from stages.config import paths
from stages.config.load import entry, load_params
from stages.config.params import Base, Params
from stages.console.command import command
from stages.models import lora
from stages.store.run import Run, versions

LOG_SCHEMA = {"step": pl.Int32, "loss": pl.Float64, "lr": pl.Float64}


def main(model: str, root: Path = Path()) -> None:
    """Make data/models/MODEL from its entry in `base`."""
    params = load_params(root)
    paths.require(params, root)
    base = entry(params.base, "base", model)
    with Run("get_model", root, model) as run:
        import torch

        used = base.model_dump() | ({"tinyworld": params.world.model_dump()} if base.source == "tinyworld" else {})
        notes: dict[str, Any] = {"seed": params.seed}
        under = None
        if base.source in ("local", "gguf") and (root / base.path).exists():  # else copying says what is wrong
            path = run.watch(root / base.path)
            under = lora.base_of(path)
            if under and under.folder:
                run.watch(under.folder)
        with run.new_model(model, parent=None, method=base.source, params=used, notes=notes) as folder, run.computing():
            log = fetch(model, base, under, folder, params, root, notes)
            if base.source == "tinyworld":
                notes["threads"] = torch.get_num_threads()
            elif base.source in ("local", "gguf"):
                notes["versions"] = versions("transformers", "tokenizers")
        run.write_plot(f"train_{model}", log)


def fetch(
    model: str, base: Base, under: lora.Base | None, folder: Path, params: Params, root: Path, notes: dict[str, Any]
) -> pl.DataFrame:
    """Fill `folder`, and note what was put right; `under`: what an adapter goes into. Returns the training log (step,
    loss, lr), empty where nothing was trained."""
    from stages.models import checkpoint, intake
    from stages.store.weights import check_weights

    rows: list[dict[str, float]] = []
    mended: list[str] = []
    if base.source == "tinyworld":
        from stages.tinyworld.pretrain import pretrain

        rows = pretrain(folder, seed=params.seed, world=params.world, threads=params.hardware.threads)
    elif base.source == "random":
        checkpoint.random_llama(folder, seed=params.seed, max_context=params.engine.max_context)
    elif base.source == "gguf":
        checkpoint.from_gguf(root / base.path, folder)
    else:
        checkpoint.copy_local(root / base.path, folder)
        mended += lora.merge(folder, under, notes)
    check_weights(folder, f"{model} from {base.path}" if base.source == "local" else model)
    found = intake.complete(folder, date.fromisoformat(params.template_date), trained=model == "M0")
    mended += found.mended
    for sentence in mended:
        print(f"{model}: {sentence}")
    if mended:
        notes["mended"] = mended
    return pl.DataFrame(rows, schema=LOG_SCHEMA)


if __name__ == "__main__":
    command(main)
