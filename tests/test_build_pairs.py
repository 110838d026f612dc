"""build_pairs and build_judge_pairs as stages, on hand-made tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ruamel.yaml import YAML

from stages import build_judge_pairs, build_pairs
from stages.console.errors import TableError
from stages.store import reviews
from stages.store.catalog import reviewed, table_path
from stages.store.tables import CANDIDATES, JUDGEMENTS, PROMPTS
from stages.train_dpo import as_written

ROOT = Path(__file__).parents[1]
PROMPTS_EACH = 60


def store(root: Path, **changes: dict[str, Any]) -> None:
    """AIFT(M1), judged by M1 alone, and AIFT(M2), where the second judge M1 gives 3 to everything."""
    yaml = YAML()
    params = yaml.load(ROOT / "stages/config/profiles/scripted.yaml")
    params["judge_candidates"]["second_judge"] = "previous"
    for section, values in changes.items():
        params[section] |= values
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
    store(tmp_path, build_pairs={"consistency": "smooth"})
    assert reversed_pairs(tmp_path, "M1") == 0
    assert 15 <= reversed_pairs(tmp_path, "M2") <= 45
    store(tmp_path, build_pairs={"consistency": "filter", "min_tau": 0.1})
    assert reversed_pairs(tmp_path, "M1") == 0
    with pytest.raises(TableError, match=r"no pairs of 60 prompts .* 120 inconsistent"):
        build_pairs.main("M2", tmp_path)


def test_judgements_that_mt_compared_are_pairs_unless_the_gate_is_closed(tmp_path: Path, capsys):
    """The scripted engine answers [[A]], [[B]] or [[C]] by chance, so that an open gate stays open."""
    shutil.copytree(ROOT / "stages/templates", tmp_path / "stages/templates")
    (tmp_path / "data/models/M1").mkdir(parents=True)
    (tmp_path / "data/models/M1/config.json").write_text("{}")

    def made(**gate: float) -> tuple[pl.DataFrame, dict[str, Any]]:
        meta = {"template": "stages/templates/meta_judge.jinja", "max_chars": None, "higher": 0.75, "first": 0.6} | gate
        store(tmp_path, judge_pairs={"source": "meta_judge", "n": 4, "share": 0.2, "meta_judge": meta})
        build_pairs.main("M1", tmp_path)
        build_judge_pairs.main("M1", tmp_path)
        metrics = json.loads((tmp_path / "data/metrics/judge_pairs/M1.json").read_text())
        return pl.read_parquet(tmp_path / "data/AIFT/M1/judge_pairs.parquet"), metrics

    pairs, metrics = made()
    assert 5 <= len(pairs) == metrics["pairs"] <= 15
    assert pairs["source"].unique().to_list() == ["meta_judge"]
    assert metrics["decided"] > 0
    assert 0.4 < metrics["first"] < 0.6
    assert "warned" not in metrics
    pairs, metrics = made(first=0.5, higher=0.5)
    assert pairs.is_empty()
    assert metrics["pairs"] == metrics["before_caps"] == 0
    assert metrics["warned"][0].startswith("the meta-judge gives no pairs: of ")
    assert "the meta-judge gives no pairs" in capsys.readouterr().err


def said(root: Path, model: str, **words: str) -> None:
    """`M1_p00="drop"`: of the pair that prompt M1-p00 gives."""
    for prompt, decision in words.items():
        i = prompt.replace("_", "-")
        reviews.append(root, model, prompt_id=i, chosen_id=f"{i}-1", rejected_id=f"{i}-0", decision=decision, who="ann")


def test_reviews_do_nothing_until_they_are_switched_on_and_are_then_counted(tmp_path: Path, capsys: Any):
    store(tmp_path)
    build_pairs.main("M1", tmp_path)
    path = tmp_path / "data/AIFT/M1/pairs.parquet"
    before = path.read_bytes()
    said(tmp_path, "M1", M1_p00="swap", M1_p01="drop", M1_p02="agree", M1_p99="drop")
    build_pairs.main("M1", tmp_path)
    assert path.read_bytes() == before, "off"
    store(tmp_path, build_pairs={"reviews": True})
    capsys.readouterr()
    build_pairs.main("M1", tmp_path)
    pairs, scores = pl.read_parquet(path), pl.read_parquet(tmp_path / "data/AIFT/M1/scores.parquet")
    assert len(pairs) == PROMPTS_EACH - 1
    assert pairs.filter(reversed=1)["prompt_id"].to_list() == ["M1-p00"]
    assert scores.filter(fate="withdrawn")["prompt_id"].to_list() == ["M1-p01"] * 2
    trained = {row["prompt_id"]: (row["chosen"], row["rejected"]) for row in as_written(pairs).to_dicts()}
    assert trained.pop("M1-p00") == ("answer 0", "answer 1"), "what train_dpo trains on: swapped"
    assert "M1-p01" not in trained, "dropped"
    assert set(trained.values()) == {("answer 1", "answer 0")}, "the others as the judge has them"
    metrics = json.loads((tmp_path / "data/metrics/AIFT/M1.json").read_text())
    assert metrics["reviews"] == {"agree": 1, "swap": 1, "drop": 1, "disputed": 0, "gone": 1}
    assert metrics["fates"]["withdrawn"] == 2
    assert sum(metrics["fates"].values()) == metrics["candidates"], "the fates add up"
    assert "people reviewed 3 pairs (1 agree, 1 swap, 1 drop)" in metrics["warned"][-2]
    assert "1 reviews are of pairs that are no longer there, first prompt_id=M1-p99" in capsys.readouterr().err
    assert reviewed(path)["swap"] == 1, "in the file, from which the lineage of the model has it"
    [row] = (tmp_path / "data/logs/runs.jsonl").read_text().splitlines()[-1:]
    assert "data/REVIEW/M1.parquet" in json.loads(row)["inputs"]
    build_pairs.main("M2", tmp_path)
    assert reviewed(tmp_path / "data/AIFT/M2/pairs.parquet") == {
        "agree": 0,
        "swap": 0,
        "drop": 0,
        "disputed": 0,
        "gone": 0,
    }


def test_reviews_that_leave_no_pair_are_told(tmp_path: Path):
    store(tmp_path, build_pairs={"reviews": True})
    said(tmp_path, "M1", **{f"M1_p{i:02}": "drop" for i in range(PROMPTS_EACH)})
    with pytest.raises(TableError, match=r"no pairs .* people's reviews left out 60"):
        build_pairs.main("M1", tmp_path)
