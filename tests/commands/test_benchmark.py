"""`srlm benchmark`: answers as the benchmarks' own scripts take them, figures as their own scripts give them."""

import json
import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages.commands.benchmark import markdown
from stages.commands.cli import app
from stages.console.errors import SrlmError
from stages.constraints import ifeval
from stages.method.evaluation import arena_hard, mt_bench
from tests.workspace import ROOT

ARENA = [
    {"uid": f"q{i}", "category": "hard_prompt" if i % 3 else "creative_writing", "prompt": f"Do {i}."} for i in range(9)
]
MT = [
    {"question_id": 81 + 10 * i, "category": c, "turns": [f"Write {c}.", "Shorter."]}
    for i, c in enumerate(mt_bench.CATEGORIES)
]
IFEVAL = [
    {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "key": 2,
        "prompt": "Say cat, then: The end.",
        "instruction_id_list": ["startend:end_checker", "keywords:existence"],
        "kwargs": [{"end_phrase": "The end."}, {"keywords": ["cat"]}],
    },
]


def srlm(*arguments):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def lines(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "stages/config/profiles/scripted.yaml", tmp_path / "params.yaml")
    (tmp_path / "data/models/M1").mkdir(parents=True)
    (tmp_path / "data/models/M1/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_arena_hard_takes_what_is_exported(project):
    assert srlm("export", "arena-hard", "M1", "--questions", lines("q.jsonl", ARENA)).exit_code == 0
    rows = [json.loads(line) for line in Path("M1.jsonl").read_text().splitlines()]
    assert [row["uid"] for row in rows] == [q["uid"] for q in ARENA]
    assert {tuple(row) for row in rows} == {("uid", "ans_id", "model", "messages", "tstamp", "metadata")}
    user, assistant = rows[0]["messages"]
    assert (user, assistant["role"]) == ({"role": "user", "content": "Do 0."}, "assistant")
    assert assistant["content"]["answer"]
    assert set(rows[0]["metadata"]) == {"token_len", "header_count", "list_count", "bold_count"}


def test_markdown_is_counted_outside_of_code():
    counts = markdown("# A\n## B\n- one\n* two\n1. three\n**bold** __b__\n```\n# code\n- code\n```\n")
    assert counts["header_count"] == {"h1": 1, "h2": 1, "h3": 0, "h4": 0, "h5": 0, "h6": 0}
    assert counts["list_count"] == {"ordered": 1, "unordered": 2}
    assert counts["bold_count"] == {"**": 1, "__": 1}


def test_the_second_turn_of_mt_bench_is_asked_behind_the_answer_to_the_first(project, monkeypatch):
    from stages.commands import answering

    asked, real = [], answering.open_engine

    def seen(*args, **kwargs):
        engine = real(*args, **kwargs)
        generate = engine.generate

        def record(requests, sampling):
            asked.extend((request.id, request.prompt, sampling.temperature) for request in requests)
            return generate(requests, sampling)

        engine.generate = record
        return engine

    monkeypatch.setattr(answering, "open_engine", seen)
    done = srlm("export", "mt-bench", "M1", "--questions", lines("q.jsonl", MT), "--out", "a.jsonl")
    assert done.exit_code == 0, done.exception
    rows = {row["question_id"]: row for row in map(json.loads, Path("a.jsonl").read_text().splitlines())}
    assert sorted(rows) == [q["question_id"] for q in MT]
    for question, prompt, temperature in ((int(i.split("-")[2]), p, t) for i, p, t in asked if i.endswith("-2")):
        row = rows[question]
        assert set(row) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
        (choice,) = row["choices"]
        assert [m["role"] for m in prompt] == ["user", "assistant", "user"]
        assert prompt[1]["content"] == choice["turns"][0]
        assert (prompt[2]["content"], len(choice["turns"])) == ("Shorter.", 2)
        assert temperature == mt_bench.TEMPERATURES[mt_bench.QUESTIONS[question]]
    assert "16 answers" in done.stderr


def game(verdict):
    return {"score": verdict, "judgment": {"answer": "x"}}


def judgement(i, as_b, as_a, **changed):
    question = ARENA[i]
    return {
        "uid": question["uid"],
        "category": question["category"],
        "judge": "gpt-4.1",
        "model": "M1",
        "baseline": arena_hard.BASELINES[question["category"]],
        "games": [as_b and game(as_b), as_a and game(as_a)],
    } | changed


def test_verdicts_of_both_orders_are_battles_and_strong_ones_are_three(project):
    rows = [judgement(i, "A=B", "A=B") for i in range(9)]
    rows[1] = judgement(1, "B>>A", "A>B")  # the model is B, then A: won thrice, and once
    rows[2] = judgement(2, "A>>B", "B>A")  # lost thrice, and once
    rows[4] = judgement(4, "A>B", "A>>B")  # lost once, won thrice
    rows[5] = judgement(5, None, "A>B")
    rows[7] = judgement(7, "A><B", "A>B")
    done = srlm("score", "arena-hard", lines("j.jsonl", rows), "--questions", lines("q.jsonl", ARENA), "--json")
    result = json.loads(done.stdout)["M1"]
    assert result["hard_prompt"]["value"] == pytest.approx((4 + 0 + 3 + 1) / (4 + 4 + 4 + 2), abs=1e-6)
    assert (result["hard_prompt"]["n"], result["unreadable"], result["complete"]) == (4, 2, True)
    assert result["creative_writing"]["value"] == 0.5
    few = srlm("score", "arena-hard", lines("j.jsonl", rows[:7]), "--questions", "q.jsonl", "--json")
    assert few.exit_code == 1
    assert json.loads(few.stdout) == {"M1": {"complete": False, "n_missing": 2}}
    assert "incomplete: M1 lacks 2 judgements" in few.stderr
    without = json.loads(srlm("score", "arena-hard", lines("j.jsonl", rows), "--json").stdout)
    assert without["M1"]["n_missing"] == 741, "of v2.0's 750"


def answers_of(model, lengths):
    metadata = {"header_count": {"h1": 0}, "list_count": {"ordered": 1}, "bold_count": {"**": 0}}
    return [{"uid": f"u{i}", "model": model, "metadata": {"token_len": n, **metadata}} for i, n in enumerate(lengths)]


def test_style_is_taken_out_of_a_rate(project):
    rng = random.Random(4)
    ours, theirs = ([rng.randint(10, 800) for _ in range(400)] for _ in range(2))
    longer = [(a - b) / (a + b) for a, b in zip(ours, theirs, strict=True)]
    rows, questions = [], []
    for i, more in enumerate(longer):
        p = 1 / (1 + 2.7 ** (-3 * (more + 0.2)))
        question = {"uid": f"u{i}", "category": "hard_prompt", "prompt": f"{i}"}
        as_b, as_a = ("B>A" if rng.random() < p else "A>B"), ("A>B" if rng.random() < p else "B>A")
        rows.append(judgement(1, as_b, as_a, uid=question["uid"]))
        questions.append(question)
    Path("answers").mkdir()
    files = ("--questions", lines("q.jsonl", questions), "--answers", "answers", "--json")
    assert "expected a folder of MODEL.jsonl" in str(
        srlm("score", "arena-hard", lines("j.jsonl", rows), *files).exception
    )
    lines("answers/M1.jsonl", answers_of("M1", ours))
    assert "no answer of 'o3-mini-2025-01-31' to 'u0'" in str(srlm("score", "arena-hard", "j.jsonl", *files).exception)
    lines("answers/o3.jsonl", answers_of("o3-mini-2025-01-31", theirs))
    result = json.loads(srlm("score", "arena-hard", "j.jsonl", *files).stdout)["M1"]
    equal = result["hard_prompt_style_controlled"]
    at_the_mean = 1 / (1 + 2.7 ** (-3 * (sum(longer) / 400 + 0.2)))  # as the script has it: of the mean difference
    assert equal["low"] < at_the_mean < equal["high"]
    assert equal["n"] == 400
    lines("answers/o3.jsonl", answers_of("o3-mini-2025-01-31", [-1] * 400))
    assert "metadata: expected counts" in str(srlm("score", "arena-hard", "j.jsonl", *files).exception)


def rating(question, turn, score, model="M1"):
    return {"question_id": question, "model": model, "judge": ["gpt-4", "single-v1"], "score": score, "turn": turn}


def test_ratings_that_could_not_be_read_are_counted_and_never_averaged(project):
    rows = [rating(question, turn, 4 if turn == 1 else 6.5) for question in mt_bench.QUESTIONS for turn in (1, 2)]
    rows[0] = rating(81, 1, -1)
    rows[2] = rating(82, 1, 10)
    result = json.loads(srlm("score", "mt-bench", lines("r.jsonl", rows), "--json").stdout)["M1"]
    assert result["turn_1"]["value"] == pytest.approx((78 * 4 + 10) / 79, abs=1e-6)
    assert (result["turn_2"]["value"], result["unreadable"], result["n_missing"]) == (6.5, 1, 0)
    assert result["average"]["value"] == pytest.approx((78 * 4 + 10 + 80 * 6.5) / 159, abs=1e-6)
    assert result["writing"]["value"] == pytest.approx((8 * 4 + 10 + 65) / 19, abs=1e-6)
    kept = json.loads(Path("data/metrics/mt_bench/M1.json").read_text())
    assert kept["turn_1"] == result["turn_1"]
    assert kept["turn_2"]["value"] == 6.5
    # all of one value, resampled, are always that value: no interval
    assert (result["turn_2"]["low"], result["turn_2"]["high"]) == (None, None)
    assert srlm("score", "mt-bench", lines("r.jsonl", rows[:-1])).exit_code == 1
    assert "nothing of 'M7'" in str(srlm("score", "mt-bench", "r.jsonl", "--model", "M7").exception)


def test_ifeval_counts_prompts_and_instructions_strictly_and_loosely(project):
    pytest.importorskip("lm_eval")
    responses = [
        {"prompt": "No commas.", "response": "Sure, here it is\nNo comma here."},
        {"prompt": "Say cat, then: The end.", "response": "A cat. The end."},
    ]
    done = srlm("score", "ifeval", lines("r.jsonl", responses), "--questions", lines("q.jsonl", IFEVAL), "--json")
    result = json.loads(done.stdout)["responses"]
    assert {name: figure["value"] for name, figure in result.items() if isinstance(figure, dict)} == {
        "prompt_strict": 0.5,
        "instruction_strict": pytest.approx(2 / 3, abs=1e-6),
        "prompt_loose": 1.0,
        "instruction_loose": 1.0,
        "punctuation": 0.0,
        "startend": 1.0,
        "keywords": 1.0,
    }
    assert ifeval.check("here", IFEVAL[1], "a cat").strict == [False, True]


def test_what_a_checker_draws_is_drawn_from_the_prompt():
    """IFEval's prompt 1129 asks for six `!`; the checkers, which know letters only, draw one."""
    pytest.importorskip("lm_eval")
    arguments = [{"let_relation": "at least", "letter": "!", "let_frequency": 1}]
    asked = {"prompt": "Six !", "instruction_id_list": ["keywords:letter_frequency"], "kwargs": arguments}
    state = random.getstate()
    assert len({tuple(ifeval.check("here", asked, "abcdefghijklm").strict) for _ in range(20)}) == 1
    assert random.getstate() == state


BAD = {
    "no games": ("arena-hard", [judgement(0, "A>B", "A>B", games=None)], "line 1: games"),
    "a number": ("arena-hard", [judgement(0, "A>B", "A>B", games=[{"score": 3}, None])], "line 1: games.0.score"),
    "another baseline": (
        "arena-hard",
        [judgement(1, "A>B", "A>B", baseline="gpt-4")],
        "against 'gpt-4', and hard_prompt",
    ),
    "judged twice": ("arena-hard", [judgement(1, "A>B", "A>B")] * 2, "line 2: question 'q1' is judged twice"),
    "no question": ("arena-hard", [judgement(1, "A>B", "A>B", uid="q99")], "no question 'q99'"),
    "no turn": ("mt-bench", [rating(81, 3, 4)], "line 1: turn 3, expected 1 or 2"),
    "score": ("mt-bench", [rating(81, 1, 11)], "line 1: score 11, expected 1 to 10"),
    "text": ("mt-bench", [rating(81, 1, "4")], "line 1: score: .*saw '4'"),
    "question": ("mt-bench", [rating(7, 1, 4)], "question_id 7 is none of"),
    "rated twice": ("mt-bench", [rating(81, 1, 4), rating(81, 1, 4)], "line 2: turn 1 of question 81 is rated twice"),
    "no prompt": ("ifeval", [{"prompt": "x", "response": ""}], "line 1: no such prompt: 'x'"),
    "no response": ("ifeval", [{"prompt": "No commas."}], "line 1: response: expected a text"),
    "two": ("ifeval", [{"prompt": "No commas.", "response": ""}] * 2, "line 2: a second response"),
}


@pytest.mark.parametrize(("kind", "rows", "why"), BAD.values(), ids=BAD)
def test_judgements_that_are_none_are_named(project, kind, rows, why):
    import re

    questions = {"arena-hard": ARENA, "mt-bench": MT, "ifeval": IFEVAL}[kind]
    done = srlm("score", kind, lines("j.jsonl", rows), "--questions", lines("q.jsonl", questions))
    assert isinstance(done.exception, SrlmError), done.output
    assert re.search(why, str(done.exception)), str(done.exception)


@pytest.mark.parametrize(
    ("kind", "row", "why"),
    [
        ("arena-hard", {"uid": 3, "prompt": "x"}, "expected an object with 'uid'"),
        ("arena-hard", {"uid": "a", "category": "math"}, "prompt: expected a text"),
        ("mt-bench", {"question_id": True, "turns": ["x"]}, "expected an object with 'question_id'"),
        ("mt-bench", {"question_id": 81, "category": "math", "turns": []}, "turns: expected a list of texts"),
        ("ifeval", {"prompt": None}, "expected an object with 'prompt'"),
    ],
)
def test_questions_that_are_none_are_named(project, kind, row, why):
    done = srlm("export", kind, "M1", "--questions", lines("q.jsonl", [row]))
    assert isinstance(done.exception, SrlmError), done.output
    assert why in str(done.exception)
    assert not Path("M1.jsonl").exists()


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        (["no:such"], [{}]),
        (["punctuation:no_comma"], []),
        ("punctuation:no_comma", [{}]),
        ([None], [{}]),
        (["keywords:existence"], [{"keywords": 3}]),
        (["keywords:existence"], [{"unknown": 3}]),
        (["keywords:existence"], ["x"]),
    ],
)
def test_instructions_that_ifeval_does_not_have_are_named(names, arguments):
    pytest.importorskip("lm_eval")
    with pytest.raises(SrlmError, match="line 4"):
        ifeval.check("line 4", {"prompt": "x", "instruction_id_list": names, "kwargs": arguments}, "y")


def test_mutated_judgements_are_figures_or_named(project):
    rng, values = random.Random(7), (None, -1, 2.5, "A>B", [], {}, True, 10**30, "q1", [None, None], 1e300)
    good = {
        "arena-hard": ([judgement(i, "A>B", "B>A") for i in range(9)], ARENA),
        "mt-bench": ([rating(q["question_id"], turn, 5) for q in MT for turn in (1, 2)], MT),
    }
    for kind, (rows, questions) in good.items():
        lines("q.jsonl", questions)
        for _ in range(60):
            changed = [dict(row) for row in rows]
            for _ in range(rng.randint(1, 2)):
                row = changed[rng.randrange(len(changed))]
                row[rng.choice(list(row))] = rng.choice(values)
            done = srlm("score", kind, lines("j.jsonl", changed), "--questions", "q.jsonl")
            assert done.exception is None or isinstance(done.exception, SrlmError | SystemExit), changed
