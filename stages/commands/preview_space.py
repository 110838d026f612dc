"""A temporary project for a preview: this one's code, templates and completion cache, a few rows of its tables, and the
models that are there. What a stage needs and nobody has made yet, the stage before it makes here, as few rows."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from stages.config.load import PARAMS
from stages.config.own import apply
from stages.config.params import Params
from stages.console.errors import ModelError, SrlmError
from stages.console.terminal import shown, stderr
from stages.method import seed_judging
from stages.store import catalog
from stages.store.files import read_lines
from stages.store.run import COMPLETION_CACHE, LOG
from stages.store.tables import (
    CANDIDATES,
    IFT_TRAIN,
    IFT_VALID,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    RANKED,
    RANKED_VALID,
    SCORES,
    SEED_JUDGEMENTS,
    TEST_PROMPTS,
    Table,
)

OF_ITS_OWN = {PARAMS, "data", "dvc.lock", ".dvc", ".git"}
"""What the temporary project does not share with this one."""
SEED = (IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS)
AIFT = (PROMPTS, CANDIDATES, JUDGEMENTS, SCORES, PAIRS)
"""Each made from those before it."""
NEEDS = {"sample_candidates": 1, "judge_candidates": 2, "build_pairs": 3, "build_judge_pairs": 5}
"""How many of AIFT a stage reads."""
ROUNDS = 2
"""Of prompts, at most, where a first part of one has too few that pass the filters."""
MORE = 1.5
"""Prompts asked for, beside those wanted: some are dropped."""
TOO_FEW = "passed the filters"


class Space:
    """`path` is the temporary project of a preview of `n` records of the one in `root`."""

    def __init__(self, path: Path, root: Path, params: Params, n: int) -> None:
        self.path, self.root, self.params, self.n = path, root, params, n
        self.stand_ins: dict[str, str] = {}
        """Model that is not there yet -> the one in its place."""
        self.made: list[str] = []
        """Stages that ran here."""

    def set(self, **changes: Any) -> None:
        """Edit its params.yaml: dotted keys to values."""
        yaml, file = YAML(), self.path / PARAMS
        data: Any = yaml.load(file.read_text(encoding="utf-8"))
        apply(data, changes)
        yaml.dump(data, file)

    def run(self, stage: str, model: str | None = None, *, may_lack: str | None = None) -> bool:
        """One stage as DVC runs it. Raises SrlmError when it fails; it has said why. One whose message holds `may_lack`
        is no failure: False, and nothing is said."""
        self.made.append(name(stage, model))
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}", *([model] if model else []), "--root", str(self.path)],
            stdout=2 if may_lack is None else subprocess.PIPE,
            stderr=None if may_lack is None else subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode and may_lack and may_lack in done.stderr:
            return False
        if may_lack:
            stderr.print(shown((done.stdout + done.stderr).rstrip()))
        if done.returncode:
            raise SrlmError(f"the preview ends here: {name(stage, model)} failed")
        return True

    def spent(self, stage: str, model: str | None = None) -> dict[str, float]:
        """What its runs came to: `texts`, `tokens_read`, `tokens_written` that were not cached, `compute_s`, and
        `start_s`, until the last of them computed."""
        entries = [e for e in read_lines(self.path / LOG) if e.get("stage") == name(stage, model)]
        keys = ("texts", "tokens_read", "tokens_written", "compute_s")
        sums = {key: float(sum(e.get(key, 0) for e in entries)) for key in keys}
        return sums | {"start_s": entries[-1]["seconds"] - entries[-1]["compute_s"] if entries else 0.0}

    # Models

    def place(self, model: str) -> str:
        """Have `model` where stages look for it: itself, made here if nobody has made it yet, or one in its place that
        is trained already. Returns whose weights they are. Raises SrlmError where there is none."""
        link, p = catalog.model_dir(self.path, model), self.params
        if link.exists():
            return self.stand_ins.get(model, model)
        if there(self.root, model):
            link.symlink_to(catalog.model_dir(self.root, model).resolve())
            return model
        if model in p.input_models:
            base = p.base.get(model)
            if base and base.source == "tinyworld":
                raise ModelError(
                    f"{model} is not there yet, and is pretrained here, which takes minutes that a preview would throw "
                    f"away. First: srlm repro get_model@{model}"
                )
            self.run("get_model" if base else "get_external", model)
            return model
        before = [*p.ancestors(model), *(["SFT"] if model != "SFT" else []), "M0"]
        other = next((each for each in before if there(self.root, each)), "M0")
        weights = self.place(other)
        link.symlink_to(catalog.model_dir(self.path, other).resolve())
        self.stand_ins[model] = weights
        stderr.print(
            f"{model} is not trained yet: {weights} stands in its place here, and the run will not take its texts from "
            f"the cache. For {model}'s own first: srlm repro {maker(p, model)}"
        )
        return weights

    # Tables

    def seed(self) -> None:
        """All tables of people's texts: this project's, or made here."""
        if any(catalog.table_path(table, self.path).exists() for table in SEED):
            return
        if not all(catalog.table_path(table, self.root).is_file() for table in SEED):
            self.run("split_seed")
            return
        for table in SEED:
            link = catalog.table_path(table, self.path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(catalog.table_path(table, self.root).resolve())

    def prepare(self, stage: str, model: str) -> None:
        """What `stage` reads of AIFT(model), of `n` prompts: rows of this project's tables, or made here."""
        if stage == "build_judge_pairs":
            self.seed()
            few = catalog.read(RANKED, self.path)
            self.write(RANKED, few.filter(pl.col("prompt_id").is_in(_first(few, self.n).implode())))
        ids = self._prompts(model)
        for table in AIFT[1 : NEEDS[stage]]:
            self._of_prompts(table, model, ids)

    def _prompts(self, model: str) -> pl.Series | None:
        """Have PROMPTS; the ids of those that are this project's, null where they were written here."""
        if not catalog.table_path(PROMPTS, self.root, model).is_file():
            self.write_prompts(model)
            return None
        accepted = catalog.read(PROMPTS, self.root, model).filter(pl.col("dropped").is_null())
        stderr.print(f"the first {min(self.n, len(accepted))} of {len(accepted)} prompts of AIFT({model})")
        self.write(PROMPTS, accepted.head(self.n), model)
        return accepted["prompt_id"].head(self.n)

    def _of_prompts(self, table: Table, model: str, ids: pl.Series | None) -> None:
        if ids is not None and catalog.table_path(table, self.root, model).is_file():
            rows = catalog.read(table, self.root, model).filter(pl.col("prompt_id").is_in(ids.implode()))
            if len(rows) and (table is PAIRS or rows["prompt_id"].n_unique() == len(ids)):
                self.write(table, rows, model)
                return
        if not catalog.table_path(table, self.path, model).is_file():  # build_pairs makes two
            self.stage(table.made_by, model)

    def stage(self, stage: str, model: str | None = None) -> None:
        """Run a stage whose tables are here, with its models."""
        for each in models_of(self.params, stage, model):
            self.place(each)
        self.run(stage, model)

    def write_prompts(self, model: str) -> None:
        """`n` prompts that pass the filters: the first requests of the whole stage's first round, and where they are
        too few more of them, so that the run finds them all in the cache."""
        p, aift = self.params.write_prompts, self.params.aift[model]
        self.seed()
        for earlier in reversed(self.params.ancestors(model)):
            if not catalog.table_path(PROMPTS, self.root, earlier).is_file():
                self.write_prompts(earlier)
            else:
                self.write(PROMPTS, catalog.read(PROMPTS, self.root, earlier), earlier)
        for each in models_of(self.params, "write_prompts", model):
            self.place(each)
        wanted, whole = min(self.n, aift.prompts), False
        size = min(p.round, math.ceil(MORE * wanted))
        while not whole:
            whole = size == p.round
            rounds = min(ROUNDS, p.max_rounds) if whole else 1
            sizes = {"write_prompts.round": size, "write_prompts.max_rounds": rounds}
            few = {f"aift.{other}.prompts": min(wanted, of.prompts) for other, of in self.params.aift.items()}
            self.set(**few, **sizes)
            whole |= self.run("write_prompts", model, may_lack=None if whole else TOO_FEW)
            size = min(p.round, 2 * size)

    def ranked(self) -> pl.DataFrame:
        """The answers that the whole of judge_seed judges (RANKED rows)."""
        self.seed()
        source = self.root if catalog.table_path(RANKED, self.root).is_file() else self.path
        p = self.params
        return seed_judging.draw(catalog.read(RANKED, source), p.judge_seed.answers_per_prompt, p.seed)

    def judged_seed(self) -> None:
        """RANKED and SEED_JUDGEMENTS of `n` prompts."""
        ranked = self.ranked()
        some = ranked.filter(pl.col("prompt_id").is_in(_first(ranked, self.n).implode()))
        self.write(RANKED, some)
        if catalog.table_path(SEED_JUDGEMENTS, self.root).is_file():
            rows = catalog.read(SEED_JUDGEMENTS, self.root).join(some, on="candidate_id", how="semi")
            if rows["candidate_id"].n_unique() == len(some):
                self.write(SEED_JUDGEMENTS, rows)
                return
        self.stage("judge_seed")

    def write(self, table: Table, rows: pl.DataFrame, model: str | None = None) -> None:
        catalog.write(table, rows, self.path, model)

    def read(self, table: Table, model: str | None = None) -> pl.DataFrame | None:
        """None where it is not here."""
        there = catalog.table_path(table, self.path, model).is_file()
        return catalog.read(table, self.path, model) if there else None


@contextmanager
def sandbox(root: Path, params: Params, n: int) -> Iterator[Space]:
    with TemporaryDirectory(prefix="srlm-preview-") as folder:
        path, cache = Path(folder), (root / COMPLETION_CACHE).parent.resolve()
        cache.mkdir(parents=True, exist_ok=True)
        (path / "data" / "models").mkdir(parents=True)
        (path / COMPLETION_CACHE).parent.symlink_to(cache)
        if (reviews := root.resolve() / "data" / "REVIEW").is_dir():
            (path / "data" / "REVIEW").symlink_to(reviews)
        for each in root.resolve().iterdir():
            if each.name not in OF_ITS_OWN:
                (path / each.name).symlink_to(each)
        yaml = YAML()
        data: Any = yaml.load((root / PARAMS).read_text(encoding="utf-8"))
        for section in (*data["base"].values(), data["split_seed"]):
            if not (path / section["path"]).exists():  # outside of the project, or in its data folder
                section["path"] = str((root / section["path"]).absolute())
        yaml.dump(data, path / PARAMS)
        yield Space(path, root, params, n)


def name(stage: str, model: str | None) -> str:
    return f"{stage}@{model}" if model else stage


def there(root: Path, model: str) -> bool:
    return any((catalog.model_dir(root, model) / file).is_file() for file in ("config.json", "server.json"))


def maker(params: Params, model: str) -> str:
    """The stage of dvc.yaml that trains `model`."""
    fixed = {"SFT": "train_sft_baseline", "M1": "train_sft_M1"}
    return fixed.get(model) or f"{'train_dpo' if model in params.models else 'train_positive'}@{model}"


def models_of(params: Params, stage: str, model: str | None) -> list[str]:
    """The models that a stage asks."""
    if stage == "judge_seed":
        return [params.judge_seed.model] if params.judge_seed.model else []
    if model is None or stage in ("build_pairs", "build_eft"):
        return []
    if stage == "write_prompts":
        return [params.aift[model].writer]
    if stage == "judge_candidates":
        return [each for each in (params.aift[model].judge, params.second_judge(model)) if each]
    older = params.rejected_from(model) if stage == "sample_candidates" else None
    return [model, older] if older else [model]


def _first(rows: pl.DataFrame, n: int) -> pl.Series:
    """The first `n` prompt ids."""
    return rows["prompt_id"].unique(maintain_order=True).head(n)
