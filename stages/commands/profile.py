"""profile: a complete params.yaml, copied from those that ship (`srlm profile gpu`), or made for one's own model and
data.

    srlm profile own --model DIR_OR_REPO --data FILE_OR_REPO [--small]

A repository may be pinned: `ORG/NAME@REVISION`; without, its newest commit is looked up and written down.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from stages.config import own
from stages.config.load import load_params
from stages.console.errors import ModelError, ParamsError, SeedDataError
from stages.console.terminal import stderr
from stages.method import seeds
from stages.store.files import atomic_write
from stages.store.messages import read_file, read_hub

PROFILES = Path(__file__).parents[1] / "config" / "profiles"
REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
MEASURED = 2000
"""Rows whose tokens are counted."""


def copy(name: str, *, force: bool, root: Path = Path()) -> None:
    """Make params.yaml the profile `name`. Raises ParamsError for an unknown one, or where edits would be lost."""
    shipped = sorted(p.stem for p in PROFILES.glob("*.yaml"))
    if name not in shipped:
        raise ParamsError(f"no profile {name}; there are {', '.join(shipped)}, and own for your model and data")
    _write(root, (PROFILES / f"{name}.yaml").read_text(), f"srlm profile {name} --force", force)
    stderr.print(f"params.yaml is now profile {name}. Next: srlm repro")


def for_own(model: str, data: str, *, small: bool, force: bool, root: Path = Path()) -> None:
    """Write params.yaml for one's own model and data, and say what was understood.

    Raises ModelError, SeedDataError for what cannot be used, ParamsError where edits would be lost.
    """
    tokenizer, of_model = model_facts(model, root)
    of_data = data_facts(data, tokenizer, root)
    machine = this_machine()
    profile = own.choose(of_model, of_data, machine, small=small)
    lines = [*understood(of_model, of_data, machine), *(f"  {reason}" for reason in profile.reasons)]
    head = [
        "Profile own, written by srlm profile own for this machine. Every key is explained in docs/configuration.md.",
        *lines,
    ]
    text = own.write_profile(PROFILES / "gpu.yaml", profile.params, head)
    again = f"srlm profile own --model {model} --data {data}{' --small' if small else ''} --force"
    _write(root, text, again, force)
    load_params(root)
    stderr.print("\n".join(lines))
    stderr.print(
        "params.yaml is written. Next: srlm check, then srlm preview judge_seed (can this model judge?), then srlm "
        "repro",
    )


def _write(root: Path, text: str, again: str, force: bool) -> None:
    file = root / "params.yaml"
    shipped = {p.read_text() for p in PROFILES.glob("*.yaml")}
    if file.exists() and not force and file.read_text() not in shipped:
        raise ParamsError(f"params.yaml holds changes of yours. To replace it: {again}")
    with atomic_write(file) as partial:
        partial.write_text(text, encoding="utf-8")


# What the model is


def model_facts(model: str, root: Path) -> tuple[Path | None, own.ModelFacts]:
    """The model's tokenizer.json, where it has one, and what its files say. Raises ModelError."""
    folder = root / model
    if folder.is_dir():
        source, place, revision, files = "local", model, None, folder
        parameters = sum(map(_parameters, sorted(folder.glob("*.safetensors")))) or None
    elif REPO.fullmatch(model):
        source, (place, _, wanted) = "hub", model.partition("@")
        revision, parameters, files = _hub_model(place, wanted or None)
    else:
        raise ModelError(f"--model {model}: expected a folder here, or a repository as ORG/NAME")
    try:
        config: dict[str, Any] = json.loads((files / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ModelError(
            f"--model {model}: no config.json that can be read ({e}). Expected a transformers checkpoint"
        ) from None
    text = config.get("text_config") or config
    heads = text.get("num_key_value_heads") or text.get("num_attention_heads") or 0
    width = text.get("head_dim") or (text.get("hidden_size") or 0) // (text.get("num_attention_heads") or 1)
    tokenizer = files / "tokenizer.json"
    facts = own.ModelFacts(
        source,
        place,
        revision,
        (config.get("architectures") or ["unknown architecture"])[0],
        parameters,
        text.get("max_position_embeddings"),
        2 * 4 * (text.get("num_hidden_layers") or 0) * heads * width or None,
        _has_template(files),
    )
    return (tokenizer if tokenizer.is_file() else None), facts


def _hub_model(repo: str, wanted: str | None) -> tuple[str, int | None, Path]:
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(repo, revision=wanted)
        folder = snapshot_download(
            repo,
            revision=info.sha,
            allow_patterns=["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.*"],
        )
    except Exception as e:  # network, authentication, unknown names: dozens of types
        raise ModelError(
            f"--model {repo}: no such folder here, and the Hub did not answer for a repository of this name "
            f"({type(e).__name__}: {e})"
        ) from None
    return str(info.sha), info.safetensors.total if info.safetensors else None, Path(folder)


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header."""
    try:
        with file.open("rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(size)) if size < 2**27 else {}
    except (OSError, ValueError, struct.error):
        return 0  # intake says what is wrong with it
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")


def _has_template(folder: Path) -> bool:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    return bool(config.get("chat_template")) or any(folder.glob("chat_template.*"))


# What the data hold


def data_facts(data: str, tokenizer: Path | None, root: Path) -> own.DataFacts:
    """What the seed data hold in their commonest language. Raises SeedDataError."""
    if (root / data).exists():
        source, place, revision, messages = "file", data, None, read_file(root / data)
    elif REPO.fullmatch(data):
        source, (place, _, wanted) = "hub", data.partition("@")
        revision = wanted or _hub_revision(place)
        messages = read_hub(place, revision)
    else:
        raise SeedDataError(f"--data {data}: expected a file here, or a dataset as ORG/NAME")
    roots = [m.get("prompt") if isinstance(m.get("prompt"), dict) else m for _, m in messages]
    langs = Counter(str(m.get("lang")) for m in roots if m and m.get("role") == "prompter" and not m.get("parent_id"))
    lang = langs.most_common(1)[0][0] if langs else "en"
    ranked, _ = seeds.ranked_answers(messages, lang=lang, source=place)
    apart = ranked.group_by("prompt_id").agg(pl.col("human_rank").n_unique()).filter(pl.col("human_rank") > 1)
    prompts = ranked.unique("prompt_id", keep="first", maintain_order=True)["prompt"]
    return own.DataFacts(
        source,
        place,
        revision,
        lang,
        len(prompts),
        len(apart),
        len(ranked),
        _tokens(prompts, tokenizer),
        _tokens(ranked["response"], tokenizer),
    )


def _hub_revision(repo: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(repo).sha)
    except Exception as e:  # network, authentication, unknown names: dozens of types
        raise SeedDataError(
            f"--data {repo}: no such file here, and the Hub did not answer for a dataset of this name "
            f"({type(e).__name__}: {e})"
        ) from None


def _tokens(texts: pl.Series, tokenizer: Path | None) -> int:
    """95th percentile of the texts' lengths in tokens; of four characters each where the model has no
    tokenizer.json."""
    some = texts.head(MEASURED).to_list()
    if tokenizer:
        from tokenizers import Tokenizer

        lengths = [len(e.ids) for e in Tokenizer.from_file(str(tokenizer)).encode_batch(some, add_special_tokens=False)]
    else:
        lengths = [len(text) // 4 + 1 for text in some]
    return int(pl.Series(lengths).quantile(0.95, "higher") or 1)


def this_machine() -> own.Machine:
    """What texts and training run on here."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = torch.cuda.get_device_properties(0).total_memory if gpus else 0
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    has = {name: find_spec(name) is not None for name in ("vllm", "ray")}
    return own.Machine(cores, psutil.virtual_memory().total, gpus, memory, has["vllm"], has["ray"])


def understood(model: own.ModelFacts, data: own.DataFacts, machine: own.Machine) -> list[str]:
    """What was seen, a line each."""
    size = f"{model.parameters / 1e6:,.1f} M parameters" if model.parameters else "of unknown size"
    template = "a chat template of its own" if model.has_chat_template else "no chat template (ours is added)"
    gpus = f"{machine.gpus} GPU(s) of {machine.gpu_memory / own.GB:.0f} GB" if machine.gpus else "no GPU"
    at = f" at {model.revision[:12]}" if model.revision else ""
    return [
        f"model: {model.place}{at}: {model.architecture}, {size}, context {model.context or 'unknown'}, {template}",
        f"data: {data.place}: {data.prompts} prompts in {data.lang!r} with {data.answers} ranked answers, "
        f"{data.comparable} prompts "
        f"with answers ranked apart; 95 % of prompts have at most {data.prompt_tokens} tokens",
        f"machine: {machine.cores} cores, {machine.memory / own.GB:.0f} GB, {gpus}",
    ]
