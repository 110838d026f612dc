"""srlm preview: the stage itself on a few rows, which leaves nothing behind but cached completions, and the price of the
whole."""

import json
import re
import shutil

import polars as pl
import pytest

from stages.commands.preview import preview
from stages.commands.preview_judge import advice
from stages.commands.preview_price import price
from stages.commands.preview_records import percent, share, shares, show
from stages.commands.preview_space import Space
from stages.config.load import load_params
from stages.console.errors import ParamsError, SrlmError
from stages.console.terminal import Console
from stages.store import catalog
from stages.store.files import append_line, md5
from stages.store.run import LOG
from stages.store.tables import CANDIDATES, PROMPTS
from tests.workspace import Workspace


def files_of(root):
    """Every file but the cache's and git's placeholders, with its hash."""
    return {
        str(name): md5(file)
        for file in root.rglob("*")
        if file.is_file() and (name := file.relative_to(root)).parts[:2] != ("data", "cache")
    }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project in which nothing has run."""
    return Workspace(tmp_path_factory.mktemp("fresh")).path


@pytest.fixture(scope="module")
def without_aift(finished, tmp_path_factory):
    """A run whose models are there, but no completion and nothing of AIFT(M1)."""
    space = Workspace.copy(finished, tmp_path_factory.mktemp("few") / "run")
    for folder in ("data/cache", "data/AIFT/M1"):
        shutil.rmtree(space.path / folder)
    return space


def previewed(capfd, *arguments, **options):
    preview(*arguments, as_json=True, **options)
    return json.loads(capfd.readouterr().out)


@pytest.mark.slow
def test_the_run_takes_from_the_cache_what_a_preview_made_and_no_file_changed(finished, without_aift, capfd):
    root = without_aift.path
    files = files_of(root)
    content = previewed(capfd, "build_pairs", 4, root=root)
    assert files_of(root) == files
    assert content["stand_ins"] == {}
    assert content["model"] == "M1"
    assert len(content["records"]) == 4
    assert sum(content["fates"].values()) == 4 * 8
    paired = content["shares"]["paired"]
    assert (paired["n"], paired["low"] < paired["value"]) == (4, True)
    before = content["before"]
    assert [*before] == ["write_prompts@M1", "sample_candidates@M1", "judge_candidates@M1"]
    assert before["sample_candidates@M1"]["texts"] == 24 * 8
    assert {"chosen", "rejected"} <= set(content["fates"])

    texts = {c["candidate_id"]: c for record in content["records"] for c in record["candidates"]}
    for verb, table in (("write_prompts", PROMPTS), ("sample_candidates", CANDIDATES)):
        done = without_aift.run(f"stages.{verb}", "M1")
        assert done.returncode == 0, done.stderr
        cached = int(re.search(r"(\d+) cached", done.stdout)[1])
        assert cached == (4 * 8 if verb == "sample_candidates" else cached)
        assert cached >= 4
        assert catalog.read(table, root, "M1").equals(catalog.read(table, finished, "M1"))
    rows = catalog.read(CANDIDATES, root, "M1").filter(pl.col("candidate_id").is_in([*texts]))
    assert {row["candidate_id"]: row["response"] for row in rows.to_dicts()} == {
        i: c["response"] for i, c in texts.items()
    }


@pytest.mark.slow
def test_rows_that_are_there_are_taken_and_cached_texts_are_priced_as_planned(finished, tmp_path, capfd):
    root = Workspace.copy(finished, tmp_path / "run").path
    content = previewed(capfd, "judge_candidates@M2", 3, root=root)
    (first, *_) = catalog.read(PROMPTS, root, "M2").filter(pl.col("dropped").is_null())["prompt_id"]
    assert content["records"][0]["prompt_id"] == first
    assert content["price"]["cached"] == content["price"]["texts_here"] > 0
    assert "all texts here were cached" in content["price"]["basis"]


@pytest.mark.slow
def test_a_model_that_is_evaluated_answers_and_judges_a_few(without_aift, capfd):
    content = previewed(capfd, "evaluate@M2", 4, root=without_aift.path)
    assert content["fates"] == {"greedy": 4, "sampled": 4}
    whole = 2 * 20 + 80 * 3
    assert content["price"]["texts"] == whole
    assert 8 < content["price"]["texts_here"] < whole / 3
    assert [r for r in content["records"] if any(c.get("judgements") for c in r["candidates"])]


@pytest.mark.slow
def test_another_model_stands_in_for_one_that_is_not_trained_and_that_is_said(fresh, capfd):
    preview("sample_candidates@M2", 2, root=fresh)
    out = capfd.readouterr()
    assert "M2 is not trained yet: M0 stands in its place here" in out.err
    assert "srlm repro train_dpo@M2" in out.err
    assert "the whole of sample_candidates@M2: 256 texts" in out.out
    assert not list((fresh / "data").rglob("*.parquet"))


@pytest.mark.slow
def test_a_preview_of_the_judge_judges_ranked_answers_and_tells_whether_it_can(tmp_path, capfd):
    space = Workspace(tmp_path, profile="scripted")
    preview("judge_seed", 12, root=tmp_path)
    out = capfd.readouterr()
    assert "M0 judges 8 ranked answers" in out.err
    assert re.search(r"readable: \d+% of 12 judgements \(95 %: \d+ to \d+\)", out.out)
    assert "chance: 50%" in out.out
    assert "people's rank" in out.out
    files = [f for f in (tmp_path / "data").rglob("*") if f.is_file() and not f.name.startswith(".git")]
    assert {f.relative_to(tmp_path).parts[:2] for f in files} <= {("data", "cache")}
    assert not (space.path / "dvc.lock").exists()


@pytest.mark.slow
def test_the_judge_that_params_name_is_previewed_and_what_it_judged_becomes_eft(tmp_path, capfd):
    judge = {"judge_seed.source": "judge", "judge_seed.judge": "J", "judge_seed.path": "data/models/J"}
    random = {"base.J": {"source": "random", "path": "stages/models/checkpoint.py"}}
    Workspace(tmp_path, profile="scripted", **random, **judge, **{"judge_seed.answers_per_prompt": 2})
    content = previewed(capfd, "build_eft", 8, root=tmp_path)
    assert {each["judge"] for r in content["records"] for c in r["candidates"] for each in c["judgements"]} == {"J"}
    assert set(content["fates"]) == {"kept", "left out"}
    assert content["price"]["texts"] == 0


def test_where_no_model_judges_there_is_nothing_to_preview(tmp_path):
    ranks = {"judge_seed.source": "ranks", "judge_seed.path": "stages/templates/judge_by_rank.jinja"}
    Workspace(tmp_path, **ranks)
    with pytest.raises(SrlmError, match=r"no model judges where judge_seed\.source is ranks"):
        preview("judge_seed", 8, root=tmp_path)


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("train_dpo@M2", SrlmError, r"train_dpo trains a model.*srlm plan"),
        ("sample_candidate", SrlmError, r"did you mean sample_candidates\?"),
        ("summarize", SrlmError, r"summarize has no preview; there are previews of judge_seed"),
        ("sample_candidates@M7", ParamsError, r"aift in params.yaml has no entry 'M7'"),
        ("judge_seed@M1", SrlmError, r"srlm preview judge_seed$"),
        ("build_judge_pairs@M1", SrlmError, r"judge_pairs.source is null"),
    ],
)
def test_what_has_no_preview_is_told(fresh, target, error, said):
    with pytest.raises(error, match=said):
        preview(target, 10, root=fresh)


def test_a_model_whose_pretraining_would_be_thrown_away_is_to_be_made_first(tmp_path):
    params = load_params(Workspace(tmp_path, profile="tiny").path)
    (tmp_path / "sandbox/data/models").mkdir(parents=True)
    with pytest.raises(SrlmError, match="First: srlm repro get_model@M0"):
        Space(tmp_path / "sandbox", tmp_path, params, 10).place("M1")


def test_the_price_is_that_of_the_few_times_as_many(tmp_path):
    """Two prompts of 24, 16 texts: 12 times as much as the ten texts that were new took for each."""
    paid = {"usd_per_million_prompt_tokens": 2.0, "usd_per_million_completion_tokens": 10.0}
    server = {"external.J": {"source": "server", "repo": "j", "revision": None}, "engine.name": "openai"}
    server |= {f"hardware.server.{key}": value for key, value in paid.items()}
    params = load_params(Workspace(tmp_path, **server).path)
    params.aift["M1"].__dict__["writer"] = "J"
    few = Space(tmp_path / "few", tmp_path, params, 2)
    shutil.copytree(tmp_path / "stages", few.path / "stages", dirs_exist_ok=True)
    shutil.copy(tmp_path / "params.yaml", few.path)
    rows = [(str(i), "M1", f"prompt {i}", "J", [], None if i % 2 else "repeat") for i in range(8)]
    few.write(PROMPTS, pl.DataFrame(rows, schema=PROMPTS.schema, orient="row"), "M1")
    spent = {"texts": 4, "tokens_read": 400, "tokens_written": 40, "compute_s": 2.0, "seconds": 5.0}
    append_line(few.path / LOG, {"stage": "write_prompts@M1", "outcome": "done", **spent})
    of = price(few, "write_prompts", "M1", {})
    # half pass: 24 prompts are 48 requests, in three rounds of 16
    assert of["texts"] == 48
    assert (of["texts_here"], of["cached"]) == (8, 4)
    assert (of["tokens_in"], of["tokens_out"]) == (4800, 480)
    assert of["seconds"] == 3.0 + 12 * 2.0
    assert of["usd"] == round((4800 * 2 + 480 * 10) / 1e6, 4)


def test_few_prompts_have_a_wide_interval():
    records = [{"prompt_id": str(i), "prompt": "p", "dropped": "repeat" if i > 9 else None} for i in range(13)]
    accepted = shares(records, "write_prompts")["accepted"]
    assert percent(accepted, "prompts") == "77% of 13 prompts (95 %: 50 to 92)"
    assert share([]) == {"value": None, "low": None, "high": None, "n": 0}
    assert percent(share([True] * 10), "prompts") == "100% of 10 prompts (95 %: 72 to 100)"


def test_no_text_of_a_model_is_obeyed_by_the_terminal(capsys):
    hostile = "\x1b[2J[red]x[/red] \u202e"
    judgement = {"score": None, "text": hostile}
    candidate = {"response": hostile, "fate": "chosen", "score": 4.0, "judgements": [judgement]}
    show([{"prompt": hostile, "prompt_id": "p", "candidates": [candidate]}], Console(width=200))
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "\u202e" not in out
    assert out.count("\\x1b[2J[red]x[/red]") == 3


@pytest.mark.parametrize(
    ("scores", "reasons", "value", "said"),
    [
        ([4.0] * 8, ["stop"] * 8, 0.9, ["this model can judge"]),
        (
            [4.0] * 8,
            ["stop"] * 8,
            0.6,
            ["4 pairs are too few to tell its agreement from chance: more of them by -n 24"],
        ),
        ([None] * 8, ["stop"] * 8, None, ["8 of 8 judgements have no score line"]),
        ([None] * 4 + [3.0] * 4, ["length"] * 4 + ["stop"] * 4, 0.9, ["no score line", "4 were cut off"]),
        ([4.0, 3.0], ["stop"] * 2, 0.5, ["hardly agree"]),
    ],
)
def test_what_to_change_follows_from_the_counts(tmp_path, scores, reasons, value, said):
    params = load_params(Workspace(tmp_path).path)
    judgements = pl.DataFrame(
        {"score": scores, "finish_reason": reasons}, schema={"score": pl.Float64, "finish_reason": pl.String}
    )
    lines = advice(judgements, {"value": value, "low": value and value - 0.3, "n": 0 if value is None else 4}, params)
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))
