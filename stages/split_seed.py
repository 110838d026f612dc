"""split_seed: human seed data -> IFT, ranked answers for EFT, and what is held out to evaluate (paper 2.1).

    python -m stages.split_seed

Sources (params `split_seed`): `tinyworld` lets made-up demonstrators write; `file` reads Open Assistant's message
schema (jsonl, jsonl.gz, json, parquet); `hub` reads a dataset in that schema at a pinned revision. All parts are
disjoint by prompt.
"""

from __future__ import annotations

from pathlib import Path

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.command import command
from stages.method import seeds
from stages.store.messages import read_file, read_hub
from stages.store.run import Run
from stages.store.tables import IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS


def main(root: Path = Path()) -> None:
    """Write data/IFT, data/EFT/{ranked,valid} and data/TEST."""
    params = load_params(root)
    with Run("split_seed", root) as run:
        tables = split(params, root, run)
        for table in (IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS):
            run.write(table, tables[table.name])
        print("seed data: " + ", ".join(f"{name} {len(frame)} rows" for name, frame in tables.items()))


def split(params: Params, root: Path, run: Run):
    p = params.split_seed
    if p.source == "tinyworld":
        from stages.tinyworld.demonstrators import seed_tables

        return seed_tables(p, split_seed=params.world.seed, seed=params.seed)
    if p.source == "file":
        if (root / p.path).is_file():  # else reading says what is wrong
            run.watch(root / p.path)
        messages = read_file(root / p.path)
    else:
        messages = read_hub(str(p.repo), str(p.revision))
    ranked = seeds.ranked_answers(messages, lang=p.lang, source=p.repo or Path(p.path).name)
    return seeds.split(
        ranked,
        ift=p.ift,
        ift_valid=p.ift_valid,
        eft_prompts=p.eft_prompts,
        test_prompts=p.test_prompts,
        test_ranked=p.test_ranked,
        seed=params.seed,
    )


if __name__ == "__main__":
    command(main)
