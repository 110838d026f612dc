"""A store of a few hand-made rows with its own git and DVC: what `srlm publish` finds after a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from ruamel.yaml import YAML

from stages.store import tables
from stages.store.catalog import write
from stages.store.tables import Table

ROOT = Path(__file__).parents[2]
WEIGHTS = 40_000
"""Bytes of a model's weights."""
ROWS: tuple[tuple[Table, list[dict[str, Any]]], ...] = (
    (
        tables.IFT_TRAIN,
        [
            {"ift_id": f"i{i}", "instruction": f"Say {i}", "response": str(i), "source": "hand", "source_id": str(i)}
            for i in range(5)
        ],
    ),
    (tables.IFT_VALID, [{"ift_id": "v0", "instruction": "Say v", "response": "v", "source": "hand", "source_id": "v"}]),
    (tables.TEST_PROMPTS, [{"prompt_id": "t0", "prompt": "Say t", "source": "hand", "source_id": "t"}]),
    *(
        (
            table,
            [
                {
                    "candidate_id": f"{name}{i}",
                    "prompt_id": name,
                    "prompt": name,
                    "response": str(i),
                    "human_rank": i,
                    "source": "s",
                    "source_id": "s",
                }
                for i in (0, 1)
            ],
        )
        for table, name in ((tables.RANKED, "r"), (tables.RANKED_VALID, "rv"))
    ),
    (
        tables.SEED_JUDGEMENTS,
        [
            {
                "candidate_id": "r0",
                "prompt_id": "r",
                "judge": "SFT",
                "k": 0,
                "text": "Score: 5",
                "finish_reason": "stop",
                "score": 5.0,
                "expected": None,
            }
        ],
    ),
    (
        tables.EFT,
        [
            {
                "eft_id": "e0",
                "candidate_id": "r0",
                "instruction": "Judge: 0",
                "response": "Score: 5",
                "score": 5.0,
                "human_rank": 0,
            }
        ],
    ),
    (
        tables.PROMPTS,
        [
            {
                "prompt_id": "p0",
                "model": "M1",
                "prompt": "Name <b>two</b> | fruits",
                "writer": "M0",
                "shots": ["i0", "i1"],
                "dropped": None,
            },
            {
                "prompt_id": "p1",
                "model": "M1",
                "prompt": "Say 0",
                "writer": "M0",
                "shots": ["i0", "p0"],
                "dropped": "too_similar",
            },
        ],
    ),
    (
        tables.CANDIDATES,
        [
            {
                "candidate_id": f"c{n}",
                "prompt_id": "p0",
                "model": "M1",
                "n": n,
                "response": text,
                "finish_reason": "stop",
                "tokens": 3,
            }
            for n, text in enumerate(["apple\npear", "</pre><script>alert(1)</script>", "plum"])
        ],
    ),
    (
        tables.JUDGEMENTS,
        [
            {
                "candidate_id": f"c{n}",
                "prompt_id": "p0",
                "judge": "M1",
                "k": 0,
                "text": "Score",
                "finish_reason": "stop",
                "score": score,
                "expected": None,
            }
            for n, score in enumerate([4.0, 1.5, None])
        ],
    ),
    (
        tables.SCORES,
        [
            {
                "candidate_id": f"c{n}",
                "prompt_id": "p0",
                "model": "M1",
                "score": score,
                "spread": spread,
                "parsed": parsed,
                "fate": fate,
            }
            for n, (score, spread, parsed, fate) in enumerate(
                [(4.0, 0.0, 1, "chosen"), (1.5, 0.0, 1, "rejected"), (None, None, 0, "unreadable")]
            )
        ],
    ),
    (
        tables.PAIRS,
        [
            {
                "prompt_id": "p0",
                "model": "M1",
                "prompt": "Name <b>two</b> | fruits",
                "chosen": "apple\npear",
                "rejected": "</pre><script>alert(1)</script>",
                "chosen_id": "c0",
                "rejected_id": "c1",
                "chosen_score": 4.0,
                "rejected_score": 1.5,
            }
        ],
    ),
)
METRICS = {
    "prompts": 1,
    "dropped": {"too_similar": 1},
    "candidates": 3,
    "judgements": 3,
    "unparsed": 1,
    "unreadable_share": 1 / 3,
    "fates": {"chosen": 1, "rejected": 1, "unreadable": 1, "tied": 0},
    "score_histogram": {"1.5": 1, "4": 1, "5": 0},
    "pairs": 1,
    "ties": 0,
    "pair_yield": 1.0,
    "mean_score": 2.75,
    "mean_margin": 2.5,
    "warned": ["one score <i>alone</i> takes 50 %"],
}
DVC = {
    "stages": {
        "make": {
            "cmd": "cp -r seed/data .",
            "deps": ["seed"],
            "outs": [
                *(path for table, _ in ROWS for path in [table.path.format(model="M1")]),
                *(f"data/models/{model}" for model in ("M1", "M2")),
                {"data/metrics/AIFT/M1.json": {"cache": False}},
            ],
        }
    }
}


class Store(NamedTuple):
    path: Path

    @classmethod
    def make(cls, path: Path) -> Store:
        """Rows and models in `seed`, from where a real stage of DVC brings them to where they belong, and all that in a
        commit."""
        seed = path / "seed"
        for table, rows in ROWS:
            packages = {"vllm": "0.99"} if table.name == "candidates" else None
            write(
                table,
                pl.DataFrame(rows, schema=table.schema),
                seed,
                "M1" if "{model}" in table.path else None,
                packages,
            )
        (seed / "data/metrics/AIFT").mkdir(parents=True)
        (seed / "data/metrics/AIFT/M1.json").write_text(json.dumps(METRICS))
        for model, parent, data in (("M1", "M0", "IFT/train"), ("M2", "M1", "AIFT/M1/pairs")):
            weights(seed / "data/models" / model, model, parent, f"data/{data}.parquet")
        (path / "dvc.yaml").write_text("")
        YAML().dump(DVC, path / "dvc.yaml")
        shutil.copy(ROOT / "stages/config/profiles/tiny.yaml", path / "params.yaml")
        shutil.copy(ROOT / ".dvcignore", path)
        store = cls(path)
        store.set(
            **{
                "aift": {"M1": {"writer": "M0", "judge": "M1", "prompts": 2, "rho": None}},
                "models": {"M2": {"prev": "M1"}},
                "drift": {},
            }
        )
        store.set(**{"evaluated": ["M1", "M2"], "head_to_head": {"M2-M1": {"model": "M2", "other": "M1"}}})
        (path / ".gitignore").write_text("/data/*\n!/data/metrics\n")
        for command in (
            ["git", "init", "-q"],
            [sys.executable, "-m", "dvc", "init", "-q"],
            [sys.executable, "-m", "dvc", "repro", "-q"],
        ):
            store.run(*command)
        store.commit()
        return store

    def copy(self, path: Path) -> Store:
        shutil.copytree(self.path, path, symlinks=True)
        return Store(path)

    def set(self, **changes: Any) -> None:
        """Sections of params.yaml."""
        params = YAML().load(self.path / "params.yaml")
        params.update(changes)
        YAML().dump(params, self.path / "params.yaml")

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "a run")

    def repro(self) -> None:
        """After `seed` has changed."""
        self.run(sys.executable, "-m", "dvc", "repro", "-q")
        self.commit()

    def rewrite(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """Other rows in a table, and all that belongs to it."""
        write(
            table,
            pl.DataFrame(rows, schema=table.schema),
            self.path / "seed",
            "M1" if "{model}" in table.path else None,
        )
        self.repro()

    def run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def weights(folder: Path, model: str, parent: str, table: str) -> None:
    """A model's folder; nobody loads it."""
    folder.mkdir(parents=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(model.encode() * (WEIGHTS // 2))
    known = {
        "name": model,
        "parent": parent,
        "method": "dpo",
        "reference": parent,
        "seed": 1,
        "threads": 1,
        "versions": {"torch": "2.13.0+cpu"},
    }
    (folder / "lineage.json").write_text(json.dumps({**known, "data": {table: "0" * 32}, "params": {"lr": 1e-4}}))
