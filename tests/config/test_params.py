"""A fault in params.yaml is told with its key, what was seen, and the nearest valid key."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.config.engines import EngineParams
from stages.config.load import load_params
from stages.config.machine import Server
from stages.config.params import Params
from stages.console.errors import ParamsError

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "stages/config/profiles"
NAMES = ("tiny", "smol", "gpu", "paper", "scripted")
MAPPINGS = {"base", "external", "aift", "models", "head_to_head"}
"""Loops: their keys are names that a profile may choose."""


def changed(tmp_path, path, value=..., rename=None):
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((PROFILES / "tiny.yaml").read_text())
    section = data
    *parents, last = path.split(".")
    for part in parents:
        section = section[part]
    if rename:
        section[rename] = section.pop(last)
    elif value is ...:
        del section[last]
    else:
        section[last] = value
    with (tmp_path / "params.yaml").open("w") as f:
        yaml.dump(data, f)
    return tmp_path


SERVED = {"source": "server", "repo": "gpt-5", "revision": None}


ENGINE = {
    "name": "transformers",
    "inner": "transformers",
    "dtype": "float32",
    "quantization": None,
    "max_context": 512,
    "max_batch_tokens": 65536,
    "requests_per_block": 64,
}
ENGINE |= {"env_prefix": "OPENAI"}


@pytest.mark.parametrize(("max_context", "fits"), [(64, False), (8192, True)])
def test_what_compares_must_have_the_context_for_two_answers(tmp_path, max_context, fits):
    """It is the judge's engine that counts, where there is one."""
    changed(tmp_path, "evaluate.judge_engine", ENGINE | {"max_context": max_context})
    text = (tmp_path / "params.yaml").read_text().replace("compare_by: oracle", "compare_by: model")
    (tmp_path / "params.yaml").write_text(text)
    if fits:
        load_params(tmp_path)
    else:
        with pytest.raises(
            ParamsError,
            match=r"\+ evaluate.max_tokens \+ evaluate.max_tokens = 112 tokens leave nothing of evaluate.judge_engine",
        ):
            load_params(tmp_path)


def test_a_servers_model_is_not_trained_from(tmp_path):
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((PROFILES / "tiny.yaml").read_text())
    data["external"]["gpt"], data["engine"]["name"] = SERVED, "openai"
    data["aift"]["gpt"] = data["aift"]["M2"] | {"judge": "gpt"}
    data["models"]["M4"] = {"prev": "gpt"}
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(data, file)
    with pytest.raises(ParamsError, match=r"models.M4.prev: gpt is a server's model"):
        load_params(tmp_path)


def test_a_servers_model_is_not_where_training_begins(tmp_path):
    changed(tmp_path, "external.M0", SERVED)
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"base:\n(  .*\n)+", "base: {}\n", text))
    with pytest.raises(
        ParamsError, match=r"external\.M0: M0 is a server's model: only weights that are here can be trained"
    ):
        load_params(tmp_path)


def test_tensor_parallel_is_vllms(tmp_path):
    changed(tmp_path, "engine", ENGINE | {"name": "ray"})
    text = (tmp_path / "params.yaml").read_text().replace("tensor_parallel: 1", "tensor_parallel: 4")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"hardware.tensor_parallel: 4, and no engine is vllm"):
        load_params(tmp_path)


def test_a_servers_model_is_asked_by_the_engine_for_servers_alone(tmp_path):
    changed(tmp_path, "external.gpt", SERVED)
    text = (tmp_path / "params.yaml").read_text()
    served = text.replace("judge: M1", "judge: gpt")
    assert served != text
    (tmp_path / "params.yaml").write_text(served)
    with pytest.raises(
        ParamsError,
        match=r"aift.M1.judge: gpt is a server's model, and transformers cannot ask a server. Set judge_candidates.engine: {name: openai}",
    ):
        load_params(tmp_path)
    engine = {**YAML(typ="safe").load(text)["engine"], "name": "openai"}
    data = YAML(typ="safe").load(served)
    data["judge_candidates"]["engine"] = engine
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(data, file)
    params = load_params(tmp_path)
    assert params.judge_candidates.engine is not None
    assert params.judge_candidates.engine.name == "openai"


def test_a_servers_model_is_evaluated_through_its_judges_engine(tmp_path):
    """Else nobody could measure a judge that only a server has; models that are here are evaluated as always."""
    changed(tmp_path, "external.gpt", SERVED)
    data = YAML(typ="safe").load(tmp_path / "params.yaml")
    data["evaluated"].append("gpt")
    file = tmp_path / "params.yaml"
    YAML().dump(data, file)
    with pytest.raises(
        ParamsError,
        match=r"evaluated.4: gpt is a server's model, and transformers cannot ask a server. Set judge_candidates.engine: {name: openai}",
    ):
        load_params(tmp_path)
    data["judge_candidates"]["engine"] = {"name": "openai", "env_prefix": "JUDGE"}
    YAML().dump(data, file)
    params = load_params(tmp_path)
    assert [params.engine_for("evaluate", name) for name in ("gpt", "M1")] == [
        params.judge_candidates.engine,
        params.engine,
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine.name": "vllm", "hardware.workers": 2}, "engine.name: vllm is one process, and hardware.workers is 2"),
        (
            {"judge_candidates.engine": {"name": "vllm"}, "hardware.workers": 2},
            "judge_candidates.engine.name: vllm is one process, and hardware.workers is 2",
        ),
        (
            {"engine.name": "scripted", "judge_candidates.score": "expected"},
            "engine is scripted, which has no probabilities",
        ),
        (
            {"engine.name": "scripted", "judge_candidates": {"engine": {"name": "vllm"}, "score": "expected"}},
            "engine is scripted, which has no probabilities",
        ),
        (
            {"judge_candidates.engine": {"name": "scripted"}, "judge_candidates.score": "expected"},
            "judge_candidates.engine is scripted, which has no",
        ),
        ({"hardware.workers": 2}, "hardware.workers: 2, and no engine is ray"),
        ({"judge_candidates.engine": {"name": "ray"}, "hardware.workers": 2}, None),
        ({"engine.name": "ray", "engine.inner": "vllm", "hardware.workers": 2, "hardware.tensor_parallel": 2}, None),
        ({"judge_candidates.engine": {"name": "vllm"}, "hardware.tensor_parallel": 2}, None),
    ],
)
def test_engines_that_cannot_do_it_are_refused_before_anything_runs(tmp_path, changes, said):
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load((PROFILES / "tiny.yaml").read_text())
    for key, value in changes.items():
        section, _, name = key.partition(".")
        data[section] |= {name: value} if name else value
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(data, file)
    if said is None:
        load_params(tmp_path)
        return
    with pytest.raises(ParamsError, match=said):
        load_params(tmp_path)


@pytest.mark.parametrize(
    ("section", "key"), [("write_prompts", "engine"), ("judge_candidates", "engine"), ("evaluate", "judge_engine")]
)
def test_a_roles_engine_says_what_differs(tmp_path, section, key):
    params = load_params(changed(tmp_path, f"{section}.{key}", {"dtype": "bfloat16", "max_context": 1024}))
    differs = {"dtype": "bfloat16", "max_context": 1024}
    assert getattr(getattr(params, section), key) == params.engine.model_copy(update=differs)
    assert params.engine.dtype == "float32"


SERVER = {
    "at_once": 2,
    "timeout_s": 60,
    "attempts": 3,
    "usd_per_million_prompt_tokens": 0.5,
    "usd_per_million_completion_tokens": 1.5,
}


def test_a_server_of_a_role_may_be_asked_otherwise(tmp_path):
    changed(tmp_path, "hardware.servers", {"JUDGE": SERVER})
    with pytest.raises(
        ParamsError, match=r"hardware.servers.JUDGE: no engine openai has this env_prefix; they have: none"
    ):
        load_params(tmp_path)
    data = YAML(typ="safe").load(tmp_path / "params.yaml")
    data["judge_candidates"]["engine"] = {"name": "openai", "env_prefix": "JUDGE"}
    YAML().dump(data, tmp_path / "params.yaml")
    hardware = load_params(tmp_path).hardware
    judge = EngineParams(**ENGINE | {"env_prefix": "JUDGE"})
    assert hardware.server_of(judge) == ("hardware.servers.JUDGE", Server(**SERVER))
    assert hardware.server_of(EngineParams(**ENGINE)) == ("hardware.server", hardware.server)
    assert load_params(ROOT).hardware.servers == {}, "it need not be written"


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        (
            {"judge": SERVER},
            'hardware.servers: expected a name of capital letters, digits and _, beginning with a letter, seen "judge". Use JUDGE',
        ),
        ({"JUDGE": {"at_once": 2}}, "hardware.servers.JUDGE.timeout_s: missing"),
        (
            {"JUDGE": {"at_one": 2, **dict(list(SERVER.items())[1:])}},
            "JUDGE.at_one: unknown key; did you mean hardware.servers.JUDGE.at_once?",
        ),
        (
            {"JUDGE": SERVER | {"attempts": 0}},
            "hardware.servers.JUDGE.attempts: expected a number of at least 1, seen 0",
        ),
        ([], "hardware.servers: expected a mapping of names ({} where there is none), seen []"),
    ],
)
def test_and_what_is_wrong_there_is_told(tmp_path, servers, said):
    with pytest.raises(ParamsError) as e:
        load_params(changed(tmp_path, "hardware.servers", servers))
    assert said in str(e.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_is_complete(name):
    load_params(PROFILES, f"{name}.yaml")


def test_profiles_have_the_same_keys():
    def keys(data, prefix=""):
        for key, value in data.items():
            yield f"{prefix}{key}"
            if isinstance(value, dict) and key not in {*MAPPINGS, "tinyworld"}:  # null where nothing comes from there
                yield from keys(value, f"{prefix}{key}.")

    yaml = YAML(typ="safe", pure=True)
    found = {name: list(keys(yaml.load((PROFILES / f"{name}.yaml").read_text()))) for name in NAMES}
    assert all(found[name] == found["tiny"] for name in NAMES)


def test_params_yaml_is_the_tiny_profile():
    assert (ROOT / "params.yaml").read_text() == (PROFILES / "tiny.yaml").read_text(), (
        "the repository ships the default profile"
    )


def test_the_hub_is_pinned_by_commit():
    for name in ("gpu", "paper"):
        params = load_params(PROFILES, f"{name}.yaml")
        for revision in [params.split_seed.revision, *(b.revision for b in params.external.values())]:
            assert revision is not None
            assert len(revision) == 40, (name, revision)


@pytest.mark.parametrize(
    ("path", "rename", "said"),
    [
        (
            "build_pairs.min_margin",
            "min_margn",
            "build_pairs.min_margn: unknown key; did you mean build_pairs.min_margin?",
        ),
        ("engine", "engines", "engines: unknown key; did you mean engine?"),
        ("judge_candidates.k", "K", "judge_candidates.K: unknown key; did you mean judge_candidates.k?"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path, path, rename, said):
    with pytest.raises(ParamsError) as e:
        load_params(changed(tmp_path, path, rename=rename))
    assert said in str(e.value)
    assert f"{path}: missing" in str(e.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "sample_candidates.n",
            0,
            "sample_candidates.n: expected a number of at least 2, seen 0",
        ),
        ("sample_candidates.top_p", 2, "sample_candidates.top_p: expected a number of at most 1.0, seen 2"),
        ("sample_candidates.top_p", 0, "sample_candidates.top_p: expected a number of at least 0.001, seen 0"),
        ("engine.name", "vlm", "'vllm', 'ray', 'openai' or 'scripted', seen \"vlm\""),
        ("train_dpo.beta", "big", 'train_dpo.beta: expected a number, seen "big"'),
        (
            "train_dpo.epochs",
            1.5,
            "train_dpo.epochs: expected a whole number, seen 1.5",
        ),
        (
            "train_sft.gradient_checkpointing",
            "yes",
            'train_sft.gradient_checkpointing: expected true or false, seen "yes"',
        ),
        ("seed", -1, "seed: expected a number of at least 0, seen -1"),
        ("aift.M1.rho", 0.5, "aift.M1.rho: expected a number below 0.5, seen 0.5"),
        ("models.M2.prev", "M7", "models.M2: is trained on AIFT(M7). Add M7 to aift"),
        (
            "aift.M1.writer",
            "M9",
            "aift.M1.writer: M9 is a model that nothing makes. Add it to base or external; there are M0, M1, M2, M3, SFT",
        ),
        ("positive_only", {"M2": {"aift": "M1"}}, "positive_only.M2: writes data/models/M2, as models.M2 does"),
        ("positive_only", {"M2P": {"aift": "M7"}}, "positive_only.M2P: is trained on AIFT(M7). Add M7 to aift"),
        ("drift", {"M2": {"since": "M7"}}, "drift.M2: is about AIFT(M7). Add M7 to aift"),
        ("aift.M1.judge", "M9", "aift.M1.judge: M9 is a model that nothing makes"),
        ("external.gpt", SERVED | {"repo": None}, "source server needs repo"),
        ("external.M0", SERVED, "external.M0: writes data/models/M0, as base.M0 does"),
        ("base", {}, "base.M0: M0 is a model that nothing makes"),
        ("engine.quantization", "fp8", "engine.quantization: fp8 is something that transformers does not do"),
        (
            "evaluate.judge_engine",
            ENGINE | {"name": "ray", "quantization": "awq"},
            "evaluate.judge_engine.quantization: awq is something that transformers does not do",
        ),
        (
            "judge_candidates.engine",
            {"nam": "vllm"},
            "judge_candidates.engine.nam: unknown key; did you mean judge_candidates.engine.name?",
        ),
        ("judge_candidates.engine", "vllm", "judge_candidates.engine: "),
        ("evaluated", [], "evaluated: expected a list that is not empty, seen []"),
        ("base.M0.source", "hub", "source hub is for models that others keep: write the entry under external"),
        ("external.gpt", SERVED | {"source": "hub"}, "source hub needs repo and revision"),
        ("head_to_head.M3-M1.other", "../M1", "head_to_head.M3-M1.other: expected a name of letters, digits, _ and -"),
    ],
)
def test_an_impossible_value_is_told(tmp_path, path, value, said):
    with pytest.raises(ParamsError) as e:
        load_params(changed(tmp_path, path, value))
    assert said in str(e.value)
    assert "params.yaml" in str(e.value)


def test_every_fault_is_told_at_once(tmp_path):
    changed(tmp_path, "seed", -1)
    text = (tmp_path / "params.yaml").read_text().replace("beta: 0.1", "beta: -1")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"2 faults"):
        load_params(tmp_path)


@pytest.mark.parametrize(("text", "said"), [("a: [", "is not YAML"), ("- a\n", "holds list"), ("", "holds NoneType")])
def test_a_file_that_is_no_mapping_is_told(tmp_path, text, said):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=said):
        load_params(tmp_path)


def test_no_file_says_what_to_type(tmp_path):
    with pytest.raises(ParamsError, match="srlm profile tiny"):
        load_params(tmp_path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    changed(tmp_path, "seed", 1)
    text = (tmp_path / "params.yaml").read_text().replace("0.0001", "1e-4")
    (tmp_path / "params.yaml").write_text(text)
    assert "1e-4" in text
    assert load_params(tmp_path).train_dpo.lr == 1e-4


def test_params_are_frozen():
    params = load_params(ROOT)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 2
    assert isinstance(params, Params)


def test_the_engine_in_the_docs_is_a_whole_one():
    shown = re.search(r"^engine: \{.*\}$", (ROOT / "docs/ray.md").read_text(), re.MULTILINE)[0]
    assert EngineParams(**YAML(typ="safe").load(shown)["engine"]).inner == "vllm"
