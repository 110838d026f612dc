"""Log-probabilities of answers under DPO's reference, each computed once. They lie in the completion cache's database,
found by a hash of all that decides them, so that another beta, another min_margin, more prompts or a killed training
compute none again.

Computed together are only rows of one length, so that there is no padding, and what stands beside a row does not move
its bits on a CPU by one thread (by two it does below 33 tokens): a model is the same to the byte whether its references
were computed or read. On a GPU another batch may move the last bits, as in training.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from stages.console.errors import TrainingError
from stages.console.progress import progress

SIDES = ("chosen", "rejected")
SCHEMA = """
CREATE TABLE IF NOT EXISTS reference_logps (
    key BLOB PRIMARY KEY,         -- hash of all that decides it
    logp REAL NOT NULL,           -- log-probability of the answer behind its prompt, in nats, summed over its tokens
    digest BLOB NOT NULL,         -- of key and logp
    model TEXT NOT NULL,          -- model and created: for people, to see and to prune by
    created INTEGER NOT NULL      -- seconds since 1970
) WITHOUT ROWID"""
GET = "SELECT logp, digest FROM reference_logps WHERE key = ?"
PRUNE = "DELETE FROM reference_logps WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR created < ?2)"
SETTINGS = ("journal_mode = WAL", "synchronous = NORMAL")
"""NORMAL: what was written survives kill -9; a power cut may cost the last seconds, which are computed again."""
WAIT_S = 60.0
Row = tuple[Sequence[int], Sequence[int]]
"""Prompt and answer in tokens."""


class Source(NamedTuple):
    """Where references are kept (None: in memory), and whose they are: `content` is a hash of the model's files."""

    path: Path | None
    model: str
    content: str


class References:
    """The table in the database at `path`; a context. Every method raises TrainingError for a database that is damaged
    or cannot be written."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self._explained():
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path or ":memory:", timeout=WAIT_S)
            for setting in SETTINGS:
                self.connection.execute(f"PRAGMA {setting}")
            self.connection.execute(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, float]:
        """Those that are there."""
        known = {}
        with self._explained():
            for key in keys:
                for logp, digest in self.connection.execute(GET, (key,)):
                    if digest != _digest(key, logp):
                        raise sqlite3.DatabaseError("a row does not fit its digest")
                    known[key] = logp
        return known

    def put(self, logps: Mapping[bytes, float], model: str) -> None:
        """On return they survive kill -9."""
        now = int(time.time())
        rows = [(key, logp, _digest(key, logp), model, now) for key, logp in logps.items()]
        with self._explained(), self.connection:
            self.connection.executemany("INSERT OR IGNORE INTO reference_logps VALUES (?, ?, ?, ?, ?)", rows)

    def counts(self) -> dict[str, int]:
        """How many there are, by model."""
        with self._explained():
            return dict(self.connection.execute("SELECT model, count(*) FROM reference_logps GROUP BY model"))

    def prune(self, *, model: str | None = None, before: float | None = None) -> int:
        """Delete those of `model` created before `before` (None: of any model, of any age). Returns how many."""
        with self._explained(), self.connection:
            return self.connection.execute(PRUNE, (model, before)).rowcount

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as e:
            raise TrainingError(
                f"log-probabilities of the reference cannot be kept in {self.path}: {e}. Check the room on its disk, "
                f"its owner and mode. If it is damaged, type: srlm cache --prune, which deletes it"
            ) from None


def add_references(trainer: Any, rows: Mapping[str, list[Any]], source: Source | None, way: object = None) -> Any:
    """A DPO trainer's training set: `rows` (columns prompt_ids, chosen_ids, rejected_ids) with the two columns from
    which TRL takes the reference. The reference is the trainer's model, which has not been trained yet. `way`: what
    else decides how it computes, as whether an adapter is merged into its weights or beside them, and PEFT. With
    several processes each computes its share. Raises TrainingError for a log-probability that is no number."""
    from accelerate.utils import broadcast_object_list, gather_object
    from datasets import Dataset

    path, model, content = source or Source(None, "", "")
    accelerator, how = trainer.accelerator, _decides(trainer, content, way)
    answers = {side: [*zip(rows["prompt_ids"], rows[f"{side}_ids"], strict=True)] for side in SIDES}
    keys = {side: [_key(how, row) for row in answers[side]] for side in SIDES}
    wanted = {key: row for side in SIDES for key, row in zip(keys[side], answers[side], strict=True)}
    with References(path if accelerator.is_main_process else None) as stored:
        [logps] = broadcast_object_list([stored.get(wanted)])
        missing = wanted.keys() - logps.keys()
        batches = _of_one_length({key: wanted[key] for key in missing}, 2 * trainer.args.per_device_train_batch_size)
        with progress("reference", len(wanted), "answers") as advance:
            if logps:
                advance(len(logps), f"{len(logps)} cached", for_free=True)
            for at in range(0, len(batches), accelerator.num_processes):
                turn = batches[at : at + accelerator.num_processes]
                mine = turn[min(accelerator.process_index, len(turn) - 1)]  # a sharded model needs all, to the end
                new = [*zip(mine, _log_probabilities(trainer, [wanted[key] for key in mine]), strict=True)]
                logps |= (computed := dict(gather_object(new)))
                stored.put(computed, model)
                advance(len(computed))
    columns = {f"ref_{side}_logps": [logps[key] for key in keys[side]] for side in SIDES}
    return Dataset.from_dict({**rows, **columns})


def _of_one_length(rows: Mapping[bytes, Row], most: int) -> list[list[bytes]]:
    """Their keys, those of up to `most` rows of one length together."""
    lengths = {key: len(prompt) + len(answer) for key, (prompt, answer) in rows.items()}
    batches: list[list[bytes]] = []
    for key in sorted(rows, key=lambda key: (lengths[key], key)):
        if not batches or len(batches[-1]) == most or lengths[batches[-1][0]] != lengths[key]:
            batches.append([])
        batches[-1].append(key)
    return batches


def _log_probabilities(trainer: Any, rows: Sequence[Row]) -> list[float]:
    """Of each answer behind its prompt, in nats, summed over its tokens; all rows are of one length."""
    import torch

    ids = torch.tensor([[*prompt, *answer] for prompt, answer in rows])
    answers = torch.tensor([[0] * len(prompt) + [1] * len(answer) for prompt, answer in rows])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": answers}
    trainer.model.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        halves = trainer.compute_ref_log_probs(trainer.model, trainer._prepare_inputs(batch))
    finally:
        torch.set_num_threads(threads)
    logps: list[float] = torch.cat(halves).double().tolist()
    if not all(map(math.isfinite, logps)):
        raise TrainingError("the reference gives an answer a log-probability that is no number: its weights are broken")
    return logps


def _decides(trainer: Any, content: str, way: object) -> Any:
    """Hash of what decides a log-probability beside prompt and answer: model, precision, code, packages, device."""
    import torch

    device, config = trainer.args.device, trainer.model.config
    on_cpu = (torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    decides = (
        content,
        way,
        (trainer.args.bf16, str(trainer.model.dtype), str(getattr(config, "quantization_config", None))),
        config.get_text_config()._attn_implementation,
        [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))],
        [importlib.metadata.version(name) for name in ("torch", "transformers", "trl")],
        on_cpu if device.type == "cpu" else torch.cuda.get_device_name(device),
    )
    return hashlib.sha256(repr(decides).encode())


def _key(how: Any, row: Row) -> bytes:
    key = how.copy()
    key.update(repr(row).encode())
    digest: bytes = key.digest()
    return digest


def _digest(key: bytes, logp: float) -> bytes:
    return hashlib.blake2b(struct.pack("<d", logp), key=key, digest_size=8).digest()
