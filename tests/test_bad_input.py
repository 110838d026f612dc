"""Bad input ends in one sentence and exit 1, with nothing lost and nothing half-written. Real commands, as a person
types them."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
import torch

from stages import get_model
from stages.config.load import load_params
from stages.models import checkpoint
from stages.store.catalog import table_path
from stages.store.files import md5
from stages.store.tables import CANDIDATES, JUDGEMENTS, PROMPTS, RANKED
from tests.workspace import ENV, Workspace

FILE = {"split_seed.source": "file", "split_seed.path": "seed.jsonl.gz", "evaluate.oracle": "none"}
FILE |= {"evaluate.compare_by": "model"}


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path)


def fails(space, *command):
    """The message of a command that must fail with exit 1 and no traceback."""
    done = space.run(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().startswith("error:"), done.stderr
    assert not list(space.path.rglob("*.partial"))
    return " ".join(done.stderr.split())


def messages(n, ranks=(0, 1)):
    for i in range(n):
        yield {
            "message_id": f"p{i}",
            "parent_id": None,
            "text": f"What is number {i}?",
            "role": "prompter",
            "lang": "en",
            "rank": None,
            "tree_state": "ready_for_export",
        }
        for rank in ranks:
            yield {
                "message_id": f"a{i}.{rank}",
                "parent_id": f"p{i}",
                "text": f"Answer {rank} to {i}",
                "role": "assistant",
                "lang": "en",
                "rank": rank,
            }


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (None, "is not there"),
        ([], "is empty"),
        (['{"message_id": 1}', "oops"], "line 2: not JSON"),
        ([json.dumps(m) for m in messages(9, ranks=(None,))], "rank"),
        ([json.dumps(m) for m in messages(1)], "prompt"),
        (
            [json.dumps(m | {"deleted": "false"}) for m in messages(9)],
            "line 1: deleted: expected true, false or null, seen 'false'",
        ),
    ],
)
def test_seed_files(space, lines, said):
    space.set(**FILE)
    if lines is not None:
        (space.path / "seed.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    message = fails(space, "stages.split_seed")
    assert said in message
    assert not (space.path / "data/IFT").exists()


def test_a_fault_in_params_is_told_before_dvc_starts(space):
    text = (space.path / "params.yaml").read_text()
    (space.path / "params.yaml").write_text(text.replace("  beta: 0.1", "  betta: 0.1"))
    message = fails(space, "stages.commands.cli", "repro")
    assert "train_dpo.betta: unknown key; did you mean train_dpo.beta?" in message
    assert not (space.path / "dvc.lock").exists()


@pytest.mark.slow
def test_a_name_that_is_not_in_params_is_told(space):
    assert "M9" in fails(space, "stages.get_model", "M9")
    assert "M9" in fails(space, "stages.get_external", "M9")
    assert "M9" in fails(space, "stages.write_prompts", "M9")
    assert "M9-M1" in fails(space, "stages.head_to_head", "M9-M1")


def test_a_stage_whose_input_is_missing_names_the_stage_that_makes_it(space):
    assert "dvc repro write_prompts@M1" in fails(space, "stages.sample_candidates", "M1")


@pytest.mark.slow
def test_a_checkpoint_that_lacks_weights_is_not_completed_at_random(space):
    folder = space.path / "mine"
    folder.mkdir()
    checkpoint.random_llama(folder, seed=1, max_context=128)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    space.set(**{"base.M0": {"source": "local", "path": "mine"}})
    message = fails(space, "stages.get_model", "M0")
    assert "M0 from mine: 9 of 30 weights that config.json describes" in message
    assert not (space.path / "data/models/M0").exists()


def test_a_local_model_without_a_chat_template_gets_one(space):
    folder = space.path / "mine"
    folder.mkdir()
    checkpoint.random_llama(folder, seed=1, max_context=128)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_mine.py").write_text("raise SystemExit('ran')")
    space.set(**{"base.M0": {"source": "local", "path": "mine"}})
    get_model.main("M0", space.path)
    names = {f.name for f in (space.path / "data/models/M0").iterdir()}
    assert "chat_template.jinja" in names
    assert not {"pytorch_model.bin", "modeling_mine.py"} & names, "no pickles, no code"


def test_a_model_that_is_copied_is_the_same_with_any_number_of_threads(space):
    """Else a clone on another machine would run again all that was made from it."""
    folder = space.path / "mine"
    folder.mkdir()
    checkpoint.random_llama(folder, seed=1, max_context=128)
    space.set(**{"base.M0": {"source": "local", "path": "mine"}})
    hashes, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        get_model.main("M0", space.path)
        hashes.append(md5(space.path / "data/models/M0"))
    torch.set_num_threads(before)
    assert hashes[0] == hashes[1]


def rows(space, k_scores):
    """Prompts, candidates and judgements of AIFT(M1): one prompt, a judgement text per candidate."""
    prompts = pl.DataFrame([("p", "M1", "What?", "M0", [], None)], schema=PROMPTS.schema, orient="row")
    candidates = pl.DataFrame(
        [(f"c{i}", "p", "M1", i, f"Answer {i}", "stop", 2, None) for i in range(len(k_scores))],
        schema=CANDIDATES.schema,
        orient="row",
    )
    judgements = pl.DataFrame(
        [(f"c{i}", "p", "M1", 0, "said", "stop", s, None) for i, s in enumerate(k_scores)],
        schema=JUDGEMENTS.schema,
        orient="row",
    )
    for table, frame in ((PROMPTS, prompts), (CANDIDATES, candidates), (JUDGEMENTS, judgements)):
        path = table_path(table, space.path, "M1")
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)


def test_answers_that_were_all_cut_off_are_not_judged_and_give_no_pair(space):
    rows(space, [None, None])
    for table, change in ((CANDIDATES, {"finish_reason": pl.lit("length")}), (JUDGEMENTS, {})):
        path = table_path(table, space.path, "M1")
        frame = pl.read_parquet(path).with_columns(**change)
        (frame if change else frame.clear()).write_parquet(path)
    message = fails(space, "stages.build_pairs", "M1")
    assert "AIFT(M1) has no pairs of 1 prompts with 2 candidates" in message
    assert "2 cut_off" in message


def test_a_judge_that_never_writes_a_score(space):
    rows(space, [None, None])
    message = fails(space, "stages.build_pairs", "M1")
    assert "AIFT(M1) has no pairs of 1 prompts" in message
    assert "2 unreadable" in message
    assert "Does stages/templates/judge.jinja ask for one? The first judgement is 'said'" in message
    assert not table_path(CANDIDATES, space.path, "M1").with_name("pairs.parquet").exists()


def test_only_ties(space):
    rows(space, [3.0, 3.0])
    assert "2 tied" in fails(space, "stages.build_pairs", "M1")


def test_a_table_with_a_duplicate_id(space):
    rows(space, [1.0, 5.0])
    path = table_path(CANDIDATES, space.path, "M1")
    frame = pl.read_parquet(path)
    pl.concat([frame, frame.head(1)]).write_parquet(path)
    message = fails(space, "stages.build_pairs", "M1")
    assert (
        "candidates.parquet: key candidate_id of table candidates stands more than once, first at candidate_id=c0"
        in message
    )


def test_a_table_with_a_null_key(space):
    rows(space, [1.0, 5.0])
    path = table_path(JUDGEMENTS, space.path, "M1")
    pl.read_parquet(path).with_columns(candidate_id=pl.lit(None, pl.String)).write_parquet(path)
    assert "table judgements breaks its contract that candidate_id is not null, in 2 row(s)" in fails(
        space, "stages.build_pairs", "M1"
    )


def test_a_template_that_names_an_unknown_field(space):
    done = space.run("stages.split_seed")
    assert done.returncode == 0, done.stderr
    (space.path / "my.jinja").write_text("Judge {{ respnse }}. Score: <n>")
    space.set(**{"judge.template": "my.jinja"})
    shutil.copytree(
        space.path / "data/EFT", space.path / "data/models/SFT"
    )  # any folder will do for the scripted engine
    (space.path / "data/models/SFT/config.json").write_text("{}")
    assert "respnse" in fails(space, "stages.judge_seed")
    assert not (space.path / "data/EFT/judgements.parquet").exists()
    assert table_path(RANKED, space.path).exists(), "nothing else is lost"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount a small file system")
def test_a_full_disk_while_writing(space):
    (space.path / "data/IFT").mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "none", space.path / "data/IFT"], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount here")
    try:
        assert "no space left while writing" in fails(space, "stages.split_seed")
        for file in (space.path / "data/IFT").iterdir():
            pl.read_parquet(file)  # what is there is whole
    finally:
        subprocess.run(["umount", space.path / "data/IFT"], check=True)
    assert space.run("stages.split_seed").returncode == 0, "with room, the same command finishes"


def test_a_file_in_the_place_of_a_folder(space):
    (space.path / "data/IFT").write_text("a file where a folder should be")
    assert "cannot write data/IFT/train.parquet: data/IFT is a file, not a folder" in fails(space, "stages.split_seed")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount a read-only file system")
def test_a_folder_that_may_not_be_written(space):
    """Not even the log: the error that matters is told all the same."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "none", space.path / "data"], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount here")
    try:
        done = space.run("stages.split_seed")
    finally:
        subprocess.run(["umount", space.path / "data"], check=True)
    assert done.returncode == 1
    assert "error: No permission to write data/IFT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (gzip.compress(b"x" * 1000, mtime=0)[:30] + b"garbage" * 9, "cannot be read"),
        (
            gzip.compress(json.dumps({"message_id": "1", "role": "prompter", "text": "half \ud800"}).encode(), mtime=0),
            "surrogate",
        ),
    ],
    # Named, because gzip writes the second into its header: two test workers would not find the same tests.
    ids=["garbage", "surrogate"],
)
def test_damaged_seed_files(space, body, said):
    space.set(**FILE)
    (space.path / "seed.jsonl.gz").write_bytes(body)
    assert said in fails(space, "stages.split_seed")


@pytest.mark.slow
def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(space):
    space.set(**{"base.M0": {"source": "tinyworld", "path": "stages/tinyworld"}, "tinyworld.steps": 400})
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.get_model", "M0"],
        cwd=space.path,
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (space.path / "data/models/M0.partial").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "same command goes on" in said
    assert not list((space.path / "data/models").iterdir())
    assert load_params(space.path).tinyworld.steps == 400
