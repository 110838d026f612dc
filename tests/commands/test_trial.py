"""`srlm try`: what a change would make of the run here, at the price of what is new in it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.commands import trial, trial_keep, trial_results, tries
from stages.config.load import load_params, read_yaml
from stages.console.errors import ParamsError, SrlmError
from stages.method.evaluation.paired import Difference
from stages.store import copies, dvc_status
from stages.store.files import read_lines
from tests.workspace import ENV, Workspace

MATCHES = "evaluate.compare_max_tokens"
"""Of six stages, the matches."""


@pytest.fixture(scope="module")
def space(finished, tmp_path_factory):
    return Workspace.copy(finished, tmp_path_factory.mktemp("try") / "project")


def stages_that_ran(root):
    return [entry["stage"] for entry in read_lines(root / "data/logs/runs.jsonl")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample_candidates.n=x"], r"srlm try sample_candidates.n=x: 1 fault\n .*expected a whole number, seen \"x\""),
        (["seed=1,2", "judge_candidates.k=0"], r"srlm try seed=1 judge_candidates.k=0: 1 fault\n .*at least 1, seen 0"),
        (["aift.M2.judge=M9"], "M9"),
        (["judge.template=no/such.jinja"], "no/such.jinja"),
        (["seed=1"], "params.yaml has seed=1 already"),
        (["sample_candidate.n=1"], "did you mean sample_candidates.n"),
    ],
)
def test_what_is_not_sound_is_told_before_anything_runs(tmp_path, words, message):
    Workspace(tmp_path / "project")
    with pytest.raises(ParamsError, match=message):
        trial.run(words, tmp_path / "project")
    assert not (tmp_path / "project/runs").exists()


@pytest.mark.slow
def test_the_run_here_must_be_finished_and_still(tmp_path):
    other = Workspace(tmp_path / "project")
    with pytest.raises(SrlmError, match=r"not finished: \d+ stage\(s\) are not up to date .*\. Run: srlm repro"):
        trial.run(["seed=2"], other.path)
    dvc = tmp_path / "dvc"
    dvc.write_text("import time\nprint(1, flush=True)\ntime.sleep(60)")
    with subprocess.Popen([sys.executable, str(dvc)], cwd=other.path, stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        try:
            with pytest.raises(SrlmError, match="Another DVC process is running here"):
                trial.run(["seed=2"], other.path)
        finally:
            running.kill()
    assert not (other.path / "runs").exists()


def srlm(root, *words):
    command = [sys.executable, "-m", "stages.commands.cli", *words]
    return subprocess.Popen(command, cwd=root, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_try_is_stopped_continued_shown_and_kept(space, capsys):
    """A stage more than its change needs would be paid twice: what ran is told by the logs of the stages."""
    root, words = space.path, [f"{MATCHES}=15", "evaluated=[SFT,M1,M2,M3]"]  # the second as it is
    before, lock = stages_that_ran(root), space.lock()
    command = ["try", *words, "--json"]
    process = srlm(root, *command)
    tried = tries.of(root, {MATCHES: 15, "evaluated": ["SFT", "M1", "M2", "M3"]})
    while not stages_that_ran(tried.folder) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "the same command goes on from there" in said
    assert not tried.record["finished"]
    with pytest.raises(SrlmError, match=r"has not been tried to its end\. Run: srlm try"):
        trial_keep.keep(words, root)
    out, said = (process := srlm(root, *command)).communicate()
    assert process.returncode == 0, said
    told = json.loads(out)
    matches = [f"head_to_head@{name}" for name in load_params(root).head_to_head]
    assert told["ran"] == matches, "of which the same verdicts come, so that the summary stands"
    logged = stages_that_ran(tried.folder)
    assert set(logged) == set(told["ran"])
    assert len(logged) <= len(told["ran"]) + 1, "only the stage that was stopped ran again"
    assert told["change"] == tried.change
    [wins] = [f for f in told["figures"] if f["of"] == "M3 against SFT, greedy"]
    assert wins["here"] == wins["tried"]
    assert wins["difference"] == {"value": 0.0, "low": None, "high": None, "n": 20, "paired": True}
    assert stages_that_ran(root) == before, "nothing ran here"
    assert space.lock() == lock
    assert not dvc_status.state(root).stale

    trial.show_list(root, as_json=True)
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["finished"], listed["of_the_run_here"], listed["ran"]) == (True, True, told["ran"])
    trial.run(words[::-1], root)
    assert "all of it was there before" in capsys.readouterr().out, "in any order it is the same try"
    (root / "stages/method/drift.py").open("a").write("\n")
    with pytest.raises(SrlmError, match=r"stages/method/drift\.py is another than when"):
        trial_keep.keep([], root)
    (root / "stages/method/drift.py").write_bytes((tried.folder / "stages/method/drift.py").read_bytes())

    trial_keep.keep([], root)
    assert read_yaml(root)["evaluate"]["compare_max_tokens"] == 15
    assert stages_that_ran(root) == before, "all is restored from the cache"
    assert not dvc_status.state(root).stale
    assert not tried.folder.exists()


@pytest.mark.slow
def test_a_sweep_is_one_table_and_what_fails_is_named(finished, tmp_path, capsys):
    space = Workspace.copy(finished, tmp_path / "project")
    orders = [["SFT", "M1", "M2", "M3"], ["M1", "SFT", "M2", "M3"], ["M1", "M2", "SFT", "M3"]]  # the first is here
    words = [f"evaluated={','.join(json.dumps(order) for order in orders)}"]
    trial.run(words, space.path, jobs=2, as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [run["ran"] for run in told["runs"]] == [[], ["summarize"], ["summarize"]]
    assert [run["change"]["evaluated"] for run in told["runs"]] == orders
    assert [row["change"] for row in told["table"]] == ["here", *(run["try"] for run in told["runs"])]
    figure = told["table"][1]["judge: pairwise acc. %, M3"]
    assert figure == told["table"][0]["judge: pairwise acc. %, M3"]
    assert figure["low"] < figure["value"] < figure["high"]
    with pytest.raises(SrlmError, match=r"one try can be kept, and 2 are meant. Name it: srlm try"):
        trial_keep.keep([], space.path)
    trial_keep.drop([], space.path)
    assert not [*(space.path / "runs/try").iterdir()]
    (space.path / "stages/summarize.py").write_text("raise SystemExit(3)")
    space.run("dvc", "commit", "--force", "--quiet")
    with pytest.raises(SrlmError, match=r"2 of 2 failed, first .* in stage summarize: read .*repro.log"):
        trial.run(words[:1], space.path, jobs=2)
    assert len(tries.every(space.path)) == 2


@pytest.mark.slow
def test_a_copy_shares_what_is_cached_and_no_more(finished, tmp_path):
    space = Workspace.copy(finished, tmp_path / "project")
    (space.path / "mine.jinja").write_bytes((space.path / "stages/templates/judge.jinja").read_bytes())
    space.set(**{"judge.template": "mine.jinja"})
    folder = tmp_path / "copy"
    copies.prepare(space.path, folder, {"seed": 7})
    copies.share_completions(space.path, folder)
    assert load_params(folder).seed == 7
    assert (folder / "mine.jinja").read_bytes() == (space.path / "mine.jinja").read_bytes()
    cache = "data/cache/completions.v3.sqlite"
    assert (folder / cache).samefile(space.path / cache)
    assert dvc_status.cache_folder(folder) == space.path / ".dvc/cache"
    space.set(**{"judge.template": "../mine.jinja"})
    with pytest.raises(SrlmError, match=r"\.\./mine.jinja in params.yaml is beside the project"):
        copies.prepare(space.path, tmp_path / "copy2", {})


def test_a_combination_is_the_mean_over_its_seeds():
    figures = [{"value": v, "low": v, "high": v, "n": 9} for v in (0.4, 0.5, 0.6)]
    found = trial_results.mean_over_seeds(figures)
    assert found["value"] == pytest.approx(0.5)
    assert found["high"] - found["value"] == pytest.approx(4.303 * 0.1 / 3**0.5, abs=1e-3), "Student's, two degrees"
    assert trial_results.mean_over_seeds([figures[0]]) == figures[0], "of one run its own interval"
    assert trial_results.mean_over_seeds([3]) == {"value": 3, "low": None, "high": None, "n": None}
    assert trial_results.mean_over_seeds([figures[0], None]) is None


@pytest.mark.parametrize(
    ("title", "difference", "shown"),
    [
        ("fully right %", Difference(0.031, 0.01, 0.05, 500, True), "+3.1 ±2.0"),
        ("oracle score", Difference(-0.25, None, None), "-0.25"),
        ("pairs", Difference(-7), "-7"),
        ("pairs", Difference(None), "–"),
    ],
)
def test_a_difference_shows_its_direction(title, difference, shown):
    assert trial_results.signed(title, difference) == shown


def test_seeds_of_a_combination_are_one_row():
    all_four = [tries.Try({"seed": s, "sample_candidates.n": n}, Path()) for s in (1, 2) for n in (4, 8)]
    groups = trial.grouped(all_four, ["a", "b", "c", "d"])
    assert groups == {"sample_candidates.n=4": ["a", "c"], "sample_candidates.n=8": ["b", "d"]}
    assert trial.grouped([t for t in all_four if t.change["seed"] == 1], ["a", "b"]).keys() == {
        "seed=1 sample_candidates.n=4",
        "seed=1 sample_candidates.n=8",
    }
