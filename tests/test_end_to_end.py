"""The real dvc.yaml, whole, with the scripted engine and real TRL training: what a change reruns, and what a crash
leaves.

One workspace, run once from nothing; the tests below change it and put it back, in order.
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
from stages.engines.cache import CompletionCache
from stages.method.judging import distinct
from stages.store.catalog import read
from stages.store.files import md5
from stages.store.run import COMPLETION_CACHE
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
    VERDICTS,
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
def space(tmp_path_factory):
    space = Workspace(tmp_path_factory.mktemp("loop"))
    space.first = space.repro()
    return space


def yaml(space):
    return YAML(typ="safe").load(space.path / "params.yaml")


def wait_for(path, seconds=90):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


def test_the_whole_loop_runs(space):
    assert set(space.first) >= LOOP
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
        names = {"verdicts": ["M3-M1"], "answers": ["SFT", "M3"], "judged": ["SFT", "M3"]}.get(
            table.name, ["M1", "M2"] if "{model}" in table.path else [None]
        )
        for name in names:
            assert len(read(table, space.path, name)) > 0


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


def test_models_differ(space):
    assert (
        len(
            {md5(next((space.path / "data/models" / m).glob("*.safetensors"))) for m in ("M0", "SFT", "M1", "M2", "M3")}
        )
        == 5
    )


def test_a_second_run_does_nothing(space):
    assert space.repro() == []


def test_hardware_reruns_nothing(space):
    space.set(**{"hardware.threads": 2})
    assert space.repro() == []
    space.set(**{"hardware.threads": 1})


def test_another_margin_generates_nothing_before_the_pairs(space):
    before, had = space.lock(), kept(space)["write_prompts@M2"]
    space.set(**{"build_pairs.min_margin": 1.0})
    stages = space.repro()
    assert stages[0] == "build_pairs@M1"
    assert "sample_candidates@M1" not in stages
    assert "judge_candidates@M1" not in stages
    assert kept(space)["write_prompts@M2"] == had, (
        "prompts are written by M0; M2's lineage says which must not come again"
    )
    assert {"train_dpo@M2", "sample_candidates@M2", "train_dpo@M3", "evaluate@M3"} <= set(stages)
    space.set(**{"build_pairs.min_margin": 0.5})
    assert space.repro() == [], "set back, everything comes from DVC's run-cache"
    assert space.lock() == before


def test_another_judge_template_reruns_judging_and_its_heirs(space):
    template = space.path / "stages/templates/judge.jinja"
    before, text = space.lock(), template.read_text()
    try:
        template.write_text(text + "\nBe brief.")
        stages = space.repro("train_dpo@M2")
    finally:
        template.write_text(text)
    assert stages == [
        "judge_seed",
        "build_eft",
        "train_sft_M1",
        "write_prompts@M1",
        "sample_candidates@M1",
        "judge_candidates@M1",
        "build_pairs@M1",
        "train_dpo@M2",
    ]
    assert space.repro() == []
    assert space.lock() == before


def kept(space) -> dict[str, int]:
    """Finished completions by stage."""
    with CompletionCache(space.path / COMPLETION_CACHE) as finished:
        return {size.stage: size.completions for size in finished.sizes()}


def test_more_judgements_generate_only_what_is_new(space):
    before, had, k = space.lock(), kept(space), yaml(space)["judge_candidates"]["k"]
    space.set(**{"judge_candidates.k": k + 1})
    assert space.repro("judge_candidates@M1") == ["judge_candidates@M1"]
    candidates = len(distinct(read(CANDIDATES, space.path, "M1")))
    assert kept(space) == had | {"judge_candidates@M1": had["judge_candidates@M1"] + candidates}
    judgements = read(JUDGEMENTS, space.path, "M1")
    assert len(judgements) == candidates * (k + 1)
    space.set(**{"judge_candidates.k": k})
    assert space.repro() == []
    assert space.lock() == before


def test_another_judge_or_engine_reruns_only_the_judging(space):
    before, params = space.lock(), yaml(space)
    answers = read(JUDGEMENTS, space.path, "M1")
    space.set(**{"aift.M1.judge": "SFT", "judge_candidates.engine": params["engine"] | {"max_context": 1024}})
    assert space.repro("judge_candidates@M1") == ["judge_candidates@M1"]
    judged = read(JUDGEMENTS, space.path, "M1")
    assert set(judged["judge"]) == {"SFT"}
    assert judged["candidate_id"].to_list() == answers["candidate_id"].to_list()
    assert judged["text"].to_list() != answers["text"].to_list()
    had = kept(space)
    space.set(**{"write_prompts.engine": params["engine"] | {"max_context": 1024}})
    assert space.repro("write_prompts@M1") == ["write_prompts@M1"], "the scripted engine writes the same prompts"
    assert kept(space)["write_prompts@M1"] == 2 * had["write_prompts@M1"], (
        "by another engine: nothing that was kept is taken for its own"
    )
    space.set(**{"aift.M1.judge": "M1", "judge_candidates.engine": None, "write_prompts.engine": None})
    assert space.repro() == []
    assert space.lock() == before


def test_a_model_with_an_engine_of_its_own_compares(space):
    before, params = space.lock(), yaml(space)
    space.set(
        **{
            "evaluate.compare_by": "model",
            "evaluate.compare_with": "M1",
            "evaluate.judge_engine": params["engine"] | {"max_context": 4096},
        }
    )
    assert space.repro("head_to_head@M3-M1") == ["head_to_head@M3-M1"]
    verdicts = read(VERDICTS, space.path, "M3-M1")
    assert set(verdicts["judge"]) == {"M1"}
    assert kept(space)["head_to_head@M3-M1"] == 2 * len(verdicts), "each pair in both orders"
    space.set(**{f"evaluate.{key}": params["evaluate"][key] for key in ("compare_by", "compare_with", "judge_engine")})
    assert space.repro() == []
    assert space.lock() == before


def test_what_is_finished_is_not_generated_again(space):
    """A forced stage writes the same bytes from what is kept."""
    before, had = space.lock(), kept(space)
    done = space.run("dvc", "repro", "--force", "--single-item", "judge_candidates@M2")
    assert done.returncode == 0, done.stderr
    assert "cached" in done.stdout
    assert kept(space) == had
    assert space.lock() == before


def test_a_fourth_iteration_runs_only_its_own_stages(space):
    params = (space.path / "params.yaml").read_text()
    new = params.replace("evaluated: [SFT, M1, M2, M3]", "evaluated: [SFT, M1, M2, M3, M4]")
    new = new.replace(
        "  M2: {writer: M0, judge: M2, prompts: 32, rho: null}\n",
        "  M2: {writer: M0, judge: M2, prompts: 32, rho: null}\n  M3: {writer: M0, judge: M3, prompts: 16, rho: 0.1}\n",
    )
    new = new.replace("  M3: {prev: M2}\n", "  M3: {prev: M2}\n  M4: {prev: M3}\n")
    new = new.replace(
        "  M3-M2: {model: M3, other: M2}\n", "  M3-M2: {model: M3, other: M2}\n  M4-M3: {model: M4, other: M3}\n"
    )
    try:
        (space.path / "params.yaml").write_text(new)
        stages = space.repro()
    finally:
        (space.path / "params.yaml").write_text(params)
    assert set(stages) == {
        "write_prompts@M3",
        "sample_candidates@M3",
        "judge_candidates@M3",
        "build_pairs@M3",
        "train_dpo@M4",
        "evaluate@M4",
        "head_to_head@M4-M3",
        "summarize",
    }


def test_the_positive_only_variant_runs_beside_the_loop(space):
    params = (space.path / "params.yaml").read_text()
    try:
        (space.path / "params.yaml").write_text(params.replace("positive_only: {}", "positive_only: {M2P: {aift: M1}}"))
        stages = space.repro("train_positive@M2P")
    finally:
        (space.path / "params.yaml").write_text(params)
    assert stages == ["train_positive@M2P"]
    lineage = json.loads((space.path / "data/models/M2P/lineage.json").read_text())
    m1 = json.loads((space.path / "data/models/M1/lineage.json").read_text())
    best = pl.read_parquet(space.path / "data/AIFT/M1/scores.parquet").filter(
        pl.col("score") == 5, ~pl.col("fate").is_in(["cut_off", "duplicate"])
    )
    assert lineage["parent"] == "M0"
    assert lineage["rows"] == m1["rows"] + len(best) > m1["rows"]


def test_two_cold_runs_have_the_same_lock(space, tmp_path):
    """Bit for bit: no cache, another folder, stages run again one by one."""
    targets = ("train_dpo@M2", "build_pairs@M1")
    other = Workspace(tmp_path / "other")
    other.repro(*targets)

    def outs(lock):
        from ruamel.yaml import YAML

        return {name: stage["outs"] for name, stage in YAML(typ="safe", pure=True).load(lock)["stages"].items()}

    first, second = outs(space.lock()), outs(other.lock())
    assert second
    assert second == {name: first[name] for name in second}


def test_a_dvc_lock_cut_off_in_mid_write_is_made_anew(space):
    """Of what stages made nothing is made again: DVC's cache of runs has it."""
    space.repro()  # the summary is of what params.yaml names, and an earlier test took its fourth iteration away
    lock, log = space.lock(), space.path / "data/logs/runs.jsonl"
    ran = log.read_text()
    (space.path / "dvc.lock").write_text(lock[: lock.index("hash: md5", len(lock) // 2) + len("hash: md")])
    assert space.run("dvc", "repro").returncode != 0, "DVC alone gives up"
    done = space.run("stages.commands.cli", "repro")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "dvc.lock is damaged" in done.stderr
    now, before = (YAML(typ="safe").load(text)["stages"] for text in (space.lock(), lock))
    stages = set(space.run("dvc", "stage", "list", "--name-only").stdout.split())
    assert set(now) == stages
    assert now == {name: before[name] for name in stages}, "what earlier tests made and took away is no stage any more"
    assert log.read_text() == ran
    next(space.path.glob("dvc.lock.damaged-*")).unlink()


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


def test_a_living_dvc_is_not_disturbed(space):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "dvc"], cwd=space.path) as other:
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
        shutil.copytree(space.path / "data" / metrics, clone.path / "data" / metrics)
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
