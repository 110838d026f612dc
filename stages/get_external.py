"""get_external: bring a model that others keep: M0, a separate prompt writer or a judge.

    python -m stages.get_external writer

Two sources (params `external.<name>`): `hub` downloads a pinned revision and completes it (code in its repository is
never run); `server` writes down the name of a model that an OpenAI-compatible server has.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from stages.config.load import entry, load_params
from stages.console.command import command
from stages.store.run import Run, versions


def main(model: str, root: Path = Path()) -> None:
    """Make data/models/MODEL from its entry in `external`."""
    params = load_params(root)
    external = entry(params.external, "external", model)
    with Run("get_external", root, model) as run:
        notes: dict[str, Any] = {}
        used = external.model_dump()
        with (
            run.new_model(model, parent=None, method=external.source, params=used, notes=notes) as folder,
            run.computing(),
        ):
            if external.source == "server":
                served = {"model": external.repo, "revision": external.revision}
                (folder / "server.json").write_text(json.dumps(served, indent=2) + "\n", encoding="utf-8")
            else:
                from stages.models import checkpoint, intake, lora
                from stages.store.weights import check_weights

                checkpoint.download(str(external.repo), str(external.revision), folder)
                under = lora.base_of(folder, downloaded=True)
                mended = lora.merge(folder, under, notes) if under else []
                check_weights(folder, f"{model} from {external.repo}")
                day = date.fromisoformat(params.template_date)
                found = intake.complete(folder, day, trained=model == "M0")
                mended += found.mended
                for sentence in mended:
                    print(f"{model}: {sentence}")
                if mended:
                    notes["mended"] = mended
            notes["versions"] = versions("transformers", "tokenizers")


if __name__ == "__main__":
    command(main)
