"""split_seed: human seed data -> IFT, ranked answers for EFT, and what is held out to evaluate (paper 2.1).

    python -m stages.split_seed

Sources (params `split_seed`): `tinyworld` lets made-up demonstrators write; `file` reads Open Assistant's message
schema (jsonl, jsonl.gz, json, parquet); `hub` reads a dataset in that schema at a pinned revision. All parts are
disjoint by prompt.
"""

from __future__ import annotations

from pathlib import Path

from stages.config import paths
from stages.config.load import load_params
from stages.config.sections import SplitSeed
from stages.console.command import command
from stages.console.terminal import warn
from stages.constraints.prompts import constrain
from stages.method import seeds
from stages.store.messages import Message, read_file, read_hub
from stages.store.run import Run
from stages.store.tables import IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS


def main(root: Path = Path()) -> None:
    """Write data/IFT, data/EFT/{ranked,valid}, data/TEST, and what became of the messages: data/metrics/seed.json."""
    params = load_params(root)
    paths.require(params, root)
    p = params.split_seed
    with Run("split_seed", root) as run:
        sizes = {"ift": p.ift, "ift_valid": p.ift_valid, "ranked": p.eft_prompts, "ranked_valid": p.test_ranked}
        sizes["test_prompts"] = p.test_prompts
        counts = None
        if p.source == "tinyworld":
            from stages.tinyworld.demonstrators import seed_tables

            tables = seed_tables(p, split_seed=params.world.seed, seed=params.seed)
        else:
            name = str(p.repo) if p.source == "hub" else Path(p.path).name
            ranked, counts = seeds.ranked_answers(messages(p, root, run), lang=p.lang, source=name)
            tables = seeds.split(ranked, sizes, seed=params.seed)
        parts = seeds.parts(tables, sizes)
        if params.evaluate.oracle == "constraints":
            tests = constrain(tables["test_prompts"], seed=params.seed)
            tables["test_prompts"] = tests.sort("prompt_id")
        for table in (IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS):
            run.write(table, tables[table.name])
        run.write_metrics("seed", {**(counts._asdict() if counts else {}), "parts": parts})
        if counts:
            print(
                f"{name}: {counts.messages:,} messages hold {counts.prompts:,} prompts with {counts.answers:,} ranked "
                f"answers; {seeds.left_out_text(counts)}"
            )
        print("seed data: " + ", ".join(f"{part} {n['prompts']:,} of {n['requested']:,}" for part, n in parts.items()))
        for warning in seeds.warnings(counts, parts, params.warn.left_out):
            warn(f"seed data: {warning}")


def messages(p: SplitSeed, root: Path, run: Run) -> list[Message]:
    if p.source == "hub":
        return read_hub(str(p.repo), str(p.revision))
    if (root / p.path).is_file():  # else reading says what is wrong
        run.watch(root / p.path)
    return read_file(root / p.path)


if __name__ == "__main__":
    command(main)
