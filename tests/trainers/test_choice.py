"""Of the models on the way of a training the best is taken; IFT_VALID's loss is measured beside it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch

from stages.config.shared import Adapter
from stages.console.errors import EngineError, TrainingError
from stages.engines.open import ask
from stages.method.evaluation.choice import best_of, chooser
from stages.store.run import Run
from stages.trainers.dpo import train_dpo
from stages.trainers.figures import figures
from stages.trainers.resume import Checkpoints
from stages.trainers.run import new_model
from stages.trainers.sft import train_sft
from stages.trainers.validation import Validation, candidates
from tests.trainers.test_resume import CPU, DPO, PAIRS, PARAMS, ROWS, SFT, killed

VALID = ROWS.head(4).with_columns(ift_id="id", response=pl.lit("pear cat."))
KINDS = {"sft": (train_sft, SFT, ROWS), "dpo": (train_dpo, DPO, PAIRS)}


def run(kind: str, model: Path, out: Path, folder: Path | None, *, every: int | None = 2, **changed):
    verb, params, rows = KINDS[kind]
    out.mkdir(exist_ok=True)
    validation = every and Validation(VALID, every, keep=True)
    how = {"seed": 1, "hardware": CPU, "label": "M", "checkpoints": folder and Checkpoints(folder, 0, {"parent": "p"})}
    return verb(model, out, rows, params.model_copy(update=changed), validation=validation or None, **how)


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_watching_moves_no_weight_and_killed_keeps_the_same_models(kind, base_model, tmp_path, monkeypatch):
    """9 steps, with dropout: models of steps 2 to 8, and the last."""
    plain = run(kind, base_model, tmp_path / "plain", None, every=None)
    watched = run(kind, base_model, tmp_path / "whole", tmp_path / "kept")
    assert files(tmp_path / "whole") == files(tmp_path / "plain")
    assert watched.log.drop("valid_loss").equals(plain.log)
    assert [step for step, loss in watched.log.select("step", "valid_loss").iter_rows() if loss] == [2, 4, 6, 8, 9]

    killed(monkeypatch, 6, lambda: run(kind, base_model, tmp_path / "a", tmp_path / "again"))
    stray = tmp_path / "again" / "candidates" / "step-8"
    stray.mkdir()
    trained = run(kind, base_model, tmp_path / "b", tmp_path / "again")
    assert trained.figures["continued_at"] == 5
    assert trained.log.equals(watched.log)
    there, before = candidates(tmp_path / "again"), candidates(tmp_path / "kept")
    assert sorted(there) == sorted(before) == [2, 4, 6, 8]
    assert all(files(there[step]) == files(before[step]) for step in there)
    assert {*files(there[2])} == {*files(tmp_path / "whole")}


def test_the_loss_is_per_response_token(base_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained = run("sft", base_model, tmp_path / "out", None, every=100, dropout=0.0)
    model, tokenizer = (of.from_pretrained(tmp_path / "out") for of in (AutoModelForCausalLM, AutoTokenizer))
    total, tokens = 0.0, 0
    for instruction, response in VALID.select("instruction", "response").iter_rows():
        turns = [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}]
        ask = {"tokenize": True, "return_dict": False}
        prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, **ask)
        ids = torch.tensor([tokenizer.apply_chat_template(turns, **ask)])
        end = ids[0].tolist().index(tokenizer.eos_token_id, len(prompt)) + 1
        logps = model(ids).logits[0].log_softmax(-1)
        total -= sum(logps[at - 1, ids[0, at]].item() for at in range(len(prompt), end))
        tokens += end - len(prompt)
    assert trained.log["valid_loss"][-1] == pytest.approx(total / tokens, rel=1e-4)


def test_a_model_that_was_kept_and_is_gone_is_missed(base_model, tmp_path, monkeypatch):
    killed(monkeypatch, 6, lambda: run("sft", base_model, tmp_path / "a", tmp_path / "M"))
    candidates(tmp_path / "M")[2].rename(tmp_path / "away")
    with pytest.raises(TrainingError, match=r"step 2 is gone .* srlm cache --prune --model M"):
        run("sft", base_model, tmp_path / "b", tmp_path / "M")


def test_models_of_another_run_are_never_candidates(base_model, tmp_path, monkeypatch):
    """Its checkpoint was of step 3, and another run, killed before its own, kept another model of step 2."""
    run("sft", base_model, tmp_path / "whole", tmp_path / "kept")
    killed(monkeypatch, 4, lambda: run("sft", base_model, tmp_path / "a", tmp_path / "M"))
    other = {
        "checkpoints": Checkpoints(tmp_path / "M", None, {"parent": "q"}),
        "validation": Validation(VALID, 2, True),
    }
    how = {"seed": 1, "hardware": CPU, "label": "M"} | other
    killed(monkeypatch, 4, lambda: train_sft(base_model, tmp_path / "b", ROWS[:9], SFT, **how))
    run("sft", base_model, tmp_path / "c", tmp_path / "M")
    assert files(candidates(tmp_path / "M")[2]) == files(candidates(tmp_path / "kept")[2])


def test_an_adapter_is_chosen_with_its_base(base_model, tmp_path):
    adapter = Adapter(r=2, alpha=4, save="keep")
    run("sft", base_model, tmp_path / "out", tmp_path / "M", every=4, adapter=adapter)
    for folder in candidates(tmp_path / "M").values():
        assert {*files(folder)} == {*files(tmp_path / "out")}
        assert files(folder)["model.safetensors"] == files(tmp_path / "out")["model.safetensors"]


# --- The rule ---


def verdicts(outcomes: str) -> pl.DataFrame:
    names = {"w": "win", "t": "tie", "l": "lose", "?": None}
    return pl.DataFrame({"verdict": [names[letter] for letter in outcomes]}, schema={"verdict": pl.String})


@pytest.mark.parametrize(
    ("matches", "best"),
    [
        ({(4, 2): "wwl", (6, 4): "wlt"}, 4),  # as many losses as wins: the earlier stays
        ({(4, 2): "ttt", (6, 2): "w??"}, 6),  # against the best so far, not the one before
        ({(4, 2): "lll", (6, 2): "wll"}, 2),
        ({(4, 2): "???", (6, 2): "tt?"}, 2),
    ],
)
def test_a_later_model_must_win_more_than_it_loses(matches, best):
    steps = {step: Path(str(step)) for step in (6, 2, 4)}
    written = lambda folder: pl.DataFrame({"step": [int(folder.name)]})
    step, told = best_of(steps, written, lambda a, b: verdicts(matches[a["step"][0], b["step"][0]]))
    assert step == best
    assert [(one["step"], one["against"]) for one in told] == [*matches]
    assert [sum(one[o] for o in ("win", "tie", "lose", "unreadable")) for one in told] == [3, 3]


def test_the_figures_are_of_the_last_tenth_and_of_the_model_that_was_saved():
    steps = range(1, 26)
    log = pl.DataFrame({"step": steps, "loss": [1 / step for step in steps], "tokens": [10.0 * n for n in steps]})
    log = log.with_columns(margin=pl.col("step") / 2, accuracy=0.5)
    last = {"final_loss": round((1 / 24 + 1 / 25) / 2, 6), "reward_margin": 12.25, "reward_accuracy": 0.5}
    whole = {"steps": 25, "tokens": 250, "first_loss": 1.0, **last}
    none = {"valid_loss": None, "chosen_step": None, "matches_won": None}
    assert figures(log, None) == whole | none
    losses = {10: 0.4, 20: 0.3, 25: 0.6}
    log = log.with_columns(valid_loss=pl.col("step").replace_strict(losses, default=None))
    assert figures(log, None) == whole | none | {"valid_loss": 0.6}
    matches = [{"step": 20, "against": 10, "win": 3, "lose": 2}, {"step": 25, "against": 20, "win": 1, "lose": 4}]
    watched = {"valid_loss": 0.3, "chosen_step": 20, "matches_won": 2}
    assert figures(log, {"step": 20, "matches": matches}) == whole | watched
    even = [matches[0] | {"lose": 3}, {"step": 25, "against": 10, "win": 2, "lose": 2}]
    assert figures(log, {"step": 10, "matches": even})["matches_won"] == 0, "it stays where no later one wins more"
    assert (
        figures(log.head(3).drop("margin"), None).keys()
        == whole.keys() - {"reward_margin", "reward_accuracy"} | none.keys()
    )


# --- A whole choice ---


def as_stage(root: Path, model: Path, check, look, **changed):
    """SFT of M1 from `model` in a store at `root`, chosen by `check`; `look` is given what chooses, and chooses."""
    (root / "data/models").mkdir(parents=True)
    (root / "data/models/M0").symlink_to(model)
    choose = PARAMS.choose.model_copy(update={"every_steps": 6, "by": "oracle", "max_tokens": 8})
    update = {"choose": choose, "train_sft": SFT.model_copy(update=changed), "hardware": CPU}
    params = PARAMS.model_copy(update=update)
    with Run("train_sft", root, "M1") as stage:
        best = chooser(choose, "M1", VALID, partial(ask, params, stage), lambda name: "", check)
        new_model(stage, train_sft, "M1", "M0", ROWS, params, "IFT", VALID, partial(look, best))
    return stage


def test_the_early_model_is_chosen_where_the_late_one_is_worse(base_model, tmp_path):
    """The rate rises until the model unlearns what it had learnt: to say cat."""
    seen = {}

    def look(best, steps):
        seen.update({step: files(folder) for step, folder in steps.items()})
        return best(steps)

    def check(prompt, answer):
        return float("cat" in answer), []

    late = {"lr": 0.1, "lr_end": 0.1, "epochs": 5, "warmup_steps": 9}
    stage = as_stage(tmp_path, base_model, check, look, **late)
    how = json.loads((tmp_path / "data/models/M1/lineage.json").read_text())
    assert how["chosen"]["judge"] == "oracle"
    assert how["chosen"]["of"] == [6, 12, 15]
    best = how["chosen"]["step"]
    assert best < 15
    model = files(tmp_path / "data/models/M1")
    assert model.pop("lineage.json")
    assert model == seen[best]
    assert len({step["model.safetensors"] for step in seen.values()}) == len(seen)
    assert not (tmp_path / "data/cache/training/M1").exists()
    assert {name.split("/")[1] for name in stage.inputs} == {"models"}
    plot = pl.read_csv(tmp_path / "data/plots/train_M1.csv")
    measured = plot.drop_nulls("valid_loss").select("step", "valid_loss").rows()
    assert {str(step): loss for step, loss in measured} == how["valid_loss"]
    assert [step for step, _ in measured] == how["chosen"]["of"]
    metrics = json.loads((tmp_path / "data/metrics/train/M1.json").read_text())
    assert (metrics["steps"], metrics["rows"], metrics["chosen_step"]) == (15, len(ROWS), best)
    assert metrics["valid_loss"] == round(dict(measured)[best], 6), "of the model that was saved"
    assert metrics["left_out"] == {"too_long": 0, "same_tokens": 0}


def test_who_tells_no_two_apart_is_told(base_model, tmp_path, capsys):
    """Else the least trained model would be taken without a word."""
    as_stage(tmp_path, base_model, lambda prompt, answer: (1.0, []), lambda best, steps: best(steps), epochs=3)
    said = " ".join(capsys.readouterr().err.split())
    assert "M1: oracle preferred no model on the way to another" in said
    assert "the earliest, of step 6, is taken" in said


def test_a_judge_is_asked_in_both_orders_and_must_be_readable():
    """It prefers what is longer, wherever it stands; then what stands first; then says nothing."""

    def asked(verdict, prompts, model, *, max_tokens, folder=None):
        answers = prompts["prompt"].str.extract_all(r"<\w+>").to_list()
        texts = [folder.name] * len(prompts) if folder else [verdict(*both) for both in answers]
        assert model == ("M1" if folder else "J")
        return prompts.with_columns(n=0, text=pl.Series(texts), finish_reason=pl.lit("stop"), tokens=1)

    choose = PARAMS.choose.model_copy(update={"every_steps": 3, "by": "model", "judge": "J"})

    def chosen(verdict):
        choice = chooser(
            choose,
            "M1",
            VALID,
            partial(asked, verdict),
            lambda name: "{{ prompt }} <{{ answer_a }}> or <{{ answer_b }}>?",
        )
        return choice({3: Path("long"), 6: Path("longer"), 9: Path("longest"), 12: Path("short")})

    step, how = chosen(lambda a, b: "[[A]]" if len(a) > len(b) else "[[B]]")
    assert step == 9
    assert [(m["win"], m["tie"], m["lose"]) for m in how["matches"]] == [(4, 0, 0), (4, 0, 0), (0, 0, 4)]
    step, how = chosen(lambda a, b: "[[A]]")
    assert (step, how["judge"], how["matches"][0]["tie"]) == (3, "J", 4)
    assert best_of({9: Path("last")}, pytest.fail, pytest.fail) == (9, [])
    with pytest.raises(EngineError, match="none of 12 comparisons by J could be read"):
        chosen(lambda a, b: "both are good")


def test_nobody_chooses_without_rows_or_a_judge_or_the_oracle_where_it_cannot_be_seen():
    choose = PARAMS.choose.model_copy(update={"by": "oracle"})
    rest = ("M1", VALID, asks_nothing := lambda *args: None, asks_nothing)
    assert chooser(choose, *rest) is None
    assert chooser(choose, *rest, check=lambda prompt, answer: None) is not None
    assert chooser(choose, "M1", None, asks_nothing, asks_nothing, lambda prompt, answer: None) is None
    assert chooser(choose.model_copy(update={"by": None}), *rest, lambda prompt, answer: None) is None
