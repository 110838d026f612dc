"""The ablations' figures and tables, from hand-made runs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.ablations import Mean, by_arm, checked_pairs, difference, mean_of, share_kept, shown_of, tables
from benchmarks.arms import ARMS, BANK, equal
from benchmarks.seeds import PLAIN
from stages.config.load import load_params
from stages.store.copies import prepare

ROOT = Path(__file__).parents[1]


def run(judge: list[float], right: list[float], pairs: tuple[float, float]) -> dict:
    models = [f"M{i + 1}" for i in range(len(judge))]
    evals = {
        m: {
            "judge": {"pairwise_accuracy": {"value": j}, "exact_match": {"value": j and j / 2}},
            "writer": {"greedy": {"fully_right": {"value": r}, "oracle_score": {"value": 5 * r}}},
        }
        for m, j, r in zip(models, judge, right, strict=True)
    }
    measured = {"M1": {"right": pairs[0], "gap": 2.0}, "M2": {"right": pairs[1], "gap": 1.5}}
    return {"metrics": {"EVAL": {"SFT": evals["M1"], **evals}}, "measured": measured}


RUNS = {
    "plain@1": run([0.9, 0.9, 0.88], [0.5, 0.6, 0.7], (0.8, 0.7)),
    "plain@2": run([0.92, 0.9, 0.91], [0.5, 0.6, 0.6], (0.8, 0.7)),
    "lagged@1": run([0.9, 0.9, 0.91], [0.5, 0.6, 0.72], (0.8, 0.8)),
    "lagged@2": run([0.92, 0.9, 0.92], [0.5, 0.6, 0.66], (0.8, 0.9)),
    "six-plain@1": run([0.9] * 6, [0.5, 0.6, 0.7, 0.7, 0.6, 0.5], (0.8, 0.7)),
}


def test_differences_are_within_a_seed():
    runs = by_arm(RUNS)
    found = difference(runs["lagged"], runs["plain"], "judge_last")
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.half_width == pytest.approx(12.706 * 1.41421356 / 2**0.5, rel=1e-4), "3 and 1: Student, one degree"
    assert difference(runs["six-plain"], runs["plain"], "judge_last") == Mean(1, pytest.approx(2.0), None)


def test_a_mean_with_an_unknown_is_unknown():
    assert mean_of([1.0, None]) is None
    assert mean_of([]) is None


def test_of_a_gap_that_was_not_there_nothing_is_kept():
    assert share_kept(2.0, 1.5) == 0.75
    assert share_kept(2.0, 0.0) == 0
    assert share_kept(0.0, 0.1) is share_kept(-0.1, 0.1) is share_kept(None, 1.0) is share_kept(1.0, None) is None


def test_tables():
    shown = tables(RUNS)
    [plain, lagged, six] = shown["ablations"].splitlines()[2:]
    assert r"| 2 | 91.0 → 89.5 | \-1\.5 ±" in plain
    assert r"\+2\.0 ±" in lagged
    assert "85.0 | 0.75 |" in lagged
    assert r"| 1 | 90.0 → 90.0 | \+0\.0 |" in six


def test_a_loop_begins_with_the_model_of_its_first_aift_and_ends_with_its_last_model():
    no_eft = run([0.9, 0.8, 0.7], [0.5, 0.4, 0.3], (0.8, 0.7))
    no_eft["metrics"]["EVAL"]["SFT"] = run([0.6], [0.2], (0, 0))["metrics"]["EVAL"]["M1"]
    no_eft["measured"] = {"M2": {"right": 0.9, "gap": 1.0}, "SFT": {"right": 0.6, "gap": 2.0}}  # by name, as files are
    positive = run([0.9, 0.8], [0.5, 0.4], (0.8, 0.7))
    positive["metrics"]["EVAL"]["M2P"] = run([0.7], [0.3], (0, 0))["metrics"]["EVAL"]["M1"]
    positive["measured"].pop("M2")
    shown = tables({**RUNS, "no-eft@1": no_eft, "positive-only@1": positive, "plain-2@1": RUNS["plain@1"]})
    rows = {line.split("|")[1].strip(" `"): line for line in shown["ablations"].splitlines()[2:]}
    assert r"| 60.0 → 70.0 | \+10\.0 | 35.0 | 20.0 → 30.0 | 90.0 | 0.50 |" in rows["no-eft"]
    assert r"| 90.0 → 70.0 | \-20\.0 | 35.0 | 50.0 → 30.0 | 80.0 | 1.00 | – | – |" in rows["positive-only"]
    assert [line.split("|")[1:3] for line in shown["ablations, controls"].splitlines()[2:]] == [
        [" `positive-only` ", " `plain-2` "]
    ]


def test_pairs_are_scored_by_the_checker(tmp_path: Path):
    folder = tmp_path / "data" / "AIFT" / "M1"
    folder.mkdir(parents=True)
    prompt = "Count up from 7 to 9."
    rows = [("Sure! 7 8 9.", "7 9."), ("7 9.", "Sure! 7 8 9."), ("7.", "7."), ("Sure! 7 8 9.", "7."), ("7.", "7 8 9.")]
    columns = {"prompt_id": [*"abcde"], "prompt": prompt}
    pairs = pl.DataFrame(columns | {"chosen": [a for a, _ in rows], "rejected": [b for _, b in rows]})
    pairs.write_parquet(folder / "pairs.parquet")

    def measured(*taus: float | None) -> dict:
        scores = pl.DataFrame({"prompt_id": [*"abcde"] * 2, "tau": pl.Series([*taus] * 2, dtype=pl.Float64)})
        scores.write_parquet(folder / "scores.parquet")
        return checked_pairs(tmp_path)["M1"]

    seen = measured(None, None, None, None, None)
    assert (seen["pairs"], seen["right"], seen["tau_auc"]) == (5, 0.5, None)
    assert measured(1.0, 0.2, -1.0, 0.5, -0.5)["tau_auc"] == 1.0, "a and d are right, b and e wrong, c is a tie"
    assert measured(1.0, 0.2, -1.0, None, -0.5)["tau_auc"] == 0.75, "unknown counts as 0"
    assert measured(0.2, 0.2, 1.0, 0.2, 0.2)["tau_auc"] == 0.5
    pairs.head(1).write_parquet(folder / "pairs.parquet")
    assert measured(1.0, None, None, None, None)["tau_auc"] is None, "no wrong pair"


def test_the_page_shows_the_auc_of_arms_with_a_tau_and_reads_results_without_it():
    with_tau = {f"smooth@{seed}": run([0.9] * 3, [0.5] * 3, (0.8, 0.7)) for seed in (1, 2)}
    for result, value in zip(with_tau.values(), (0.6, 0.7), strict=True):
        result["measured"]["M2"]["tau_auc"] = value
    assert tables({**RUNS, **with_tau})["ablations, tau"].splitlines()[2:] == [r"| `smooth` | 0\.65 ±0\.64 |"]
    assert tables(RUNS)["ablations, tau"].splitlines()[2:] == []


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_a_loop_that_can_run(name: str, tmp_path: Path):
    prepare(ROOT, tmp_path / "run", {**PLAIN, **BANK, **ARMS[name].overrides})
    load_params(tmp_path / "run")
    assert ARMS[name].control in {None, *ARMS}


def test_equal_compute():
    assert equal(8, 3)["aift.M1.prompts"] == 200
    assert equal(4, 3)["aift.M2.prompts"] == 1200


def test_what_is_kept_of_a_run_makes_the_same_page():
    whole = {f"{arm}@1": run([0.9, 0.8, 0.9], [0.5, 0.6, 0.7], (0.8, 0.7)) for arm in ("plain", "lagged")}
    for one in whole.values():
        one |= {"overrides": {}, "seconds": 1.0, "stages": {"evaluate@M1": {"seconds": 1.0}}}
        one["metrics"] |= {"EFT": {"rows": 1}}
    kept = {name: shown_of(one) for name, one in whole.items()}
    assert tables(kept) == tables(whole)
    assert {*kept["plain@1"]} == {"overrides", "seconds", "measured", "metrics"}
    assert {*kept["plain@1"]["metrics"]} == {"EVAL"}
