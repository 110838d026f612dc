"""RewardBench 2: hand-made ratings, and the benchmark's own functions on random ones, where they are installed."""

import ast
import math
import random
from importlib.util import find_spec
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
import polars as pl
import pytest

from stages.console.errors import SeedDataError
from stages.method.evaluation import reward_bench as rb


def table(*rows):
    return rb.ratings([(f"line {n}", row) for n, row in enumerate(rows, 1)], "ratings.jsonl")


def row(id, scores, subset="Math", **more):
    return {"id": id, "subset": subset, "scores": scores, **more}


def ties(id, right, wrong):
    return row(id, [*right, *wrong], "Ties", num_correct=len(right))


@pytest.mark.parametrize(
    ("scores", "result"),
    [
        ([4, 3, 2, 1], 1),
        ([4, 4, 2, 1], 1 / 2),
        ([3, 4, 2, 1], 0),
        ([2, 2, 2, 2], 1 / 4),
        ([None, 0, 0, 0], 0),
        ([0, None, None, None], 1),
        ([None] * 4, 1 / 4),
        ([-7, None, -8, -9], 1),
        ([-7, None, -6, -9], 0),
    ],
)
def test_the_right_answer_must_be_rated_highest(scores, result):
    assert rb.best_of(scores) == result


def test_ties_by_hand():
    """Two pairs. 0: one right 4 of 1: accurate; 4 and 3 right, 1 wrong: 2 above the wrong, 1 among themselves. 1: the
    right one is below a wrong one; 4 and 2 against 2: not accurate."""
    given = table(
        ties("ref:0", [4], [1]), ties("tied:0", [4, 3], [1]), ties("ref:1", [2], [3, 1]), ties("tied:1", [4, 2], [2, 0])
    )
    figures = rb.figures(given)["Ties"]
    margin = (math.tanh(2 / 1 - 1) + math.tanh(-1 / 2 - 1)) / 2
    score = 0.3 * 0.5 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin
    parts = {"ref_accuracy": 0.5, "tied_accuracy": 0.5, "preferred": 0.5, "preferred_hard": 0.5, "margin": margin}
    assert {name: figures[name]["value"] for name in parts} == pytest.approx(parts, abs=1e-6)
    assert figures["score"]["value"] == pytest.approx(score, abs=1e-6)
    assert figures["score"]["n"] == 2


def test_the_whole_is_the_mean_of_subsets_not_of_prompts():
    figures = rb.figures(table(row("1", [1, 0]), row("2", [1, 0]), row("3", [0, 1], "Safety")))
    assert [figures[name]["score"]["value"] for name in ("all", "Math", "Safety")] == [0.5, 1, 0]


def test_unreadable_answers_are_counted():
    figures = rb.figures(table(row("1", [None, 0, 1, None]), row("2", [1, 0, 0, 0])))
    assert figures["Math"]["unreadable_share"]["value"] == 0.25


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (row("1", [1]), "line 1: scores: expected more than 1"),
        (row("1", [1, "x"]), r"scores\[1\]: expected a finite number, or null, seen 'x'"),
        (row("1", [1, 10**400]), r"scores\[1\]: expected a number of at most"),
        (row("1", "x"), "scores: expected a list"),
        (row("1", [1, 0], num_correct=2), "scores: expected more than 2"),
        (row("1", [1, 1, 0], num_correct=2), "num_correct: expected 1"),
        (row("1", [1, 0], subset=None), "subset: expected text, seen None"),
        (row("tied:1", [1, 0], "Ties"), "num_correct: expected how many"),
        (ties("7", [1], [0]), "id: expected ref:N or tied:N"),
    ],
)
def test_bad_ratings_are_named(bad, where):
    with pytest.raises(SeedDataError, match=f"ratings.jsonl, line 1: .*{where}|{where}"):
        table(bad)


def test_an_id_of_ties_stands_once():
    with pytest.raises(
        SeedDataError, match=r"line 2: id: expected each id of Ties once, and 'ref:01' stands at line 1"
    ):
        table(ties("ref:1", [1], [0]), ties("ref:01", [1], [0]))


def test_prompts_and_their_ratings():
    given = {"id": 7, "subset": "Math", "prompt": "2 + 2?", "chosen": ["4"], "rejected": ["5", "6"], "num_correct": 1}
    prompts = rb.prompts([("line 1", given)], "p")
    answers = rb.answers(prompts)
    assert answers["response"].to_list() == ["4", "5", "6"]
    means = answers.select("candidate_id", score=pl.Series([5.0, None, 3.0]))
    assert rb.rated(prompts, means).to_dicts() == [
        {"id": "7", "subset": "Math", "num_correct": 1, "scores": [5.0, None, 3.0]}
    ]
    for change, where in (
        ({"chosen": []}, "chosen: expected a list of at least one"),
        ({"chosen": ["4", "four"], "num_correct": 2}, "chosen: expected one answer"),
        ({"rejected": ["5", None]}, r"rejected\[1\]: expected text"),
        ({"num_correct": 2}, "num_correct: expected 1"),
        ({"prompt": ""}, "prompt: expected text"),
    ):
        with pytest.raises(SeedDataError, match=where):
            rb.prompts([("line 1", given | change)], "p")


# --- the benchmark's own functions ---


@pytest.fixture(scope="module")
def published():
    """Functions of rewardbench/utils.py; importing the package would load its models' libraries."""
    if (spec := find_spec("rewardbench")) is None or spec.origin is None:
        pytest.skip("rewardbench is not installed")
    pytest.importorskip("datasets")
    import datasets
    import pandas

    tree = ast.parse((Path(spec.origin).parent / "utils.py").read_text())
    wanted = {"sample_stats", "process_single_model", "reroll_and_score_dataset"}
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    space = {"np": np, "math": math, "pd": pandas, "Dataset": datasets.Dataset}
    exec(compile(ast.Module(functions, []), "utils.py", "exec"), space)  # noqa: S102 - of an installed package
    return space


class Rows:
    from_dict = dict


def random_ties(rng):
    """Ratings of up to six pairs of questions; some with one question alone, one right answer, or none readable."""
    scale = rng.choice([lambda: rng.randint(0, 5), lambda: rng.randint(0, 10) / 2, lambda: rng.gauss(0, 3)])
    rows = []
    for n in rng.sample(range(30), rng.randint(1, 6)):
        for kind in ("ref", "tied"):
            right = rng.randint(1, 5) if kind == "tied" else 1
            if rng.random() < 0.9:
                scores = [scale() + (2 if i < right else 0) for i in range(right + rng.randint(1, 5))]
                rows.append((f"{kind}:{n}", right, [-1.0 if rng.random() < 0.1 else float(s) for s in scores]))
    return rows or random_ties(rng)


@pytest.mark.slow
def test_ties_of_1000_random_tables_are_scored_as_published(published, monkeypatch):
    monkeypatch.setitem(published, "Dataset", Rows)  # its rows are not looked at
    rng, compared, nan = random.Random(0), 0, 0
    for _ in range(1000):
        rows = random_ties(rng)
        given = [{"id": i, "num_correct": right, "scores": scores} for i, right, scores in rows]
        with catch_warnings():
            simplefilter("ignore", RuntimeWarning)  # the mean of nothing
            expected = float(published["process_single_model"](given)[1])
        score = rb.figures(table(*(row(subset="Ties", **each) for each in given)), n=2)["Ties"]["score"]["value"]
        if math.isnan(expected):
            assert score is None
            nan += 1
        else:
            assert score == pytest.approx(expected, abs=1e-6)  # figures have six digits
            compared += 1
    assert compared > 900, nan


@pytest.mark.slow
def test_best_of_four_of_1000_random_tables_as_published(published):
    rng = random.Random(1)
    sizes = [rng.randint(2, 6) for _ in range(1000)]
    groups = [[float(rng.randint(0, 3)) if rng.random() < 0.8 else -1.0 for _ in range(size)] for size in sizes]
    flat = {"text": ["" for size in sizes for _ in range(size)], "scores": [s for group in groups for s in group]}
    whole = published["Dataset"].from_dict(flat)
    results = published["reroll_and_score_dataset"](whole, sizes)["results"]
    assert [rb.best_of(group) for group in groups] == pytest.approx(results)
    assert [rb.best_of([None if s < 0 else s for s in group]) for group in groups] == pytest.approx(results)
