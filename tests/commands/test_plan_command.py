"""`srlm plan`: what a run takes, before it runs, and how each number is known."""

from __future__ import annotations

import json

import pytest

from stages.commands import speeds
from stages.commands.costs import _shape, cost, in_name, too_large
from stages.commands.disk import Model, forecast
from stages.commands.plan import duration, plan, si
from stages.commands.profile import PROFILES
from stages.commands.speeds import machine_of
from stages.commands.workload import MOST, Facts, Work, works
from stages.config.flops import shape_like
from stages.config.load import load_params
from stages.config.params import PositiveOnly
from stages.config.shared import Adapter
from stages.console.errors import ParamsError
from stages.engines.cache import CompletionCache
from stages.engines.request import Completion
from stages.models.checkpoint import random_llama
from stages.store.files import append_line
from stages.store.run import COMPLETION_CACHE, LOG
from tests.workspace import Workspace


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "space")


def planned(space, capsys, **options):
    plan(space.path, as_json=True, **options)
    return json.loads(capsys.readouterr().out)


def stages(content):
    return {(stage["stage"], stage["part"]): stage for stage in content["stages"]}


def test_the_paper_on_cards_that_are_named(space, capsys):
    few = planned(space, capsys, profile="paper", gpu="H100", gpus=8, price=2.0)
    many = planned(space, capsys, profile="paper", gpu="H200", gpus=16, price=2.0)
    assert few.keys() == {"profile", "machine", "stages", "totals", "does_not_fit"}
    assert few["machine"] == {"name": "H100", "gpus": 8, "here": False}
    assert [line.split()[0] for line in few["does_not_fit"]] == ["train_sft@M1", "train_dpo@M3"]
    assert all("of these GPUs would do" in line for line in few["does_not_fit"])
    assert many["does_not_fit"] == []
    sft, total = stages(few)["train_sft@SFT", "sft"], few["totals"]
    assert sft["tokens_in"] == 2 * 3200 * (60 + 240 + 8)
    assert sft["flops"] == pytest.approx(6 * 69e9 * sft["tokens_in"], rel=0.03), "70 B by its name"
    assert 16 * 70e9 < 8 * sft["memory_bytes"] < 20 * 70e9 + 8 * 20e9, "on each of eight"
    assert total["gpu_hours"] == pytest.approx(8 * total["seconds"] / 3600, rel=1e-3)
    assert total["usd"] == pytest.approx(2 * total["gpu_hours"], abs=0.01)
    assert total["seconds"] == pytest.approx(sum(stage["seconds"] for stage in few["stages"]), abs=2)
    assert many["totals"]["flops"] == total["flops"]
    assert many["totals"]["seconds"] < total["seconds"]
    assert {stage["speed_from"] for stage in few["stages"]} == {"assumed", None}
    chosen, prompts = (
        stages(few)["train_sft@M1", "judgements"],
        load_params(PROFILES, "paper.yaml").split_seed.ift_valid,
    )
    assert (chosen["model"], chosen["texts"] % (2 * prompts)) == ("writer", 0)
    assert chosen["seconds"] > 0


@pytest.mark.parametrize(("launch", "gpus", "divided"), [(None, 1, 1), ("ddp", 4, 1), ("fsdp2", 4, 4), ("own", 2, 2)])
def test_training_takes_the_gpus_that_launch_says(space, tmp_path, launch, gpus, divided):
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: FSDP\nnum_processes: 2\n")
    params = load_params(PROFILES, "gpu.yaml")
    hardware = params.hardware.model_copy(update={"launch": str(own) if launch == "own" else launch})
    params = params.model_copy(update={"hardware": hardware})
    machine = machine_of(params, "H100", 4)
    shape = shape_like(1e9)
    work = Work("train_sft@M1", "sft", "M1", 1000, 300)
    alone, row = (cost(work, params, m, shape, {}) for m in (machine._replace(gpus=1), machine))
    assert row.seconds - row.start == pytest.approx((alone.seconds - alone.start) / gpus)
    assert alone.memory - row.memory == pytest.approx(alone.states * (1 - 1 / divided))
    assert alone.states == 18e9, "gradients and moments in float32, weights in both"
    writes = Work("evaluate@M1", "answers", "M1", 1000, 60, 240, 512)
    asked = [cost(writes, params, m, shape, {}).memory for m in (machine._replace(gpus=1), machine)]
    assert asked[0] == asked[1]


def test_an_own_launch_lies_in_the_project_and_not_where_the_command_is_typed(space, capsys):
    (space.path / "own.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 4\n")
    space.set(**{"hardware.launch": "own.yaml", "train_dpo.batch": 6, "train_dpo.micro_batch": 1})
    lines = planned(space, capsys, gpu="H100", gpus=8)["does_not_fit"]
    assert "batch 6 cannot be dealt out to 4 processes" in lines[-1]


def test_what_fits_no_gpu_says_how_many_would_do(space, capsys):
    params = load_params(PROFILES, "gpu.yaml")
    work = Work("train_sft@M1", "sft", "M1", 1000, 300)
    for launch, words in ((None, "with hardware.launch: fsdp2"), ("fsdp2", "would do")):
        params = params.model_copy(update={"hardware": params.hardware.model_copy(update={"launch": launch})})
        machine = machine_of(params, "H100", 4)
        row = cost(work, params, machine, shape_like(70e9), {})
        [line] = too_large([row], machine)
        assert line.endswith(words)
        assert "on each GPU that trains, and H100 has 72.0 GB; 19 of these GPUs would do" in line
        enough = cost(work, params, machine._replace(gpus=19), shape_like(70e9), {})
        assert (too_large([enough], machine) == []) == (launch == "fsdp2")
    uneven = planned(space, capsys, profile="paper", gpu="H200", gpus=32)["does_not_fit"]
    assert "batch 16 cannot be dealt out to 32 processes" in uneven[-1]


def test_a_models_size_may_be_given(space, capsys):
    seven, seventy = (planned(space, capsys, profile="paper", parameters=n)["totals"]["flops"] for n in (7e9, 70e9))
    assert seventy == pytest.approx(10 * seven, rel=0.15)


def test_the_table_fits_a_terminal_and_says_how_it_knows(space, capsys):
    plan(space.path, profile="paper", price=2.5)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    for words in ("train_dpo@M3", "assumed: ", "total on 8 x H100 (not this machine): ", "does not fit: train_sft@M1"):
        assert words in out
    assert " USD at 2.5 an hour" in out


def test_what_was_measured_goes_before_what_is_assumed(space, capsys):
    random_llama(folder := space.path / "data/models/M0", seed=1, max_context=512)
    made_from = load_params(space.path).base["M0"].model_dump()
    (folder / "lineage.json").write_text(json.dumps({"params": made_from}))
    parameters = _shape(folder).parameters
    before = stages(planned(space, capsys))["train_sft@M1", "sft"]
    assert before["speed_from"] == "assumed"
    entry = {"stage": "train_sft@SFT", "outcome": "done", "seconds": 12.0, "compute_s": 11.0}
    entry |= {"parameters": parameters, "tokens": 1000, "tokens_per_s": 100.0}
    append_line(space.path / LOG, entry)
    after = stages(planned(space, capsys))["train_sft@M1", "sft"]
    assert after["speed_from"] == "log"
    assert after["seconds"] == pytest.approx((12 - 10) + after["tokens_in"] / 100, rel=1e-3)
    append_line(space.path / LOG, entry | {"parameters": 10 * parameters})
    assert stages(planned(space, capsys))["train_sft@M1", "sft"]["speed_from"] == "assumed", "of another model"


def test_lengths_are_those_of_texts_that_were_written(space, capsys):
    with CompletionCache(space.path / COMPLETION_CACHE) as cache:
        for verb, tokens in (("sample_candidates@M1", 5), ("sample_candidates@M2", 7), ("judge_candidates@M1", 3)):
            batch = [(verb.encode(), Completion("x", 0, "text", "stop", tokens, None))]
            cache.put(batch, model="M1", stage=verb)
        cache.put([(b"uncounted", Completion("x", 0, "text", "stop", None, None))], model="M1", stage="write_prompts")
        assert cache.lengths() == {"sample_candidates": 6.0, "judge_candidates": 3.0}
    content = stages(planned(space, capsys))
    sampled, judged = content["sample_candidates@M1", "answers"], content["judge_candidates@M1", "judgements"]
    assert sampled["tokens_out"] == 6 * sampled["texts"]
    assert sampled["lengths_from"] == "cache"
    assert judged["tokens_out"] == pytest.approx(3 * judged["texts"], abs=1)
    other = stages(planned(space, capsys, profile="scripted"))["sample_candidates@M1", "answers"]
    assert other["lengths_from"] != "cache", "the texts here are of other parameters"


def test_what_nothing_tells_is_unknown(space, capsys):
    content = planned(space, capsys, profile="gpu", gpu="TRS-80", price=1.0)
    assert "train_sft@SFT" in content["totals"]["unknown_time"]
    assert stages(content)["train_sft@SFT", "sft"]["seconds"] is None
    plan(space.path, profile="gpu", gpu="TRS-80")
    assert "not in it, since nothing tells their speed: train_sft@SFT" in capsys.readouterr().out
    with pytest.raises(ParamsError, match="no profile huge; there are gpu, paper"):
        plan(space.path, profile="huge")


def test_a_server_costs_what_its_tokens_cost(space, capsys):
    space.set(
        **{
            "external": {"large": {"source": "server", "repo": "its name", "revision": None}},
            "judge_seed.source": "judge",
            "judge_seed.judge": "large",
            "judge_seed.path": "data/models/large",
            "judge_seed.engine": {"name": "openai"},
            "hardware.server.usd_per_million_prompt_tokens": 1.0,
            "hardware.server.usd_per_million_completion_tokens": 10.0,
        }
    )
    content = planned(space, capsys)
    asked = stages(content)["judge_seed", "judgements"]
    assert asked["server_usd"] == pytest.approx((asked["tokens_in"] + 10 * asked["tokens_out"]) / 1e6, rel=0.01)
    assert asked["flops"] is None
    assert content["totals"]["server_usd"] == pytest.approx(asked["server_usd"], abs=0.01)


def test_no_stage_is_forgotten_and_yields_only_lessen(space):
    """The stages are those of dvc.yaml; what is expected is never more than what the disk must hold."""
    params = load_params(space.path)
    most, expected = list(works(params, MOST)), list(works(params, Facts(accepted=1)))
    names = [work.stage for work in most]
    assert {name.partition("@")[0] for name in names} == {
        *("get_model", "split_seed", "train_sft", "judge_seed", "build_eft", "write_prompts", "sample_candidates"),
        *(
            "judge_candidates",
            "build_pairs",
            "build_judge_pairs",
            "watch_drift",
            "train_dpo",
            "evaluate",
            "head_to_head",
            "summarize",
        ),
    }
    assert [work.stage for work in expected] == names
    for few, many in zip(expected, most, strict=True):
        assert not many.most or (few.texts <= many.texts and few.written <= many.most), few
    held = forecast(params, {"M0": Model(1000, 2500)})["cached completions"]
    assert held == 4 * sum(work.texts * work.most for work in most)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-2-70b-hf", 70e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("Qwen/Qwen2.5-1.5B", 1.5e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("org/bert-base", None),
        ("org/3blue1brown", None),
    ],
)
def test_a_size_is_read_from_a_name(name, size):
    assert in_name(name) == size


def test_replay_is_a_part_of_dpo(space):
    params = load_params(space.path)
    replay = params.train_dpo.replay.model_copy(update={"eft": 2.0, "rows": 8})
    replaying = params.model_copy(update={"train_dpo": params.train_dpo.model_copy(update={"replay": replay})})
    plain, more = ([w for w in works(p, Facts()) if w.stage == "train_dpo@M2"] for p in (params, replaying))
    assert more[:-1] == plain
    assert (more[-1].role, more[-1].passes) == ("sft", params.train_dpo.epochs)
    assert more[-1].texts == more[0].texts / params.train_dpo.batch * 8
    machine, shape = speeds.Machine(None, 0, 1e9, "a CPU elsewhere", here=False), shape_like(1e9)
    adapted = replaying.train_dpo.model_copy(update={"adapter": Adapter(r=8, alpha=16)})
    whole, part = (
        cost(more[-1], replaying.model_copy(update={"train_dpo": p}), machine, shape, {})
        for p in (replaying.train_dpo, adapted)
    )
    assert part.flops == pytest.approx(2 / 3 * whole.flops), "DPO's adapter, not SFT's"


def test_a_choice_is_a_part_of_the_trainings_that_make_one(space):
    """32 + 48 rows of M1 in batches of 32: models of step 1 and 2, and the last; the oracle sees none of DPO."""
    params = load_params(space.path)
    choose = params.choose.model_copy(update={"every_steps": 1, "by": "model", "max_tokens": 40})
    changed = {"train_sft": params.train_sft.model_copy(update={"batch": 32, "repeat_ift": 1, "epochs": 1})}
    changed |= {"train_dpo": params.train_dpo.model_copy(update={"batch": 16, "epochs": 1})}
    counts = {"ift": 32, "ift_valid": 10, "eft_prompts": 12}
    changed |= {
        "split_seed": params.split_seed.model_copy(update=counts),
        "positive_only": {"M2P": PositiveOnly(aift="M1")},
    }
    facts = Facts(agreeing=1, pairs=1, candidate=30)

    def parts(by):
        asked = params.model_copy(update=changed | {"choose": choose.model_copy(update={"by": by})})
        return [w for w in works(asked, facts) if w.stage.startswith("train_") and w.role not in ("sft", "dpo")]

    answers, comparisons = (w for w in parts("model") if w.stage == "train_sft@M1")
    assert (answers.role, answers.model, answers.texts, answers.written, answers.most) == ("answers", "M1", 30, 30, 40)
    assert (comparisons.role, comparisons.model, comparisons.texts) == ("judgements", "M0", 2 * 2 * 10)
    assert comparisons.read == facts.template + facts.prompt + facts.markup + 2 * 30
    stages = [(w.stage, w.role) for w in parts("model")]
    assert stages == [
        (stage, role)
        for stage in ("train_sft@M1", "train_dpo@M2", "train_dpo@M3", "train_positive@M2P")
        for role in ("answers", "judgements")
    ], "the baseline's 32 rows are one step"
    assert {w.stage for w in parts("oracle")} == {"train_sft@M1", "train_positive@M2P"}
    assert {w.role for w in parts("oracle")} == {"answers"}
    assert parts(None) == []


def test_numbers_have_units():
    assert [si(v) for v in (0, 3, 999.6, 12_345, 1.5e6, 4.06e19)] == ["", "3 ", "1 k", "12.3 k", "1.5 M", "40.6 E"]
    assert [duration(v) for v in (None, 8.4, 119, 300, 9000, 2e5)] == ["–", "8 s", "119 s", "5.0 min", "2.5 h", "2.3 d"]


@pytest.mark.slow
def test_the_real_code_is_tried_where_nothing_is_known(tmp_path, capsys, monkeypatch):
    for name, few in (("STEPS", 2), ("PRETRAINED", 2), ("TEXTS", 16)):
        monkeypatch.setattr(speeds, name, few)
    content = planned(Workspace(tmp_path / "default", "tiny"), capsys)
    assert {stage["speed_from"] for stage in content["stages"] if stage["flops"]} == {"tried"}
    assert all(stage["seconds"] > 0 for stage in content["stages"])
    assert content["does_not_fit"] == []
    world = stages(content)["judge_seed", "judgements"]
    assert world["lengths_from"] == "people"
    assert 10 < world["tokens_out"] / world["texts"] < 60, "as its reviews are"
