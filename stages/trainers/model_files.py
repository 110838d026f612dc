"""The JSON files of a model folder, which others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError


def read(auto: Any, folder: Path, where: str) -> Any:
    """What `auto`, a class of transformers, reads in `folder`. Raises ModelError, beginning with `where`."""
    try:
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # OSError, ValueError, TypeError, a Rust exception, ...
        raise ModelError(f"{where} cannot be used: {_why(folder, e)}") from None


def _why(folder: Path, error: Exception) -> str:
    """What keeps transformers from reading a folder, in words that help: its own advise to run the repository's code,
    or to install what does not read these files."""
    import transformers

    config = json_object(folder / "config.json")
    kind = config.get("model_type")
    own = config.get("auto_map") or json_object(folder / "tokenizer_config.json").get("auto_map")
    if own and ("trust_remote_code" in str(error) or "model type" in str(error)):
        code = ", ".join(
            sorted({str(file).partition(".")[0] + ".py" for file in own.values() if isinstance(file, str)})
        )
        return (
            f"{kind or 'it'} needs code of its own repository ({code or 'auto_map'}), which is never run, and "
            f"transformers {transformers.__version__} has none. Use a model that transformers knows, or a server"
        )
    if any(folder.glob("*.model")) and not (folder / "tokenizer.json").is_file():
        return (
            f"tokenizer.model is read by the package sentencepiece ({type(error).__name__}). Type: "
            f"pip install -c constraints.txt -e '.[sentencepiece]'"
        )
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Copy the whole checkpoint again"


def json_object(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty where there is none to read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def switch_off(folder: Path, key: str) -> None:
    """A flag in config.json."""
    file = folder / "config.json"
    config = json_object(file)
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and key in part:
            part[key] = False
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
