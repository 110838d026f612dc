"""A checkpoint that lacks weights is refused, and the file and the key are named; nothing is ever drawn at random."""

import json
import math
import re
import shutil
from datetime import date

import pytest
import torch
from transformers import LlamaForCausalLM

from stages.console.errors import ModelError
from stages.models import checkpoint, intake
from stages.store.weights import INDEX, check_weights, file_faults, weight_faults
from stages.trainers.loading import load


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A whole checkpoint of several files."""
    folder = tmp_path_factory.mktemp("shards")
    checkpoint.random_llama(folder, seed=1, max_context=64)
    model = LlamaForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def shard(folder, which):
    return sorted(folder.glob("*.safetensors"))[which]


def configure(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def index(folder, **moved):
    file = folder / INDEX
    data = json.loads(file.read_text())
    data["weight_map"] |= moved
    file.write_text(json.dumps(data))


def put(folder, name, change):
    """Changes one weight where it lies."""
    from safetensors.torch import load_file, save_file

    (file,) = (file for file in folder.glob("*.safetensors") if name in load_file(file))
    weights = load_file(file)
    weights[name] = change(weights[name])
    save_file(weights, file, {"format": "pt"})


def one(value):
    def change(weight):
        weight.view(-1)[-1] = value
        return weight

    return change


NORM, UP = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
DAMAGE = {
    "one NaN": (lambda f: put(f, UP, one(math.nan)), rf"model-0000\d-of-\S+: {UP} holds NaN or infinity"),
    "one infinity": (lambda f: put(f, NORM, one(-math.inf)), rf"model-0000\d-of-\S+: {NORM} holds NaN or infinity"),
    "beyond float16": (lambda f: put(f, UP, lambda w: (w + 1e6).half()), rf"{UP} holds NaN or infinity"),
    "integers": (lambda f: put(f, UP, lambda w: w.long()), rf"model-0000\d-of-\S+: {UP} is int64, expected a floating"),
    "one shard lost": (lambda f: shard(f, 1).unlink(), r"index\.json names 1 file.*: model-00002-of"),
    "half a copy": (lambda f: [shard(f, -1).unlink() for _ in "12"], r"names 2 file"),
    "cut short": (lambda f: shard(f, 0).write_bytes(shard(f, 0).read_bytes()[:-9]), r"model-00001-.*cut short"),
    "cut in its header": (lambda f: shard(f, 0).write_bytes(shard(f, 0).read_bytes()[:99]), r"model-00001-.*cut short"),
    "empty": (lambda f: shard(f, 0).write_bytes(b""), r"model-00001-\S+ is empty"),
    "Git LFS": (lambda f: shard(f, 0).write_text("version https://git-lfs.github.com/spec/v1\n"), r"pointer.*git lfs pull"),
    "noise": (lambda f: shard(f, 0).write_bytes(b"noise " * 99), r"model-00001-\S+ is damaged"),
    "no weights": (lambda f: [file.unlink() for file in f.glob("*.safetensors")], r"no \*\.safetensors"),
    "no index": (lambda f: (f / INDEX).unlink(), r"no model that transformers can build"),
    "index is no JSON": (lambda f: (f / INDEX).write_text("{"), r"index\.json is not JSON"),
    "index of lists": (lambda f: (f / INDEX).write_text('{"weight_map": [1]}'), r"index\.json: expected weight_map"),
    "index leads outside": (lambda f: index(f, a="../model.safetensors"), r"not in the folder: \.\./model"),
    "no config": (lambda f: (f / "config.json").unlink(), r"no config\.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_bytes(b"\xff"), r"config\.json is not JSON"),
    "one layer more": (lambda f: configure(f, num_hidden_layers=3), r"9 of 30 weights .* first model\.layers\.2\."),
    "one layer less": (lambda f: configure(f, num_hidden_layers=1), r"9 weights of layers .* first model\.layers\.1\."),
    "no layers": (lambda f: configure(f, num_hidden_layers=0), r"18 weights of layers .* first model\.layers\.0\."),
    "other shapes": (lambda f: configure(f, vocab_size=300), r"model\.embed_tokens\.weight: \[259, 64\] .*\[300, 64\]"),
    "a head of its own": (lambda f: configure(f, tie_word_embeddings=False), r"1 of \d+ weights .* lm_head\.weight"),
    "unknown type": (lambda f: configure(f, model_type="nope"), r"no model that transformers can build.*nope"),
    "adapter": (
        lambda f: ((f / "adapter").mkdir(), (f / "adapter/adapter_model.safetensors").write_bytes(b"")),
        r"adapter_model\.safetensors is empty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(shards, tmp_path, damage):
    folder = shutil.copytree(shards, tmp_path / "model")
    damaged, words = DAMAGE[damage]
    damaged(folder)
    with pytest.raises(ModelError, match=words) as e:
        check_weights(folder, "M0")
    assert str(e.value).startswith("M0: ")
    assert len(str(e.value).splitlines()) == 1


def test_a_whole_checkpoint_has_no_faults(shards, tmp_path):
    assert weight_faults(shards) == []
    checkpoint.random_llama(tmp_path, seed=1, max_context=64)
    assert weight_faults(tmp_path) == [], "one file, tied heads"


def test_weights_of_another_head_may_stay_behind(shards, tmp_path):
    """A value head that TRL saved beside the model; a quantized checkpoint has names of its own."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(shards, tmp_path / "model")
    save_file(
        load_file(shard(folder, 0)) | {"v_head.weight": load_file(shard(folder, 0)).popitem()[1]}, shard(folder, 0)
    )
    assert weight_faults(folder) == []
    configure(folder, num_hidden_layers=3, quantization_config={"quant_method": "awq"})
    put(folder, UP, lambda weight: weight.long())
    assert weight_faults(folder) == []
    put(folder, NORM, one(math.nan))
    assert len(weight_faults(folder)) == 1


def test_buffers_of_old_checkpoints_may_stay(shards, tmp_path):
    """GPT-NeoX in float16: a mask of booleans, and -1e9 beside it, which is -inf there."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(shards, tmp_path / "model")
    masks = {"attention.bias": torch.ones(1, 1, 8, 8) > 0, "attention.masked_bias": torch.tensor(-1e9).half()}
    save_file(load_file(shard(folder, 0)) | masks, shard(folder, 0))
    assert weight_faults(folder) == []


def test_nothing_trains_random_weights(shards, tmp_path):
    """Were a folder damaged after it was brought here."""
    folder = shutil.copytree(shards, tmp_path / "model")
    configure(folder, num_hidden_layers=3)
    intake.complete(folder, date(2026, 1, 31))
    with pytest.raises(ModelError, match=r"lacks 9 weights .* model\.layers\.2"):
        load(folder, 0.0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda f: [file.unlink() for file in f.glob("*.safetensors")], r"no \*\.safetensors"),
        (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer\.json"),
        (
            lambda f: configure(f, architectures=["BertForMaskedLM"]),
            "BertForMaskedLM, expected a causal language model",
        ),
        (lambda f: configure(f, is_encoder_decoder=True), "expected a causal language model"),
    ],
)
def test_what_names_and_headers_say_is_known_without_reading_weights(shards, tmp_path, change, fault):
    shutil.copytree(shards, tmp_path / "model")
    assert file_faults(tmp_path / "model") == []
    change(tmp_path / "model")
    with pytest.raises(ModelError, match=fault):
        check_weights(tmp_path / "model", "M0")
    assert re.search(fault, file_faults(tmp_path / "model")[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_headers_of_dtypes_that_numpy_lacks_are_read(tmp_path, dtype):
    checkpoint.random_llama(tmp_path, seed=1, max_context=64)
    put(tmp_path, NORM, lambda weight: weight.to(dtype))
    assert file_faults(tmp_path) == []
