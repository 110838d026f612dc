"""What a run reads of a Hub, over the network: seed data, a model, an adapter and its base."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import polars as pl
import pytest
from hub_server import Server
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.torch import load_file

from stages import get_external, split_seed
from stages.commands import check_model
from stages.console.errors import ModelError, SeedDataError
from stages.models import checkpoint
from stages.store.catalog import read
from stages.store.rows import read_hub
from stages.store.tables import IFT_TRAIN, IFT_VALID, RANKED, RANKED_VALID, TEST_PROMPTS
from tests.workspace import Workspace

QUESTIONS = ("Why rain?", "Where is Rome?", "Who sang it?", "How do bees fly?", "Is it far?")
COUNT = itertools.count()
CARD = """---
configs:
- config_name: chats
  data_files: chats.parquet
- config_name: scored
  data_files:
  - {split: train, path: scored/train.parquet}
  - {split: valid, path: scored/valid.parquet}
---
"""


@pytest.fixture
def space(endpoint: Server, tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "space", "gpu")


def upload(files: Path | dict[str, bytes], kind: str = "model", name: str | None = None) -> tuple[str, str]:
    """A private repository and its commit."""
    api, repo = HfApi(), name or f"ann/read-{next(COUNT)}"
    api.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
    if isinstance(files, Path):
        return repo, api.upload_folder(repo_id=repo, folder_path=files, repo_type=kind).oid
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return repo, api.create_commit(repo, operations, commit_message="Rows", repo_type=kind).oid


def fetched(hub: Server) -> list[str]:
    """The files that were downloaded since `reset`."""
    asked = [r["path"].partition("/resolve/")[2] for r in hub.asked() if r["method"] == "GET"]
    return sorted({path.partition("/")[2] for path in asked if path})


def scored(*prompts: str) -> bytes:
    rows = [{"prompt": p, "response": f"{p} {a}", "score": s} for p in prompts for a, s in (("So", 1.5), ("No", 0.5))]
    pl.DataFrame(rows).write_parquet(out := io.BytesIO())
    return out.getvalue()


def test_seed_data_of_a_config_a_split_and_a_revision(space, endpoint):
    rows = {"scored/train.parquet": scored(*QUESTIONS)}
    others = {"README.md": CARD.encode(), "scored/valid.parquet": scored("Never?"), "chats.parquet": scored("Hm?")}
    repo, commit = upload(rows | others, "dataset")
    upload({"scored/train.parquet": scored("Later?")}, "dataset", repo)
    _, broken = upload({"README.md": b"", "scored/train.parquet": b"no parquet at all"}, "dataset", repo)
    endpoint.reset()
    space.set(
        **{f"split_seed.{key}": 1 for key in ("ift", "ift_valid", "eft_prompts", "test_prompts", "test_ranked")},
        **{"split_seed.repo": repo, "split_seed.revision": commit},
        **{"split_seed.config": "scored", "split_seed.split": "train", "write_prompts.ift_shots": 1},
    )
    split_seed.main(space.path)
    assert fetched(endpoint) == ["README.md", "scored/train.parquet", "scored/valid.parquet"], (
        "other configs are not downloaded"
    )
    ift = pl.concat(read(table, space.path) for table in (IFT_TRAIN, IFT_VALID))
    prompts = pl.concat(read(table, space.path)["prompt"] for table in (RANKED, RANKED_VALID, TEST_PROMPTS))
    assert {*ift["instruction"], *prompts} == {*QUESTIONS}
    assert ift["response"][0] == f"{ift['instruction'][0]} So"
    assert json.loads((space.path / "data/metrics/seed.json").read_text())["format"] == "scored_answers"
    for name, at, config, words in (
        ("ann/none", commit, None, f"dataset ann/none at revision {commit} cannot be loaded"),
        (repo, "0" * 40, None, f"dataset {repo} at revision {'0' * 40} cannot be loaded"),
        (repo, broken, None, "cannot be loaded: ArrowInvalid: Parquet magic bytes not found"),
        (repo, commit, "none", "config none, at revision .* cannot be loaded: .*split_seed.config"),
    ):
        with pytest.raises(SeedDataError, match=words):
            read_hub(name, at, config)


def test_a_model_at_its_revision_without_code_and_pickles(space, endpoint, tmp_path):
    for seed in (1, 2):
        checkpoint.random_llama(tmp_path / f"{seed}", seed=seed, max_context=64)
        (tmp_path / f"{seed}/original").mkdir()
        for name in ("pytorch_model.bin", "modeling.py", "original/model.safetensors", "consolidated.safetensors"):
            (tmp_path / f"{seed}" / name).write_bytes(b"\2" + bytes(7) + b"{}")
    repo, commit = upload(tmp_path / "1")
    upload(tmp_path / "2", name=repo)
    endpoint.reset()
    space.set(**{"external.M0": {"source": "hub", "repo": repo, "revision": commit}})
    get_external.main("M0", space.path)
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {*fetched(endpoint)} == wanted
    got = space.path / "data/models/M0"
    assert {file.name for file in got.glob("*.safetensors")} == {"model.safetensors"}
    assert (got / "model.safetensors").read_bytes() == (tmp_path / "1/model.safetensors").read_bytes()
    assert json.loads((got / "lineage.json").read_text())["params"]["revision"] == commit
    for name, at in (("ann/none", commit), (repo, "0" * 40)):
        with pytest.raises(ModelError, match=f"model {name} at revision {at} cannot be downloaded.*hf auth login"):
            checkpoint.download(name, at, tmp_path / "none")


def test_check_looks_at_a_repository_without_its_weights(endpoint, llama, tmp_path, capsys):
    repo, commit = upload(llama)
    endpoint.reset()
    for place in (repo, f"{repo}@{commit}"):
        check_model.show(place, tmp_path)
        out = capsys.readouterr().out
        assert f"{place}: LlamaForCausalLM, 0.1 M parameters, context 64" in out
        assert "weights not downloaded, so not looked at" in out
    assert "model.safetensors" not in fetched(endpoint)
    assert "tokenizer.json" in fetched(endpoint)
    with pytest.raises(ModelError, match=r"ann/none cannot be looked at: RepositoryNotFoundError"):
        check_model.show("ann/none", tmp_path)


@pytest.mark.parametrize("asked", ["v2", None])
def test_an_adapter_goes_into_its_base_on_the_hub(space, endpoint, llama, adapter, tmp_path, asked):
    base, commit = upload(llama)
    HfApi().create_tag(base, tag="v2", revision=commit)
    _, newest = upload({"README.md": b"Better."}, name=base)
    file = tmp_path / "lora/adapter_config.json"
    named = {"base_model_name_or_path": base, "revision": asked}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))
    repo, revision = upload(tmp_path / "lora")
    space.set(**{"external.M0": {"source": "hub", "repo": repo, "revision": revision}})
    get_external.main("M0", space.path)
    got = space.path / "data/models/M0"
    merged, before = (load_file(folder / "model.safetensors") for folder in (got, llama))
    assert {k for k, weight in merged.items() if not weight.equal(before[k])} == adapter
    assert json.loads((got / "lineage.json").read_text())["adapter_base"] == {
        "name": base,
        "revision": commit if asked else newest,
    }
    words = f"its LoRA adapter goes into the weights of {base}{' at v2' * bool(asked)}"
    assert check_model.look(repo, tmp_path)["put_right"][0] == words


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    checkpoint.random_llama(tmp_path / "llama", seed=1, max_context=64)
    return tmp_path / "llama"


@pytest.fixture
def adapter(llama: Path, tmp_path: Path) -> set[str]:
    """In the folder lora; the weights that it changes."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(LlamaForCausalLM.from_pretrained(llama), config).save_pretrained(tmp_path / "lora")
    return {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)}
