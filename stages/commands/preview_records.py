"""The records of a preview: of each prompt its answers, judgements, scores and fates, as JSON and as a person reads
them. Texts are untrusted, and escaped where they are shown."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.panel import Panel
from rich.text import Text

from stages.commands.preview_space import Space
from stages.console.terminal import Console
from stages.method.prompting import SURPLUS
from stages.method.statistics import Figure
from stages.store.tables import (
    ANSWERS,
    CANDIDATES,
    EFT,
    JUDGE_PAIRS,
    JUDGED,
    JUDGEMENTS,
    PROMPTS,
    RANKED,
    RANKED_VALID,
    SCORES,
    SEED_JUDGEMENTS,
    TEST_JUDGEMENTS,
    TEST_PROMPTS,
    Table,
)
from stages.text.escape import for_terminal

CHARACTERS = 500
"""Of a text that is shown."""
STYLES = {"chosen": "green", "rejected": "red", "kept": "green", "greedy": "bold", "sampled": "bold"}
Record = dict[str, Any]


def of_prompts(space: Space, stage: str, model: str) -> list[Record]:
    """Of each prompt of AIFT(model) `prompt_id`, `prompt`, `dropped`; and what was made of it: `candidates` with
    their `judgements`, `score`, `spread` and `fate`; `judge_pairs`."""
    prompts = _rows(space, PROMPTS, model)
    records = [{key: row[key] for key in ("prompt_id", "prompt", "dropped")} for row in prompts]
    if stage == "write_prompts":
        return [record for record in records if record["dropped"] != SURPLUS]
    scores = {row["candidate_id"]: row for row in _rows(space, SCORES, model)}
    judged = _by("candidate_id", _rows(space, JUDGEMENTS, model))
    candidates = _by("prompt_id", _rows(space, CANDIDATES, model))
    pairs = _by("prompt_id", _rows(space, JUDGE_PAIRS, model))
    for record in records:
        record["candidates"] = [
            {key: row[key] for key in ("candidate_id", "model", "n", "response", "finish_reason", "tokens")}
            | {"judgements": _judgements(judged.get(row["candidate_id"], []))}
            | {key: scores.get(row["candidate_id"], {}).get(key) for key in ("score", "spread", "fate")}
            for row in candidates.get(record["prompt_id"], [])
        ]
        if stage == "build_judge_pairs":
            record["judge_pairs"] = pairs.pop(record["prompt_id"], [])
    return [record for record in records if record["dropped"] is None]


def of_seed(space: Space) -> list[Record]:
    """Of each prompt the answers that people ranked, their `judgements`, and which of those are `kept` for EFT."""
    kept = {row["candidate_id"]: row["score"] for row in _rows(space, EFT)}
    judged = _by("candidate_id", _rows(space, SEED_JUDGEMENTS))
    made = bool(kept)

    def answer(row: Record) -> Record:
        fate = ("kept" if row["candidate_id"] in kept else "left out") if made else None
        known = {key: row[key] for key in ("candidate_id", "response", "human_rank")}
        judgements = _judgements(judged.get(row["candidate_id"], []))
        return known | {"judgements": judgements, "score": kept.get(row["candidate_id"]), "fate": fate}

    answers = [row for row in _rows(space, RANKED) if row["candidate_id"] in judged]
    return [
        {"prompt_id": prompt_id, "prompt": rows[0]["prompt"], "candidates": [answer(row) for row in rows]}
        for prompt_id, rows in _by("prompt_id", answers).items()
    ]


def of_evaluation(space: Space, model: str) -> list[Record]:
    """Of each held-out prompt the model's answers; of each held-out ranked one people's answers as it judges them."""
    answers = _by("prompt_id", _rows(space, ANSWERS, model))
    records: list[Record] = [
        {"prompt_id": row["prompt_id"], "prompt": row["prompt"], "candidates": []} for row in _rows(space, TEST_PROMPTS)
    ]
    for record in records:
        for row in answers.get(record["prompt_id"], []):
            known = {key: row[key] for key in ("response", "finish_reason", "tokens", "oracle_score")}
            record["candidates"].append(known | {"fate": row["decoding"]})
    judged = _by("candidate_id", _rows(space, TEST_JUDGEMENTS, model))
    scores = {row["candidate_id"]: row["score"] for row in _rows(space, JUDGED, model)}
    for prompt_id, rows in _by("prompt_id", _rows(space, RANKED_VALID)).items():
        candidates = [
            {"response": row["response"], "human_rank": row["human_rank"], "score": scores.get(row["candidate_id"])}
            | {"judgements": _judgements(judged.get(row["candidate_id"], []))}
            for row in rows
        ]
        records.append({"prompt_id": prompt_id, "prompt": rows[0]["prompt"], "candidates": candidates})
    return records


def _rows(space: Space, table: Table, model: str | None = None) -> list[Record]:
    frame = space.read(table, model)
    return [] if frame is None else frame.to_dicts()


def _by(key: str, rows: list[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _judgements(rows: list[Record]) -> list[Record]:
    return [{key: row[key] for key in ("judge", "k", "text", "finish_reason", "score", "expected")} for row in rows]


def show(records: list[Record], console: Console | None = None) -> None:
    """A panel for each prompt."""
    console = console or Console()
    for record in records:
        dropped = record.get("dropped")
        body = Text(cut(record["prompt"]), style="bold" if not dropped else "dim")
        for candidate in record.get("candidates", ()):
            body.append("\n\n")
            body.append_text(_candidate(candidate))
        for pair in record.get("judge_pairs", ()):
            body.append(f"\n\njudgements, {pair['chosen_score']:g} over {pair['rejected_score']:g}:", style="bold")
            body.append(f"\nchosen: {cut(pair['chosen'])}\nrejected: {cut(pair['rejected'])}")
        title = f"dropped: {for_terminal(dropped)}" if dropped else for_terminal(record["prompt_id"])
        console.print(Panel(body, title=title, title_align="left"))


def _candidate(of: Record) -> Text:
    """Its fate and score, its text, each score that was read, and the first judgement."""
    fate = of.get("fate") or ("cut off" if of.get("finish_reason") == "length" else "")
    if of.get("fate") in ("greedy", "sampled") and of.get("finish_reason") == "length":
        fate += ", cut off"
    words = [fate.replace("_", " ")]
    for key, what in (("score", "score"), ("oracle_score", "checker's score"), ("human_rank", "people's rank")):
        if of.get(key) is not None:
            words.append(f"{what} {of[key]:.3g}")
    if of.get("tokens") is not None:
        words.append(f"{of['tokens']} tokens")
    style = STYLES.get(of.get("fate") or "", "dim" if of.get("fate") else "")
    text = Text(f"[{', '.join(filter(None, words)) or 'answer'}]", style=style)
    text.append(f" {cut(of['response'])}", style="dim" if style == "dim" else "")
    if judgements := of.get("judgements"):
        read = ", ".join("unreadable" if each["score"] is None else f"{each['score']:g}" for each in judgements)
        text.append(f"\n  judged: {read}\n", style="italic")
        text.append("\n".join(f"  │ {line}" for line in cut(judgements[0]["text"]).splitlines()), style="dim")
    return text


def cut(text: str, most: int = CHARACTERS) -> str:
    """Its lines, each as a terminal may show it."""
    shown = "\n".join(map(for_terminal, text.strip().splitlines()))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def shares(records: list[Record], stage: str) -> dict[str, Figure]:
    """Of the prompts of a preview those that were `accepted`, or that are `paired`."""
    if stage == "write_prompts":
        return {"accepted": share([record["dropped"] is None for record in records])}
    if stage == "build_pairs":
        return {"paired": share([any(c["fate"] == "chosen" for c in r["candidates"]) for r in records])}
    return {}


def share(hits: list[bool]) -> Figure:
    """value, low, high and n; the 95 % interval is Wilson's, as of few it says how little is known."""
    if not hits:
        return {"value": None, "low": None, "high": None, "n": 0}
    from scipy.stats import binomtest  # takes long to import

    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    value, low, high = (round(float(x), 6) for x in (sum(hits) / len(hits), interval.low, interval.high))
    return {"value": value, "low": low, "high": high, "n": len(hits)}


def percent(of: Figure, what: str) -> str:
    """`77% of 13 prompts (95 %: 50 to 92)`; no interval, or no share, where none is known."""
    low, high = of["low"], of["high"]
    interval = "" if low is None or high is None else f" (95 %: {100 * low:.0f} to {100 * high:.0f})"
    value = "–" if of["value"] is None else f"{of['value']:.0%}"
    return f"{value} of {of['n']} {what}{interval}"


def counts(records: list[Record]) -> dict[str, int]:
    """How often each fate, or reason for dropping, came."""
    fates = [c["fate"] for r in records for c in r.get("candidates", ()) if c.get("fate")]
    dropped = [r["dropped"] or "accepted" for r in records if "dropped" in r and "candidates" not in r]
    seen = pl.Series("fate", fates or dropped, dtype=pl.String).value_counts().sort("count", "fate", descending=True)
    return dict(seen.iter_rows())
