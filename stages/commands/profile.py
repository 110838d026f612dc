"""profile: a complete params.yaml, copied from those that ship (`srlm profile gpu`), or made for one's own model and
data.

    srlm profile own --model DIR_OR_REPO --data FILE_OR_REPO [--small]
    srlm profile smol [--model DIR_OR_REPO_OR_GGUF] [--data FILE_OR_REPO] [--scale 50]

A repository may be pinned: `ORG/NAME@REVISION`; without, its newest commit is looked up and written down.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import reduce
from importlib.util import find_spec
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
import psutil
from ruamel.yaml import YAML

from stages.commands.disk import on_disk
from stages.config.load import load_params
from stages.config.own import GB, LEAST_CONTEXT, DataFacts, Machine, ModelFacts, choose, write_profile
from stages.console.errors import ModelError, ParamsError, SeedDataError, SrlmError
from stages.console.terminal import stderr
from stages.method import seeds
from stages.method.formats import recognize
from stages.models.model_files import json_object
from stages.store.files import atomic_write
from stages.store.rows import FORMS, read_file, read_hub
from stages.store.weights import file_faults
from stages.text.language import is_english

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PROFILES = Path(__file__).parents[1] / "config" / "profiles"
REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
READ = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.*"]
HEAD = "Written by srlm profile own for this machine. Every key is explained in docs/configuration.md."
FIXED = {
    "aift.M1.writer": "M0",
    "aift.M2.writer": "M0",
    "choose.judge": "M0",
    "evaluate.compare_with": "M0",
    "tinyworld": None,
    "publish.data_license": "other",
    "publish.model_license": "other",
}
SIZES = tuple(f"split_seed.{part}" for part in ("ift", "ift_valid", "eft_prompts", "test_prompts", "test_ranked"))
TOLD = (
    *SIZES,
    *("aift.M1.prompts", "aift.M2.prompts", "engine.name", "engine.dtype", "engine.max_context"),
    *("sample_candidates.max_tokens", "judge_candidates.max_tokens", "train_sft.max_length", "train_sft.micro_batch"),
)
SCALED = (*SIZES, "write_prompts.round")
MEASURED = 2000
"""Rows whose tokens are counted."""
T = TypeVar("T")
NO_CONSTRAINTS: dict[str, Any] = {
    "split_seed.eft_constraints": 0,
    "write_prompts.constraints": 0.0,
    "evaluate.oracle": "none",
    "evaluate.compare_by": "model",
}
"""Those are English sentences."""


def copy(
    name: str,
    *,
    model: str | None = None,
    data: str | None = None,
    kept: str | None = None,
    scale: int = 1,
    force: bool = False,
    root: Path = Path(),
) -> None:
    """Make params.yaml the profile `name`, with another M0, other seed data (read from the copy `kept`, where there is
    one), or `scale` times as many prompts. Raises SrlmError for an unknown one, or where edits would be lost."""
    shipped = sorted(p.stem for p in PROFILES.glob("*.yaml"))
    if name not in shipped:
        raise ParamsError(f"no profile {name}; there are {', '.join(shipped)}, and own for your model and data")
    file, changes, head = PROFILES / f"{name}.yaml", dict[str, Any](), [f"Profile {name}, with:"]
    if model and model.endswith(".gguf"):
        changes |= {"base": {"M0": {"source": "gguf", "path": model}}, "external": {}}
    elif model:
        _, _, params, line = model_facts(model, root)
        changes, head = changes | params, [*head, line]
    if data:
        _, params, line = data_facts(data, None, root, kept)
        changes, head = changes | params, [*head, line]
    if scale > 1:
        sizes = YAML(typ="safe").load(file)
        numbers = {f"aift.{m}.prompts": aift["prompts"] for m, aift in sizes["aift"].items()}
        numbers |= {key: reduce(getitem, key.split("."), sizes) for key in SCALED}
        changes = {key: scale * number for key, number in numbers.items()} | changes
        head.append(f"{scale} times as many prompts")
    text = write_profile(file, changes, head) if changes else file.read_text(encoding="utf-8")
    options = {"--model": model, "--data": data, "--scale": str(scale) if scale > 1 else None}
    again = [word for option, value in options.items() if value for word in (option, value)]
    _write(root, text, shlex.join(["srlm", "profile", name, *again, "--force"]), force)
    load_params(root)


def for_own(model: str, data: str, *, small: bool, force: bool, kept: str | None = None, root: Path = Path()) -> None:
    """Write params.yaml for one's own model and data (or the copy of it that is `kept`), and say what was understood.
    Raises SrlmError."""
    tokenizer, of_model, model_params, model_line = model_facts(model, root)
    if of_model.context is not None and of_model.context < LEAST_CONTEXT:
        raise ModelError(
            f"--model {model}: a context of {of_model.context} tokens is too short for a judge prompt with its "
            f"judgement. Use a model of at least {LEAST_CONTEXT}"
        )
    if (root / model).is_dir() and (faults := file_faults(root / model)):
        raise ModelError(f"--model {model}: {'; '.join(faults)}")
    of_data, data_params, data_line = data_facts(data, tokenizer, root, kept)
    machine = this_machine()
    chosen = choose(of_model, of_data, machine, small=small)
    gpus = f"{machine.gpus} GPU(s) of {machine.gpu_memory / GB:.0f} GB" if machine.gpus else "no GPU"
    lines = [
        model_line,
        data_line,
        f"machine: {machine.cores} cores, {machine.memory / GB:.0f} GB, {gpus}",
        f"chosen: {', '.join(f'{key} {chosen[key]}' for key in TOLD)}",
    ]
    text = write_profile(PROFILES / "gpu.yaml", FIXED | model_params | data_params | chosen, [HEAD, *lines])
    again = ["srlm", "profile", "own", "--model", model, "--data", data, *(["--small"] if small else []), "--force"]
    _write(root, text, shlex.join(again), force)
    load_params(root)
    stderr.print("\n".join(lines))


def _write(root: Path, text: str, again: str, force: bool) -> None:
    file = root / "params.yaml"
    replaceable = {text, *(p.read_text(encoding="utf-8") for p in PROFILES.glob("*.yaml"))}
    if file.exists() and not force and file.read_text() not in replaceable:
        raise ParamsError(f"params.yaml holds changes of yours. To replace it: {again}")
    with atomic_write(file) as partial:
        partial.write_text(text, encoding="utf-8")


def _ask_hub(option: str, repo: str, ask: Callable[[HfApi], T]) -> T:
    from huggingface_hub import HfApi

    try:
        return ask(HfApi())
    except Exception as e:  # network, authentication, unknown names: dozens of types
        why = f"{type(e).__name__}: {e}"
        raise SrlmError(
            f"{option} {repo}: nothing of this name is here, nor did the Hub answer for it ({why})"
        ) from None


def model_facts(model: str, root: Path) -> tuple[Path | None, ModelFacts, dict[str, Any], str]:
    """The model's tokenizer.json, where it has one; facts; what params.yaml says of it; a line for people."""
    files, (place, _, revision) = root / model, model.partition("@")
    if files.is_dir():
        weights: int | None = on_disk(files).weights
        params: dict[str, Any] = {"base": {"M0": {"source": "local", "path": model}}, "external": {}}
    elif REPO.fullmatch(model):
        info = _ask_hub("--model", place, lambda api: api.model_info(place, revision=revision or None))
        weights, sha = info.safetensors.total if info.safetensors else None, info.sha
        read = _ask_hub("--model", place, lambda api: api.snapshot_download(place, revision=sha, allow_patterns=READ))
        files, params = Path(read), {"base": {}, "external": {"M0": {"source": "hub", "repo": place, "revision": sha}}}
    else:
        raise ModelError(f"--model {model}: expected a folder here, or a repository as ORG/NAME")
    config = json_object(files / "config.json")
    if not config:
        raise ModelError(f"--model {model}: no config.json that can be read. Expected a transformers checkpoint")
    text, names = config.get("text_config"), config.get("architectures")
    context = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    context = context if type(context) is int and context > 0 else None
    architecture = names[0] if isinstance(names, list) and names else "unknown architecture"
    tokenizer = files / "tokenizer.json"
    template = "chat_template" in json_object(files / "tokenizer_config.json") or any(files.glob("chat_template.*"))
    line = (
        f"model: {model}: {architecture}, "
        f"{f'{weights / 1e6:,.1f} M parameters' if weights else 'of unknown size'}, context {context or 'unknown'}, "
        f"{'a' if template else 'no'} chat template{'' if template else ' (ours is added)'}"
    )
    return tokenizer if tokenizer.is_file() else None, ModelFacts(weights or None, context, template), params, line


def data_facts(
    data: str, tokenizer: Path | None, root: Path, kept: str | None = None
) -> tuple[DataFacts, dict[str, Any], str]:
    """What the seed data hold in their commonest language; what params.yaml says of them, or of their copy `kept`; a
    line for people."""
    place, _, revision = data.partition("@")
    if (root / data).is_file():
        place, rows = data, read_file(root / data)
        source = {"source": "file", "path": kept or data, "repo": None, "revision": None}
    elif REPO.fullmatch(data) and not (root / data).exists():
        revision = revision or str(_ask_hub("--data", place, lambda api: api.dataset_info(place).sha))
        rows = read_hub(place, revision)
        source = {"source": "hub", "path": "stages/method/seeds.py", "repo": place, "revision": revision}
    else:
        kind = " is a folder" if (root / data).is_dir() else ""
        raise SeedDataError(f"--data {data}{kind}: expected a file of seed data, {FORMS}, or a dataset as ORG/NAME")
    reading = recognize(rows, place)
    messages = list(reading.messages(rows))
    langs = seeds.languages(messages)
    lang = langs.most_common(1)[0][0] if langs else None
    ranked, counts = seeds.answered_prompts(messages, lang=lang, source=place, ranked=reading.ranked)
    prompts = ranked.group_by("prompt_id", maintain_order=True).agg(
        pl.first("prompt"), apart=pl.col("human_rank").n_unique() > 1
    )
    facts = DataFacts(
        prompts=len(prompts),
        comparable=int(prompts["apart"].sum()),
        answers=len(ranked),
        prompt_tokens=_tokens(prompts["prompt"], tokenizer),
        response_tokens=_tokens(ranked["response"], tokenizer),
    )
    line = (
        f"data: {data} {reading}: {facts.prompts} prompts in "
        f"{lang or 'a language that they do not name (set split_seed.lang, as en)'} with {facts.answers} "
        f"{'ranked answers' if reading.ranked else 'answers without ranks, which make IFT and no EFT'}, "
        f"{facts.comparable} with answers ranked apart; {seeds.left_out_text(counts)}; 95 % of prompts have at most "
        f"{facts.prompt_tokens} tokens, of answers {facts.response_tokens}"
    )
    found = {"format": reading.format, "columns": reading.columns, "lang": lang}
    params: dict[str, Any] = {f"split_seed.{key}": value for key, value in (source | found).items()}
    if lang and not is_english(lang):
        params |= NO_CONSTRAINTS
    return facts, params, line


def _tokens(texts: pl.Series, tokenizer: Path | None) -> int:
    """95th percentile of the texts' lengths; of four characters each where the model has no tokenizer.json."""
    some = texts.head(MEASURED).to_list()
    if tokenizer:
        from tokenizers import Tokenizer

        try:
            encoder = Tokenizer.from_file(str(tokenizer))
        except Exception as e:  # its one type
            raise ModelError(f"{tokenizer} is no tokenizer that can be read ({e}). Copy the model again") from None
        lengths = [len(encoding.ids) for encoding in encoder.encode_batch(some, add_special_tokens=False)]
    else:
        lengths = [len(text) // 4 + 1 for text in some]
    return int(pl.Series(lengths).quantile(0.95, "higher") or 1)


def this_machine() -> Machine:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = torch.cuda.get_device_properties(0).total_memory if gpus else 0
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    has_vllm, has_ray = (find_spec(name) is not None for name in ("vllm", "ray"))
    return Machine(cores, psutil.virtual_memory().total, gpus, memory, has_vllm, has_ray)
