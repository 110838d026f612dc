"""Each format of seed data: ten rows with what must come of them, columns by other names, and any mutation."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.config.sections import SplitSeed
from stages.console.errors import SeedDataError, SrlmError
from stages.method import seeds
from stages.method.formats import FORMATS, recognize
from stages.store.rows import Row, read_file, rows_of

Rows = list[dict[str, Any]]
Answers = dict[str, dict[str, int | None]]
"""Prompt -> response -> rank."""


def read(path: Path, lang: str | None = "en", **how: Any) -> tuple[Answers, seeds.Counts, str]:
    """What split_seed takes of a file; each message is counted once."""
    return take(read_file(path), path.name, lang, **how)


def take(rows: list[Row], name: str, lang: str | None, **how: Any) -> tuple[Answers, seeds.Counts, str]:
    reading = recognize(rows, name, **how)
    frame, counts = seeds.answered_prompts(reading.messages(rows), lang=lang, source=name, ranked=reading.ranked)
    assert counts.prompts + counts.answers + sum(counts.left_out.values()) == counts.messages
    taken: Answers = {}
    for prompt, response, rank in frame.select("prompt", "response", "human_rank").iter_rows():
        taken.setdefault(prompt, {})[response] = rank
    assert (len(taken), len(frame)) == (counts.prompts, counts.answers)
    return taken, counts, str(reading)


def message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def oasst(name: str, role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"message_id": name, "role": role, "text": text, "lang": "en", **more}


FLAT: Rows = [
    oasst("a", "prompter", "Why?", parent_id=None),
    oasst("a1", "assistant", "So.", parent_id="a", rank=1),
    oasst("a2", "assistant", "Because.", parent_id="a", rank=0),
    oasst("a3", "assistant", "Hm.", parent_id="a", rank=None),
    oasst("a4", "assistant", "Bad.", parent_id="a", rank=2, deleted=True),
    oasst("b", "prompter", "And then?", parent_id="a1"),
    oasst("c", "prompter", "Warum?", parent_id=None) | {"lang": "de"},
    oasst("c1", "assistant", "Darum.", parent_id="c", rank=0) | {"lang": "de"},
    oasst("d", "prompter", "Where?", parent_id=None),
    oasst("d1", "assistant", "Here.", parent_id="d", rank=3.0),
]
OF_FLAT: Answers = {"Why?": {"Because.": 0, "So.": 1}, "Where?": {"Here.": 0}}
LEFT_OF_FLAT = {"no rank": 1, "deleted": 1, "later turn": 1, "other language 'de'": 2}


def nest(root: dict[str, Any]) -> dict[str, Any]:
    below = [nest(m) for m in FLAT if m.get("parent_id") == root["message_id"]]
    return {key: value for key, value in root.items() if key != "parent_id"} | {"replies": below}


ROOTS = [nest(m) for m in FLAT if m["parent_id"] is None]
LISTS: Rows = [
    {"prompt": "Why?", "responses": ["Because.", "So."]},
    {"prompt": "Where?", "responses": ["Here."]},
    {"prompt": "Who?", "responses": []},
    {"prompt": "When?", "responses": ["Now.", "Now.", "Later."]},
    {"prompt": " ", "responses": ["Nothing asked."]},
    {"prompt": "What?", "responses": ["This.", "", "That."]},
    {"prompt": "How?", "responses": ["So.", "Thus.", "Or thus."]},
    {"prompt": "Why?", "responses": ["Twice asked."]},
    {"prompt": [message("user", "Hello?")], "responses": ["Hello.", "Go away."]},
    {"prompt": [message("system", "Be a pirate."), message("user", "Ahoy?")], "responses": ["Arr.", "Yes."]},
]
OF_LISTS: Answers = {
    "Why?": {"Because.": 0, "So.": 1},
    "Where?": {"Here.": 0},
    "When?": {"Now.": 0, "Later.": 1},
    "What?": {"This.": 0, "That.": 1},
    "How?": {"So.": 0, "Thus.": 1, "Or thus.": 2},
    "Hello?": {"Hello.": 0, "Go away.": 1},
}
LEFT_OF_LISTS = {
    "prompt without ranked answers": 1,
    "duplicate answer": 1,
    "empty text": 2,
    "prompt left out": 3,
    "duplicate prompt": 2,
    "system message": 1,
    "after a system message": 1,
}
ULTRAFEEDBACK: Rows = [
    {"instruction": f"Question {n}?", "source": "x", "completions": completions}
    for n, completions in enumerate(
        [
            [{"response": "good", "overall_score": 8.5}, {"response": "bad", "overall_score": 2}],
            [{"response": "bad", "overall_score": -1.5}, {"response": "good", "overall_score": 1e6}],
            [{"response": "one", "overall_score": 3}, {"response": "two", "overall_score": 3.0}],
            [{"response": "unknown", "overall_score": None}, {"response": "only", "overall_score": 0}],
            *([{"response": f"{n}", "overall_score": n}] for n in range(6)),
        ]
    )
]
OF_ULTRAFEEDBACK: Answers = {
    "Question 0?": {"good": 0, "bad": 1},
    "Question 1?": {"good": 0, "bad": 1},
    "Question 2?": {"one": 0, "two": 0},
    "Question 3?": {"only": 0},
    **{f"Question {n + 4}?": {str(n): 0} for n in range(6)},
}
HELPSTEER: Rows = [
    {"prompt": prompt, "response": response, "helpfulness": score, "verbosity": 2}
    for prompt, response, score in [
        ("Why?", "So.", 2),
        ("Where?", "There.", 4),
        ("Why?", "Because.", 4),
        ("Where?", "Here.", 4),
        ("Why?", "Hm.", None),
        ("Why?", "Because.", 1),
        ("Who?", "Me.", 0),
        ("Who?", None, 4),
        (None, "No prompt.", 4),
        ("Who?", "You.", 3.5),
    ]
]
OF_HELPSTEER: Answers = {
    "Why?": {"Because.": 0, "So.": 1},
    "Where?": {"There.": 0, "Here.": 0},
    "Who?": {"You.": 0, "Me.": 1},
}
LEFT_OF_HELPSTEER = {"no rank": 1, "duplicate answer": 1, "empty text": 2, "prompt left out": 1}
PAIRS: Rows = [
    {"prompt": "Why?", "chosen": "Because.", "rejected": "So."},
    {"prompt": "Why?", "chosen": "Because.", "rejected": "Hm."},
    {"prompt": "Same?", "chosen": "Yes.", "rejected": "Yes."},
    {"prompt": "Empty?", "chosen": "", "rejected": "No."},
    *({"prompt": f"Number {n}?", "chosen": f"{n}", "rejected": "many"} for n in range(6)),
]
OF_PAIRS: Answers = {
    "Why?": {"Because.": 0, "So.": 1},
    "Same?": {"Yes.": 0},
    "Empty?": {"No.": 0},
    **{f"Number {n}?": {f"{n}": 0, "many": 1} for n in range(6)},
}
LEFT_OF_PAIRS = {"duplicate prompt": 3, "duplicate answer": 1, "empty text": 1}
TRL: Rows = [
    {"chosen": [message("user", "Why?"), message("assistant", "Because.")],
     "rejected": [message("user", "Why?"), message("assistant", "So.")]},
    {"chosen": [message("user", "Hi"), message("assistant", "Hi!"), message("user", "Why?"), message("assistant", "A")],
     "rejected": [message("user", "Hi"), message("assistant", "Hi!"), message("user", "Why?"), message("assistant", "B")]},
    {"chosen": [message("user", "One?"), message("assistant", "1")],
     "rejected": [message("user", "Two?"), message("assistant", "2")]},
    *({"chosen": [message("user", f"Number {n}?"), message("assistant", f"{n}")],
       "rejected": [message("user", f"Number {n}?"), message("assistant", "many")]} for n in range(7)),
]  # fmt: skip
OF_TRL: Answers = {"Why?": {"Because.": 0, "So.": 1}} | {f"Number {n}?": {f"{n}": 0, "many": 1} for n in range(7)}
LEFT_OF_TRL = {
    "later turn": 3,
    "no rank": 1,
    "prompt without ranked answers": 1,
    "chosen and rejected answer different prompts": 4,
}
ALPACA: Rows = [
    {"instruction": "Sort these.", "input": "c a b", "output": "a b c"},
    {"instruction": "Name a fruit.", "input": "", "output": "Fig."},
    {"instruction": "Name a fruit.", "input": None, "output": "Plum."},
    {"instruction": "Be silent.", "input": "", "output": ""},
    *({"instruction": f"Count to {n}.", "input": "", "output": f"{n}"} for n in range(6)),
]
OF_ALPACA: Answers = {
    "Sort these.\n\nc a b": {"a b c": None},
    "Name a fruit.": {"Fig.": None},
    **{f"Count to {n}.": {f"{n}": None} for n in range(6)},
}
LEFT_OF_ALPACA = {"duplicate prompt": 2, "empty text": 1, "prompt without answers": 1}
CHAT: Rows = [
    {"messages": [message("user", "Why?"), message("assistant", "Because.")]},
    {
        "messages": [
            message("user", "Hi"),
            message("assistant", "Hi!"),
            message("user", "Bye"),
            message("assistant", "Ok"),
        ]
    },
    {"messages": [message("system", "Be brief."), message("user", "Sum?"), message("assistant", "2")]},
    {"messages": [message("system", ""), message("user", "Sum?"), message("assistant", "2")]},
    {"messages": [message("assistant", "How can I help?"), message("user", "Go."), message("assistant", "Bye.")]},
    {"messages": [message("user", "Weather?"), message("tool", "sunny"), message("assistant", "Sun.")]},
    {"messages": []},
    {"messages": [message("user", [{"type": "text", "text": "Parts?"}]), message("assistant", "Yes.")]},
    {"messages": [message("user", [{"type": "image_url"}]), message("assistant", "A cat.")]},
    {"messages": [message("user", "Alone?")]},
]
OF_CHAT: Answers = {"Why?": {"Because.": None}, "Hi": {"Hi!": None}, "Sum?": {"2": None}, "Parts?": {"Yes.": None}}
LEFT_OF_CHAT = {
    "later turn": 5,
    "system message": 1,
    "after a system message": 1,
    "prompt left out": 2,
    "no parent": 1,
    "unknown role 'tool'": 1,
    "empty text": 1,
    "holds more than text": 1,
    "prompt without answers": 2,
}
NAMES = {"role": "from", "content": "value", "user": "human", "assistant": "gpt"}
SHAREGPT: Rows = [
    {
        "conversations": [
            {NAMES[k]: NAMES.get(v, v) if k == "role" else v for k, v in m.items()} for m in row["messages"]
        ]
    }
    for row in CHAT
]
TEN: dict[str, tuple[str, Rows, Answers, dict[str, int]]] = {
    "flat": ("open_assistant", FLAT, OF_FLAT, LEFT_OF_FLAT),
    "roots": ("open_assistant", ROOTS, OF_FLAT, LEFT_OF_FLAT),
    "trees": (
        "open_assistant",
        [{"tree_state": "ready_for_export", "prompt": m} for m in ROOTS],
        OF_FLAT,
        LEFT_OF_FLAT,
    ),
    "lists": ("ranked_lists", LISTS, OF_LISTS, LEFT_OF_LISTS),
    "ultrafeedback": ("ranked_lists", ULTRAFEEDBACK, OF_ULTRAFEEDBACK, {"no rank": 1}),
    "helpsteer": ("scored_answers", HELPSTEER, OF_HELPSTEER, LEFT_OF_HELPSTEER),
    "pairs": ("pairs", PAIRS, OF_PAIRS, LEFT_OF_PAIRS),
    "trl": ("pairs", TRL, OF_TRL, LEFT_OF_TRL),
    "alpaca": ("instructions", ALPACA, OF_ALPACA, LEFT_OF_ALPACA),
    "chat": ("chat", CHAT, OF_CHAT, LEFT_OF_CHAT),
    "sharegpt": ("chat", SHAREGPT, OF_CHAT, LEFT_OF_CHAT),
}


def lines(rows: Rows) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def as_csv(rows: Rows) -> str:
    """As spreadsheets and pandas write it: numbers, lists and truth values are text, null is nothing."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    for row in rows:
        writer.writerow({k: v if isinstance(v, str | None) else json.dumps(v) for k, v in row.items()})
    return out.getvalue()


@pytest.mark.parametrize("name", TEN)
def test_ten_rows_give_what_stands_in_them(name: str, tmp_path: Path) -> None:
    format, rows, expected, left_out = TEN[name]
    (tmp_path / "a.jsonl").write_text(lines(rows))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    (tmp_path / "c.csv").write_text("\ufeff" + as_csv(rows))
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(as_csv(rows).replace("\r\n", "\n").encode()))
    for file in sorted(tmp_path.iterdir()):
        taken, counts, told = read(file)
        assert taken == expected, file.name
        assert counts.left_out == left_out, file.name
        assert told.startswith(f"read as {FORMATS[format].title}")


@pytest.mark.parametrize("name", ["flat", "ultrafeedback", "helpsteer", "pairs", "alpaca", "sharegpt"])
def test_parquet_reads_the_same(name: str, tmp_path: Path) -> None:
    _, rows, expected, left_out = TEN[name]
    if name == "sharegpt":  # a column has one type
        rows = [row for row in rows if all(isinstance(m["value"], str) for m in row["conversations"])]
        expected, left_out = {k: v for k, v in expected.items() if k != "Parts?"}, {}
    pl.DataFrame(rows, strict=False, infer_schema_length=None).write_parquet(tmp_path / "a.parquet")
    taken, counts, _ = read(tmp_path / "a.parquet")
    assert taken == expected
    assert not left_out or counts.left_out == left_out


def test_decimals_are_numbers_and_ranks_stay_whole_ones(tmp_path: Path) -> None:
    """As DuckDB and Spark write them, alone, in lists and in objects in lists."""
    file, exact = tmp_path / "a.parquet", pl.Decimal(10, 2)
    scored = [{"prompt": "Why?", "response": text, "score": Decimal(n)} for text, n in (("a", "7.25"), ("b", "9.50"))]
    pl.DataFrame(scored, {"prompt": pl.String, "response": pl.String, "score": exact}).write_parquet(file)
    assert read(file)[0] == {"Why?": {"a": 1, "b": 0}}
    listed = {"prompt": ["Why?"], "responses": [["a", "b"]], "ranks": [[Decimal("1.00"), Decimal(0)]]}
    pl.DataFrame(listed, {"prompt": pl.String, "responses": pl.List(pl.String), "ranks": pl.List(exact)}).write_parquet(
        file
    )
    assert read(file)[0] == {"Why?": {"a": 1, "b": 0}}
    answers = [[{"response": row["response"], "score": row["score"]} for row in scored]]
    answer = pl.Struct({"response": pl.String, "score": exact})
    columns = {"prompt": pl.String, "responses": pl.List(answer)}
    pl.DataFrame({"prompt": ["Why?"], "responses": answers}, columns).write_parquet(file)
    assert read(file)[0] == {"Why?": {"a": 1, "b": 0}}
    pl.DataFrame(scored).rename({"score": "rank"}).write_parquet(file)
    with pytest.raises(SeedDataError, match=r"row 1: rank: expected a whole number .* seen Decimal\('7\.25"):
        read(file)


@pytest.mark.parametrize("better", [".5", "+4", "4.", "04", " 4.00 ", "4e0", "1E+2"])
def test_numbers_as_spreadsheets_write_them(better: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"prompt,response,score\nWhy?,a,-.5\nWhy?,b,{better}\n")
    assert read(tmp_path / "a.csv")[0] == {"Why?": {"a": 1, "b": 0}}


def test_the_formats_are_those_that_params_names() -> None:
    assert ["auto", *FORMATS] == list(SplitSeed.model_fields["format"].annotation.__args__)  # type: ignore[union-attr]


def test_columns_by_other_names_are_told_or_given(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines([{"q": "Why?", "good": "Because.", "bad": "So.", "text": "x"}]))
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    taken, _, told = read(file, columns=columns)
    assert taken == {"Why?": {"Because.": 0, "So.": 1}}
    assert told == "read as preference pairs: prompt=q, chosen=good, rejected=bad"
    file.write_text(lines([{"query": "Why?", "generations": [{"gen": "So.", "stars": 1}, {"gen": "No.", "stars": 2}]}]))
    columns = {"responses": "generations", "response": "gen", "score": "stars"}
    taken, _, told = read(file, format="ranked_lists", columns=columns)
    assert taken == {"Why?": {"No.": 0, "So.": 1}}
    assert told.endswith("responses=generations, response=generations[].gen, score=generations[].stars")
    file.write_text(lines([{"id": "1", "by": "prompter", "body": "Why?"}, {"id": "2", "up": "1", "by": "assistant", "body": "So", "place": 0}]))  # fmt: skip
    columns = {"message_id": "id", "parent_id": "up", "role": "by", "text": "body", "rank": "place"}
    assert read(file, columns=columns)[0] == {"Why?": {"So": 0}}


@pytest.mark.parametrize(
    ("row", "how", "words"),
    [
        ({"a": 1, "b": 2}, {}, r"fits no format. Its columns: a, b. .*open_assistant \(message_id, role, text\); ranked_"),
        ({"prompt": "?", "chosen": "a", "rejected": "b", "responses": ["a"]}, {}, "could be read as ranked_lists or pairs"),
        ({"question": "?", "query": "?", "output": "a"}, {}, "as instructions: prompt could be question or query"),
        ({"prompt": "?", "response": "a", "rating": 1, "reward": 2}, {}, "as scored_answers: score could be rating or rew"),
        ({"prompt": "?", "chosen": "a"}, {"format": "pairs"}, "as pairs: no column for rejected. Its columns: prompt, chosen"),
        ({"prompt": "?", "response": "a"}, {"format": "scored_answers"}, "no column for score or rank"),
        ({"prompt": "?", "response": "a"}, {"columns": {"response": "b"}}, "fits no format"),
        ({"prompt": "?", "output": "a"}, {"format": "instructions", "columns": {"response": "b"}}, 'no column "b", which'),
        ({"prompt": "?", "output": "a"}, {"format": "instructions", "columns": {"answer": "b"}}, "names answer, and there"),
        ({"chosen": "a", "rejected": "b"}, {}, "line 1: prompt: expected a column for the prompt"),
        ({"prompt": "?", "responses": [{"response": "a"}]}, {}, r"responses\[0\].score: expected a score or a rank"),
        ({"prompt": "?", "responses": ["a", "b"], "scores": [1]}, {}, "scores: expected one for each response"),
        ({"prompt": "?", "responses": ["a", "b"], "ranks": []}, {"columns": {"ranks": "ranks"}}, "ranks: expected one for each"),
        ({"prompt": "?", "responses": ["a", {"response": "b", "score": 1}]}, {}, "responses: expected objects with score each"),
        ({"prompt": "?", "responses": ["a"], "scores": ["1"]}, {}, r"line 1: scores\[0\]: expected a finite number"),
        ({"prompt": "?", "responses": ["a"], "ranks": [-1]}, {}, r"ranks\[0\]: expected a whole number of at least 0"),
        ({"prompt": "?", "response": "a", "rank": 1.5}, {}, "rank: expected a whole number of at least 0, or null, seen 1.5"),
        ({"prompt": "?", "response": "a", "score": True}, {}, "score: expected a finite number, or null, seen True"),
        ({"prompt": "?", "response": "a", "score": 10**400}, {}, ""),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, {}, "prompt: expected text or a list of messages, seen 7"),
        ({"messages": ["a"]}, {}, r"messages\[0\]: expected a message with role and content, seen 'a'"),
        ({"messages": [{"role": "user", "content": 7}]}, {}, r"messages\[0\].content: expected text, seen 7"),
    ],
)  # fmt: skip
def test_what_fits_not_or_twice_is_refused_with_what_was_seen(row: Any, how: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines([row]))
    if not words:
        assert read(tmp_path / "a.jsonl", **how)[0] == {"?": {"a": 0}}
        return
    with pytest.raises(SeedDataError, match=words):
        read(tmp_path / "a.jsonl", **how)


def test_a_row_without_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines([*PAIRS, {"prompt": "Why?", "chosen": "x"}]))
    with pytest.raises(SeedDataError, match=r"a\.jsonl, line 11: rejected: expected text, seen nothing"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,chosen,rejected\nWhy?,a\n", "line 2: 2 fields, and the header has 3"),
        ('prompt,chosen,rejected\n"Why\n?",a,b\n"Why?,a,b\n', "line 4: not CSV"),
        ("prompt,prompt\na,b\n", "line 1: the header names 'prompt' twice"),
        ("prompt,response,score\na,b,7\nc,d,many\n", "line 3: score: expected a finite number, or null, seen 'many'"),
        ("prompt,response,score\na,b,NaN\n", "line 2: score: expected a finite number"),
        ("prompt,chosen,rejected\n", "is empty"),
    ],
)
def test_a_fault_in_csv_names_its_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SeedDataError, match=words):
        read(tmp_path / "a.csv")


def test_csv_of_other_separators_and_texts_over_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt;chosen;rejected\n"Why,\n""so""?";Because;Hm\n')
    assert read(tmp_path / "a.csv")[0] == {'Why,\n"so"?': {"Because": 0, "Hm": 1}}


def test_languages_are_taken_as_the_data_name_them_or_all(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [row | {"language": lang} for row, lang in zip(PAIRS[4:8], ["ja", "ja", "en", None], strict=True)]
    file.write_text(lines(rows))
    taken, counts, _ = read(file, lang="ja")
    assert [*taken] == [*sorted(taken)] or len(taken) == 2
    assert counts.left_out == {"other language 'en'": 3, "other language None": 3}
    assert len(read(file, lang=None)[0]) == 4
    file.write_text(lines(PAIRS))
    assert read(file, lang="ja")[1].lang is None


VALUES = [
    *(None, True, False, -1, 0, 3, 10**400, 0.5, -0.0, 2.0, 1e300, math.nan, math.inf, "", "1", "NaN", "\0", "é\u2028"),
    *("half \ud800", "long " * 20_000, [], {}, [[[[[[[[]]]]]]]], [None], [1, "a"], ["a", "b"], [{"role": "user"}]),
    *({"role": "user", "content": "Why?"}, [{"from": "gpt", "value": 7}], {"response": "a", "score": 1}, {"text": {}}),
]
ENCODINGS = ["utf-8"] * 8 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]
BYTES = [
    b"\0",
    b"\xff",
    b"\r",
    b"\xef\xbb\xbf",
    b"NaN",
    b"1e999",
    b'"',
    b"9" * 5000,
    b"[" * 5000,
    b'"[{"a":' * 3000,
    b",",
]


def damaged(seed: int) -> tuple[str, bytes]:
    """A file of real-looking rows in which up to four things are wrong: values, keys, bytes, its end, its encoding."""
    rng = random.Random(seed)
    rows: Any = json.loads(json.dumps(rng.choice([*TEN.values()])[1]))
    rng.shuffle(rows)
    rows = rows[: rng.randint(1, 10)]
    for _ in range(rng.randint(0, 3)):
        at = rng.choice(rows)
        while keys := list(at) if isinstance(at, dict) else list(range(len(at))):
            key = rng.choice(keys)
            if isinstance(at[key], dict | list) and rng.random() < 0.6:
                at = at[key]
                continue
            if rng.random() < 0.6:
                at[key] = json.loads(json.dumps(rng.choice(VALUES)))
            elif rng.random() < 0.5 and isinstance(at, dict):
                at[rng.choice(["rank", "score", "prompt", "text", "lang", "x", "\ud800"])] = at.pop(key)
            else:
                del at[key]
            break
    ending = rng.choice([".jsonl", ".json", ".csv"])
    text = as_csv(rows) if ending == ".csv" else json.dumps(rows) if ending == ".json" else lines(rows)
    body = text.encode(rng.choice(ENCODINGS), "surrogatepass")
    spot = rng.randint(0, len(body))
    body = rng.choice(
        [
            *[body] * 6,
            body[:spot],
            body[:spot] + rng.randbytes(1) + body[spot + 1 :],
            body[:spot] + rng.choice(BYTES) + body[spot:],
            body[:spot] + rng.choice(BYTES) + body[spot:],
            gzip.compress(body),
            gzip.compress(body)[: rng.randint(0, 200)],
        ]
    )
    return ending, body


def refused_by_name(ending: str, body: bytes) -> bool:
    """Whether the file is refused, with its name in a sentence of some lines; else it was read right."""
    name = f"a{ending}"
    try:
        taken, _, _ = take(rows_of(body, name, ending), name, "en")
    except SrlmError as e:
        words = str(e)
        said = f"{name}, " in words or f"{name} " in words or f"{name}: " in words
        if not (said and len(words) < 2500 and words.encode()):
            raise
        return True
    for of_prompt in taken.values():
        ranks = [rank for rank in of_prompt.values() if rank is not None]
        assert sorted({*ranks}) == list(range(len({*ranks}))), "ranks are renumbered from 0"
    return False


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**64))
def test_any_mutation_is_read_right_or_refused_by_name(seed: int) -> None:
    refused_by_name(*damaged(seed))


@pytest.mark.slow
def test_ten_thousand_mutations() -> None:
    refused = sum(refused_by_name(*damaged(seed)) for seed in range(10_000))
    assert 2000 < refused < 9000, "both happen"
