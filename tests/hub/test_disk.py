"""What a run takes on the disk, told before it starts: at most, from params.yaml and the models that it begins with."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from safetensors.torch import load_file

from stages.commands import disk
from stages.commands.disk import Model
from stages.config.load import load_params
from stages.config.params import Params
from stages.models import checkpoint
from tests.workspace import ROOT, Workspace

EMPTY = b"\2" + bytes(7) + b"{}"
"""A file of safetensors."""
M0 = Model(weights=1000, bytes=2500)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "space")


def params_of(space: Workspace, **changes: object) -> Params:
    space.set(**changes)
    return load_params(space.path)


def said(space: Workspace, capsys: pytest.CaptureFixture[str]) -> str:
    """The line on the terminal, then what is refused."""
    refused = disk.look(space.path, load_params(space.path))
    return "\n".join([capsys.readouterr().err, *refused])


def test_every_text_as_long_as_it_may_get(space):
    params = params_of(
        space,
        **{
            "aift": {
                "M1": {"writer": "M0", "judge": "M1", "prompts": 10, "rho": None},
                "M2": {"writer": "M0", "judge": "M2", "prompts": 20, "rho": None},
            },
            **{
                "split_seed.eft_prompts": 5,
                "split_seed.test_prompts": 7,
                "split_seed.test_ranked": 3,
                "evaluated": ["M1", "M3"],
            },
            **{"head_to_head": {"M3-M1": {"model": "M3", "other": "M1"}}, "evaluate.compare_by": "model"},
            **{
                "judge_seed.k": 2,
                "judge_seed.max_tokens": 100,
                "write_prompts.max_tokens": 40,
                "sample_candidates.n": 4,
            },
            **{"sample_candidates.max_tokens": 50, "judge_candidates.k": 3, "judge_candidates.max_tokens": 30},
            **{
                "evaluate.max_tokens": 60,
                "evaluate.judge_k": 2,
                "evaluate.judge_max_tokens": 20,
                "evaluate.compare_max_tokens": 10,
            },
        },
    )
    seed = 5 * 4 * 2 * 100
    aift = 30 * 40 + 30 * 4 * 50 + 30 * 4 * 3 * 30
    evaluation = 2 * (2 * 7 * 60 + 3 * 4 * 2 * 20) + 2 * 2 * 7 * 10
    written = seed + aift + evaluation
    assert disk.forecast(params, {"M0": M0, "writer": Model(1, 500)}) == {
        "trained models": 4 * 1000 * 4,
        "checkpoints": 6 * 1000 * 4,
        "given models": 3000,
        "tables": 4 * (written + 2 * 30 * 50),
        "cached completions": 4 * written,
    }


def test_a_model_more_is_so_much_more(space):
    before = disk.forecast(load_params(space.path), {"M0": M0})["trained models"]
    assert before == 4 * 4 * M0.weights, "SFT, M1, M2, M3"
    more = params_of(space, positive_only={"M2P": {"aift": "M1"}})
    assert disk.forecast(more, {"M0": M0})["trained models"] == before + 4 * M0.weights


def test_models_to_choose_from_lie_beside_the_checkpoints(space):
    params = params_of(space, **{"choose.every_steps": 2, "train_sft.batch": 32, "train_sft.epochs": 3})
    rows = params.split_seed.ift * params.train_sft.repeat_ift + params.split_seed.eft_prompts * 4
    kept = (3 * math.ceil(rows / 32) - 1) // 2
    assert kept > 3
    assert disk.forecast(params, {"M0": M0})["models to choose from"] == kept * 4 * M0.weights
    few, more = (params_of(space, **{"choose.every_steps": every}) for every in (10**6, 2))
    held = [disk.needed(space.path, each, {"M0": M0})[space.path / "data"] for each in (few, more)]
    texts = [disk.forecast(each, {"M0": M0})["cached completions"] for each in (few, more)]
    assert held[1] - held[0] == kept * 4 * M0.weights + 2 * (texts[1] - texts[0]), "no copy"


def test_a_models_weights_are_counted(tmp_path, space):
    checkpoint.random_llama(tmp_path / "mine", seed=1, max_context=128)
    weights = sum(tensor.numel() for tensor in load_file(tmp_path / "mine/model.safetensors").values())
    found = disk.on_disk(tmp_path / "mine")
    assert found == (weights, sum(file.stat().st_size for file in (tmp_path / "mine").iterdir()))
    assert found.weights < disk.EMBEDDED.weights
    assert found.bytes < disk.EMBEDDED.bytes
    (tmp_path / "mine/model.safetensors").write_bytes(b"no weights")
    assert disk.on_disk(tmp_path / "mine").weights == 0


def test_dvc_holds_a_copy_unless_it_links(space, tmp_path):
    params, sizes = load_params(space.path), {"M0": M0}
    most = disk.forecast(params, sizes)
    completions = most["cached completions"] + most["checkpoints"]
    versioned = sum(most.values()) - completions
    cache, data = space.path / ".dvc/cache", space.path / "data"
    assert disk.needed(space.path, params, sizes) == {data: versioned + completions, cache: versioned}
    config = space.path / ".dvc/config"
    before = config.read_text()
    config.write_text(f"{before}[cache]\n    dir = {tmp_path / 'cache'}\n    type = hardlink,symlink\n")
    assert disk.needed(space.path, params, sizes) == {data: completions, tmp_path / "cache": versioned}
    config.write_text(f"{before}[cache]\n    type = nothing\n")
    assert cache in disk.needed(space.path, params, sizes), "a broken config is left to DVC"


def test_too_little_room_is_told_and_what_to_do(space, capsys):
    assert "more may be needed" not in said(space, capsys)
    params_of(
        space,
        **{"sample_candidates.max_tokens": 10**9 - 1000, "engine.max_context": 10**9, "sample_candidates.n": 10**4},
    )
    line = said(space, capsys).splitlines()[-1]
    assert f"more may be needed on the disk of {space.path / 'data'}" in line
    assert "dvc gc --workspace --all-tags --all-branches" in line


def test_what_is_there_already_is_a_part_of_it(tmp_path):
    huge = 10**18
    (line,) = disk.too_little({tmp_path: huge + 1000, tmp_path / "small": 5}, 1000)
    (without,) = disk.too_little({tmp_path / "none": huge}, 0)
    assert line == without
    assert not disk.too_little({tmp_path: huge}, huge)


def test_the_hub_is_asked_for_a_model_that_is_not_here(space, tmp_path, endpoint, capsys):
    checkpoint.random_llama(tmp_path / "mine", seed=1, max_context=128)
    files = {file.name: file.stat().st_size for file in (tmp_path / "mine").iterdir()}
    (tmp_path / "mine/pytorch_model.bin").write_bytes(bytes(10_000))
    (tmp_path / "mine/original").mkdir()
    (tmp_path / "mine/original/model.safetensors").write_bytes(EMPTY)
    api = HfApi()
    api.create_repo("ann/base")
    commit = api.upload_folder(repo_id="ann/base", folder_path=tmp_path / "mine").oid
    params = params_of(space, base={}, external={"M0": {"source": "hub", "repo": "ann/base", "revision": commit}})
    found = disk.size_of(params.external["M0"], space.path / "data/models/M0", space.path)
    assert found == (
        sum(weight.numel() for weight in load_file(tmp_path / "mine/model.safetensors").values()),
        files["model.safetensors"],
    )
    endpoint.forgetful(["weights"])
    found = disk.size_of(params.external["M0"], space.path / "data/models/M0", space.path)
    assert found.weights == found.bytes // 2, "most models are kept in half precision"
    params = params_of(space, external={"M0": {"source": "hub", "repo": "ann/none", "revision": commit}})
    unknown = "without M0 and models trained from there: the Hub did not tell their size"
    assert unknown in said(space, capsys)
    checkpoint.random_llama(space.path / "data/models/M0", seed=1, max_context=128)
    for made_from, known in (
        (params.external["M0"].model_dump(), True),
        (params.external["M0"].model_dump() | {"repo": "ann/base"}, False),
        (None, False),
    ):
        (space.path / "data/models/M0/lineage.json").write_text(json.dumps({"params": made_from}))
        assert (unknown not in said(space, capsys)) == known, (
            "it is here now, if it is not the one of an earlier params.yaml"
        )


def test_a_servers_model_takes_no_room(space):
    params = params_of(space, **{"external.large": {"source": "server", "repo": "its name", "revision": None}})
    assert disk.size_of(params.external["large"], space.path / "data/models/large", space.path) == (0, 0)


def test_the_docs_show_what_the_default_run_is_told(tmp_path, capsys):
    line = said(Workspace(tmp_path / "default", "tiny"), capsys).strip()
    assert line.startswith("disk: ")
    assert f"```\n{line}\n```" in (ROOT / "docs/storage.md").read_text()
