"""srlm judgebench and srlm rewardbench: whole commands with the scripted engine, and damaged files."""

import gzip
import json
import random

import pytest
from typer.testing import CliRunner

from stages.commands import judgebench, rewardbench
from stages.commands.cli import app
from stages.console.errors import ModelError, ParamsError, SeedDataError
from stages.method.evaluation import judge_bench, reward_bench
from stages.store import database
from stages.store.rows import rows_of
from tests.workspace import Workspace

PAIRS = [
    {"pair_id": f"p{n}", "source": source, "question": f"What is {n} + {n}?", "response_A": f"{2 * n}"}
    | {"response_B": f"{2 * n + 1}", "label": "A>B", "original_id": n, "response_model": "x"}
    for n, source in enumerate(["mmlu-pro-law", "livebench-math", "livecodebench"] * 10)
]
PROMPTS = [
    {"id": f"{kind}{n}", "subset": subset, "prompt": f"{subset} {n}?", "chosen": [f"right {i}" for i in range(right)]}
    | {"rejected": ["wrong 0", "wrong 1", "wrong 2"], "num_correct": right}
    for subset, kind, right in (("Math", "", 1), ("Ties", "ref:", 1), ("Ties", "tied:", 3))
    for n in range(20)
]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def space(tmp_path, monkeypatch):
    Workspace(tmp_path)
    model = tmp_path / "data/models/M1"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (tmp_path / "pairs.jsonl").write_bytes(lines(PAIRS))
    (tmp_path / "prompts.jsonl").write_bytes(lines(PROMPTS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def srlm(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_judgebench_writes_what_it_can_read_again(space):
    content = srlm("judgebench", "M1", "--pairs", "pairs.jsonl")
    for way in ("pointwise", "pairwise"):
        assert content[way]["all"]["accuracy"]["n"] == 30
        assert {"knowledge", "math", "coding", "mmlu-pro-law"} <= content[way].keys()
        again = srlm("judgebench", "score", f"data/EVAL/judgebench/M1.{way}.jsonl", "--pairs", "pairs.jsonl")
        values = [{s: f["accuracy"]["value"] for s, f in of.items()} for of in (content[way], again[f"M1 {way}"])]
        assert values[0] == values[1]
    row = json.loads((space / "data/EVAL/judgebench/M1.pointwise.jsonl").read_text().splitlines()[0])
    assert len(row["judgments"][0]["A"]) == 3  # K judgements of the first answer, with their texts
    assert row["judgments"][0]["A"][0]["judgment"]
    with database.connect(space) as store:
        value = store.rows("SELECT value FROM metrics WHERE metric = 'pairwise.all.accuracy'")
    assert next(iter(value))["value"] == pytest.approx(content["pairwise"]["all"]["accuracy"]["value"])


def test_rewardbench_writes_what_it_can_read_again(space):
    content = srlm("rewardbench", "M1", "--prompts", "prompts.jsonl")
    again = srlm("rewardbench", "score", "data/EVAL/rewardbench/M1.jsonl")
    for subset in ("all", "Math", "Ties"):
        assert again["subsets"][subset]["score"]["value"] == content["subsets"][subset]["score"]["value"]
    assert json.loads((space / "data/metrics/rewardbench/M1.json").read_text())["inputs"].keys() == {
        "data/models/M1",
        "stages/templates/judge.jinja",
    }


def test_a_second_time_nothing_is_judged_again(space, capsys):
    for _ in range(2):
        rewardbench.judge("M1", "prompts.jsonl", split="test", first=None, as_json=False)
    assert "cached (100%)" in capsys.readouterr().err


def test_to_try_leaves_nothing(space, capsys):
    judgebench.judge("M1", "pairs.jsonl", split="gpt", by="pointwise", first=2, as_json=False)
    assert "all" in capsys.readouterr().out
    assert not (space / "data/EVAL").exists()
    assert not (space / "data/metrics/judgebench").exists()


def test_no_such_judge(space, monkeypatch):
    monkeypatch.setattr("stages.commands.benchmarks._commit", lambda *_: pytest.fail("asked the Hub first"))
    with pytest.raises(ModelError, match="M0 holds no model"):
        judgebench.judge("M0", "hub", split="gpt", by="both", first=None, as_json=False)
    with pytest.raises(ModelError, match="no model 'M7'"):
        rewardbench.judge("M7", "hub", split="test", first=None, as_json=False)
    with pytest.raises(ModelError, match="no model 'M7'"):
        rewardbench.judge("M7", "prompts.jsonl", split="test", first=None, as_json=False)
    with pytest.raises(ParamsError, match="is no name of a model"):
        rewardbench.judge("../M1", "prompts.jsonl", split="test", first=None, as_json=False)


def test_no_such_file(space):
    with pytest.raises(SeedDataError, match=r"file nowhere.jsonl does not exist. Name a file .* or hub for Scaler"):
        judgebench.judge("M1", "nowhere.jsonl", split="gpt", by="both", first=None, as_json=False)


DECISIONS = [{"judge": "x", "pair_id": f"p{n}", "label": "A>B", "decisions": ["A>B", None]} for n in range(5)]
RATINGS = [{"id": f"tied:{n}", "subset": "Ties", "num_correct": 2, "scores": [3, 4.5, None]} for n in range(5)]
FILES = {
    "pairs": (judge_bench.pairs, lines(PAIRS[:4])),
    "decisions": (judge_bench.decisions, lines(DECISIONS)),
    "prompts": (reward_bench.prompts, lines(PROMPTS[18:22])),
    "ratings": (reward_bench.ratings, lines(RATINGS)),
}
PIECES = (
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b"\xff",
    b"\0",
    b"\n",
    b"true",
    b"9" * 400,
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 5, 40)))
        data = data[:start] + rng.choice((b"", bytes([rng.randrange(256)]), rng.choice(PIECES), data[:9])) + data[end:]
    return gzip.compress(data)[: rng.choice((None, -3))] if rng.random() < 0.02 else data


@pytest.mark.parametrize("name", FILES)
def test_2500_mutations_each_are_read_or_named(name):
    """10,000 in all: no other error than a sentence that says where."""
    read, data = FILES[name]
    rng, refused = random.Random(name), list[str]()
    for _ in range(2500):
        try:
            table = read(rows_of(mutated(data, rng), "f.jsonl", ".jsonl", what="file"), "f.jsonl")
        except SeedDataError as e:
            refused.append(str(e))
        else:
            figures = {"decisions": judge_bench.figures, "ratings": reward_bench.figures}.get(name)
            if figures and rng.random() < 0.1:
                figures(table, n=2)
    assert len(refused) > 500
    whole_file = ("cannot be read", "empty", "UTF-16")
    assert not [e for e in refused if "f.jsonl, line" not in e and not any(words in e for words in whole_file)]
