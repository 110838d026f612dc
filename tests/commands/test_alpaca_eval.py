"""`srlm alpaca-eval`: the leaderboard's figures of published annotations, and nothing where annotations are missing."""

import csv
import gzip
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stages.commands import alpaca_eval
from stages.commands.cli import app
from stages.commands.records import read_records
from stages.console.errors import SrlmError
from stages.method.evaluation import alpaca_eval as rules
from stages.store import metrics
from tests.workspace import ROOT

EVAL = Path(__file__).parents[3] / "shared/eval"
ANNOTATIONS, INSTRUCTIONS = EVAL / "alpaca_eval2_annotations.jsonl.gz", EVAL / "alpaca_eval2_instructions.json.gz"
LEADERBOARD, DIFFICULTY = EVAL / "alpaca_eval2_leaderboard.csv", EVAL / "alpaca_eval2_difficulty.csv"
published = pytest.mark.skipif(not ANNOTATIONS.is_file(), reason="published annotations are not here")
MODELS = ("text_davinci_001", "alpaca-7b", "vicuna-13b", "gpt35_turbo_instruct", "claude-2")
INCOMPLETE = ("text_davinci_001", "gpt35_turbo_instruct")
TEXTS = [f"Say {word}." for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]


def row(i, preference=1.25, model="M3", **changed):
    return {
        "instruction": TEXTS[i],
        "output_1": "b" * (10 + i),
        "generator_1": "gpt4_1106_preview",
        "output_2": "m" * (20 - i),
        "generator_2": model,
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": preference,
        "dataset": "helpful_base",
        **changed,
    }


def srlm(*arguments):
    return CliRunner().invoke(app, ["alpaca-eval", *map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    """Writes annotations beside the eight instructions; returns the arguments of `score`."""
    (tmp_path / "instructions.json").write_text(json.dumps(TEXTS))

    def write(rows):
        (tmp_path / "annotations.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return tmp_path / "annotations.json", "--instructions", tmp_path / "instructions.json"

    return write


@published
@pytest.mark.parametrize("model", MODELS)
def test_published_annotations_give_the_figures_of_the_leaderboard(model):
    of_files = [ANNOTATIONS, "--model", model, "--weights", LEADERBOARD, "--difficulty", DIFFICULTY, "--json"]
    done = srlm("score", *of_files, *(["--incomplete"] if model in INCOMPLETE else []))
    result, expected = (
        json.loads(done.stdout),
        next(r for r in csv.DictReader(LEADERBOARD.open()) if r["model"] == model),
    )
    for figure in ("win_rate", "standard_error", "length_controlled_winrate"):
        assert math.isclose(result[figure], float(expected[figure]), abs_tol=1e-8), figure
    for count in ("n_wins", "n_wins_base", "n_draws", "n_total"):
        assert result[count] == int(expected[count]), count
    assert result["avg_length"] == int(expected["avg_length"])
    assert result["low"] < result["win_rate"] < result["high"]
    assert result["lc_low"] < result["length_controlled_winrate"] < result["lc_high"]
    assert result["complete"] == (model not in INCOMPLETE)


@published
def test_published_annotations_that_lack_rows_have_no_score_unless_asked_for():
    done = srlm("score", ANNOTATIONS, "--model", "text_davinci_001", "--json")
    assert done.exit_code == 1
    assert "2 of 805 instructions: 2 without an annotation" in done.stderr
    assert json.loads(done.stdout) | {"complete": False, "n_missing": 2} == json.loads(done.stdout)
    assert "win_rate" not in done.stdout


@published
def test_own_fits_say_which_they_are_and_are_never_called_length_controlled():
    with gzip.open(INSTRUCTIONS) as file:
        assert len(json.load(file)) == rules.SIZE
    noreg = json.loads(srlm("score", ANNOTATIONS, "--model", "claude-2", "--difficulty", DIFFICULTY, "--json").stdout)
    minimal = json.loads(srlm("score", ANNOTATIONS, "--model", "claude-2", "--json").stdout)
    assert (noreg["length_adjusted"]["variant"], minimal["length_adjusted"]["variant"]) == ("noreg", "minimal")
    for result in (noreg, minimal):
        assert not [name for name in result if name.startswith(("lc_", "length_controlled"))]
        assert (
            result["length_adjusted"]["low"] < result["length_adjusted"]["win_rate"] < result["length_adjusted"]["high"]
        )
    assert abs(noreg["length_adjusted"]["win_rate"] - 28.155) < 3, "near the published rate, as noreg is"
    shown = srlm("score", ANNOTATIONS, "--model", "claude-2")
    assert "length-adjusted win rate %, own fit minimal" in shown.stdout
    assert "length-controlled win" not in shown.stdout
    assert "so not the leaderboard's length-controlled rate" in shown.stderr


def test_the_rules_of_a_win_a_draw_and_the_standard_error():
    result = rules.win_rate(np.array([1.0, 2.0, 1.5, 1.5, 1.6, 1.2]))
    assert result["win_rate"] == pytest.approx(100 * (0 + 1 + 0.5 + 0.5 + 0.6 + 0.2) / 6)
    wins = [0, 1, 0.5, 0.5, 0.6, 0.2]
    mean = sum(wins) / 6
    assert result["standard_error"] == pytest.approx(100 * (sum((w - mean) ** 2 for w in wins) / 5) ** 0.5 / 6**0.5)
    assert (result["n_wins"], result["n_wins_base"], result["n_draws"]) == (2, 2, 2)
    assert result["discrete_win_rate"] == pytest.approx(100 * (0 + 1 + 0.5 + 0.5 + 1 + 0) / 6)


def test_a_fit_finds_the_weights_that_made_the_preferences_and_stays_finite_where_there_are_none():
    rng = np.random.default_rng(1)
    lengths, difficulty = rng.integers(1, 900, (400, 2)).astype(float), rng.normal(size=400)
    delta = lengths[:, 0] - lengths[:, 1]
    shares = 1 / (1 + np.exp(-(-0.8 - 1.5 * np.tanh(delta / delta.std(ddof=1)) + 0.7 * difficulty)))
    whole = rules.Annotations("M", None, None, None, 1 + shares, lengths, 400, 400)
    fit = rules.own_fit(whole, difficulty, n=20, seed=0)
    assert fit["weights"] == pytest.approx({"theta": -0.8, "phi": -1.5, "psi": 0.7}, abs=1e-4)
    assert fit["win_rate"] == pytest.approx(100 * np.mean(1 / (1 + np.exp(0.8 - 0.7 * difficulty))), abs=1e-3)
    alike = rules.own_fit(whole._replace(preferences=np.ones(400)), difficulty, n=20, seed=0)
    assert 0 <= alike["win_rate"] < 0.1


def test_every_instruction_once_is_a_score_whatever_the_order(files):
    rows = [row(i, preference) for i, preference in enumerate([1, 2, 0, 1.5, 1.2, 1.9, 1.4, 1.6])]
    done, mixed = (json.loads(srlm("score", *files(r), "--json").stdout) for r in (rows, rows[::-1]))
    assert done["win_rate"] == pytest.approx(100 * 4.1 / 8)
    assert (done["complete"], done["n_draws"], done["avg_length"]) == (True, 2, 16)
    assert mixed == done
    whole, part = (srlm("score", *files(r), "--incomplete").stdout for r in (rows, rows[:1]))
    assert "average length " in whole
    assert "0 where not judged" not in whole
    assert "average length, 0 where not judged" in part


BAD = {
    "null preferences": ([row(i, None if i < 2 else 1.5) for i in range(8)], "2 of 8 .*2 with a null preference"),
    "NaN": ([row(i, math.nan if i == 3 else 1.5) for i in range(8)], "NaN is no number in JSON. Write null"),
    "fewer": ([row(i) for i in range(6)], "2 of 8 instructions: 2 without an annotation"),
    "no preference": ([{k: v for k, v in row(i).items() if k != "preference"} for i in range(8)], "8 of 8"),
    "another baseline": (
        [row(i, generator_1="gpt4") for i in range(8)],
        "object 1: compared with 'gpt4', expected 'gpt4_1106_preview'",
    ),
    "swapped": (
        [row(i, model="gpt4_1106_preview", generator_1="M3") for i in range(8)],
        "compared with 'M3'.*it is the model here",
    ),
    "two baselines": (
        [row(i, generator_1=f"b{i // 7}") for i in range(8)],
        "object 8: baseline 'b1', and 'b0' in the first",
    ),
    "two annotators": ([row(i, annotator=f"a{i // 7}") for i in range(8)], "object 8: annotator 'a1'"),
    "another instruction": (
        [row(i) for i in range(7)] + [row(7, instruction="Say nine.")],
        "object 8: no such instruction: 'Say nine.'",
    ),
    "twice": ([row(i % 7) for i in range(8)], "object 8: the same instruction as .*object 1"),
    "a text": ([row(i, "2" if i == 4 else 1.0) for i in range(8)], "object 5: preference: .*saw '2'"),
    "true": ([row(i, i == 4 or 1.0) for i in range(8)], "object 5: preference: .*saw 'True'"),
    "out of range": ([row(i, 3.0) for i in range(8)], "object 1: preference: expected 1 .*saw 3"),
    "infinite": ([row(i, math.inf) for i in range(8)], "Infinity is no number"),
    "no model": ([{k: v for k, v in row(i).items() if k != "generator_2"} for i in range(8)], "object 1: generator_2"),
    "no rows": ([], "is empty"),
    "other rows": ([3, "x"], "object 1: expected an object, seen int"),
    "an object": ({"win_rate": 3}, "line 1: generator_2: Field required"),
    "no JSON": ("[{]", "not JSON"),
    "half a character": ('[{"generator_2": "\\ud800"}]', "object 1 holds half of a character"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "two models": (
        [row(i, model=f"M{i % 2}") for i in range(8)],
        "annotations of 2 models: 'M0', 'M1'. Say which with --model",
    ),
}


@pytest.mark.parametrize(("rows", "why"), BAD.values(), ids=BAD)
def test_what_is_no_score_is_named(files, rows, why):
    import re

    done = srlm("score", *files(rows))
    said = f"{done.stderr} {done.exception}".replace("\n", " ")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit | SrlmError), said
    assert re.search(why, said), said
    assert "win rate" not in done.stdout


def test_published_weights_are_of_one_baseline_and_one_annotator(files, tmp_path):
    (tmp_path / "weights.csv").write_text("model,theta,phi,psi\nM3,0.1,-1,0.5\nM4,0.1,nan,0.5\n")
    (tmp_path / "difficulty.csv").write_text("index,difficulty\n" + "".join(f"{i},0.1\n" for i in range(8)))
    whole = [row(i) for i in range(8)]
    by = ("--weights", tmp_path / "weights.csv", "--difficulty", tmp_path / "difficulty.csv")
    assert "line 3: phi: expected a number, saw 'nan'" in str(srlm("score", *files(whole), *by).exception)
    (tmp_path / "weights.csv").write_text("model,theta,phi,psi\nM3,0.1,-1,0.5\n")
    good = json.loads(srlm("score", *files(whole), *by, "--json").stdout)
    assert good["length_controlled_winrate"] == pytest.approx(100 / (1 + math.exp(-0.15)))
    for rows, options, why in (
        ([r | {"annotator": "mine"} for r in whole], by, "published weights are of annotator"),
        (
            [r | {"generator_1": "gpt4"} for r in whole],
            (*by, "--baseline", "gpt4"),
            "published weights are of rates against",
        ),
        ([r | {"generator_2": "M5"} for r in whole], by, "no weights of 'M5'"),
        (whole, by[:2], "--weights need --difficulty"),
    ):
        assert why in str(srlm("score", *files(rows), *options).exception)
    (tmp_path / "difficulty.csv").write_text("index,difficulty\n0,0.1\n0,0.2\n")
    assert "line 3: index 0, expected each of 0 to 7 once" in str(srlm("score", *files(whole), *by).exception)


def test_a_csv_of_annotations_says_the_same(files, tmp_path):
    rows = [row(i, preference=1 + i / 8) for i in range(7)] + [row(7, preference=None, output_2="1.5")]
    with (tmp_path / "annotations.csv").open("w", newline="") as file:
        csv.DictWriter(file, rows[0]).writeheader()
        csv.DictWriter(file, rows[0]).writerows(rows)
    _, *options = files(rows)
    of_json, of_csv = (
        srlm("score", tmp_path / f"annotations.{kind}", *options, "--incomplete", "--json") for kind in ("json", "csv")
    )
    assert json.loads(of_csv.stdout) == json.loads(of_json.stdout)
    (tmp_path / "annotations.csv").write_text("instruction,generator_2,preference\nSay one.,M3,much\n")
    said = str(srlm("score", tmp_path / "annotations.csv", *options).exception)
    assert "line 2: preference: Input should be a valid number, saw 'much'" in said


def test_annotations_of_other_outputs_are_named(files, tmp_path):
    whole = [row(i) for i in range(8)]
    outputs = [{"instruction": r["instruction"], "output": r["output_2"], "generator": "M3"} for r in whole]
    (tmp_path / "outputs.json").write_text(json.dumps(outputs))
    assert srlm("score", *files(whole), "--outputs", tmp_path / "outputs.json").exit_code == 0
    other = [row(i, output_2="another") if i == 5 else row(i) for i in range(8)]
    seen = str(srlm("score", *files(other), "--outputs", tmp_path / "outputs.json").exception)
    assert "object 6: its output_2 is not the output of" in seen
    (tmp_path / "outputs.json").write_text(json.dumps(outputs[:-1]))
    seen = str(srlm("score", *files(whole), "--outputs", tmp_path / "outputs.json").exception)
    assert "object 8: " in seen
    assert "has no output to 'Say eight.'" in seen


def compact(i, **changed):
    return {"model": "M3", "index": i, "preference": 1.25, "len_baseline": 10 + i, "len_model": 20 - i, **changed}


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        ([compact(i) | {"index": None} for i in range(8)], "object 1: neither instruction nor index"),
        ([compact(0), row(1, generator_1=None, annotator=None)], "object 1: an index alone, where others"),
        ([compact(0), compact(1, len_model=10**400)], "len_model"),
    ],
)
def test_a_row_that_does_not_tell_its_instruction_is_no_annotation(files, rows, seen):
    """805 of them would look complete."""
    assert seen in str(srlm("score", files(rows)[0]).exception)


def test_weights_of_a_model_come_once_and_may_be_0():
    weights = {"model": "M3", "theta": 0, "phi": 0.5, "psi": -1}
    assert rules.published_weights([("row 1", weights)])["M3"].theta == 0
    with pytest.raises(SrlmError, match=r"row 2: weights of 'M3' once more"):
        rules.published_weights([("row 1", weights), ("row 2", weights)])


VALUES = (
    None,
    "",
    "x",
    -1,
    0,
    1,
    1.5,
    2,
    3,
    10**400,
    1e308,
    -0.0,
    math.nan,
    math.inf,
    True,
    [],
    {},
    [1],
    "\u202e",
    "gpt4",
)


def mutated(rng: random.Random) -> str:
    made = rng.choice((row, row, compact))
    rows = [made(i, preference=rng.choice((1, 2, 1.5, 1.3))) for i in range(8)]
    for _ in range(rng.randint(1, 3)):
        at, kind = rng.randrange(len(rows)) if rows else 0, rng.randrange(6)
        if not rows or kind == 0:
            rows.insert(at, rng.choice(VALUES))
        elif kind == 1:
            del rows[at]
        elif kind == 2:
            rows.insert(at, rows[rng.randrange(len(rows))])
        elif isinstance(rows[at], dict) and rows[at]:
            key = rng.choice(list(rows[at]))
            rows[at] = {k: v for k, v in rows[at].items() if k != key or kind != 3}
            if kind > 3:
                rows[at][key] = rng.choice(VALUES)
    text = json.dumps(rows)
    if rng.random() < 0.3:
        cut = rng.randrange(len(text) + 1)
        text = text[:cut] + rng.choice(("", "\x00", "]", "}", '"', "\\u0000", "\n")) + text[cut + rng.randint(0, 2) :]
    return text


@pytest.mark.slow
def test_ten_thousand_mutations_are_scored_whole_or_named(tmp_path, monkeypatch):
    """A score only where every instruction has one preference in range; else a sentence, never another exception."""
    monkeypatch.setattr(alpaca_eval, "RESAMPLES", 10)
    rng, file, scored, named = random.Random(16), tmp_path / "annotations.json", 0, 0
    for _ in range(10_000):
        file.write_text(mutated(rng))
        try:
            annotations = rules.read(read_records(file), TEXTS)
        except SrlmError:
            named += 1
            continue
        if annotations.complete:
            values = [1.5 if r["preference"] == 0 else r["preference"] for r in json.loads(file.read_text())]
            assert rules.win_rate(annotations.preferences)["win_rate"] == pytest.approx(100 * (np.mean(values) - 1))
            scored += 1
        else:
            assert annotations.missing
            named += 1
    assert scored > 300
    assert named > 5000
    for _ in range(50):  # the whole command
        file.write_text(mutated(rng))
        done = srlm("score", file)
        assert done.exception is None or isinstance(done.exception, SrlmError | SystemExit)


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "stages/config/profiles/scripted.yaml", tmp_path / "params.yaml")
    for name in ("M1", "other"):
        (tmp_path / "data/models" / name).mkdir(parents=True)
        (tmp_path / "data/models" / name / "config.json").write_text(f'{{"name": "{name}"}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_export_has_a_row_of_each_instruction_and_is_cached(project):
    texts = [f"Name {n} fruits." for n in range(60)]
    (project / "i.jsonl").write_text("".join(json.dumps({"instruction": t, "dataset": "vicuna"}) + "\n" for t in texts))
    first = srlm("export", "M1", "--instructions", "i.jsonl", "--max-tokens", 30)
    rows = json.loads(Path("model_outputs.json").read_text())
    assert [r["instruction"] for r in rows] == texts
    assert {tuple(sorted(r)) for r in rows} == {("dataset", "datasplit", "generator", "instruction", "output")}
    assert {(r["generator"], r["dataset"], r["datasplit"]) for r in rows} == {("M1", "vicuna", "eval")}
    assert "60 answers; " in first.stderr
    assert "cut off at 30 tokens" in first.stderr
    assert "60 instructions, and AlpacaEval has 805" in first.stderr
    again = srlm("export", "M1", "--instructions", "i.jsonl", "--max-tokens", 30, "--out", "again.json")
    assert "60 cached" in again.stdout + again.stderr
    assert json.loads(Path("again.json").read_text()) == rows


def test_figures_of_a_model_of_the_store_are_metrics(project):
    Path("i.json").write_text(json.dumps(TEXTS))
    Path("a.json").write_text(json.dumps([row(i, 1 + i / 8, model="M1") for i in range(8)]))
    done = srlm("score", "a.json", "--instructions", "i.json")
    assert "data/metrics/alpaca_eval/M1.json" in done.stderr
    found = {r.metric: r for r in metrics.rows(project)}
    assert (found["win_rate"].kind, found["win_rate"].model, found["win_rate"].n) == ("alpaca_eval", "M1", 8)
    assert found["win_rate"].value == pytest.approx(43.75)
    assert {"n_draws", "avg_length", "length_adjusted_minimal"} <= {*found}
    Path("a.json").write_text(json.dumps([row(i, model="other2") for i in range(8)]))
    assert "data/metrics" not in srlm("score", "a.json", "--instructions", "i.json").stderr


def test_what_cannot_be_exported_is_named(project):
    def why(*arguments):
        done = srlm("export", *arguments)
        assert isinstance(done.exception, SrlmError), done.output
        return str(done.exception)

    Path("i.json").write_text('["a", "b", "a"]')
    assert "text 3: the same instruction as i.json, text 1" in why("M1", "--instructions", "i.json")
    Path("i.json").write_text('[{"prompt": "a"}]')
    assert "object 1: instruction: expected a text, saw 'None'" in why("M1", "--instructions", "i.json")
    Path("i.json").write_text('["a"]')
    assert "no model 'M9'" in why("M9", "--instructions", "i.json")
    assert "there are M1, other" in why("M9", "--instructions", "i.json")
    assert "lies in the store" in why("M1", "--instructions", "i.json", "--out", "data/x.json")
    assert "does not exist" in why("M1", "--instructions", "no.json")
    assert "cannot be had from the Hub" in why("M1")
    assert "no model 'M9'" in why("M9"), "before anything is fetched"
