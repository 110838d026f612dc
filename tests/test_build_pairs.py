"""build_pairs as a stage, on hand-made tables: which AIFT `consistency` asks of what."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from stages import build_pairs
from stages.console.errors import TableError
from stages.store.catalog import table_path
from stages.store.tables import CANDIDATES, JUDGEMENTS, PROMPTS

ROOT = Path(__file__).parents[1]
PROMPTS_EACH = 60


def store(root: Path, consistency: str) -> None:
    """AIFT(M1), judged by M1 alone, and AIFT(M2), where the second judge M1 gives 3 to everything."""
    yaml = YAML()
    params = yaml.load(ROOT / "stages/config/profiles/scripted.yaml")
    params["judge_candidates"]["second_judge"] = "previous"
    params["build_pairs"] |= {"consistency": consistency, "min_tau": 0.1}
    yaml.dump(params, root / "params.yaml")
    for model in ("M1", "M2"):
        prompts = [f"{model}-p{i:02}" for i in range(PROMPTS_EACH)]
        answers = [(f"{p}-{n}", p, model, n, f"answer {n}", "stop", 3, None) for p in prompts for n in range(2)]
        judgements = [(c, p, model, 0, f"Score: {5 * n}", "stop", 5.0 * n, None) for c, p, _, n, *_ in answers]
        if model == "M2":
            judgements += [(c, p, "M1", 0, "Score: 3", "stop", 3.0, None) for c, p, *_ in answers]
        rows = {
            PROMPTS: [(p, model, f"say {p}", "M0", [], None) for p in prompts],
            CANDIDATES: answers,
            JUDGEMENTS: judgements,
        }
        for table, lines in rows.items():
            path = table_path(table, root, model)
            path.parent.mkdir(parents=True, exist_ok=True)
            pl.DataFrame(lines, schema=table.schema, orient="row").write_parquet(path)


def reversed_pairs(root: Path, model: str) -> int:
    build_pairs.main(model, root)
    rows = pl.read_parquet(root / f"data/AIFT/{model}/pairs.parquet")
    assert len(rows) == PROMPTS_EACH
    return int(rows["reversed"].sum())


def test_an_unknown_tau_counts_as_0_and_an_aift_without_a_second_judge_is_left_alone(tmp_path: Path):
    store(tmp_path, "smooth")
    assert reversed_pairs(tmp_path, "M1") == 0
    assert 15 <= reversed_pairs(tmp_path, "M2") <= 45
    store(tmp_path, "filter")
    assert reversed_pairs(tmp_path, "M1") == 0
    with pytest.raises(TableError, match=r"no pairs of 60 prompts .* 120 inconsistent"):
        build_pairs.main("M2", tmp_path)
