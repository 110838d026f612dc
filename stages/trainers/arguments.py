"""What SFT and DPO share: loading, rows that fit, the training arguments set on purpose, progress, the log, saving."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.config.machine import Hardware
from stages.config.params import Params
from stages.config.sections import TrainDpo, TrainSft
from stages.console.errors import ModelError, TrainingError
from stages.console.memory import keep_freed_memory
from stages.console.progress import progress
from stages.console.terminal import warn
from stages.text.chat import Chat

DROPOUTS = (
    *("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "resid_dropout", "dropout"),
)
"""What the families of models call their dropout; those that a config has are set."""


class Trained(NamedTuple):
    """What training did: the log (one row per optimizer step), and how many rows it used."""

    log: pl.DataFrame
    rows: int
    too_long: int
    """Left out as longer than `max_length` tokens: the parameter, or the model's context where that is less."""
    same_tokens: int
    """Pairs left out since both answers are the same tokens: nothing can be preferred."""
    max_length: int
    threads: int
    """CPU threads of torch: they change floating-point sums, so lineage records them."""


class Prepared(NamedTuple):
    """A model, its tokenizer, and the rows that fit in tokens: prompt_ids, and X_ids for each column X of answers."""

    model: Any
    tokenizer: Any
    rows: dict[str, list[list[int]]]
    too_long: int
    same_tokens: int
    max_length: int


def new_model(
    run: Any, train: Callable[..., Trained], model: str, parent: str, rows: pl.DataFrame, params: Params, of: str
) -> None:
    """Within a stage's `run` (store.run.Run): train `model` from `parent` with its lineage and log, and say what was
    done. `train` is `sft.train_sft` or `dpo.train_dpo`; `of` says in words where `rows` are from."""
    section = train.__name__
    method, unit = (("SFT", "rows"), ("DPO", "pairs"))[section == "train_dpo"]
    p, start = getattr(params, section), run.model(parent)
    notes: dict[str, Any] = {"seed": params.seed} | ({"reference": parent} if method == "DPO" else {})
    lineage = {"parent": parent, "method": method.lower(), "params": p.model_dump(), "notes": notes}
    with run.new_model(model, **lineage) as folder, run.computing():
        label = f"{method} {model}"
        trained = train(start, folder, rows, p, seed=params.seed, hardware=params.hardware, label=label)
        notes |= {"threads": trained.threads, unit: trained.rows, "too_long": trained.too_long}
        if trained.same_tokens:
            notes["same_tokens"] = trained.same_tokens
    run.write_plot(f"train_{model}", trained.log)
    print(
        f"{model}: {method} from {parent} on {trained.rows} {unit} ({of}), {trained.too_long} left out as longer than "
        f"{trained.max_length} tokens"
        + (f", {trained.same_tokens} as the same tokens twice" if trained.same_tokens else "")
    )
    if (share := trained.too_long / len(rows)) > params.warn.left_out:
        warn(f"{model}: {share:.0%} of the {unit} are left out. Raise {section}.max_length, up to the model's context")


def prepare(folder: Path, rows: pl.DataFrame, params: TrainSft | TrainDpo, key: str) -> Prepared:
    """`rows`: the prompt, one or two answers to it, and `max_length` where rows have limits of their own (null: none).
    What is longer than its limit or the parameter `max_length` with any of its answers is left out: TRL would cut it
    without a word. So are pairs whose answers are the same tokens. Raises ModelError, TrainingError when no row is
    left."""
    model, tokenizer = load(folder, params.dropout)
    prompt, *answers = (column for column in rows.columns if column != "max_length")
    chat, texts = Chat(tokenizer), rows[prompt].to_list()
    try:
        encoded = {answer: chat.encode(texts, rows[answer].to_list()) for answer in answers}
    except Exception as e:  # a template is a program: any error
        raise ModelError(f"the chat template in {folder} fails on the training data: {type(e).__name__}: {e}") from None
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limit = min(params.max_length, context) if context else params.max_length
    ids: dict[str, list[list[int]]] = {"prompt_ids": [head for head, _ in encoded[answers[0]]]}
    ids |= {f"{answer}_ids": [tail for _, tail in encoded[answer]] for answer in answers}
    tails = [*zip(*(ids[f"{answer}_ids"] for answer in answers), strict=True)]
    same = {i for i, tail in enumerate(tails) if len(tail) > 1 and tail[0] == tail[1]}
    lengths = [len(head) + max(map(len, tail)) for head, tail in zip(ids["prompt_ids"], tails, strict=True)]
    own = rows["max_length"].fill_null(limit) if "max_length" in rows.columns else [limit] * len(rows)
    limits = zip(lengths, own, strict=True)
    fits = [i for i, (length, own) in enumerate(limits) if i not in same and length <= min(own, limit)]
    if not fits:
        raise TrainingError(
            f"none of {len(rows)} rows fits into max_length {limit} tokens. Raise {key}.max_length, or look at the rows"
            + (f"; {len(same)} are the same tokens as chosen and rejected" if same else "")
        )
    used = {column: [values[i] for i in fits] for column, values in ids.items()}
    return Prepared(model, tokenizer, used, len(rows) - len(fits) - len(same), len(same), limit)


def load(folder: Path, dropout: float) -> tuple[Any, Any]:
    """Model in float32 (its weights are what is trained; bfloat16 is a matter of autocast) and tokenizer. Raises
    ModelError."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    _no_bars()
    if (folder / "adapter").is_dir():
        raise ModelError(
            f"{folder} has a LoRA adapter, which would be lost in training. Merge it into the weights first (PEFT: "
            f"merge_and_unload)"
        )
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        auto_model: Any = AutoModelForCausalLM
        model, loading = auto_model.from_pretrained(
            folder, config=config, dtype="float32", use_safetensors=True, output_loading_info=True, **local
        )
        model.generation_config.validate(strict=True)  # what cannot be saved would be lost after hours of training
    except Exception as e:  # a broken file surfaces as OSError, ValueError, KeyError, a Rust exception, ...
        raise ModelError(
            f"{folder} holds no model that can be trained (config, tokenizer and safetensors weights are needed): {e}"
        ) from None
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"{folder} lacks {len(missing)} weights that its config.json describes, first {missing[0]}: they would be "
            f"random. Copy the whole checkpoint, or make it again with: dvc repro"
        )
    for needed, why in (("chat_template", "how prompt and answer are joined"), ("eos_token", "where an answer ends")):
        if not getattr(tokenizer, needed):
            raise ModelError(f"the tokenizer in {folder} has no {needed}, which decides {why}. Add one to its config")
    return model, tokenizer


def _no_bars() -> None:
    """Switch off the libraries' progress bars: ours shows the steps, and a bar in a log file is noise."""
    from datasets import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    os.environ["TQDM_DISABLE"] = "1"  # TRL's bar over the reference's log-probabilities has no other switch


def arguments(params: TrainSft | TrainDpo, rows: int, out: Path, seed: int, hardware: Hardware) -> dict[str, Any]:
    """What both of TRL's configs take to train on `rows` rows. Raises TrainingError when `micro_batch` does not divide
    `batch`, CUDA is missing, or there is more than one GPU."""
    import torch

    accumulate, rest = divmod(params.batch, params.micro_batch)
    if rest:
        raise TrainingError(
            f"batch {params.batch} is not a multiple of micro_batch {params.micro_batch}, which it is accumulated "
            f"from. Set micro_batch to a divisor of {params.batch}"
        )
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("hardware.device is cuda, and torch sees no CUDA device. Set it to auto or cpu")
    if hardware.device != "cpu" and torch.cuda.device_count() > 1 and "WORLD_SIZE" not in os.environ:
        raise TrainingError(
            f"torch sees {torch.cuda.device_count()} GPUs; the trainer would split batches over all of them and so "
            f"train with another batch size than {params.batch}. Show it one: CUDA_VISIBLE_DEVICES=0"
        )
    if hardware.threads > 0:
        torch.set_num_threads(hardware.threads)
    keep_freed_memory()
    steps = params.epochs * math.ceil(math.ceil(rows / params.micro_batch) / accumulate)
    return {
        "output_dir": str(out),
        "num_train_epochs": params.epochs,
        "learning_rate": params.lr,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": params.lr_end},
        # a run of few steps must not end inside its warmup, where the first rate is 0
        "warmup_steps": min(params.warmup_steps, steps // 2),
        "per_device_train_batch_size": params.micro_batch,
        "gradient_accumulation_steps": accumulate,
        "max_length": None,  # rows that are too long are left out and counted, never cut
        "gradient_checkpointing": params.gradient_checkpointing,
        "bf16": params.dtype == "bfloat16",
        "optim": "adamw_torch",
        "seed": seed,
        "data_seed": seed,
        "use_cpu": hardware.device == "cpu" or not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a NaN must be seen
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def train(trainer: Any, label: str) -> list[dict[str, float]]:
    """Run a TRL trainer under our progress; returns what it logged, one mapping per optimizer step. Raises
    TrainingError as soon as the loss is no number, and when training changed nothing or left weights that are none."""
    from transformers import PrinterCallback, TrainerCallback

    class Show(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if "loss" not in (logs := kwargs["logs"]):
                return
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"{label}: the loss was no longer a number at step {state.global_step} of {state.max_steps}. "
                    f"Lower lr, or use dtype float32"
                )
            advance(1, f"loss {logs['loss']:.3f}")

    batches = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Show())
    before = _fingerprint(trainer.model)
    with progress(label, int(trainer.args.num_train_epochs) * batches, "steps") as advance:
        trainer.train()
    after = _fingerprint(trainer.model)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    if not all(map(math.isfinite, after)):
        raise TrainingError(f"{label}: the last of {len(steps)} steps left weights that are no numbers. Lower lr")
    if after == before:
        raise TrainingError(
            f"{label}: {len(steps)} steps changed no weight, so the new model would be the old one. Raise lr, seen "
            f"{trainer.args.learning_rate}"
        )
    return steps


def _fingerprint(model: Any) -> list[float]:
    """One sum per weight matrix: enough to see whether anything moved, without a second copy of the model."""
    return [float(weight.detach().double().sum()) for weight in model.parameters()]


def finish(trainer: Any, ready: Prepared, out: Path, log: Mapping[str, str], label: str) -> Trained:
    """Train, and save weights (float32 safetensors), config, generation config and tokenizer into `out`. `log`: column
    of the table (all Float64, after `step`, counted from 1) -> what TRL calls it."""
    import torch

    steps = train(trainer, label)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.config.use_cache = True  # training switches it off, and a model that carries that along generates at a crawl
    model.generation_config.use_cache = True
    text_config = model.config.get_text_config()
    if hasattr(text_config, "output_router_logits"):
        text_config.output_router_logits = False  # TRL's, to balance experts; padded batches fail with it
    model.save_pretrained(out)
    ready.tokenizer.save_pretrained(out)
    columns = {name: pl.Series([float(step[key]) for step in steps], dtype=pl.Float64) for name, key in log.items()}
    table = pl.DataFrame({"step": pl.Series(range(1, len(steps) + 1), dtype=pl.Int32), **columns})
    left_out = ready.too_long, ready.same_tokens
    return Trained(table, len(ready.rows["prompt_ids"]), *left_out, ready.max_length, torch.get_num_threads())
