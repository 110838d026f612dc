"""A store of a few hand-made rows with its own git and DVC: what `srlm publish` finds after a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from stages.store import tables
from stages.store.catalog import write
from stages.store.files import md5
from stages.store.tables import Table

ROOT = Path(__file__).parents[2]
WEIGHTS = 10_000
"""Parameters of a model."""


def rows(keys: str, *values: tuple[Any, ...], **same: Any) -> list[dict[str, Any]]:
    return [dict(zip(keys.split(), row, strict=True)) | same for row in values]


HAND, M1 = {"source": "hand", "source_id": "1"}, {"prompt_id": "p0", "model": "M1"}
IFT = rows("ift_id instruction response", *((f"i{i}", f"Say {i}", str(i)) for i in range(5)), **HAND)
RANKED = "candidate_id prompt_id prompt response human_rank"
JUDGED = "candidate_id k text finish_reason score expected"
THOUGHT = "<think>\nTwo.\n</think>\n\n"
PAIR = {"prompt": "Name <b>two</b> | fruits", "chosen": "apple\npear", "rejected": "</pre><script>alert(1)</script>"}
PROMPT = "prompt_id prompt writer shots dropped"
ROWS: dict[Table, list[dict[str, Any]]] = {
    tables.IFT_TRAIN: IFT,
    tables.IFT_VALID: rows("ift_id instruction response", ("v0", "Say v", "v"), **HAND),
    tables.TEST_PROMPTS: rows("prompt_id prompt", ("t0", "Say t"), **HAND),
    tables.RANKED: rows(RANKED, ("r0", "r", "r", "0", 0), ("r1", "r", "r", "1", 1), **HAND),
    tables.RANKED_VALID: rows(RANKED, ("rv0", "rv", "rv", "0", 0), ("rv1", "rv", "rv", "1", 1), **HAND),
    tables.SEED_JUDGEMENTS: rows(JUDGED, ("r0", 0, "Score: 5", "stop", 5.0, None), prompt_id="r", judge="SFT"),
    tables.EFT: rows(
        "eft_id candidate_id instruction response score human_rank", ("e0", "r0", "Judge: 0", "Score: 5", 5.0, 0)
    ),
    tables.PROMPTS: rows(
        PROMPT,
        ("p0", PAIR["prompt"], "M0", ["i0", "i1"], None),
        ("p1", "Say 0", "M0", ["i0", "p0"], "too_similar"),
        model="M1",
    ),
    tables.CANDIDATES: rows(
        "candidate_id n response thought",
        ("c0", 0, PAIR["chosen"], THOUGHT),
        ("c1", 1, PAIR["rejected"], None),
        ("c2", 2, "plum", None),
        **M1 | {"finish_reason": "stop", "tokens": 3},
    ),
    tables.JUDGEMENTS: rows(
        JUDGED,
        *((f"c{n}", 0, "Score", "stop", score, None) for n, score in enumerate([4.0, 1.5, None])),
        prompt_id="p0",
        judge="M1",
    ),
    tables.SCORES: rows(
        "candidate_id score spread parsed fate",
        ("c0", 4.0, 0.0, 1, "chosen"),
        ("c1", 1.5, 0.0, 1, "rejected"),
        ("c2", None, None, 0, "unreadable"),
        **M1 | {"tau": None},
    ),
    tables.PAIRS: [
        M1
        | PAIR
        | {"chosen_id": "c0", "rejected_id": "c1", "chosen_score": 4.0, "rejected_score": 1.5}
        | {"chosen_thought": THOUGHT, "rejected_thought": None, "rejected_by": None, "reversed": None},
    ],
}
METRICS = {
    **{"prompts": 1, "dropped": {"too_similar": 1}, "candidates": 3, "judgements": 3, "unparsed": 1, "pairs": 1},
    **{"fates": {"chosen": 1, "rejected": 1, "unreadable": 1, "tied": 0}, "unreadable_share": 1 / 3, "ties": 0},
    **{"score_histogram": {"1.5": 1, "4": 1, "5": 0}, "pair_yield": 1.0, "mean_score": 2.75, "mean_margin": 2.5},
    "warned": ["one score <i>alone</i> takes 50 %"],
}
PATHS = [table.path.format(model="M1") for table in ROWS]
OUTS = [*PATHS, "data/models/M1", "data/models/M2", {"data/metrics/AIFT/M1.json": {"cache": False}}]
DVC = {"stages": {"make": {"cmd": "cp -r seed/data .", "deps": ["seed"], "outs": OUTS}}}


class Store(NamedTuple):
    path: Path

    @classmethod
    def make(cls, path: Path) -> Store:
        """Rows and models in `seed`, from where a real stage of DVC brings them to where they belong, and all that in a
        commit."""
        seed = path / "seed"
        for table, values in ROWS.items():
            write_rows(table, values, seed, {"vllm": "0.99"} if table.name == "candidates" else None)
        (seed / "data/metrics/AIFT").mkdir(parents=True)
        (seed / "data/metrics/AIFT/M1.json").write_text(json.dumps(METRICS))
        for model, parent, data in (("M1", "M0", "IFT/train"), ("M2", "M1", "AIFT/M1/pairs")):
            weights(seed / "data/models" / model, model, parent, f"data/{data}.parquet")
        YAML().dump(DVC, path / "dvc.yaml")
        shutil.copy(ROOT / "stages/config/profiles/tiny.yaml", path / "params.yaml")
        shutil.copy(ROOT / ".dvcignore", path)
        store = cls(path)
        aift = {"M1": {"writer": "M0", "judge": "M1", "prompts": 2, "rho": None}}
        match = {"M2-M1": {"model": "M2", "other": "M1"}}
        store.set(aift=aift, models={"M2": {"prev": "M1"}}, drift={}, evaluated=["M1", "M2"], head_to_head=match)
        (path / ".gitignore").write_text("/data/*\n!/data/metrics\n")
        dvc = [sys.executable, "-m", "dvc"]
        for command in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"]):
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

    def commit(self, *options: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "a run", *options)

    def rewrite(self, table: Table, values: list[dict[str, Any]]) -> None:
        """Other rows in a table, as if its stage had made them."""
        write_rows(table, values, self.path)
        self.adopt(table.path.format(model="M1"))
        self.commit()

    def adopt(self, *paths: str) -> None:
        """dvc.lock names what lies there now."""
        lock = YAML(typ="safe").load(self.path / "dvc.lock")
        for out in lock["stages"]["make"]["outs"]:
            if out["path"] in paths:
                out["md5"] = md5(self.path / out["path"])
        YAML().dump(lock, self.path / "dvc.lock")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


def write_rows(table: Table, values: list[dict[str, Any]], root: Path, packages: dict[str, str] | None = None) -> None:
    model = "M1" if "{model}" in table.path else None
    write(table, pl.DataFrame(values, schema=table.schema), root, model, packages)


def weights(folder: Path, model: str, parent: str, table: str) -> None:
    """A model's folder; nobody loads it."""
    folder.mkdir(parents=True)
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    config = {"architectures": ["TestForCausalLM"], "max_position_embeddings": 128, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"w": np.full(WEIGHTS, int(model[1:]), np.float32)}, folder / "model.safetensors")
    known = {"name": model, "parent": parent, "method": "dpo", "reference": parent, "seed": 1, "threads": 1}
    known |= {"versions": {"torch": "2.13.0+cpu"}, "data": {table: "0" * 32}, "params": {"lr": 1e-4}}
    (folder / "lineage.json").write_text(json.dumps(known))
