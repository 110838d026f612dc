"""benchmark: Arena-Hard v2, MT-Bench and IFEval: answers and judgements in the files of their own scripts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.commands.answering import Answer, Answerer, answerer, find_model
from stages.commands.benchmarks import write_rows
from stages.commands.figures import keep_of_model
from stages.commands.records import field, read_records
from stages.console.errors import SrlmError, TableError
from stages.console.sheets import Figure, Sheet, to_terminal
from stages.console.terminal import stderr
from stages.engines.request import Message, Request
from stages.method.evaluation import arena_hard, mt_bench, style
from stages.method.statistics import ratio_figures
from stages.store.files import result_file
from stages.store.metrics import without_empty_claims
from stages.text.escape import for_terminal

RESAMPLES, SEED = 1000, 0
RESPONSES = "responses"
"""Whose they are IFEval's files do not say."""
Records = Sequence[tuple[str, Any]]


class Options(NamedTuple):
    """Of Arena-Hard."""

    baseline: str | None = None
    answers: Path | None = None


def export(
    benchmark: str, model: str, questions: Path, out: Path | None, root: Path, *, max_tokens: int | None
) -> None:
    """Write `model`'s answers to `questions` as the benchmark's own scripts do. Raises SrlmError."""
    kind = BENCHMARKS[benchmark]
    out = result_file(out or Path(f"{Path(model).name}.jsonl"), root)
    find_model(model, root)
    records = read_records(questions)
    kind.check(records)
    verb = benchmark.replace("-", "_")
    with answerer(verb, model, root, max_tokens=max_tokens or kind.max_tokens) as answers:
        rows = kind.answer(records, Path(model).name, answers)
    write_rows(out, rows)
    stderr.print(f"{out}: {len(rows)} answers, as {kind.place}")


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def unique(records: Records, key: str, kinds: type | tuple[type, ...]) -> None:
    seen: dict[Any, str] = {}
    for where, record in records:
        value = record.get(key) if isinstance(record, dict) else None
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TableError(f"{where}: expected an object with {key!r}, saw {str(record)[:60]!r}")
        if value in seen:
            raise TableError(f"{where}: the same {key} as {seen[value]}: {str(value)[:60]!r}")
        seen[value] = where


def check_arena_hard(records: Records) -> None:
    unique(records, "uid", str)
    for where, record in records:
        field(record, "prompt", where)
        field(record, "category", where)


def answer_arena_hard(records: Records, name: str, answers: Answerer) -> list[dict[str, Any]]:
    asked = [Request(f"arena-hard-{r['uid']}", [user(r["prompt"])]) for _, r in records]
    return [
        {
            "uid": record["uid"],
            "ans_id": _id(name, record["uid"], a.text),
            "model": name,
            "messages": [user(record["prompt"]), {"role": "assistant", "content": {"answer": a.text}}],
            "tstamp": time.time(),
            "metadata": {"token_len": a.tokens or len(a.text.split()), **markdown(a.text)},
        }
        for (_, record), a in zip(records, answers(asked, 0.0), strict=True)
    ]


def markdown(text: str) -> dict[str, dict[str, int]]:
    """Headers, lists and bold outside of code, as the benchmark's style control counts them."""
    for block in re.findall("```([^`]*)```", text):
        text = text.replace(block, "")

    def count(pattern: str) -> int:
        return len(re.findall(pattern, text, re.MULTILINE))

    return {
        "header_count": {f"h{i}": count(rf"^#{{{i}}}\s") for i in range(1, 7)},
        "list_count": {"ordered": count(r"^\s*\d+\.\s"), "unordered": count(r"^\s*[-*+]\s")},
        "bold_count": {"**": count(r"\*\*[^*\n]+\*\*"), "__": count(r"__[^_\n]+__")},
    }


def check_mt_bench(records: Records) -> None:
    unique(records, "question_id", int)
    for where, record in records:
        field(record, "category", where)
        turns = record.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
            raise TableError(f"{where}: turns: expected a list of texts, saw {str(turns)[:60]!r}")


def answer_mt_bench(records: Records, name: str, answers: Answerer) -> list[dict[str, Any]]:
    """Turn by turn: the second question stands behind the answer to the first."""
    turns: dict[int, list[Answer]] = {record["question_id"]: [] for _, record in records}
    talks: dict[int, list[Message]] = defaultdict(list)
    for number in range(max(len(record["turns"]) for _, record in records)):
        by_temperature: dict[float, list[Request]] = defaultdict(list)
        for _, record in records:
            if number < len(record["turns"]):
                question = record["question_id"]
                talks[question].append(user(record["turns"][number]))
                temperature = mt_bench.TEMPERATURES.get(record["category"], mt_bench.OTHER)
                by_temperature[temperature].append(Request(f"mt-bench-{question}-{number + 1}", [*talks[question]]))
        for temperature, requests in by_temperature.items():
            for request, a in zip(requests, answers(requests, temperature), strict=True):
                question = int(request.id.split("-")[2])
                talks[question].append({"role": "assistant", "content": a.text})
                turns[question].append(a)
    return [
        {
            "question_id": question,
            "answer_id": _id(name, str(question), *(a.text for a in given)),
            "model_id": name,
            "choices": [{"index": 0, "turns": [a.text for a in given]}],
            "tstamp": time.time(),
        }
        for question, given in sorted(turns.items())
    ]


def check_ifeval(records: Records) -> None:
    unique(records, "prompt", str)


def answer_ifeval(records: Records, name: str, answers: Answerer) -> list[dict[str, Any]]:
    asked = [Request(f"ifeval-{i}", [user(record["prompt"])]) for i, (_, record) in enumerate(records)]
    return [
        {"prompt": record["prompt"], "response": a.text}
        for (_, record), a in zip(records, answers(asked, 0.0), strict=True)
    ]


def _id(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:22]


def score(
    benchmark: str,
    file: Path,
    questions: Path | None,
    root: Path,
    *,
    options: Options,
    model: str | None,
    incomplete: bool,
    as_json: bool,
) -> None:
    """Print the figures of official judgements. Exits with 1 where some are missing, unless `incomplete`."""
    kind = BENCHMARKS[benchmark]
    asked = read_records(questions) if questions else None
    if asked:
        kind.check(asked)
    result = kind.score(read_records(file), asked, options)
    if model is not None:
        if model not in result and list(result) != [RESPONSES]:
            raise TableError(f"{file}: nothing of {model!r}; there are {', '.join(map(repr, result))}")
        result = {model: result.get(model) or result[RESPONSES]}
    missing = {model: figures.pop("missing") for model, figures in result.items()}
    whole = {model: figures for model, figures in result.items() if incomplete or not missing[model]}
    for model in (model for model in whole if not missing[model]):
        keep_of_model(benchmark.replace("-", "_"), model, whole[model], root)
    whole = {model: without_empty_claims(figures) for model, figures in whole.items()}
    if as_json:
        rows = {model: {"complete": not n, "n_missing": n, **whole.get(model, {})} for model, n in missing.items()}
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for model, figures in whole.items():
            show(benchmark, model, figures, kind.scale)
    lacking = {model: n for model, n in missing.items() if n}
    for model, n in lacking.items():
        how = "" if incomplete else ". A part has no score; its figures all the same: --incomplete"
        stderr.print(f"incomplete: {for_terminal(model)} lacks {n} {kind.what}{how}", style="bold yellow")
    if lacking and not incomplete:
        raise SystemExit(TableError.exit_code)


def show(benchmark: str, model: str, figures: dict[str, Any], scale: int) -> None:
    rows = [
        (name, Figure(f["value"], f["low"], f["high"], digits=2 if scale == 1 else 1, scale=scale), f["n"])
        for name, f in figures.items()
        if isinstance(f, dict)
    ]
    counts = ", ".join(f"{value} {name}" for name, value in figures.items() if isinstance(value, int))
    title = f"{for_terminal(model)}: {benchmark}{', %' if scale == 100 else ''}" + (f"; {counts}" if counts else "")
    to_terminal(Sheet(("figure", "value ± 95 %", "n"), rows, title), sys.stdout)


def score_arena_hard(records: Records, asked: Records | None, options: Options) -> dict[str, dict[str, Any]]:
    of = {record["uid"]: record["category"] for _, record in asked} if asked else None
    rows = arena_hard.judgements(records, of, baseline=options.baseline)
    rates = arena_hard.rates(rows, of, n=RESAMPLES, seed=SEED)
    files = sorted(options.answers.glob("*.jsonl")) if options.answers else []
    if options.answers and not files:
        raise SrlmError(f"--answers {options.answers}: expected a folder of MODEL.jsonl, also of the baselines")
    styles = style.styles([record for file in files for record in read_records(file)])
    controlled = arena_hard.style_controlled(rows, styles, n=RESAMPLES, seed=SEED) if files else {}
    return {
        model: {category: figures["rate"] for category, figures in categories.items()}
        | {f"{category}_style_controlled": figure for category, figure in controlled.get(model, {}).items()}
        | {name: sum(f[name] for f in categories.values()) for name in ("battles", "unreadable", "missing")}
        for model, categories in rates.items()
    }


def score_mt_bench(records: Records, asked: Records | None, options: Options) -> dict[str, dict[str, Any]]:
    of = {record["question_id"]: record["category"] for _, record in asked} if asked else mt_bench.QUESTIONS
    return mt_bench.means(records, of, n=RESAMPLES, seed=SEED)


def score_ifeval(records: Records, asked: Records | None, options: Options) -> dict[str, dict[str, Any]]:
    from stages.constraints import ifeval

    if asked is None:
        raise SrlmError("IFEval's responses are checked against its input_data.jsonl: add --questions FILE")
    responses: dict[str, str] = {}
    prompts = {record["prompt"] for _, record in asked}
    for where, record in records:
        prompt, response = field(record, "prompt", where), field(record, "response", where)
        if prompt not in prompts:
            raise TableError(f"{where}: no such prompt: {prompt[:80]!r}. Check --questions")
        if prompt in responses:
            raise TableError(f"{where}: a second response to {prompt[:80]!r}")
        responses[prompt] = response
    answered = [(where, record) for where, record in asked if record["prompt"] in responses]
    kept = [ifeval.check(where, record, responses[record["prompt"]]) for where, record in answered]
    figures = ratio_figures(ifeval.counts(kept), n=RESAMPLES, seed=SEED)
    return {RESPONSES: {**figures, "missing": len(asked) - len(kept)}}


class Benchmark(NamedTuple):
    check: Callable[[Records], None]
    """Of its questions. Raises TableError."""
    answer: Callable[[Records, str, Answerer], list[dict[str, Any]]]
    score: Callable[[Records, Records | None, Options], dict[str, dict[str, Any]]]
    """Model to figures, counts and how many are `missing`."""
    max_tokens: int
    place: str
    what: str
    scale: int = 100


BENCHMARKS = {
    "arena-hard": Benchmark(
        check_arena_hard,
        answer_arena_hard,
        score_arena_hard,
        4096,
        "gen_answer.py writes them: data/arena-hard-v2.0/model_answer/MODEL.jsonl",
        "judgements",
    ),
    "mt-bench": Benchmark(
        check_mt_bench,
        answer_mt_bench,
        score_mt_bench,
        1024,
        "gen_model_answer.py writes them: data/mt_bench/model_answer/MODEL.jsonl",
        "ratings",
        scale=1,
    ),
    "ifeval": Benchmark(
        check_ifeval,
        answer_ifeval,
        score_ifeval,
        1280,
        "evaluation_main.py takes them: --input_response_data",
        "responses",
    ),
}
