"""The real dvc.yaml: pushed to a DVC remote and pulled by a clone; published: git and DVC asked, read cold by commit,
trained on with TRL's own script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hub_server import User, serving

from stages.store.catalog import read
from stages.store.tables import EFT, IFT_TRAIN, IFT_VALID, PAIRS
from tests.workspace import ENV, ROOT, Workspace, ran

READ = """
import sys
from datasets import load_dataset
repo, revision, folder = sys.argv[1:]
for config in ("ift", "eft", "aift_m1"):
    for split, rows in load_dataset(repo, config, revision=revision).items():
        rows.to_parquet(f"{folder}/{config}.{split}.parquet")
"""


TRY = 'messages = to_messages(aift_m1["train"][0])'
SHOW = 'print(messages, ift.rename_columns({"instruction": "prompt", "response": "completion"})["train"][0])'


@pytest.mark.slow
def test_a_run_is_pushed_published_read_and_trained_on(finished, tmp_path):
    space = Workspace.copy(finished, tmp_path / "space")
    space.set(**{"external.large": {"source": "server", "repo": "its name there", "revision": None}})
    assert space.repro() == ["get_external@large"]
    shutil.copy(ROOT / ".dvc/.gitignore", space.path / ".dvc")
    dvc(space.path, "remote", "add", "--default", "store", str(tmp_path / "remote"))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "a run"],
    ):
        subprocess.run(["git", *command], cwd=space.path, check=True)
    dvc(space.path, "push")
    subprocess.run(["git", "clone", "-q", space.path, tmp_path / "clone"], check=True)
    dvc(tmp_path / "clone", "pull", "--allow-missing")
    assert ran(dvc(tmp_path / "clone", "repro")) == ["get_external@large"], (
        "what others keep is not pushed; M0 was made here, and is"
    )
    with serving(tmp_path / "hub", {"hf_ann": User("ann")}) as hub:
        env = {
            **ENV,
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_ann",
            "NO_PROXY": "127.0.0.1",
        }
        env |= {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(space.path)}

        def run(*command: str) -> str:
            done = subprocess.run(
                [sys.executable, *command], cwd=space.path, env=env, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
            return done.stdout

        def srlm(*arguments: str) -> str:
            return run("-c", "from stages.commands.cli import main; main()", *arguments)

        srlm("publish", "--repo", "ann/run", "--raw", "--models", "M1", "M2", "--tag", "v1")
        assert "nothing changed" in srlm("publish", "--repo", "ann/run", "--models", "M1", "M2")
        (commit,) = hub.commits("dataset", "ann/run")[1:]
        run("-c", READ, "ann/run", commit["oid"], str(tmp_path))
        for table, model, name in (
            (IFT_TRAIN, None, "ift.train"),
            (IFT_VALID, None, "ift.valid"),
            (EFT, None, "eft.train"),
            (PAIRS, "M1", "aift_m1.train"),
        ):
            assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(read(table, space.path, model)), name
        srlm("verify")
        for repo, lines in (("ann/run", (TRY, SHOW)), ("ann/run-M2", ())):
            text = hub.files("dataset" if lines else "model", repo)["README.md"].decode()
            assert run("-c", "\n".join([*re.findall(r"```python\n(.*?)```", text, re.DOTALL), *lines])).strip(), (
                "the code of the card works"
            )
        for repo in ("ann/run", "ann/run-M1", "ann/run-M2"):
            assert " 0 " in srlm("verify", "--repo", repo, "--revision", "v1" if repo != "ann/run" else commit["oid"])
        trained = tmp_path / "trained"
        options = {
            "model_name_or_path": "ann/run-M1",
            "dataset_name": "ann/run",
            "dataset_config": "aift_m1",
            "output_dir": str(trained),
            "max_steps": "2",
        }
        options |= {
            "per_device_train_batch_size": "2",
            "report_to": "none",
            "use_cpu": "True",
            "save_strategy": "no",
            "logging_steps": "1",
            "bf16": "False",
        }
        run("-m", "trl.scripts.dpo", *(part for name, value in options.items() for part in (f"--{name}", value)))
        assert list(trained.glob("*.safetensors"))
        graph = json.loads(hub.files("model", "ann/run-M2")["lineage.json"])
        assert {"split_seed", "build_pairs@M1", "train_dpo@M2"} <= set(graph["stages"])
        assert os.fspath(space.path) not in json.dumps(graph), "no path of this machine"


def dvc(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command], cwd=folder, env=ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
