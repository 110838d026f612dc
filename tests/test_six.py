"""The loops of six iterations as a table, a sentence and a figure, from hand-made runs."""

from __future__ import annotations

from benchmarks import six
from tests.test_ablations import RUNS, run


def test_an_unknown_figure_of_a_long_loop_is_unknown():
    blind = run([None] * 6, [0.5] * 6, (0.8, 0.7))  # type: ignore[list-item]
    results = {"six-plain@1": blind, "six-plain@2": blind}
    assert "| – | – | – | – | – | – |" in six.tables(results)["ablations, six"]
    assert "<svg" in str(six.figure(results))


def test_six_iterations_are_a_table_a_sentence_and_a_figure():
    shown = six.tables(RUNS)
    assert r"| 2\.50 | 3\.00 | 3\.50 | 3\.50 | 3\.00 | 2\.50 |" in shown["ablations, six"]
    assert "`six-plain` none (one seed, so no interval)" in shown["six, steps"]
    again = RUNS | {"six-plain@2": run([0.9] * 6, [0.7] * 6, (0.8, 0.7))}
    assert r"| 3\.00 ±6\.35 |" in six.tables(again)["ablations, six"], "2.5 and 3.5: Student, one degree"
    seeds = enumerate(
        ([0.5, 0.6, 0.7, 0.65, 0.64, 0.7], [0.5, 0.6, 0.7, 0.64, 0.66, 0.7], [0.5, 0.6, 0.7, 0.66, 0.65, 0.7])
    )
    falling = {f"six-lasting@{seed}": run([0.9] * 6, right, (0.8, 0.7)) for seed, right in seeds}
    steps = six.tables(RUNS | falling)["six, steps"]
    # -0.25, -0.3, -0.2 points: 0.05 * 4.303 / 3 ** 0.5; of the step after it 0.05 up to 0.1 down
    assert "`six-lasting` M3 → M4 (−0.25 ±0.12) (3 seeds)." in steps
    drawn = six.figure(RUNS | falling)
    assert drawn == six.figure(RUNS | falling)
    assert str(drawn).partition("\n")[0] != str(six.figure(RUNS)).partition("\n")[0]
    assert all(text in str(drawn) for text in ("six-lasting", "checker's points, 0 to 5", "iteration", "M6"))
    assert "currentColor" not in str(drawn), "an image has no colour around it"
    assert (six.figure({}), six.tables({})["six, figure"], six.tables({})["six, steps"]) == (None, "", "")
