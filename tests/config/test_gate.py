"""What cannot be meant in params.yaml is told before anything runs: all of it at once, with the key and what to set."""

import ast
import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.config import paths
from stages.config.load import examine, load_params
from stages.console.errors import ParamsError

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "stages/config/profiles"
TINY = YAML(typ="safe", pure=True).load((PROFILES / "tiny.yaml").read_text())


def findings(tmp_path, changes, profile=None):
    """What is told of the tiny profile with `changes`: dotted keys (of names without dots) to values."""
    data = YAML(typ="safe", pure=True).load((PROFILES / f"{profile or 'tiny'}.yaml").read_text())
    for key, value in changes.items():
        section = data
        *parents, last = key.split(".")
        for part in parents:
            section = section[part]
        section[last] = value
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(data, file)
    params, found = examine(tmp_path)
    return [*found, *paths.faults(params, tmp_path)]


def local(path="mine"):
    return {"source": "local", "path": path}


def hub(repo):
    return {"source": "hub", "repo": repo, "revision": "v1"}


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        # names that DVC cannot use, or that are taken
        ({"base": TINY["base"] | {"qwen2.5-72b": local()}}, "base", "Use qwen2_5-72b"),
        ({"evaluated": ["SFT", "M1", "llama 3"]}, "evaluated.2", "Use llama_3"),
        ({"base.EFT": local()}, "base.EFT", "EFT is no name for a model"),
        ({"base.seed": local()}, "base.seed", "seed is no name for a model"),
        ({"base.SFT": local()}, "base.SFT", "writes data/models/SFT, as train_sft does"),
        ({"base.m1": local()}, "base.m1", "as train_sft does (capitals do not count)"),
        ({"external.m2": {"source": "hub", "repo": "a/b", "revision": "v1"}}, "models.M2", "as external.m2 does"),
        ({"models.M0": {"prev": "M2"}}, "models.M0", "writes data/models/M0, as base.M0 does"),
        # what is compared with itself, or twice
        ({"evaluated": ["SFT", "SFT", "M1", "M2", "M3"]}, "evaluated", "SFT stands 2 times"),
        ({"head_to_head.M1-M1": {"model": "M1", "other": "M1"}}, "head_to_head.M1-M1", "M1 against itself"),
        ({"evaluated": ["SFT", "M1", "M3"]}, "head_to_head.M2-M1", "compares M2, which is not in evaluated"),
        ({"drift.M2.since": "M2"}, "drift.M2.since", "compared with itself"),
        ({"drift.M1": {"since": "M2"}}, "drift.M1.since", "AIFT(M2) is later than AIFT(M1)"),
        ({"head_to_head.again": {"model": "SFT", "other": "M3"}}, "head_to_head.again", "same two models as M3-SFT"),
        # what would have to be made before itself
        ({"aift.M1.judge": "M3"}, "aift.M1.judge", "AIFT(M1) needs M3, M3 needs"),
        ({"aift.M1.writer": "M2"}, "aift.M1.writer", "AIFT(M1) needs M2, M2 needs AIFT(M1)"),
        ({"models.M2.prev": "M2"}, "models.M2.prev", "AIFT(M2) needs M2, M2 needs AIFT(M2)"),
        ({"judge_seed.source": "judge", "judge_seed.judge": "M2"}, "judge_seed.judge", "EFT needs M2, M2 needs"),
        ({"positive_only": {"P": {"aift": "M1"}}, "aift.M1.writer": "P"}, "aift.M1.writer", "P needs AIFT(M1)"),
        # numbers, alone
        ({"sample_candidates.n": 1}, "sample_candidates.n", "expected a number of at least 2, seen 1"),
        ({"sample_candidates.n": 10**9}, "sample_candidates.n", "of at most 10,000, seen 1000000000"),
        ({"write_prompts.round": 10**9}, "write_prompts.round", "of at most 100,000, seen 1000000000"),
        ({"write_prompts.max_rounds": 10**9}, "write_prompts.max_rounds", "of at most 100,000"),
        ({"write_prompts.new_shots": 10**9}, "write_prompts.new_shots", "of at most 100, seen"),
        ({"write_prompts.ift_shots": 101}, "write_prompts.ift_shots", "of at most 100, seen 101"),
        ({"tinyworld.steps": 10**9}, "tinyworld.steps", "of at most 1,000,000, seen"),
        ({"tinyworld.docs_per_step": 10**9}, "tinyworld.docs_per_step", "of at most 10,000, seen"),
        ({"judge_candidates.k": 0}, "judge_candidates.k", "expected a number of at least 1"),
        ({"train_sft.dropout": 1.0}, "train_sft.dropout", "expected a number of at most 0.9, seen 1.0"),
        ({"train_sft.lr": 3}, "train_sft.lr", "expected a number of at most 0.1, seen 3"),
        ({"write_prompts.stop": [""]}, "write_prompts.stop.0", 'expected a text that is not empty, seen ""'),
        ({"write_prompts.rouge_l": 0.01}, "write_prompts.rouge_l", "expected a number of at least 0.1"),
        ({"evaluate.bootstrap": 1}, "evaluate.bootstrap", "expected a number of at least 10"),
        ({"build_eft.max_share_of_commonest_score": 0.01}, "build_eft.max_share_of_commonest_score", "at least 0.1"),
        ({"build_eft.tau": 1.5}, "build_eft.tau", "expected a number of at most 1.0, seen 1.5"),
        ({"build_eft.tau": -2}, "build_eft.tau", "expected a number of at least -1.0, seen -2"),
        ({"judge_seed.answers_per_prompt": 1}, "judge_seed.answers_per_prompt", "of at least 2, seen 1"),
        ({"warn.distinct": 1.5}, "warn.distinct", "of at most 1.0, seen 1.5"),
        ({"judge_candidates.temperature": 50}, "judge_candidates.temperature", "of at most 2.0, seen 50"),
        ({"sample_candidates.temperature": 1e-300}, "sample_candidates.temperature", "expected 0 (greedy) or at least"),
        ({"sample_candidates.top_p": 1e-300}, "sample_candidates.top_p", "of at least 0.001"),
        ({"train_dpo.beta": 1e308}, "train_dpo.beta", "of at most 100.0"),
        ({"train_dpo.nll_weight": 1e300}, "train_dpo.nll_weight", "of at most 100.0"),
        ({"train_dpo.lr": 1e-300}, "train_dpo.lr", "of at least 1e-09"),
        ({"split_seed.ift_valid": 0}, "split_seed.ift_valid", "expected a number of at least 1, seen 0"),
        ({"split_seed.lang": ""}, "split_seed.lang", "a text that is not empty"),
        ({"publish.data_license": "<script>\n---"}, "publish.data_license", "expected a text like"),
        ({"train_dpo.beta": float("nan")}, "train_dpo.beta", "expected a finite number"),
        # and in company
        ({"train_sft.lr_end": 0.01}, "train_sft.lr_end", "0.01 is above train_sft.lr, 0.0004: the rate would rise"),
        ({"train_dpo.lr_end": 0.01}, "train_dpo.lr_end", "the rate would rise"),
        ({"train_dpo.micro_batch": 5}, "train_dpo.batch", "32 is no multiple of train_dpo.micro_batch, 5"),
        (
            {"train_dpo.loss": "ipo", "train_dpo.label_smoothing": 0.1},
            "train_dpo.label_smoothing",
            "0.1, and train_dpo.loss ipo has no smoothing",
        ),
        (
            {"train_dpo.micro_batch": 1, "train_dpo.replay.eft": 2.0},
            "train_dpo.replay.rows",
            "16, and a step has 32 micro-batches: some would have no row",
        ),
        (
            {"train_dpo.replay.order": "shuffled", "train_dpo.replay.eft": 0.0},
            "train_dpo.replay.order",
            "no scores are replayed",
        ),
        ({"train_dpo.loss": "robust"}, "train_dpo.loss", "robust, and train_dpo.label_smoothing is 0: that is sigmoid"),
        ({"train_dpo.label_smoothing": 0.5}, "train_dpo.label_smoothing", "seen 0.5"),
        ({"train_sft.micro_batch": 64}, "train_sft.batch", "32 is no multiple"),
        ({"build_pairs.min_margin": 5.0}, "build_pairs.min_margin", "no two scores are more than 5 points apart"),
        ({"sample_candidates.temperature": 0}, "sample_candidates.temperature", "8 answers to a prompt the same"),
        ({"judge_candidates.temperature": 0}, "judge_candidates.k", "3 judgements at judge_candidates.temperature 0"),
        ({"evaluate.judge_temperature": 0}, "evaluate.judge_k", "or evaluate.judge_temperature above 0"),
        ({"judge_candidates.max_tokens": 2}, "judge_candidates.max_tokens", "expected a number of at least 8, seen 2"),
        ({"evaluate.judge_max_tokens": 3}, "evaluate.judge_max_tokens", "expected a number of at least 8, seen 3"),
        ({"write_prompts.max_tokens": 2}, "write_prompts.max_tokens", "expected a number of at least 8"),
        ({"judge_seed.max_tokens": 512}, "judge_seed.max_tokens", "leave nothing of engine.max_context, 512"),
        (
            {"sample_candidates.max_tokens": 480},
            "sample_candidates.max_tokens",
            "+ write_prompts.max_tokens = 512 tokens",
        ),
        (
            {"judge_candidates.max_tokens": 440},
            "judge_candidates.max_tokens",
            "+ write_prompts.max_tokens + sample_candidates.max_tokens = 520",
        ),
        (
            {"judge_candidates.engine": {"max_context": 64}},
            "judge_candidates.max_tokens",
            "leave nothing of judge_candidates.engine.max_context, 64",
        ),
        ({"engine.max_context": 1}, "engine.max_context", "expected a number of at least 16"),
        ({"write_prompts.ift_shots": 0, "write_prompts.new_shots": 0}, "write_prompts.ift_shots", "no demonstrations"),
        (
            {"write_prompts.ift_shots": 60, "split_seed.ift": 50},
            "write_prompts.ift_shots",
            "60 demonstrations of only 50",
        ),
        # levers
        ({"build_pairs.rejected_from": "SFT"}, "build_pairs.rejected_from", "SFT is no model that one of M1, M2 comes"),
        ({"build_pairs.rejected_from": "M9"}, "build_pairs.rejected_from", "M9 is a model that nothing makes"),
        ({"build_pairs.rejected": "half"}, "build_pairs.rejected", "rejected_from is null: no older model answers"),
        (
            {"build_pairs.rejected_from": "M1", "build_pairs.rejected": "older", "build_pairs.pairs_per_prompt": 2},
            "build_pairs.pairs_per_prompt",
            "2, and build_pairs.rejected older says",
        ),
        ({"judge_candidates.second_judge": "M3"}, "judge_candidates.second_judge", "beside its judge"),
        ({"build_pairs.consistency": "smooth"}, "build_pairs.consistency", "there is no tau"),
        ({"judge_pairs.order": "shuffled"}, "judge_pairs.order", "judge_pairs.source is null"),
        ({"judge_pairs.source": "eft", "judge_pairs.n": 1}, "judge_pairs.n", "no two judgements of an answer differ"),
        (
            {"judge_pairs.source": "eft", "judge_pairs.temperature": 0.0},
            "judge_pairs.n",
            "8 at judge_pairs.temperature 0: no two",
        ),
        (
            {"judge_pairs.source": "meta_judge", "judge_candidates.max_tokens": 150},
            "judge_candidates.max_tokens",
            "leave nothing of engine.max_context, 512",
        ),
        (
            {"judge_pairs.meta_judge.template": "stages/templates/none.jinja"},
            "judge_pairs.meta_judge.template",
            "is not there; expected a text file",
        ),
        (
            {"train_dpo.replay.judge_pairs": 2.0},
            "train_dpo.replay.judge_pairs",
            "2, and judge_pairs.source is null",
        ),
        (
            {
                "judge_candidates.second_judge": "M1",
                "aift.M2.judge": "M1",
                "build_pairs.consistency": "filter",
            },
            "judge_candidates.second_judge",
            "M1 is no model that one of M1, M2 comes of, beside its judge",
        ),
        ({"judge_candidates.comparisons": 6}, "judge_candidates.comparisons", "kind is score: nothing is compared"),
        ({"judge_candidates.kind": "pairwise"}, "judge_candidates.k", "3, and judge_candidates.kind pairwise compares"),
        (
            {"judge_candidates.kind": "pairwise", "judge_candidates.k": 1, "build_pairs.min_margin": 1.0},
            "build_pairs.min_margin",
            "1, and no two scores are more than 1 points apart",
        ),
        (
            {"judge.scale": {"min": 1, "max": 4, "letters": None}, "build_pairs.min_margin": 3.5},
            "build_pairs.min_margin",
            "3.5, and no two scores are more than 3 points apart",
        ),
        ({"build_pairs.tau": "mean"}, "build_pairs.tau", "consistency none asks no tau"),
        (
            {
                "judge_candidates.second_judge": "previous",
                "build_pairs.consistency": "filter",
                "build_pairs.tau": "mean",
            },
            "build_pairs.tau",
            "mean would drop all prompts or none",
        ),
        ({"write_prompts.max_rounds": 1}, "aift.M1.prompts", "200 are more than 1 rounds of 100 can give"),
        # paths
        ({"judge.template": ""}, "judge.template", "expected a text file, seen ''"),
        (
            {"judge.template": "none.jinja"},
            "judge.template",
            "none.jinja is not there; expected a text file",
        ),
        ({"judge.template": "../judge.jinja"}, "judge.template", "outside of the project"),
        ({"judge.template": "/dev/zero"}, "judge.template", "outside of the project"),
        ({"write_prompts.template": "folder"}, "write_prompts.template", "folder is a folder; expected a text file"),
        ({"judge.template": "pipe"}, "judge.template", "pipe is a pipe or a device, which would never end"),
        ({"judge.template": "latin"}, "judge.template", "latin is not UTF-8 text, from byte 1 on"),
        ({"judge.template": "large"}, "judge.template", "large has 1,000,001 bytes; a template has at most 1,000,000"),
        ({"judge.template": "a\0b"}, "judge.template", "expected a text file, seen 'a\\x00b'"),
        ({"judge.template": "x" * 300}, "judge.template", "cannot be read: File name too long"),
        ({"judge.template": "loop"}, "judge.template", "cannot be read: Too many levels of symbolic links"),
        ({"base.M0": local("")}, "base.M0.path", "expected a model's folder, seen ''"),
        ({"base.M0": local("/")}, "base.M0.path", "which the run writes"),
        ({"base.M0": local("..")}, "base.M0.path", "which the run writes"),
        ({"base.M0": local("data/models/SFT")}, "base.M0.path", "data/models/SFT is not there"),
        ({"base.M0": local("data/models/M0")}, "base.M0.path", "lies in data/models, which the run writes"),
        ({"base.M0": local("~/llama")}, "base.M0.path", "~ is not followed"),
        ({"base.M0": local("s3://bucket/llama")}, "base.M0.path", "~ is not followed"),
        ({"base.M0": local("folder")}, "base.M0.path", "it has no config.json"),
        ({"base.M0": local("broken")}, "base.M0.path", "broken holds model.safetensors, which is no file"),
        (
            {"split_seed.source": "file", "split_seed.path": "/dev/zero"},
            "split_seed.path",
            "/dev/zero is a pipe or a device",
        ),
        ({"split_seed.source": "file", "split_seed.path": "pipe"}, "split_seed.path", "pipe is a pipe or a device"),
        ({"split_seed.source": "file", "split_seed.path": "folder"}, "split_seed.path", "folder is a folder"),
        ({"split_seed.source": "file", "split_seed.path": "empty"}, "split_seed.path", "empty is empty"),
        # what is named and would not be read
        ({"split_seed.path": "empty"}, "split_seed.path", "empty would never be read: with this source, path names"),
        ({"base.M0.path": "broken"}, "base.M0.path", "For data of yours set source to file, for a model to local"),
        ({"split_seed.split": "train"}, "split_seed", "source tinyworld has no config and no split"),
        ({"split_seed.format": "pairs"}, "split_seed", "source tinyworld reads no rows: set format to auto"),
        ({"split_seed.format": "alpaca"}, "split_seed.format", "alpaca"),
        ({"split_seed.repo": "org/data"}, "split_seed", "source tinyworld reads no repo, seen org/data. Set source to"),
        (
            {"split_seed.source": "file", "split_seed.revision": "v1"},
            "split_seed",
            "source file reads no repo, seen v1",
        ),
        ({"external.L": hub("https://huggingface.co/a/b")}, "external.L", "a name on the Hub, ORG/NAME, seen https://"),
        ({"external.L": hub("a/b c")}, "external.L", "a name on the Hub, ORG/NAME, seen a/b c"),
        # who judges the seed's answers
        ({"judge_seed.source": "judge"}, "judge_seed.judge", "no model is named. Name one of base or external: M0"),
        ({"judge_seed.source": "judge", "judge_seed.judge": "M9"}, "judge_seed.judge", "a model that nothing makes"),
        ({"judge_seed.source": "judge", "judge_seed.judge": "M0"}, "judge_seed.path", "Set data/models/M0"),
        ({"judge_seed.judge": "M0"}, "judge_seed.judge", "M0 would judge nothing: judge_seed.source is model"),
        ({"judge_seed.source": "ranks"}, "judge_seed.path", "Set stages/templates/judge_by_rank.jinja"),
        ({"judge_seed.source": "written"}, "judge_seed.path", "Set stages/tinyworld/reviews.py"),
        ({"judge_seed.path": "data/models/M0"}, "judge_seed.path", "data/models/M0, and SFT judges"),
        ({"judge_seed.source": "ranks", "judge_seed.path": "no.jinja"}, "judge_seed.path", "is not there"),
        ({"hardware.launch": "no.yaml"}, "hardware.launch", "no.yaml is not there; expected a config of accelerate"),
        (
            {"hardware.launch": "deepspeed"},
            "hardware.launch",
            "expected ddp, fsdp2, zero3, or a path that ends in .yaml",
        ),
        ({"base.ranks": local()}, "base.ranks", "ranks is no name for a model"),
        (
            {
                "external.big": {"source": "server", "repo": "big", "revision": None},
                "judge_seed": TINY["judge_seed"] | {"source": "judge", "judge": "big", "path": "data/models/big"},
            },
            "judge_seed.judge",
            "transformers cannot ask a server. Set judge_seed.engine: {name: openai}",
        ),
        # one's own data with the tiny world's templates
        ({"split_seed.source": "file"}, "judge.template", "is the tiny world's. Set stages/templates/judge.jinja"),
        (
            {"split_seed.source": "file"},
            "split_seed.source",
            "srlm profile own --model DIR_OR_REPO --data FILE_OR_REPO",
        ),
        ({"split_seed.source": "file"}, "write_prompts.template", "Set stages/templates/write_prompt.jinja"),
        ({"split_seed.source": "file"}, "evaluate.oracle", "Set none"),
        ({"split_seed.source": "file"}, "evaluate.compare_by", "Set model"),
        ({"split_seed.source": "file"}, "base.M0.source", "Set local"),
        ({"split_seed.source": "file", "judge_seed.source": "written"}, "judge_seed.source", "Set model"),
        (
            {"split_seed.source": "file", "judge.template": "./stages/../stages/tinyworld/judge.jinja"},
            "judge.template",
            "the tiny world's",
        ),
        # English sentences behind prompts in another language
        *(
            ({"split_seed.lang": "de", key: on}, key, f"and split_seed.lang is de. Set it to {off}")
            for key, on, off in (
                ("split_seed.eft_constraints", 5, 0),
                ("write_prompts.constraints", 0.5, 0),
                ("evaluate.oracle", "constraints", "none"),
            )
        ),
        (
            {"choose.every_steps": 10, "choose.by": "model", "choose.judge": "M1"},
            "choose.judge",
            "M1 is not there before the first training",
        ),
        ({"choose.judge": "m1"}, "choose.judge", "Did you mean M1?"),
        ({"choose.judge": "M1"}, "choose.judge", "M1 is not there before the first training"),  # watched when off, too
        (
            {"choose.every_steps": 10, "choose.by": "model", "choose.max_tokens": 250},
            "choose.compare_max_tokens",
            "+ choose.max_tokens + choose.max_tokens = 516 tokens leave nothing of engine.max_context, 512",
        ),
        *(
            (
                {"choose.every_steps": 10, "choose.max_tokens": 512, **by},
                "choose.max_tokens",
                "choose.max_tokens = 512 tokens leave nothing of engine.max_context, 512",
            )
            for by in ({"choose.by": "oracle"}, {"choose.by": "model", "choose.engine": {"max_context": 4096}})
        ),
        (
            {
                "train_sft.adapter": {"r": 8, "alpha": 16, "save": "keep"},
                "train_dpo.adapter": {"r": 8, "alpha": 16, "target_modules": ["q_proj"]},
            },
            "train_dpo.adapter.target_modules",
            "['q_proj'], and the adapter that it continues has all-linear",
        ),
        ({"evaluate.compare_with": "m1"}, "evaluate.compare_with", "Did you mean M1?"),
    ],
)
def test_what_cannot_be_meant_is_told(tmp_path, changes, key, told):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "latin").write_bytes(b"a\xe9")
    (tmp_path / "large").write_bytes(bytes(1_000_001))
    (tmp_path / "empty").touch()
    for name in ("broken", "data/models/M0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "broken/model.safetensors").symlink_to("nowhere")
    found = findings(tmp_path, changes)
    assert any(f.key == key and told in str(f) for f in found), [str(f) for f in found]
    assert not [f for f in found if "Input should" in str(f) or "[key]" in str(f)]


def test_all_is_told_at_once_whatever_its_kind(tmp_path):
    changes = {
        "seed": -1,
        "sample_candidates.n": 1,
        "train_sft.lr_end": 0.01,
        "judge.template": "none.jinja",
        "evaluated": ["SFT", "SFT", "M1", "M2", "M3"],
        "aift.M1.judge": "M3",
        "judge_seed.max_tokens": 600,
    }
    found = findings(tmp_path, changes)
    absent = {"write_prompts.template", "judge_pairs.meta_judge.template", "split_seed.path", "base.M0.path"}
    told = {f.key for f in found} - absent  # not in this folder
    assert told == {"aift.M1.judge" if key == "aift.M1.judge" else key for key in changes}
    with pytest.raises(ParamsError, match="6 faults"):
        load_params(tmp_path)


def test_with_a_faulty_section_nothing_is_told_that_depends_on_it(tmp_path):
    """`n: 1` is a fault; that the missing section could not be compared is none."""
    assert [
        f.key for f in findings(tmp_path, {"sample_candidates.n": 1}) if "path" not in f.key and "temp" not in f.key
    ] == ["sample_candidates.n"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("foo", "foo: unknown key"),
        ("min_margin", "min_margin: unknown key; did you mean build_pairs.min_margin?"),
        ("train_stf", "train_stf: unknown key; did you mean train_sft?"),
        ("build_pairs.margin", "build_pairs.margin: unknown key; did you mean build_pairs.min_margin?"),
        ("judge.colour", "judge.colour: unknown key"),
    ],
)
def test_a_key_is_suggested_only_where_one_is_near(tmp_path, key, told):
    assert [str(f) for f in findings(tmp_path, {key: 1}) if f.key == key] == [told]


def test_every_profile_passes():
    for name in ("tiny", "gpu", "paper", "scripted"):
        params, found = examine(PROFILES, f"{name}.yaml")
        assert [*found, *paths.faults(params, ROOT)] == []


def test_models_and_seed_data_may_lie_outside_of_the_project(tmp_path):
    project, model = tmp_path / "project", tmp_path / "llama"
    project.mkdir()
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "seed.jsonl").write_text("{}\n")
    for key, change in (
        ("base.M0.path", {"base.M0": local("../llama")}),
        ("base.M0.path", {"base.M0": local(str(model))}),
        ("split_seed.path", {"split_seed.source": "file", "split_seed.path": "../seed.jsonl"}),
    ):
        assert key not in [f.key for f in findings(project, change)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path):
    (tmp_path / "secret.jinja").touch(mode=0)
    assert "secret.jinja cannot be read: Permission denied" in str(
        findings(tmp_path, {"judge.template": "secret.jinja"})
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Path.mkdir, "cannot be read: Is a directory"),
        (lambda p: p.write_text("a: 1\na: 2\n"), r"is not YAML, line 2, column 1: found duplicate key"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_place(tmp_path, make, told):
    make(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=told):
        load_params(tmp_path)


def test_every_key_is_documented_where_it_is_declared():
    """The line under a key is its only documentation; a section of Params is what its own keys say."""
    files = ("shared.py", "engines.py", "machine.py", "sections.py", "pair_sections.py", "params.py")
    trees = [ast.parse((ROOT / "stages/config" / file).read_text()) for file in files]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    sections = {node.name for node in classes if node.bases}
    bare = [
        f"{node.name}.{key.target.id}"
        for node in classes
        if node.name in sections
        for key, below in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(key, ast.AnnAssign)
        and not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant))
        and getattr(key.annotation, "id", "") not in sections
    ]
    assert len(sections) > 20
    assert not bare
