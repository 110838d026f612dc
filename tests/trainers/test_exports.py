"""What `srlm export` writes, taken by the loader of the tool that it is for: TRL's always, the others' where the tool is
installed (docs/publishing.md says which were)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.commands import export
from tests import aift

pytestmark = pytest.mark.slow
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ANSWERS = (aift.THOUGHT + "apple\npear", aift.EVIL)
"""Chosen and rejected of the first row."""


def tool(name: str) -> Any:
    """A module of another tool, which may want what this machine has not."""
    try:
        __import__(name)
    except Exception as e:
        pytest.skip(f"{name.partition('.')[0]} is not installed, or cannot be imported here: {e}")
    return sys.modules[name]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = aift.build(tmp_path_factory.mktemp("store"))
    (folder / "out").mkdir()
    return folder


@pytest.fixture(scope="module")
def model(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that reads ChatML."""
    folder = tmp_path_factory.mktemp("chatml")
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    tokenizer.chat_template = CHATML
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(base_model)
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


def exported(root: Path, name: str, form: str) -> Path:
    out = root / "out" / f"{name}-{form}.jsonl"
    export.export(name, form, out, root=root)
    return out


def learnt(tokenizer: Any, ids: list[int], labels: list[int]) -> str:
    """The text on which the loss is."""
    return str(tokenizer.decode([token for token, label in zip(ids, labels, strict=True) if label != -100]))


def turns(text: str) -> int:
    return text.count("<|im_start|>")


@pytest.mark.parametrize("name", ["aift_m1", "eft"])
def test_trl_trains_on_it(root: Path, model: Path, tokenizer: Any, tmp_path: Path, name: str) -> None:
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    rows = load_dataset(
        "json", data_files=str(exported(root, name, "trl")), split="train", cache_dir=tmp_path / "cache"
    )
    trainer, config = (DPOTrainer, DPOConfig) if name == "aift_m1" else (SFTTrainer, SFTConfig)
    how = {"max_steps": 1, "per_device_train_batch_size": 1, "use_cpu": True, "bf16": False, "save_strategy": "no"}
    arguments = config(output_dir=str(tmp_path / "out"), report_to="none", max_length=None, **how)
    training = trainer(model=str(model), args=arguments, train_dataset=rows, processing_class=tokenizer)
    row = training.train_dataset[0]
    columns = ("prompt_ids", "chosen_ids", "rejected_ids") if name == "aift_m1" else ("input_ids",)
    texts = [tokenizer.decode(row[column]) for column in columns]
    if name == "aift_m1":
        assert (texts[0], *(text.removesuffix("\n").removesuffix("<|im_end|>") for text in texts[1:])) == (
            "<|im_start|>user\nName two fruits<|im_end|>\n<|im_start|>assistant\n",
            *ANSWERS,
        )
        assert turns(tokenizer.decode(training.train_dataset[1]["rejected_ids"])) == 0, "an answer opens no turn"
    else:
        assert turns(texts[0]) == 2
        assert learnt(tokenizer, row["input_ids"], row["labels"]).startswith("Good.\nScore: 5")
    assert training.train().training_loss > 0


def test_llama_factory_takes_it(root: Path, tokenizer: Any, tmp_path: Path) -> None:
    loader = tool("llamafactory.data.loader")
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    arguments = ModelArguments(model_name_or_path="none", cache_dir=str(tmp_path / "cache"))
    training = Seq2SeqTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, report_to="none")
    for name, stage in (("aift_m1", "rm"), ("eft", "sft")):
        exported(root, name, "llama-factory")
        data = DataArguments(template="qwen", dataset=name, dataset_dir=str(root / "out"), cutoff_len=4096)
        template = get_template_and_fix_tokenizer(tokenizer, data)
        rows = loader.get_dataset(template, arguments, data, training, stage, tokenizer)["train_dataset"]
        assert len(rows) == (2 if name == "aift_m1" else 1), "no row was left out as abnormal"
        if name == "aift_m1":
            for side, answer in zip(("chosen", "rejected"), ANSWERS, strict=True):
                text = tokenizer.decode(rows[0][f"{side}_input_ids"])
                assert "user\nName two fruits<|im_end|>" in text
                assert text.rstrip("\n").removesuffix("<|im_end|>").endswith(answer)


def test_axolotl_takes_it(root: Path, tokenizer: Any, tmp_path: Path) -> None:
    strategy = tool("axolotl.prompt_strategies.dpo.chat_template")
    from axolotl.prompt_strategies.chat_template import load as load_chat
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

    def loaded(name: str, kind: str) -> tuple[Any, Any]:
        entry = {"path": str(exported(root, name, "axolotl")), "ds_type": "json", "split": "train", "type": kind}
        config = DictDefault({"datasets": [entry], "chat_template": "tokenizer_default", "sequence_len": 4096})
        return config, load_dataset_with_config(DictDefault(entry), False)

    config, rows = loaded("aift_m1", "chat_template.default")
    transform, _ = strategy.default(config)
    row = transform(rows[0], tokenizer=tokenizer)
    assert row["prompt"].endswith("user\nName two fruits<|im_end|>\n<|im_start|>assistant\n")
    assert [row[side].removesuffix("<|im_end|>") for side in ("chosen", "rejected")] == [*ANSWERS]
    config, rows = loaded("eft", "chat_template")
    tokenized = load_chat(tokenizer, config, config.datasets[0]).tokenize_prompt(rows[0])
    assert learnt(tokenizer, tokenized["input_ids"], tokenized["labels"]).startswith("Good.\nScore: 5")


def test_openrlhf_takes_it(root: Path, tokenizer: Any) -> None:
    datasets = tool("openrlhf.datasets")
    from openrlhf.datasets.utils import blending_datasets

    keys = {"chosen_key": "chosen", "rejected_key": "rejected", "input_key": "input", "output_key": "output"}
    arguments = SimpleNamespace(prompt_key=None, apply_chat_template=True, tokenizer_chat_template=None, **keys)
    strategy = SimpleNamespace(args=SimpleNamespace(data=arguments), print=print, is_rank_0=lambda: False)

    def loaded(name: str) -> Any:
        return blending_datasets(str(exported(root, name, "openrlhf")), None, strategy)

    pairs = datasets.RewardDataset(loaded("aift_m1"), tokenizer, 4096, strategy, is_dpo=True, num_processors=1)
    assert len(pairs) == 2
    chosen, _, rejected, _, _ = pairs[0]
    head = "<|im_start|>user\nName two fruits<|im_end|>\n<|im_start|>assistant\n"
    for ids, answer in zip((chosen, rejected), ANSWERS, strict=True):
        assert tokenizer.decode(ids[0]).startswith(head + answer)
    answers = datasets.SFTDataset(loaded("eft"), tokenizer, 4096, strategy, num_processors=1)
    ids, _, mask = answers[0]
    assert tokenizer.decode(ids[0][1:][mask[0][:-1] == 1]).startswith("Good.\nScore: 5")
