"""SFT and DPO beside TRL's defaults: speed, and whether the loss after the same rows is the same.

    python -m benchmarks.training RUN                    a folder in which `srlm repro` has run: its M0, M1 and rows
    python -m benchmarks.training RUN --model FOLDER     that model instead, on the rows of RUN
    python -m benchmarks.training RUN --random 0.6e9     a Llama of about so many random weights with that tokenizer

Sides, each in a process of its own, in turn, `--times` over:
    defaults   TRL as it comes (micro-batches of 8, gradient checkpointing, autocast to bfloat16), and the recipe alone:
               rows, batch, rate
    chosen     TRL without checkpointing, micro-batches and dtype as ours
    ours       the stages' trainers

Tokens are those of prompts and answers, no padding; FLOPs as in stages/config/flops.py. CPU seconds are the process's
own, so that other work on the machine disturbs them little; the first step, and all before it, is not in them. The loss
at the end is on held-out rows, by one computation for all sides.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Annotated, Any

import polars as pl
import typer

from stages.config.flops import causal
from stages.config.load import load_params

HELD_OUT = 32
ROOT = Path(__file__).parents[1]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Path,
    model: Annotated[Path | None, typer.Option()] = None,
    random: Annotated[float, typer.Option(help="parameters")] = 0,
    kinds: Annotated[str, typer.Option()] = "sft,dpo",
    sides: Annotated[str, typer.Option()] = "defaults,chosen,ours",
    steps: Annotated[int, typer.Option()] = 30,
    times: Annotated[int, typer.Option()] = 3,
    profile: Annotated[Path, typer.Option(help="whose batch, rate and dtype")] = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="figures, a line of JSON each")] = Path("training.jsonl"),
) -> None:
    """Print a table per kind: medians, and the ratio to TRL's defaults within a round."""
    for kind in kinds.split(","):
        start = model or run / "data/models" / ("M0" if kind == "sft" else "M1")
        rounds: list[dict[str, Any]] = []
        for _ in range(times):
            seen = {}
            for side in sides.split(","):
                job = {"run": str(run), "start": str(start), "random": random, "kind": kind, "side": side}
                job |= {"steps": steps, "profile": str(profile)}
                seen[side] = measured(job)
                with out.open("a") as file:
                    file.write(json.dumps(job | seen[side]) + "\n")
            rounds.append(seen)
        print_table(kind, rounds)


def measured(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training", "--job", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:300]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_table(kind: str, rounds: list[dict[str, Any]]) -> None:
    columns = {
        "tokens/s": ("tokens_per_s", ",.0f"),
        "CPU ms a step": ("cpu_ms", ",.0f"),
        "of peak": ("share", ".1%"),
        "padding": ("padding", ".0%"),
        "memory, GB": ("memory_gb", ".1f"),
        "held-out loss": ("loss", ".4f"),
        "times TRL's defaults": ("ratio", ".2f"),
    }
    print(f"\n{kind}\n\n| side | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for side in rounds[0]:
        seen = [r[side] for r in rounds if "failed" not in r[side]]
        for r in rounds:
            if "failed" not in r[side] and "tokens_per_s" in r.get("defaults", {}):
                r[side]["ratio"] = r[side]["tokens_per_s"] / r["defaults"]["tokens_per_s"]
        cells = []
        for key, form in columns.values():
            values = [s[key] for s in seen if s.get(key) is not None]
            cells.append(format(median(values), form) if values else "")
        print(f"| {side} | {' | '.join(cells) if seen else rounds[0][side]['failed']} |", flush=True)


# One side


def trained(job: dict[str, Any]) -> dict[str, Any]:
    import torch

    params, run, kind = load_params(ROOT, job["profile"]), Path(job["run"]), job["kind"]
    gpu = torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(1)
    section = params.train_sft if kind == "sft" else params.train_dpo
    rows = sft_rows(run, params.train_sft.repeat_ift) if kind == "sft" else pairs(run)
    held_out, rows = rows[:HELD_OUT], rows[HELD_OUT:]
    rows = pl.concat([rows] * -(-job["steps"] * section.batch // len(rows)))[: job["steps"] * section.batch]
    start = random_model(Path(job["start"]), job["random"]) if job["random"] else Path(job["start"])
    section = section.model_copy(update={"epochs": 1, "warmup_steps": 2, "lr_end": section.lr})
    hardware = params.hardware.model_copy(update={"threads": 1})
    maker = {"defaults": trl, "chosen": trl, "ours": ours}[job["side"]]
    trainer = maker(kind, start, rows, section, hardware, chosen=job["side"] == "chosen")
    clock = Clock.of(trainer, kind)
    trainer.train()
    figures = clock.figures(trainer)
    return figures | {"loss": loss(trainer, start, kind, held_out, section), "gpu": gpu}


def sft_rows(run: Path, repeat: int) -> pl.DataFrame:
    ift, eft = (pl.read_parquet(run / f"data/{name}/train.parquet") for name in ("IFT", "EFT"))
    mixed = pl.concat([part.select("instruction", "response") for part in [*[ift] * repeat, eft]])
    return mixed.sample(fraction=1, shuffle=True, seed=1)


def pairs(run: Path) -> pl.DataFrame:
    found = pl.read_parquet(run / "data/AIFT/M1/pairs.parquet")
    return found.select("prompt", "chosen", "rejected").sample(fraction=1, shuffle=True, seed=1)


def random_model(folder: Path, parameters: float) -> Path:
    """A Llama in the proportions of Qwen3-0.6B, with the tokenizer of `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    torch.manual_seed(0)
    tokenizer, heads = AutoTokenizer.from_pretrained(folder), max(2, round(16 * (parameters / 0.6e9) ** (1 / 3)))
    shape = {"hidden_size": 64 * heads, "intermediate_size": 192 * heads, "num_hidden_layers": round(28 * heads / 16)}
    shape |= {"num_attention_heads": heads, "num_key_value_heads": heads // 2 or 1, "head_dim": 128}
    shape |= {"vocab_size": len(tokenizer), "tie_word_embeddings": True, "max_position_embeddings": 4096}
    out = Path(mkdtemp())
    AutoModelForCausalLM.from_config(LlamaConfig(**shape)).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def ours(kind: str, start: Path, rows: pl.DataFrame, section: Any, hardware: Any, *, chosen: bool) -> Any:
    from stages.trainers.dpo import dpo_trainer
    from stages.trainers.sft import sft_trainer

    make = sft_trainer if kind == "sft" else dpo_trainer
    trainer, _ = make(start, Path(mkdtemp()), rows, section, seed=1, hardware=hardware)
    return trainer


def trl(kind: str, start: Path, rows: pl.DataFrame, section: Any, hardware: Any, *, chosen: bool) -> Any:
    """Rows as messages, all else as TRL does it."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    micro = section.micro_batch if chosen else min(8, section.batch)
    recipe = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": section.batch // micro}
    recipe |= {"learning_rate": section.lr, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}
    recipe |= {"num_train_epochs": 1, "output_dir": mkdtemp(), "report_to": "none", "save_strategy": "no", "seed": 1}
    recipe |= {"use_cpu": not torch.cuda.is_available(), "disable_tqdm": True, "logging_steps": 1}
    if chosen:
        recipe |= {"gradient_checkpointing": False, "bf16": section.dtype == "bfloat16", "max_length": None}
    turn = lambda role, texts: [[{"role": role, "content": text}] for text in texts]  # noqa: E731
    prompt = turn("user", rows[rows.columns[0]])
    tokenizer = AutoTokenizer.from_pretrained(start)
    if kind == "sft":
        data = {"prompt": prompt, "completion": turn("assistant", rows["response"])}
        made: Any = SFTTrainer
        args: Any = SFTConfig(**recipe)
    else:
        data = {"prompt": prompt, **{side: turn("assistant", rows[side]) for side in ("chosen", "rejected")}}
        made, losses = DPOTrainer, ["sigmoid", *(["sft"] if section.nll_weight else [])]
        weights = [1.0, section.nll_weight][: len(losses)]
        args = DPOConfig(**recipe, beta=section.beta, loss_type=losses, loss_weights=weights)
    return made(model=str(start), args=args, train_dataset=Dataset.from_dict(data), processing_class=tokenizer)


class Clock:
    """Steps of a trainer; the first is not counted."""

    def __init__(self) -> None:
        self.tokens = self.slots = self.context = 0
        self.steps = -1

    @classmethod
    def of(cls, trainer: Any, kind: str) -> Clock:
        from transformers import PrinterCallback, TrainerCallback

        clock = cls()

        class Watch(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                clock.tick()

        def counted(model: Any, inputs: Any, *rest: Any) -> Any:
            lengths = inputs["attention_mask"].sum(1).tolist()
            clock.tokens, clock.context = clock.tokens + sum(lengths), clock.context + causal(lengths)
            layers_see = trainer.model.config.get_text_config()._attn_implementation
            clock.slots += 0 if layers_see == "padding_free" else inputs["input_ids"].numel()
            return step(model, inputs, *rest)

        step, trainer.training_step = trainer.training_step, counted
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Watch())
        return clock

    def tick(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.steps += 1
        now = (time.process_time(), time.monotonic())
        if self.steps == 0:
            self.began, self.tokens, self.slots, self.context = now, 0, 0, 0
        self.ended = now

    def figures(self, trainer: Any) -> dict[str, Any]:
        import resource

        import torch

        from stages.config.flops import card_of, shape_of

        cpu, wall = (b - a for a, b in zip(self.began, self.ended, strict=True))
        gpu, tokens, slots = torch.cuda.is_available(), self.tokens, self.slots
        shape = shape_of(trainer.model.config.to_dict(), sum(p.numel() for p in trainer.model.parameters()))
        card = card_of(torch.cuda.get_device_name()) if gpu else None
        useful = shape.flops(tokens, self.context) if shape else None
        share = useful / wall / card.peak("bfloat16") if card and useful else None
        used = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "device": torch.cuda.get_device_name() if gpu else "cpu, one thread",
            "tokens_per_s": tokens / (wall if gpu else cpu),
            "cpu_ms": 1000 * cpu / self.steps,
            "wall_ms": 1000 * wall / self.steps,
            "share": share,
            "padding": 1 - tokens / slots if slots else 0.0,
            "memory_gb": used / 1e9,
        }


def loss(trainer: Any, start: Path, kind: str, rows: pl.DataFrame, section: Any) -> float:
    """On held-out rows: mean negative log-likelihood per token, or DPO's loss. Plain float32 logits, row by row."""
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stages.text.chat import Chat

    chat, model = Chat(AutoTokenizer.from_pretrained(start)), AutoModelForCausalLM.from_pretrained(start).eval()
    device, columns = trainer.accelerator.device, rows.columns[1:]

    def sums() -> torch.Tensor:
        found = []
        for column in columns:
            for prompt, answer in chat.encode(rows[rows.columns[0]].to_list(), rows[column].to_list()):
                ids = torch.tensor([prompt + answer], device=device)
                with torch.no_grad():
                    logp = model(ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
                found.append((logp[len(prompt) - 1 :].sum(), len(answer)))
        return torch.tensor(found).view(len(columns), -1, 2)

    reference = sums() if kind == "dpo" else None
    model.to(device).load_state_dict(trainer.accelerator.unwrap_model(trainer.model).state_dict(), strict=False)
    now = sums()
    if reference is None:
        return float(-now[0, :, 0].sum() / now[0, :, 1].sum())
    gained = now[..., 0] - reference[..., 0]
    return float(-F.logsigmoid(section.beta * (gained[0] - gained[1])).mean())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        print("\n" + json.dumps(trained(json.loads(sys.argv[2]))))
    else:
        app()
