"""Pairs as `srlm watch` serves them, a page at a time: 20,000 of them stay with the server."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stages.method.reviewing import DECISIONS, PAIR, decided
from stages.store import database, reviews
from stages.store.files import signature
from stages.store.names import Names
from stages.store.tables import REVIEWS

MOST = 100
"""Pairs of one page."""
LACKS = ("pairs", "candidates", "scores", "judgements", "prompts", "reviews")
BROWSED = """
WITH every AS (  -- a pair that was dropped is gone, and may be wanted back
    SELECT model, prompt_id, chosen_id, rejected_id, prompt, true AS trained FROM pairs
    UNION ALL BY NAME
    SELECT DISTINCT model, prompt_id, chosen_id, rejected_id, prompts.prompt, false AS trained
    FROM reviews JOIN prompts USING (model, prompt_id)
        ANTI JOIN pairs USING (model, prompt_id, chosen_id, rejected_id)
)
SELECT
    row_number() OVER (ORDER BY hash(p.prompt_id), p.prompt_id, length(p.model), p.model) AS place,
    p.model, p.prompt_id, p.prompt, p.chosen_id, p.rejected_id, p.trained,
    c.response AS chosen, c.tokens AS chosen_tokens, cs.score AS chosen_score, cs.spread AS chosen_spread,
    r.response AS rejected, r.tokens AS rejected_tokens, rs.score AS rejected_score, rs.spread AS rejected_spread,
    cs.score - rs.score AS margin
FROM every AS p
    JOIN candidates AS c ON (c.model, c.candidate_id) = (p.model, p.chosen_id)
    JOIN candidates AS r ON (r.model, r.candidate_id) = (p.model, p.rejected_id)
    JOIN scores AS cs ON (cs.model, cs.candidate_id) = (p.model, p.chosen_id)
    JOIN scores AS rs ON (rs.model, rs.candidate_id) = (p.model, p.rejected_id)"""
FILTERS = {
    "model": "model = $model",
    "margin": "margin >= $margin - 1e-9",
    "margin-most": "margin <= $margin_most + 1e-9",
    "tokens": "greatest(chosen_tokens, rejected_tokens) >= $tokens",
    "tokens-most": "greatest(chosen_tokens, rejected_tokens) <= $tokens_most",
    "text": "(contains(lower(prompt), $text) OR contains(lower(chosen), $text) OR contains(lower(rejected), $text))",
}
"""Field of the page's form -> what holds of a pair."""
NUMBERS = {"margin", "margin-most", "tokens", "tokens-most"}
DECIDED = """CREATE OR REPLACE TABLE decided (
    model VARCHAR, prompt_id VARCHAR, chosen_id VARCHAR, rejected_id VARCHAR, decision VARCHAR, who VARCHAR)"""
REVIEWED = (*DECISIONS, "disputed", "none")
LONGER = {"chosen": "chosen_tokens > rejected_tokens", "rejected": "rejected_tokens > chosen_tokens"}
ORDERS = {
    "doubt": "margin - greatest(chosen_spread, rejected_spread, 0), margin, place",
    "margin": "margin DESC, place",
    "order": "place",
}
HAS = "SELECT 1 FROM browsed WHERE (model, prompt_id, chosen_id, rejected_id) = (?, ?, ?, ?)"
JOINED = "FROM browsed LEFT JOIN decided USING (model, prompt_id, chosen_id, rejected_id)"
JUDGED = """
SELECT model, candidate_id, score, text FROM judgements
WHERE list_contains($ids, candidate_id) ORDER BY candidate_id, judge, k"""


class Pairs:
    """Of the store in `folder`, opened again where its tables are others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._opened = threading.Lock(), ExitStack()
        self._of: list[tuple[str, int, int]] = []
        self._said: Any = None
        self._store: database.Store | None = None

    def close(self) -> None:
        with self._lock:
            self._opened.close()
            self._store = None

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        """`total` of those that fit, the number of this `page` from 0, its `pairs`, each with both sides whole, and the
        `models` that have pairs. Raises ValueError for a field that is none; TableError while a stage is writing."""
        size = min(max(int(query.get("size", "25")), 1), MOST)
        holds, values = conditions(query)
        order = ORDERS.get(query.get("sort", "doubt"))
        if order is None:
            raise ValueError(f"expected one of {', '.join(ORDERS)} to sort by")
        with self._lock:
            store = self._open()
            of = f"{JOINED} WHERE {' AND '.join(holds)}"
            [(total,)] = store.connection.execute(f"SELECT count(*) {of}", values).fetchall()
            at = min(max(int(query.get("page", "0")), 0), max(0, -(-total // size) - 1))
            sql = f"SELECT * {of} ORDER BY {order} LIMIT {size} OFFSET {at * size}"
            found = store.connection.execute(sql, values)
            columns = [column[0] for column in found.description]
            rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
            ids = [row[f"{side}_id"] for row in rows for side in ("chosen", "rejected")]
            judged = store.rows(JUDGED, {"ids": ids}, LACKS) if ids else []
            models = store.connection.execute("SELECT DISTINCT model FROM browsed ORDER BY length(model), model")
            return {
                "total": total,
                "page": at,
                "models": [model for (model,) in models.fetchall()],
                "pairs": [_pair(row, judged) for row in rows],
            }

    def _open(self) -> database.Store:
        now = signature(self.folder / "data/AIFT")
        if self._store is None or self._of != now:
            self._opened.close()
            self._store = None
            store = self._opened.enter_context(database.connect(self.folder))
            store.select(BROWSED, may_lack=LACKS).create("browsed")  # texts of pairs alone stay in memory
            self._store, self._of = store, now
        said = signature(self.folder / "data/REVIEW")
        if self._said != (now, said):
            files = Names(self.folder).files(REVIEWS.path)
            rows = [(m, *row) for m in files if m for row in decided(reviews.read(self.folder, m)).iter_rows()]
            self._store.connection.execute(DECIDED)
            if rows:
                self._store.connection.executemany("INSERT INTO decided VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._said = now, said
        return self._store

    def has(self, model: str, pair: Mapping[str, str]) -> bool:
        """Whether `pair` (prompt_id, chosen_id, rejected_id) of AIFT(model) is here."""
        with self._lock:
            return bool(self._open().connection.execute(HAS, [model, *(pair[name] for name in PAIR)]).fetchall())


def conditions(query: dict[str, str]) -> tuple[list[str], dict[str, Any]]:
    """SQL that holds of the pairs that fit the form's fields, and its values, which are bound."""
    holds, values = ["true"], dict[str, Any]()
    for field, sql in FILTERS.items():
        if text := query.get(field):
            values[field.replace("-", "_")] = float(text) if field in NUMBERS else text
            holds.append(sql)
    if "text" in values:
        values["text"] = values["text"].lower()
    if review := query.get("review"):
        if review not in REVIEWED:
            raise ValueError(f"expected one of {', '.join(REVIEWED)} as the review")
        holds.append("decision IS NULL" if review == "none" else "decision = $review")
        values |= {} if review == "none" else {"review": review}
    if longer := query.get("length"):
        if longer not in LONGER:
            raise ValueError("expected chosen or rejected as the longer side")
        holds.append(LONGER[longer])
    return holds, values


def _pair(row: dict[str, Any], judged: list[dict[str, Any]]) -> dict[str, Any]:
    def side(name: str) -> dict[str, Any]:
        own = [j for j in judged if (j["model"], j["candidate_id"]) == (row["model"], row[f"{name}_id"])]
        return {
            "id": row[f"{name}_id"],
            "text": row[name],
            **{key: row[f"{name}_{key}"] for key in ("tokens", "score", "spread")},
            "judgements": [{"score": j["score"], "text": j["text"]} for j in own],
        }

    plain = {key: row[key] for key in ("model", "prompt_id", "prompt", "trained")}
    plain["review"] = {"decision": row["decision"], "who": row["who"]} if row["decision"] else None
    return plain | {"chosen": side("chosen"), "rejected": side("rejected")}
