"""get_model: bring a model that we do not train with the method: M0, and optionally a separate prompt writer.

    python -m stages.get_model M0

Five sources (params `base.<name>`): `tinyworld` pretrains the embedded model from scratch; `hub` downloads a pinned revision; `local` copies a
folder; `random` makes a small untrained Llama with a real context length, to try a pipeline on your data. These end in the same form: safetensors,
a tokenizer with a chat template and a pad token. Code in a model's repository is never run. `server` writes down the name of a model that an
OpenAI-compatible server has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from stages.config.params import Base, Params, entry, load_params
from stages.console.command import command
from stages.store.run import Run, versions

LOG_SCHEMA = {"step": pl.Int32, "loss": pl.Float64, "lr": pl.Float64}


def main(model: str, root: Path = Path()) -> None:
    """Make data/models/MODEL from its entry in `base`."""
    params = load_params(root)
    base = entry(params.base, "base", model)
    with Run("get_model", root, model) as run:
        from stages.trainers.arguments import threads

        used = base.model_dump() | ({"tinyworld": params.tinyworld.model_dump()} if base.source == "tinyworld" else {})
        if base.source == "local":
            run.watch(root / base.path)
        notes: dict[str, Any] = {"seed": params.seed}
        with run.new_model(model, parent=None, method=base.source, params=used, notes=notes) as folder, run.computing():
            log = fetch(base, folder, params, root)
            if base.source == "tinyworld":
                notes["threads"] = threads()
            elif base.source != "random":  # what was copied is the same on every machine, so that a clone elsewhere need not run its heirs again
                notes["versions"] = {name: version for name, version in versions().items() if name in ("transformers", "tokenizers")}
        run.write_plot(f"train_{model}", log)


def fetch(base: Base, folder: Path, params: Params, root: Path) -> pl.DataFrame:
    """Fill `folder`; returns the training log (step, loss, lr), empty where nothing was trained."""
    from stages.trainers import checkpoint

    rows: list[dict[str, float]] = []
    if base.source == "tinyworld":
        from stages.tinyworld.pretrain import pretrain

        rows = pretrain(folder, seed=params.seed, world=params.tinyworld, threads=params.hardware.threads)
    elif base.source == "random":
        checkpoint.random_llama(folder, seed=params.seed, max_context=params.engine.max_context)
    elif base.source == "server":
        (folder / "server.json").write_text(json.dumps({"model": base.repo}, indent=2) + "\n", encoding="utf-8")
        return pl.DataFrame(schema=LOG_SCHEMA)
    elif base.source == "local":
        checkpoint.copy_local(root / base.path, folder)
    else:
        checkpoint.download(str(base.repo), str(base.revision), folder)
    checkpoint.complete(folder)
    return pl.DataFrame(rows, schema=LOG_SCHEMA)


if __name__ == "__main__":
    command(main)
