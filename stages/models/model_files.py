"""The small files of a model folder, which others wrote: JSON and templates, in UTF-8, of values that can be meant."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.console.errors import ModelError

COUNTS = (
    *("max_position_embeddings", "n_positions", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head"),
    *("hidden_size", "n_embd", "vocab_size"),
)
LAYERS = 10_000
"""More are no model, and take hours to be found missing."""
FLOAT = re.compile(r"(?:torch\.)?(?:auto|half|double|float(?:16|32|64|8_\w+)?|bfloat16)")
AGAIN = "Copy the whole checkpoint again"


def settle(folder: Path, name: str) -> None:
    """Rewrite what is UTF-16 or begins with a byte order mark, which transformers cannot read, or writes before each
    prompt. Raises ModelError, beginning with `name`, for a file that is no JSON and for values that cannot be meant."""
    for file in [*folder.glob("*.json"), *folder.glob("adapter/*.json"), *folder.glob("**/*.jinja")]:
        data = file.read_bytes()
        try:
            text = data.decode(json.detect_encoding(data))
            content = json.loads(text) if file.suffix == ".json" else {}
        except (ValueError, RecursionError) as e:
            kind = "JSON" if file.suffix == ".json" else "text"
            raise ModelError(f"{name}: {file.name} cannot be used: no {kind} ({e}). {AGAIN}") from None
        if not isinstance(content, dict):
            raise ModelError(f"{name}: {file.name} cannot be used: expected a JSON object. {AGAIN}")
        look = {"config.json": _wrong_values, "tokenizer_config.json": _wrong_length}.get(file.name)
        if look and (wrong := [*look(content)]):
            raise ModelError(f"{name}: " + "; ".join(f"{file.name}: {one}" for one in wrong) + f". {AGAIN}, or fix it")
        if text.encode() != data:
            file.write_text(text, encoding="utf-8", newline="")


def _wrong_values(config: dict[str, Any]) -> Iterator[str]:
    """What transformers would take, and fail at or write noise for; a sentence each."""
    for key in COUNTS:
        value, most = config.get(key), LAYERS if "layer" in key else None
        if value is None or isinstance(value, list):
            continue
        if type(value) is not int or value < 1 or (most and value > most):
            yield f"{key} is {value!r:.40}, expected a whole number from 1" + (f" to {most:,}" if most else "")
    for key in ("dtype", "torch_dtype"):
        value = config.get(key)
        if not (value is None or isinstance(value, dict) or (isinstance(value, str) and FLOAT.fullmatch(value))):
            yield f"{key} is {value!r:.40}, expected a floating-point type as bfloat16"
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    if type(pad) is type(rows) is int and pad >= rows:
        yield f"pad_token_id is {pad}, expected one below vocab_size, {rows}"
    for key in ("rope_theta", "rope_scaling", "rope_parameters"):
        yield from _wrong_rope(key, config.get(key))
    if isinstance(text := config.get("text_config"), dict):
        yield from (f"text_config.{one}" for one in _wrong_values(text))


def _wrong_length(config: dict[str, Any]) -> Iterator[str]:
    value = config.get("model_max_length")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        yield f"model_max_length is {value!r:.40}, expected a number"


def _wrong_rope(key: str, value: Any) -> Iterator[str]:
    last = key.rpartition(".")[2]
    if isinstance(value, dict):
        for inner, one in value.items():
            yield from _wrong_rope(f"{key}.{inner}", one)
    elif value is None:
        return
    elif last in ("rope_theta", "factor"):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            yield f"{key} is {value!r:.40}, expected a number above 0"
    elif last in ("rope_scaling", "rope_parameters"):
        yield f"{key} is {value!r:.40}, expected an object or null"


def read(auto: Any, folder: Path, where: str) -> Any:
    """What `auto`, a class of transformers, reads in `folder`. Raises ModelError, beginning with `where`."""
    try:
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # OSError, ValueError, TypeError, a Rust exception, ...
        raise ModelError(f"{where} cannot be used: {_why(folder, e)}") from None


def _why(folder: Path, error: Exception) -> str:
    """What keeps transformers from reading a folder, in words that help: its own advice to run the repository's code,
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
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. {AGAIN}"


def json_object(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty where there is none to read."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def change_config(folder: Path, values: dict[str, Any]) -> None:
    """Set the keys of `values` in config.json, where they stand."""
    file = folder / "config.json"
    config = json_object(file)
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            part.update({key: value for key, value in values.items() if key in part})
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
