"""The real dvc.yaml, whole, with the scripted engine and real TRL training: what a run holds and shows, and what a crash
leaves.

One workspace, a copy of the finished run; the tests that change it put it back, in order.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import vl_convert
from ruamel.yaml import YAML

from benchmarks.golden import differences, hashes
from stages.store.catalog import read
from stages.store.files import md5
from stages.store.tables import (
    CANDIDATES,
    IFT_TRAIN,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    RANKED,
    RANKED_VALID,
    SCORES,
    TABLES,
    TEST_PROMPTS,
)
from tests.workspace import ENV, ROOT, Workspace, ran

pytestmark = pytest.mark.slow
LOOP = {
    "get_model@M0",
    "split_seed",
    "train_sft_baseline",
    "judge_seed",
    "build_eft",
    "train_sft_M1",
    "train_dpo@M2",
    "train_dpo@M3",
}


@pytest.fixture(scope="module")
def space(finished, tmp_path_factory):
    return Workspace.copy(finished, tmp_path_factory.mktemp("loop") / "space")


def wait_for(path, seconds=90):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


def test_the_whole_loop_runs(space):
    assert set(YAML(typ="safe").load(space.lock())["stages"]) >= LOOP
    for model in ("M0", "SFT", "M1", "M2", "M3"):
        names = {file.name for file in (space.path / "data/models" / model).iterdir()}
        assert any(name.endswith(".safetensors") for name in names)
        assert not [
            name
            for name in names
            if name.startswith(("optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "checkpoint-"))
        ]
    assert not list(space.path.rglob("*.partial"))


def test_its_tables_are_the_golden_ones(space):
    """A refactoring leaves them byte for byte. Where a change means to move them, its commit says which and why, and
    renews them: python -m benchmarks.golden RUN, of a finished run of profile scripted; tables only, as weights differ
    between machines."""
    golden = json.loads((ROOT / "tests/golden/scripted.json").read_text())
    found = {path: md5 for path, md5 in hashes(space.path).items() if path.endswith(".parquet")}
    assert not differences(golden, found)


def test_every_table_keeps_its_contract(space):
    for table in TABLES:
        if table.made_by.startswith("srlm "):  # by hand
            continue
        names = {"verdicts": ["M3-M1"], "answers": ["SFT", "M3"], "judged": ["SFT", "M3"]}.get(
            table.name, ["M1", "M2"] if "{model}" in table.path else [None]
        )
        for name in names:
            assert len(read(table, space.path, name)) > 0 or table.name == "judge_pairs"  # which is off


def test_prompts_of_an_earlier_aift_do_not_come_back(space):
    """As if AIFT(M1) had accepted what AIFT(M2) accepted: written again, they are repeats."""
    files = [space.path / f"data/AIFT/{model}/prompts.parquet" for model in ("M1", "M2")]
    before = [file.read_bytes() for file in files]
    accepted = read(PROMPTS, space.path, "M2").filter(pl.col("dropped").is_null())
    try:
        for file in files:
            file.unlink()
        accepted.with_columns(model=pl.lit("M1")).write_parquet(files[0])
        done = space.run("stages.write_prompts", "M2")
        assert done.returncode == 0, done.stderr
        again = read(PROMPTS, space.path, "M2").join(accepted, on="prompt", how="semi")
        assert set(again["dropped"]) == {"repeat"}
        assert len(again) > 5, "the first round is written as before"
    finally:
        for file, content in zip(files, before, strict=True):
            file.unlink(missing_ok=True)
            file.write_bytes(content)


def test_the_awkward_cases_are_all_there(space):
    """Else a green run of the scripted engine would show little."""
    judgements, scores = read(JUDGEMENTS, space.path, "M2"), read(SCORES, space.path, "M2")
    assert judgements["score"].has_nulls()
    assert "length" in set(judgements["finish_reason"])
    assert (
        judgements.filter(pl.col("finish_reason") == "length")["score"].null_count()
        == (judgements["finish_reason"] == "length").sum()
    )
    assert {"chosen", "rejected", "between", "tied", "cut_off"} <= set(scores["fate"])


def test_fates_add_up_and_pairs_are_pairs(space):
    for model in ("M1", "M2"):
        candidates, scores, pairs = (
            read(CANDIDATES, space.path, model),
            read(SCORES, space.path, model),
            read(PAIRS, space.path, model),
        )
        metrics = json.loads((space.path / f"data/metrics/AIFT/{model}.json").read_text())
        assert sum(metrics["fates"].values()) == len(scores) == len(candidates)
        assert metrics["fates"]["chosen"] == metrics["fates"]["rejected"] == len(pairs)
        assert (pairs["chosen_score"] > pairs["rejected_score"]).all()
        assert (pairs["chosen"] != pairs["rejected"]).all()


def test_no_prompt_is_in_two_parts(space):
    parts = [
        set(read(IFT_TRAIN, space.path)["instruction"]),
        *(set(read(t, space.path)["prompt"]) for t in (RANKED, RANKED_VALID, TEST_PROMPTS)),
    ]
    new = {p for m in ("M1", "M2") for p in read(PROMPTS, space.path, m).filter(pl.col("dropped").is_null())["prompt"]}
    for i, part in enumerate(parts):
        assert part
        assert not part & new
        assert all(not part & other for other in parts[i + 1 :])


def test_lineage_says_which_data_made_which_model(space):
    for model, parent in (("M2", "M1"), ("M3", "M2")):
        lineage = json.loads((space.path / f"data/models/{model}/lineage.json").read_text())
        assert lineage["parent"] == lineage["reference"] == parent
        assert lineage["data"] == {
            p: md5(space.path / p) for p in (f"data/AIFT/{parent}/pairs.parquet", f"data/models/{parent}")
        }


def test_every_training_leaves_its_figures(space):
    for model in ("SFT", "M1", "M2", "M3"):
        metrics = json.loads((space.path / f"data/metrics/train/{model}.json").read_text())
        log = pl.read_csv(space.path / f"data/plots/train_{model}.csv")
        lineage = json.loads((space.path / f"data/models/{model}/lineage.json").read_text())
        assert (metrics["steps"], metrics["tokens"]) == (len(log), log["tokens"][-1])
        assert metrics["rows"] == lineage["pairs" if lineage["method"] == "dpo" else "rows"]
        assert ("reward_margin" in metrics) == (lineage["method"] == "dpo")
    done = space.run("stages.commands.cli", "query", "FROM metrics WHERE kind = 'train' AND metric = 'final_loss'")
    assert all(model in done.stdout for model in ("SFT", "M1", "M2", "M3"))


def test_models_differ(space):
    assert (
        len(
            {md5(next((space.path / "data/models" / m).glob("*.safetensors"))) for m in ("M0", "SFT", "M1", "M2", "M3")}
        )
        == 5
    )


def test_a_killed_stage_leaves_nothing_and_the_same_command_finishes(space):
    lock = space.lock()
    for model in ("M2", "M3"):
        shutil.rmtree(space.path / "data/models" / model)
    partial = space.path / "data/models/M2.partial"
    command = [sys.executable, "-m", "stages.train_dpo", "M2", "--prev", "M1"]
    process = subprocess.Popen(command, cwd=space.path, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(partial)
    process.kill()
    process.wait()
    assert not (space.path / "data/models/M2").exists(), "absent, not half-written"
    assert space.run("stages.commands.cli", "repro").returncode == 0
    assert space.lock() == lock
    assert not partial.exists()


def test_an_input_that_moves_under_a_stage_fails_it(space):
    pairs, partial = space.path / "data/AIFT/M1/pairs.parquet", space.path / "data/models/M2.partial"
    before = pairs.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train_dpo", "M2", "--prev", "M1"],
        cwd=space.path,
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(partial)
    pairs.unlink()
    pl.read_parquet(before).head(3).write_parquet(pairs)
    said = process.communicate(timeout=120)[1]
    pairs.write_bytes(before)
    assert process.returncode == 1
    assert "data/AIFT/M1/pairs.parquet changed while train_dpo@M2 ran" in " ".join(said.split())
    assert not partial.exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_the_one_command_goes_on_after_any_end(space, sent, code):
    """Ctrl-C and kill of the command that people type; kill -9 of it and all it started."""
    lock = space.lock()
    shutil.rmtree(space.path / "data/models/M3")
    shutil.rmtree(space.path / ".dvc/cache/runs")
    (space.path / "params.yaml").write_text(
        (space.path / "params.yaml").read_text().replace("nll_weight: 0.5", "nll_weight: 0.25")
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.commands.cli", "repro"],
        cwd=space.path,
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(space.path / "data/models/M2.partial")
    if sent == signal.SIGTERM:
        process.terminate()
    else:
        os.killpg(process.pid, sent)
    assert process.wait(timeout=60) == code
    assert not (space.path / "data/models/M2").exists()
    assert sent == signal.SIGKILL or not (space.path / "data/models/M2.partial").exists()
    (space.path / "params.yaml").write_text(
        (space.path / "params.yaml").read_text().replace("nll_weight: 0.25", "nll_weight: 0.5")
    )
    done = space.run("stages.commands.cli", "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "As a writer" in done.stdout
    assert space.lock() == lock
    assert not list((space.path / "data").rglob("*.partial"))


def test_a_lock_cut_off_in_mid_write_is_cleared(space):
    (space.path / ".dvc/tmp/rwlock").write_text('{"write": {"data/mo')
    assert space.run("dvc", "repro").returncode != 0, "DVC alone gives up"
    assert space.run("stages.commands.cli", "repro").returncode == 0


def test_a_living_dvc_is_not_disturbed(space, tmp_path):
    script = tmp_path / "dvc"
    script.write_text("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, str(script)], cwd=space.path) as other:
        done = space.run("stages.commands.cli", "repro")
        other.kill()
    assert done.returncode == 1
    assert f"process {other.pid}" in " ".join(done.stderr.split())
    assert space.run("stages.commands.cli", "repro").returncode == 0


def test_results_are_shown(space):
    done = space.run("stages.commands.cli", "results")
    assert done.returncode == 0, done.stderr
    for word in ("As a writer", "As a judge", "M3 against M1", "AIFT(M2)"):
        assert word in done.stdout
    markdown = space.run("stages.commands.cli", "results", "--markdown").stdout
    assert "| model | decoding | n |" in markdown


@pytest.mark.parametrize(
    "command", [("metrics", "show", "data/summary.json"), ("dag",), ("plots", "show"), ("status",)]
)
def test_dvcs_own_commands_work(space, command):
    done = space.run("dvc", *command)
    assert done.returncode == 0, done.stderr
    if command[0] == "metrics":
        assert "judge.M3" in done.stdout
        assert max(map(len, done.stdout.splitlines())) < 250, "one line of about ten numbers"


def specs(page: Path) -> list[dict]:
    """The Vega-Lite charts in a page of `dvc plots`; one of a file without rows is empty."""
    html, decoder = page.read_text(), json.JSONDecoder()
    return [spec for at in html.split("var spec = ")[1:] if (spec := decoder.raw_decode(at)[0])]


def test_every_plot_draws(space):
    done = space.run("dvc", "plots", "show", "-o", "drawn")
    assert done.returncode == 0, done.stderr
    drawn = [spec["title"]["text"] for spec in specs(space.path / "drawn/index.html")]
    assert sorted(drawn) == [f"data/plots/train_{model}.csv" for model in ("M1", "M2", "M3", "SFT")], "each once"
    for spec in specs(space.path / "drawn/index.html"):
        assert vl_convert.vegalite_to_svg(spec).count("<path") > 3, spec["title"]


def test_an_experiment_changes_one_parameter_and_leaves_the_workspace_comparable(space, tmp_path):
    """`dvc exp run -S` in a clone under git: only what depends on the change runs, and `dvc exp show` and `dvc params
    diff` know it."""
    clone = Workspace(tmp_path / "clone")
    shutil.copy2(ROOT / ".dvc/config", clone.path / ".dvc/config")
    (clone.path / ".dvc/config.local").write_text(f"[cache]\n    dir = {space.path / '.dvc/cache'}\n")
    (clone.path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    shutil.copy2(space.path / "dvc.lock", clone.path)
    for metrics in ("metrics", "plots"):
        shutil.copytree(space.path / "data" / metrics, clone.path / "data" / metrics, dirs_exist_ok=True)
    shutil.copy2(space.path / "data/summary.json", clone.path / "data")
    for command in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a run"),
    ):
        subprocess.run(["git", *command], cwd=clone.path, check=True)
    assert clone.run("dvc", "checkout").returncode == 0
    done = clone.run("dvc", "exp", "run", "-n", "wide", "-S", "build_pairs.min_margin=1.0", "build_pairs@M1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(done.stdout) == ["build_pairs@M1"]
    assert "wide" in clone.run("dvc", "exp", "show").stdout
    assert "min_margin" in clone.run("dvc", "params", "diff").stdout
    assert clone.run("stages.summarize").returncode == 0
    assert "pair_yield" in clone.run("dvc", "metrics", "diff").stdout
    done = clone.run("dvc", "plots", "diff", "HEAD", "-o", "drawn")
    assert done.returncode == 0, done.stderr
    revisions = [{row["rev"] for row in spec["data"]["values"]} for spec in specs(clone.path / "drawn/index.html")]
    assert {"HEAD", "workspace"} in revisions
