"""split_seed: human seed data -> IFT, ranked answers for EFT, and what is held out (paper 2.1).

    python -m stages.split_seed

`tinyworld` has its own people; `file` and `hub` read rows in a format of docs/data.md. All parts are disjoint by
prompt, near-duplicates included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.config import paths
from stages.config.load import load_params
from stages.config.params import Params
from stages.config.sections import SplitSeed
from stages.console.command import command
from stages.console.terminal import warn
from stages.constraints.prompts import constrain
from stages.method import seeds
from stages.method.formats import recognize
from stages.store.rows import Row, read_file, read_hub
from stages.store.run import Run
from stages.store.tables import IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS


def main(root: Path = Path()) -> None:
    """Write data/IFT, data/EFT/{ranked,valid}, data/TEST, and what became of the data: data/metrics/seed.json."""
    params = load_params(root)
    paths.require(params, root)
    p = params.split_seed
    with Run("split_seed", root) as run:
        sizes = {"ift": p.ift, "ift_valid": p.ift_valid, "ranked": p.eft_prompts, "ranked_valid": p.test_ranked}
        sizes["test_prompts"] = p.test_prompts
        metrics: dict[str, Any] = {}
        warnings: list[str] = []
        if p.source == "tinyworld":
            from stages.tinyworld.demonstrators import seed_tables

            tables = seed_tables(p, split_seed=params.world.seed, seed=params.seed)
        else:
            tables, metrics, warnings = from_rows(read(p, root, run), sizes, params)
        parts = seeds.parts(tables, sizes)
        if params.evaluate.oracle == "constraints":
            tests = constrain(tables["test_prompts"], seed=params.seed)
            tables["test_prompts"] = tests.sort("prompt_id")
        if p.eft_constraints:
            from stages.constraints.answers import checked_answers

            checked = checked_answers(tables["ranked"], p.eft_constraints, seed=params.seed)
            tables["ranked"] = pl.concat([tables["ranked"], checked]).sort("prompt_id", "human_rank", "candidate_id")
            metrics["eft_constraints"] = {"prompts": checked["prompt_id"].n_unique(), "answers": len(checked)}
            print(f"seed data: {len(checked)} answers to {checked['prompt_id'].n_unique()} prompts with constraints")
        for table in (IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS):
            run.write(table, tables[table.name])
        run.write_metrics("seed", {**metrics, "parts": parts})
        print("seed data: " + ", ".join(f"{part} {n['prompts']:,} of {n['requested']:,}" for part, n in parts.items()))
        for warning in [*warnings, *seeds.small_parts(parts, params.warn.left_out)]:
            warn(f"seed data: {warning}")


def from_rows(
    rows: list[Row], sizes: dict[str, int], params: Params
) -> tuple[dict[str, pl.DataFrame], dict[str, Any], list[str]]:
    """The tables, what became of the rows, and warnings; says how they were read."""
    p = params.split_seed
    name = str(p.repo) if p.source == "hub" else Path(p.path).name
    reading = recognize(rows, name if p.source == "hub" else p.path, p.format, p.columns)
    print(f"{name}: {len(rows):,} rows {reading}")
    answers, counts = seeds.answered_prompts(reading.messages(rows), lang=p.lang, source=name, ranked=reading.ranked)
    print(
        f"{name}: {counts.messages:,} messages hold {counts.prompts:,} prompts with {counts.answers:,} "
        f"{'ranked ' * reading.ranked}answers; {seeds.left_out_text(counts)}"
    )
    group_of = seeds.groups(answers, p.near_duplicates, p.lang)
    tables = seeds.split(answers, sizes, seed=params.seed, group_of=group_of)
    near = seeds.near_counts(tables, group_of)
    print(
        f"{name}: {near['prompts']:,} prompts are near-duplicates in {near['groups']:,} groups, each in one part only; "
        f"{near['left_out']:,} of them are left out so"
    )
    warnings = seeds.warnings(counts, params.warn.left_out)
    if p.lang and not counts.lang:
        warnings.append(f"no message names its language: all are taken, as split_seed.lang {p.lang}")
    if not reading.ranked:
        warnings.append(f"{reading.format} has no ranks: it makes IFT and no EFT, so that the run ends with SFT")
    found = {"format": reading.format, "columns": reading.columns, "rows": len(rows)}
    return tables, {**found, **counts._asdict(), "near_duplicates": near}, warnings


def read(p: SplitSeed, root: Path, run: Run) -> list[Row]:
    if p.source == "hub":
        return read_hub(str(p.repo), str(p.revision), p.config, p.split)
    if (root / p.path).is_file():  # else reading says what is wrong
        run.watch(root / p.path)
    return read_file(root / p.path)


if __name__ == "__main__":
    command(main)
